//! Counters on machines that this one is not: the crate's hooks stand in for a kernel whose counters are refused, shared out or
//! run over, and a seccomp filter for a container that allows none.

#![allow(unsafe_code, reason = "hooks into a crate, and a system call of the test's own")]

use perf_event::hooks::{self, Hooks, sys::bindings};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::raw::{c_int, c_uint, c_ulong};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use switchmark_harness::counters::{Attached, Choice, Probed, counted};
use switchmark_schema::{Counter, CounterState};

/// What a kernel makes of an event that it is asked for: the readings of its counter (count, time enabled, time running), or a refusal.
type Answered = Result<&'static [[u64; 3]], c_int>;

/// A kernel that answers so.
struct Kernel<A>(A);

impl<A: FnMut(&bindings::perf_event_attr) -> Answered> Hooks for Kernel<A> {
    unsafe fn perf_event_open(
        &mut self,
        attrs: *mut bindings::perf_event_attr,
        _pid: libc::pid_t,
        _cpu: c_int,
        _group: c_int,
        _flags: c_ulong,
    ) -> c_int {
        // SAFETY: the crate hands over its own attributes, as it would to the kernel.
        let attrs = unsafe { &*attrs };
        match self.0(attrs) {
            Ok(readings) => {
                // A datagram a reading, as a read of a counter is one.
                let (ours, theirs) = UnixDatagram::pair().expect("a pair");
                for reading in readings {
                    let bytes: Vec<u8> = reading.iter().flat_map(|word| word.to_ne_bytes()).collect();
                    ours.send(&bytes).expect("room");
                }
                theirs.into_raw_fd()
            }
            Err(errno) => {
                // SAFETY: no arguments.
                let own = unsafe { libc::__errno_location() };
                // SAFETY: the calling thread's own errno.
                unsafe { *own = errno };
                -1
            }
        }
    }

    unsafe fn ID(&mut self, _: c_int, id: *mut u64) -> c_int {
        // SAFETY: the crate's own variable.
        unsafe { id.write(1) };
        0
    }

    unsafe fn ENABLE(&mut self, _: c_int, _: c_uint) -> c_int {
        0
    }

    unsafe fn DISABLE(&mut self, _: c_int, _: c_uint) -> c_int {
        0
    }
}

/// On a thread of its own, whose hooks end with it.
fn with_kernel<T: Send>(
    answer: impl FnMut(&bindings::perf_event_attr) -> Answered + Send + 'static,
    work: impl FnOnce() -> T + Send,
) -> T {
    let hooked = || {
        // SAFETY: this thread has no counter yet, and every counter it makes is dropped before it ends.
        unsafe { hooks::set_thread_hooks(Box::new(Kernel(answer))) };
        work()
    };
    std::thread::scope(|s| s.spawn(hooked).join().expect("no panic"))
}

const HARDWARE: u32 = bindings::PERF_TYPE_HARDWARE;
const CYCLES: u64 = bindings::PERF_COUNT_HW_CPU_CYCLES as u64;
const INSTRUCTIONS: u64 = bindings::PERF_COUNT_HW_INSTRUCTIONS as u64;

/// What the counters of a worker say of ten operations.
fn counters(
    answer: fn(&bindings::perf_event_attr) -> Answered,
    choice: &'static str,
) -> Vec<(String, Counter)> {
    with_kernel(answer, move || {
        let probed = Probed::probe(&choice.parse::<Choice>().unwrap());
        let mut found: Vec<(String, Counter)> = probed.refusals().into_iter().collect();
        for set in probed.sets() {
            let mut attached = Attached::to(std::process::id(), &set).unwrap();
            let ((), pairs) = attached.around(|| ()).unwrap();
            found.extend(pairs.iter().map(|(event, b, a)| (event.name.to_owned(), counted(*b, *a, 10))));
        }
        found
    })
}

#[test]
fn a_counter_that_had_to_share_the_processor_is_scaled_by_the_time_it_had() {
    let found = counters(|_| Ok(&[[0, 0, 0], [1000, 400, 100]]), "cycles:u");
    let [(name, counter)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((name.as_str(), counter.state, counter.value), ("cycles:u", CounterState::Scaled, Some(4000)));
    assert_eq!((counter.share, counter.per_op), (Some(0.25), Some(400.0)));
}

#[test]
fn overflow_and_starvation_are_states_and_no_numbers() {
    let answer = |attrs: &bindings::perf_event_attr| {
        let readings: &[_] = match attrs.config {
            CYCLES => &[[u64::MAX - 1, 10, 10], [3, 20, 20]],
            INSTRUCTIONS => &[[0, 0, 0], [0, 500, 0]],
            _ => &[[5, 5, 5], [6, 6, 6]],
        };
        Ok(readings)
    };
    for (name, counter) in counters(answer, "cycles,instructions") {
        let expected =
            if name.starts_with("cycles") { CounterState::Overflow } else { CounterState::NotCounted };
        assert_eq!(counter.state, expected, "{name}");
        assert!(counter.value.is_none() && counter.reason.is_some(), "{name}: {counter:?}");
    }
}

#[test]
fn one_refusal_takes_no_other_event_along() {
    let answer = |attrs: &bindings::perf_event_attr| match (attrs.type_, attrs.config) {
        (HARDWARE, CYCLES) => Err(libc::EACCES),
        (HARDWARE, _) => Err(libc::ENOENT),
        _ => Ok(&[[0, 0, 0], [7, 10, 10]][..]),
    };
    let found = counters(answer, "cycles,instructions,context-switches");
    let state = |wanted: &str| {
        let (_, counter) = found.iter().find(|(name, _)| name == wanted).expect("every event asked for");
        (counter.state, counter.reason.clone().unwrap_or_default())
    };
    assert_eq!(state("context-switches").0, CounterState::Counted);
    let (denied, why) = state("cycles:k");
    assert!(denied == CounterState::Denied && why.contains("sysctl kernel.perf_event_paranoid"), "{why}");
    assert_eq!(state("instructions:u").0, CounterState::Unsupported);
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn hardware_is_asked_for_by_side_and_software_with_the_kernels() {
    let (tell, told) = mpsc::channel();
    let answer = move |attrs: &bindings::perf_event_attr| {
        tell.send((attrs.type_, attrs.exclude_user() != 0, attrs.exclude_kernel() != 0))
            .expect("heard below");
        Ok(&[][..])
    };
    with_kernel(answer, || Probed::probe(&Choice::Auto));
    let asked: Vec<(u32, bool, bool)> = told.iter().collect();
    let hardware: Vec<_> = asked.iter().filter(|a| a.0 != bindings::PERF_TYPE_SOFTWARE).collect();
    assert_eq!(hardware.len(), 12);
    assert!(hardware.iter().all(|a| a.1 != a.2), "one side each: {hardware:?}");
    let mut software = asked.iter().filter(|a| a.0 == bindings::PERF_TYPE_SOFTWARE);
    assert!(software.all(|a| !a.1 && !a.2), "a context switch happens in the kernel");
}

/// Refuses `perf_event_open` to the calling thread from now on, as the profiles of container engines do.
fn refuse_perf_events() -> io::Result<()> {
    let step = |code: u32, skip, k| {
        let code = u16::try_from(code).expect("codes have 16 bits");
        libc::sock_filter { code, jt: 0, jf: skip, k }
    };
    let number = u32::try_from(libc::SYS_perf_event_open).map_err(io::Error::other)?;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, refuse),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a program of four steps that lives over the call, which copies it; it binds the calling thread alone.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn a_container_that_allows_no_counters_is_named_with_its_remedy() {
    let probe = || match refuse_perf_events() {
        Ok(()) => Some(Probed::probe(&Choice::Auto)),
        Err(e) => {
            println!("skipped: no seccomp here: {e}");
            None
        }
    };
    let Some(probed) = std::thread::scope(|s| s.spawn(probe).join().expect("no panic")) else { return };
    assert!(probed.sets().is_empty() && !probed.pmu());
    let refusals = probed.refusals();
    assert_eq!(refusals.len(), 17, "{refusals:?}");
    for (name, counter) in refusals {
        assert_eq!((counter.state, counter.value), (CounterState::Denied, None), "{name}");
        assert!(counter.reason.is_some_and(|why| why.contains("CAP_PERFMON")), "{name}");
    }
}
