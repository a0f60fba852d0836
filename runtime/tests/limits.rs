//! Where the system says no: a typed error that names the limit and the remedy, and a program that goes on.
//!
//! Each scenario is a child: this test binary, run again with a limit of its own.

use std::io;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use switchmark_runtime::raw::Stack;
use switchmark_runtime::stack::{Guard, StackConfig};
use switchmark_runtime::{
    Builder, JoinError, JoinHandle, Preemption, Unparker, blocking, park, spawn, task, unparker, yield_now,
};

const CHILD: &str = "LIMITS_CHILD";

/// Runs `scenario` in a child, which has to come to its end.
fn holds(test: &str, scenario: impl FnOnce()) {
    if cfg!(feature = "sanitize") {
        println!("skipped: a sanitizer does not live within limits of address space and mappings");
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        return scenario();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
}

/// Leaves this process `bytes` of address space beyond what it has.
fn leave_address_space(bytes: usize) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let now = pages.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 4096;
    let limit = (now + bytes) as libc::rlim_t;
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: limits this child.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

fn run<T>(f: impl FnOnce() -> T) -> io::Result<T> {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().main_stack_size(64 << 10).run_local(f) }
}

fn assert_names_address_space(error: &io::Error) {
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    let text = error.to_string();
    assert!(text.contains("RLIMIT_AS") && text.contains("raise"), "{text}");
}

#[test]
fn without_address_space_there_is_no_runtime_and_an_error() {
    holds("without_address_space_there_is_no_runtime_and_an_error", || {
        leave_address_space(32 << 20);
        for _ in 0..2 {
            assert_names_address_space(&run(|| ()).unwrap_err());
            assert_names_address_space(&Stack::new(1).unwrap_err());
        }
    });
}

#[test]
fn with_little_address_space_coroutines_above_it_say_why_and_the_others_run() {
    holds("with_little_address_space_coroutines_above_it_say_why_and_the_others_run", || {
        leave_address_space(400 << 20);
        let (ran, errors) = run(|| {
            let handles: Vec<_> = (0..2000)
                .map(|_| {
                    let held = task::Builder::new().stack_size(1 << 20).spawn(|| {
                        // Nobody ends before all that can have begun.
                        (0..10).for_each(|_| yield_now());
                    });
                    held.unwrap()
                })
                .collect();
            let outcomes = handles.into_iter().map(JoinHandle::join);
            let (ran, refused): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
            (ran.len(), refused)
        })
        .unwrap();
        // Those above the limit wait for a stack, so all run in the end; they are told only if nobody could ever give one.
        assert_eq!(ran + errors.len(), 2000);
        for error in errors {
            let Err(JoinError::NoStack(failed)) = error else { panic!("{error:?}") };
            assert_names_address_space(&failed.cause);
        }
        // The same by hand.
        let mut held = Vec::new();
        let error = loop {
            match Stack::new(1 << 20) {
                Ok(stack) => held.push(stack),
                Err(error) => break error,
            }
        };
        assert_names_address_space(&error);
        assert!((32..=400).contains(&held.len()), "{} stacks of 1224 KiB in 400 MiB", held.len());
        // The arena left the program its half: memory is to be had.
        assert_eq!(std::hint::black_box(vec![1_u8; 100 << 20]).len(), 100 << 20);
        let one = held.pop().unwrap();
        drop(one);
        held.push(Stack::new(1 << 20).unwrap());
        assert_names_address_space(&Stack::new(1 << 20).unwrap_err());
        assert_eq!(run(|| spawn(|| 7).join().unwrap()).unwrap(), 7, "other classes have theirs");
    });
}

#[test]
fn guards_by_mprotect_end_near_half_of_the_mappings_with_a_clear_error() {
    holds("guards_by_mprotect_end_near_half_of_the_mappings_with_a_clear_error", || {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        if limit > 200_000 {
            return println!("skipped: {limit} mappings are too many to use up");
        }
        StackConfig::new(64 << 10).guard(Guard::Protect).apply();
        let mut held = Vec::new();
        let error = loop {
            match Stack::new(64 << 10) {
                Ok(stack) => held.push(stack),
                Err(error) => break error,
            }
        };
        println!("{} stacks, then: {error}", held.len());
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
        // Two mappings a stack, and a batch may have been cut short; the process has a few hundred others at most.
        assert!((limit / 2 - 300..=limit / 2).contains(&held.len()), "{} of {limit}", held.len());
        // Free stacks keep their guard: the next is not asked for.
        let first = held.swap_remove(0);
        drop(first);
        held.push(Stack::new(64 << 10).unwrap());
        // Where the kernel has guards without mappings, they go on from there.
        StackConfig::new(64 << 10).apply();
        match Stack::new(64 << 10) {
            Ok(stack) => held.push(stack),
            Err(error) => assert!(error.to_string().contains("vm.max_map_count"), "{error}"),
        }
    });
}

#[test]
fn a_coroutine_for_which_no_guard_can_be_had_ends_with_the_reason_and_the_others_go_on() {
    holds("a_coroutine_for_which_no_guard_can_be_had_ends_with_the_reason_and_the_others_go_on", || {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        if limit > 200_000 {
            return println!("skipped: {limit} mappings are too many to use up");
        }
        StackConfig::new(64 << 10).guard(Guard::Protect).apply();
        let count = limit / 2 + 100;
        let (parked, refused, ended) = run(|| {
            static PARKED: Mutex<Vec<Unparker>> = Mutex::new(Vec::new());
            let mut handles: Vec<_> = (0..count)
                .map(|_| {
                    let parked = task::Builder::new().stack_size(64 << 10).spawn(|| {
                        PARKED.lock().unwrap().push(unparker());
                        park();
                    });
                    parked.unwrap()
                })
                .collect();
            // Nobody runs while this waits, so whoever has no stack will never have one.
            let refused = handles.pop().unwrap().join();
            let parked = std::mem::take(&mut *PARKED.lock().unwrap());
            parked.iter().for_each(Unparker::unpark);
            let ended = handles.into_iter().flat_map(JoinHandle::join).count();
            (parked.len(), refused, ended)
        })
        .unwrap();
        assert!((limit / 2 - 300..=limit / 2).contains(&parked), "{parked} of {limit}");
        assert_eq!(ended, parked);
        let Err(JoinError::NoStack(failed)) = refused else { panic!("{refused:?}") };
        assert!(failed.cause.to_string().contains("vm.max_map_count"), "{}", failed.cause);
    });
}

#[test]
fn a_program_that_locks_its_memory_has_guarded_stacks_and_no_reservation_in_memory() {
    holds("a_program_that_locks_its_memory_has_guarded_stacks_and_no_reservation_in_memory", || {
        // SAFETY: locks what this child has and will have.
        if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
            return println!("skipped: {}", io::Error::last_os_error());
        }
        match run(|| (0..100).map(|n| spawn(move || n).join().unwrap()).sum::<u32>()) {
            Ok(sum) => assert_eq!(sum, 4950),
            // Without privilege the limit of locked memory covers the address space.
            Err(error) => assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}"),
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let locked = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
        let kib: usize = locked.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(kib < 1 << 20, "{locked}");
    });
}

/// Leaves this process `allowed` threads to start. Root's are not limited, so root becomes a user of no other process.
fn leave_threads(allowed: usize) {
    let limit = (threads() + allowed) as libc::rlim_t;
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: limits this child.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }, 0);
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } == 0 {
        let user = 1_900_000 + std::process::id();
        // SAFETY: gives up this child's privileges, on all of its threads. Where no such user can be, the caller finds no limit.
        unsafe { libc::setresuid(user, user, user) };
    }
}

/// How many threads there are.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until as few threads are left as a test begins with: one that was joined may not be quite gone.
fn await_threads(few: usize) {
    while threads() > few {
        std::thread::yield_now();
    }
}

/// As [`holds`], with so many threads to start, if the limit holds here; `scenario` is told how many there are without.
fn holds_with_threads(test: &str, allowed: usize, scenario: impl FnOnce(usize)) {
    holds(test, || {
        let few = threads();
        leave_threads(allowed);
        let started: Vec<_> = (0..=allowed)
            .map(|_| std::thread::Builder::new().spawn(|| std::thread::sleep(Duration::from_millis(50))))
            .collect();
        let refused = started.last().unwrap().is_err();
        started.into_iter().flatten().for_each(|thread| thread.join().unwrap());
        if !refused {
            // Other processes of this user may have used it up; or it does not bind.
            return println!("skipped: RLIMIT_NPROC does not limit this user");
        }
        await_threads(few);
        scenario(few);
    });
}

fn assert_names_threads(error: &io::Error, what: &str) {
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
    let text = error.to_string();
    let names = ["RLIMIT_NPROC = ", "pids.max", "kernel.threads-max = ", "raise"];
    assert!(text.contains(what) && names.iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn workers_that_are_refused_are_an_error_that_names_the_limits_and_leaves_no_thread() {
    const TEST: &str = "workers_that_are_refused_are_an_error_that_names_the_limits_and_leaves_no_thread";
    holds_with_threads(TEST, 3, |few| {
        let build = |workers, preemption| {
            // SAFETY: as in `run`.
            unsafe { Builder::new().workers(workers).preemption(preemption).build() }
        };
        for _ in 0..3 {
            for (workers, preemption, what) in [
                (8, Preemption::Cooperative, "worker 3 of 8: "),
                (3, Preemption::Flag, "the monitor: "),
                (2, Preemption::Handoff, "spare 1 of 2: "),
            ] {
                assert_names_threads(&build(workers, preemption).unwrap_err(), what);
                await_threads(few);
            }
        }
        let text = build(8, Preemption::Cooperative).unwrap_err().to_string();
        assert!(text.contains(&format!("RLIMIT_NPROC = {}", few + 3)), "{text}");
        await_threads(few);
        // What is allowed works.
        let runtime = build(3, Preemption::Cooperative).unwrap();
        assert_eq!(runtime.block_on(|| spawn(|| 7).join().unwrap()), 7);
        drop(runtime);
        let flag = Builder::new().preemption(Preemption::Flag);
        // SAFETY: as in `run`.
        assert_eq!(unsafe { flag.run_local(|| 7) }.unwrap(), 7);
    });
}

#[test]
fn calls_for_which_no_thread_can_be_had_all_say_so_and_none_waits() {
    const TEST: &str = "calls_for_which_no_thread_can_be_had_all_say_so_and_none_waits";
    holds_with_threads(TEST, 3, |few| {
        // SAFETY: as in `run`.
        let runtime = unsafe { Builder::new().workers(3).build() }.unwrap();
        std::panic::set_hook(Box::new(|_| ()));
        // All workers ask at once, again and again.
        let units: Vec<_> =
            (0..3000).map(|_| runtime.spawn(|| yield_now_and_then(|| blocking(|| ())))).collect();
        for unit in units {
            let outcome = unit.join_timeout(Duration::from_secs(30)).unwrap_or_else(|_| {
                eprintln!("a call waits for a thread that nobody starts");
                std::process::exit(1); // Its runtime would not end.
            });
            let payload = outcome.unwrap_err().into_panic().unwrap();
            let text = payload.downcast::<String>().unwrap();
            assert!(
                text.contains("blocking() has no thread")
                    && text.contains(&format!("RLIMIT_NPROC = {}", few + 3)),
                "{text}"
            );
        }
        drop(runtime);
        await_threads(few);
        assert_eq!(run(|| blocking(|| 7)).unwrap(), 7, "with threads to be had it goes on");
    });
}

fn yield_now_and_then<T>(f: impl FnOnce() -> T) -> T {
    yield_now();
    f()
}
