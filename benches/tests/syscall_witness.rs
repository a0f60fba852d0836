//! The witness of `switch.anatomy`: a tracer counts the calls of the kernel that a slice makes. They must be those that the time is
//! divided by, no more and no fewer, or a rung is not the call that it is named after.

#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code, reason = "a tracer is made of libc calls")]

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr;
use switchmark_benches::with_cell;
use switchmark_harness::protocol::Prepare;
use switchmark_schema::ParamValue;

/// Names the rung to a program that is traced.
const RUNG: &str = "SWITCHMARK_TRACED_RUNG";
const ITERATIONS: u64 = 5000;

/// The slice that is watched: this test again, in a process of its own.
fn slice(rung: &str) -> u64 {
    let prepare = Prepare {
        workload: "switch.anatomy".into(),
        model: "rung".into(),
        placement: "same-core".into(),
        cpus: vec![0],
        params: vec![("rung".into(), ParamValue::Word(rung.into()))],
    };
    let taken = with_cell("thread", &prepare, |cell| cell.map(|slice| slice(ITERATIONS).check));
    taken.expect("in the tree").expect("a rung of threads")
}

fn ptrace(request: libc::c_uint, pid: libc::pid_t, data: *mut libc::c_void) -> libc::c_long {
    // SAFETY: of the requests of this file, PTRACE_GETREGS alone writes here, to the registers that its caller owns.
    unsafe { libc::ptrace(request, pid, ptr::null_mut::<libc::c_void>(), data) }
}

/// The data of a request that takes no address.
fn number(data: i32) -> *mut libc::c_void {
    ptr::without_provenance_mut(data.cast_unsigned() as usize)
}

/// Runs a program to its end and counts its calls of the kernel by number, in all its threads. `None` where nobody may trace.
fn traced(mut program: Command) -> Option<BTreeMap<libc::c_long, u64>> {
    let ask = || match ptrace(libc::PTRACE_TRACEME, 0, number(0)) {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: between fork and exec, `ask` makes one system call and allocates nothing.
    let program = unsafe { program.pre_exec(ask) };
    let child = program.spawn().inspect_err(|e| eprintln!("skipped: nobody may trace here: {e}")).ok()?;
    let root = child.id().cast_signed();
    let mut stops: BTreeMap<libc::c_long, u64> = BTreeMap::new();
    let mut begun = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` lives over the call. This process has no other child.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        assert!(pid > 0, "the traced program is ours to wait for");
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            if pid == root {
                assert_eq!(status, 0, "the traced slice is right");
                // Each call stops the program twice: at its entry and at its end.
                return Some(stops.into_iter().map(|(number, stops)| (number, stops / 2)).collect());
            }
            continue;
        }
        if !begun {
            // The stop of the exec. From here on threads are traced as well, and a stop at a call is marked.
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
            assert_eq!(ptrace(libc::PTRACE_SETOPTIONS, pid, number(options)), 0);
            begun = true;
        } else if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
            let mut registers = MaybeUninit::<libc::user_regs_struct>::uninit();
            assert_eq!(ptrace(libc::PTRACE_GETREGS, pid, registers.as_mut_ptr().cast()), 0);
            // SAFETY: the call succeeded, so the kernel filled them.
            let number = unsafe { registers.assume_init() }.orig_rax;
            *stops.entry(number.cast_signed()).or_default() += 1;
        }
        ptrace(libc::PTRACE_SYSCALL, pid, number(0));
    }
}

#[test]
fn a_rung_makes_the_calls_that_it_is_divided_by() {
    if let Ok(rung) = std::env::var(RUNG) {
        let units = if rung == "yield" { 2 } else { 1 };
        assert_eq!(slice(&rung), units * ITERATIONS);
        return;
    }
    let expected = [
        ("loop", None, 0),
        ("syscall", Some(libc::SYS_getppid), 1),
        ("yield_alone", Some(libc::SYS_sched_yield), 1),
        ("futex_wake", Some(libc::SYS_futex), 1),
        ("futex_wait", Some(libc::SYS_futex), 1),
        ("yield", Some(libc::SYS_sched_yield), 2),
    ];
    for (rung, number, calls) in expected {
        let mut program = Command::new(std::env::current_exe().expect("this program has a path"));
        program
            .args(["--exact", "a_rung_makes_the_calls_that_it_is_divided_by"])
            .env(RUNG, rung)
            .stdout(Stdio::null());
        let Some(counted) = traced(program) else { return };
        let (all, its) = (counted.values().sum::<u64>(), number.map_or(0, |n| counted[&n]));
        // Beside the rung's own: what starts a program and a unit, and what gathers the units.
        assert!(its >= calls * ITERATIONS, "{rung}: {its} calls");
        assert!(all <= calls * ITERATIONS + 800, "{rung}: {all} calls in all, {counted:?}");
    }
}
