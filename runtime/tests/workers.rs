//! Several workers: everything runs once, started coroutines stay where they are, sleepers are woken, and the end comes.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use switchmark_runtime::{
    Builder, Handle, JoinHandle, Runtime, chan, park, sleep, spawn, spawn_local, stack::StackConfig, task,
    unparker, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

fn here() -> ThreadId {
    std::thread::current().id()
}

#[test]
fn every_coroutine_runs_once_and_stays_on_the_thread_that_started_it() {
    let runtime = runtime(4);
    let ran = Arc::new(AtomicU64::new(0));
    let threads = runtime.block_on(|| {
        let units: Vec<JoinHandle<ThreadId>> = (0..10_000)
            .map(|n| {
                let ran = Arc::clone(&ran);
                spawn(move || {
                    let began = here();
                    ran.fetch_add(1, Ordering::Relaxed);
                    for _ in 0..n % 5 {
                        yield_now();
                    }
                    let local = Rc::new(here()); // Not `Send`, and alive over a suspension.
                    yield_now();
                    assert_eq!(*local, here());
                    assert_eq!(began, here());
                    began
                })
            })
            .collect();
        units.into_iter().map(|unit| unit.join().unwrap()).collect::<HashSet<_>>()
    });
    assert_eq!(ran.load(Ordering::Relaxed), 10_000);
    assert!(!threads.contains(&here()) && threads.len() <= 4);
    let metrics = runtime.metrics();
    assert_eq!((metrics.spawned, metrics.ended), (10_001, 10_001), "the one that block_on starts is one");
}

#[test]
fn unstarted_work_is_stolen_from_a_worker_that_is_busy() {
    let runtime = runtime(2);
    let elsewhere = runtime.block_on(|| {
        let spawner = here();
        let units: Vec<_> = (0..100).map(|_| spawn(move || here() != spawner)).collect();
        // This worker does not suspend until the other has done it all.
        while !units.iter().all(JoinHandle::is_finished) {
            std::thread::yield_now();
        }
        units.into_iter().filter(|_| true).map(|unit| usize::from(unit.join().unwrap())).sum::<usize>()
    });
    assert_eq!(elsewhere, 100);
    assert!(runtime.metrics().steals > 0);
}

#[test]
fn a_coroutine_can_be_placed_and_a_local_one_never_leaves() {
    let runtime = runtime(3);
    runtime.block_on(|| {
        let place = |index| task::Builder::new().worker(index).spawn(here).unwrap().join().unwrap();
        let places: HashSet<ThreadId> = (0..3).map(place).collect();
        assert_eq!(places.len(), 3);
        assert!(task::Builder::new().worker(3).spawn(here).unwrap_err().to_string().contains("has 3"));
        let own = here();
        let locals: Vec<_> = (0..500).map(|n| spawn_local(move || (Rc::new(n), here()))).collect();
        for (n, local) in locals.into_iter().enumerate() {
            let (value, at) = local.join().unwrap();
            assert_eq!((*value, at), (n, own));
        }
    });
}

#[test]
fn pairs_on_different_workers_wake_each_other() {
    let runtime = runtime(2);
    let total = runtime.block_on(|| {
        let (to, from) = chan::rendezvous::<u64>();
        let (back, answers) = chan::rendezvous::<u64>();
        let echo = task::Builder::new().worker(1).spawn(move || {
            for n in &from {
                back.send(n + 1).unwrap();
            }
        });
        let ask = task::Builder::new().worker(0).spawn(move || {
            (0..2_000)
                .map(|n| {
                    to.send(n).unwrap();
                    answers.recv().unwrap()
                })
                .sum::<u64>()
        });
        let total = ask.unwrap().join().unwrap();
        echo.unwrap().join().unwrap();
        total
    });
    assert_eq!(total, (1..=2_000).sum());
}

#[test]
fn spawns_from_many_threads_arrive() {
    let runtime = runtime(2);
    let ran = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let ran = Arc::clone(&ran);
                    runtime.spawn(move || ran.fetch_add(1, Ordering::Relaxed)).join().unwrap();
                }
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), 2_000);
}

#[test]
fn block_on_lends_to_its_coroutine_and_passes_its_panic_on() {
    let runtime = runtime(2);
    let mut seen = Vec::new();
    runtime.block_on(|| seen.push(5));
    assert_eq!(seen, [5]);
    let panic =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(|| panic!("on purpose"))));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    runtime.block_on(|| ());
}

#[test]
fn dropping_a_runtime_unwinds_what_waits_and_drops_what_never_ran() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for workers in [1, 2] {
        let runtime = runtime(workers);
        let drops = Arc::new(AtomicUsize::new(0));
        let started = Arc::new(AtomicUsize::new(0));
        for n in 0..200 {
            let (counted, started) = (Counted(Arc::clone(&drops)), Arc::clone(&started));
            runtime.spawn(move || {
                let _counted = counted;
                started.fetch_add(1, Ordering::Relaxed);
                match n % 3 {
                    0 => park(),
                    1 => sleep(Duration::from_secs(1000)),
                    _ => loop {
                        yield_now();
                    },
                }
            });
        }
        while started.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        let handle = runtime.handle();
        drop(runtime);
        assert_eq!(drops.load(Ordering::Relaxed), 200);
        assert_eq!(handle.metrics().ended, 200);
        let late = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.spawn(|| ())));
        assert!(late.is_err(), "an ended runtime takes nothing");
    }
}

#[test]
fn a_shutdown_that_takes_too_long_names_who_still_runs() {
    let runtime = runtime(2);
    let (reached, wait) = std::sync::mpsc::channel();
    let stop = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&stop);
    runtime.spawn(move || {
        let hog = task::Builder::new().name("hog").spawn(move || {
            reached.send(()).unwrap();
            while seen.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now(); // It gives the core away, and never suspends.
            }
        });
        hog.unwrap().join().unwrap();
    });
    wait.recv().unwrap();
    let error = runtime.shutdown_timeout(Duration::from_millis(20)).unwrap_err();
    assert!(error.to_string().contains("'hog' runs or is ready"), "{error}");
    stop.store(1, Ordering::Relaxed);
}

#[test]
fn dropping_a_runtime_in_its_own_coroutine_is_an_error_and_hangs_nothing() {
    let runtime = Arc::new(Mutex::new(Some(runtime(2))));
    let handle = runtime.lock().unwrap().as_ref().unwrap().handle();
    let own = Arc::clone(&runtime);
    let unit = handle.spawn(move || drop(own.lock().unwrap().take()));
    let error = unit.join().unwrap_err().to_string();
    assert!(error.contains("dropped in one of its own coroutines"), "{error}");
}

#[test]
fn a_sleeping_worker_is_woken_for_each_kind_of_work() {
    let runtime = runtime(2);
    for _ in 0..200 {
        // From outside; then to a parked coroutine from outside; then by a deadline.
        let (give, take) = std::sync::mpsc::channel();
        let unit = runtime.spawn(move || {
            give.send(unparker()).unwrap();
            park();
            sleep(Duration::from_micros(50));
            here()
        });
        take.recv().unwrap().unpark();
        unit.join().unwrap();
    }
    assert!(runtime.metrics().sleeps > 0);
}

#[test]
fn a_tree_of_spawns_adds_up_on_every_number_of_workers() {
    fn tree(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> = (0..10).map(|_| spawn(move || tree(depth - 1))).collect();
        children.into_iter().map(|child| child.join().unwrap()).sum::<u64>() + 1
    }
    for workers in 1..=3 {
        let runtime = runtime(workers);
        assert_eq!(runtime.block_on(|| tree(4)), 11_111);
        let metrics = runtime.metrics();
        assert_eq!((metrics.spawned, metrics.ended), (11_111, 11_111));
        assert!(metrics.peak_live <= 11_111);
    }
}

#[test]
fn current_runtimes_are_found_and_their_workers_counted() {
    assert!(Handle::try_current().is_none());
    assert_eq!(runtime(3).block_on(|| Handle::try_current().unwrap().workers()), 3);
}

#[test]
fn a_runtime_has_its_own_default_stack_and_tasks_may_have_another() {
    let size = || switchmark_runtime::current().stack_size();
    // SAFETY: as in `runtime`.
    let small = unsafe { Builder::new().workers(2).stack(StackConfig::new(64 << 10)).build() }.unwrap();
    let sizes = small.block_on(|| {
        let large = task::Builder::new().stack_size(1 << 20).spawn(size).unwrap();
        (spawn(size).join().unwrap(), spawn_local(size).join().unwrap(), large.join().unwrap())
    });
    assert_eq!(sizes, (64 << 10, 64 << 10, 1 << 20));
    assert_eq!(runtime(1).block_on(|| spawn(size).join().unwrap()), 256 << 10);
    // SAFETY: as above.
    let error = unsafe { Builder::new().stack(StackConfig::new(2 << 20)).build() }.unwrap_err().to_string();
    assert!(error.contains("the largest class"), "{error}");
}
