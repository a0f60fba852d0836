//! Overflows are reported with who and how much, and kill by SIGABRT; other faults are none of our business.
//!
//! Each death is a child: this test binary, run again with a scenario in its environment.

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use switchmark_runtime::raw::{Coroutine, Stack, Yielder};
use switchmark_runtime::stack::{Guard, set_guard};
use switchmark_runtime::{Builder, current, task};

const SCENARIO: &str = "OVERFLOW_SCENARIO";

/// Runs one test of this file again, as a child in a scenario.
fn child(test: &str, scenario: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .output()
        .unwrap()
}

fn scenario() -> Option<String> {
    std::env::var(SCENARIO).ok()
}

fn run(f: impl FnOnce()) {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap();
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[depth % 64]
}

/// One frame as large as the largest stack: the compiler's probes meet the guard on the way down.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "that is the point")]
fn large_frame() -> u8 {
    let frame = black_box([1_u8; 1 << 20]);
    frame[black_box(77)]
}

struct RecurseOnDrop;

impl Drop for RecurseOnDrop {
    fn drop(&mut self) {
        black_box(recurse(0));
    }
}

fn overflow_in_a_named_coroutine(bytes: usize, overflow: impl FnOnce() + Send + 'static) {
    run(move || {
        let victim = task::Builder::new().name("victim").stack_size(bytes).spawn(move || {
            println!("id={}", current().id());
            overflow();
        });
        victim.unwrap().join().unwrap();
    });
}

fn assert_reported(output: &Output, bytes: usize) {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), Some(6), "{out}\n{error}");
    let id: u64 = out.split("id=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(error.contains(&format!("coroutine {id} 'victim'")), "{error}");
    assert!(error.contains(&format!("stack of {bytes} bytes")), "{error}");
}

/// The ways to the end of a stack.
const WAYS: [(&str, fn()); 5] = [
    ("recursion", || {
        black_box(recurse(0));
    }),
    ("frame", || {
        black_box(large_frame());
    }),
    ("drop", || drop(RecurseOnDrop)),
    ("unwinding", || {
        let _guard = RecurseOnDrop;
        panic!("unwinds into a destructor");
    }),
    ("hook", || {
        std::panic::set_hook(Box::new(|_| {
            black_box(recurse(0));
        }));
        panic!("calls the hook");
    }),
];

#[test]
fn an_overflow_by_each_way_in_each_class_names_id_name_and_size() {
    if let Some(scenario) = scenario() {
        let (way, bytes) = scenario.split_once(' ').unwrap();
        let (_, overflow) = WAYS.into_iter().find(|(name, _)| *name == way).unwrap();
        return overflow_in_a_named_coroutine(bytes.parse().unwrap(), overflow);
    }
    for (way, _) in WAYS {
        for bytes in [64 << 10, 256 << 10, 1 << 20] {
            let output = child(
                "an_overflow_by_each_way_in_each_class_names_id_name_and_size",
                &format!("{way} {bytes}"),
            );
            assert_reported(&output, bytes);
        }
    }
}

#[test]
fn an_overflow_on_any_worker_is_reported() {
    if scenario().is_some() {
        // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
        let runtime = unsafe { Builder::new().workers(2).build() }.unwrap();
        let victims: Vec<_> = (0..2).map(|_| runtime.handle().spawn(|| black_box(recurse(0)))).collect();
        for victim in victims {
            let _ = victim.join();
        }
        return;
    }
    let output = child("an_overflow_on_any_worker_is_reported", "workers");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{error}");
    assert!(error.contains("stack of 262144 bytes"), "{error}");
}

fn raw_overflow() {
    // SAFETY: the body does not suspend.
    let mut deep: Coroutine<(), (), usize> =
        unsafe { Coroutine::new(Stack::new(64 << 10).unwrap(), |_: &Yielder<(), ()>, ()| recurse(0)) };
    deep.resume(());
}

#[test]
fn an_overflow_in_a_raw_coroutine_names_the_coroutine_it_runs_in() {
    match scenario().as_deref() {
        Some("nested") => return overflow_in_a_named_coroutine(256 << 10, raw_overflow),
        Some("alone") => return raw_overflow(),
        // A thread that the standard library did not start would have no alternate signal stack; one that it did has.
        Some("thread") => return std::thread::spawn(raw_overflow).join().unwrap(),
        _ => {}
    }
    let test = "an_overflow_in_a_raw_coroutine_names_the_coroutine_it_runs_in";
    assert_reported(&child(test, "nested"), 64 << 10);
    for scenario in ["alone", "thread"] {
        let output = child(test, scenario);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "{error}");
        assert!(error.contains("a raw coroutine overflowed its stack: stack of 65536 bytes"), "{error}");
    }
}

#[test]
fn an_overflow_on_a_thread_of_c_is_reported_too() {
    extern "C" fn body(_: *mut libc::c_void) -> *mut libc::c_void {
        raw_overflow();
        std::ptr::null_mut()
    }
    if scenario().is_some() {
        let mut thread = 0;
        // SAFETY: starts a thread that needs no argument.
        let result =
            unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), body, std::ptr::null_mut()) };
        assert_eq!(result, 0);
        // SAFETY: joins it once.
        unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
        return;
    }
    let output = child("an_overflow_on_a_thread_of_c_is_reported_too", "c");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{error}");
    assert!(error.contains("a raw coroutine overflowed its stack"), "{error}");
}

#[test]
fn guards_by_mprotect_hold_as_well() {
    if scenario().is_some() {
        set_guard(Guard::Protect);
        return overflow_in_a_named_coroutine(64 << 10, || {
            black_box(recurse(0));
        });
    }
    assert_reported(&child("guards_by_mprotect_hold_as_well", "protect"), 64 << 10);
}

#[test]
fn a_foreign_fault_reaches_the_handler_that_was_there_before() {
    extern "C" fn before(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        let text = b"the handler before\n";
        // SAFETY: both may be called in a signal handler.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        // SAFETY: as above.
        unsafe { libc::_exit(33) };
    }
    if let Some(scenario) = scenario() {
        if scenario == "handler" {
            // SAFETY: all zeros is a disposition.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = before as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            // SAFETY: installs the handler above.
            unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()) };
        }
        run(|| {
            let nowhere = black_box(std::ptr::without_provenance_mut::<u8>(8));
            // SAFETY: it is not; this is a child that is to die.
            unsafe { nowhere.write_volatile(1) };
        });
        return;
    }
    let test = "a_foreign_fault_reaches_the_handler_that_was_there_before";
    let handled = child(test, "handler");
    assert_eq!(handled.status.code(), Some(33));
    assert!(String::from_utf8_lossy(&handled.stderr).contains("the handler before"));
    if cfg!(feature = "sanitize") {
        println!("skipped: a sanitizer reports faults that nobody handles, and exits");
        return;
    }
    let unhandled = child(test, "none");
    assert_eq!(unhandled.status.signal(), Some(libc::SIGSEGV));
    assert!(!String::from_utf8_lossy(&unhandled.stderr).contains("overflowed"));
}
