//! Cancellation and forced unwinding: destructors run at every suspension point, and nothing is left behind.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use switchmark_runtime::{
    Builder, JoinError, JoinHandle, cancel, chan, park, park_timeout, sleep, spawn, unparker, yield_now,
};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

/// Counts its drops.
#[derive(Clone)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counted() -> (Counted, impl Fn() -> usize) {
    let count = Arc::new(AtomicUsize::new(0));
    (Counted(Arc::clone(&count)), move || count.load(Ordering::Relaxed))
}

fn cancelled<T: std::fmt::Debug>(unit: JoinHandle<T>) {
    unit.cancel().unwrap();
    assert!(matches!(unit.join(), Err(JoinError::Cancelled(_))));
}

#[test]
fn every_kind_of_wait_unwinds_and_drops_what_lies_on_its_stack() {
    run(|| {
        let (guard, drops) = counted();
        let (sender, receiver) = chan::rendezvous::<Counted>();
        let (_keep, never) = chan::rendezvous::<u8>();
        let (done, wait) = chan::rendezvous::<()>();
        let long = spawn(move || wait.recv().unwrap_err());
        let waits: Vec<JoinHandle<()>> = vec![
            spawn({
                let guard = guard.clone();
                move || {
                    let _guard = guard;
                    park();
                }
            }),
            spawn({
                let guard = guard.clone();
                move || sender.send(guard).unwrap() // The value on its way is dropped as well.
            }),
            spawn({
                let guard = guard.clone();
                move || {
                    let _guard = guard;
                    never.recv().unwrap();
                }
            }),
            spawn({
                let guard = guard.clone();
                move || {
                    let _guard = guard;
                    sleep(Duration::from_secs(1000));
                }
            }),
            spawn({
                let guard = guard.clone();
                move || {
                    let _guard = guard;
                    loop {
                        yield_now();
                    }
                }
            }),
            spawn({
                let guard = guard.clone();
                move || {
                    let _guard = guard;
                    long.join().unwrap();
                }
            }),
        ];
        yield_now();
        yield_now();
        assert_eq!(drops(), 0);
        let count = waits.len();
        waits.into_iter().for_each(cancelled);
        assert_eq!(drops(), count);
        drop(receiver);
        drop(done); // Its joiner was cancelled, and left it running.
    });
}

#[test]
fn a_coroutine_that_has_not_started_drops_its_closure_and_never_runs() {
    run(|| {
        let (guard, drops) = counted();
        let unit = spawn(move || {
            let _guard = guard;
            unreachable!("it was cancelled before it could start")
        });
        unit.cancel().unwrap();
        assert_eq!(drops(), 0);
        assert!(unit.join().unwrap_err().is_cancelled());
        assert_eq!(drops(), 1);
    });
}

#[test]
fn a_swallowed_cancellation_is_thrown_again_while_others_run() {
    run(|| {
        let others = Rc::new(Cell::new(0));
        let unit = spawn(|| {
            let mut caught = 0;
            while caught < 5 {
                caught += usize::from(std::panic::catch_unwind(park).is_err());
            }
            caught
        });
        yield_now();
        unit.cancel().unwrap();
        while !unit.is_finished() {
            others.set(others.get() + 1);
            yield_now();
        }
        // It yielded before each throw but the first, and what it made of it in the end is its value.
        assert!(others.get() >= 4, "{}", others.get());
        assert_eq!(unit.join().unwrap(), 5);
    });
}

#[test]
fn a_mask_defers_a_cancellation_and_keeps_deadlines() {
    run(|| {
        let unit = spawn(|| {
            let woken = cancel::mask(|| park_timeout(Duration::from_millis(5)));
            assert!(!woken && cancel::is_requested());
            yield_now();
            unreachable!("the mask is off")
        });
        yield_now();
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_destructor_that_waits_during_the_unwinding_is_let_finish() {
    struct Waits(JoinHandle<u32>, Arc<AtomicUsize>);
    impl Drop for Waits {
        fn drop(&mut self) {
            yield_now();
            assert!(!park_timeout(Duration::from_millis(2)));
            while !self.0.is_finished() {
                yield_now();
            }
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    run(|| {
        let finished = Arc::new(AtomicUsize::new(0));
        let slow = spawn(|| {
            sleep(Duration::from_millis(5));
            7
        });
        let waits = Waits(slow, Arc::clone(&finished));
        let unit = spawn(move || {
            let _waits = waits;
            park();
        });
        yield_now();
        cancelled(unit);
        assert_eq!(finished.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_wait_that_began_beside_an_unwinding_is_cancelled_when_that_is_over() {
    struct Sleeps;
    impl Drop for Sleeps {
        fn drop(&mut self) {
            sleep(Duration::from_millis(5));
        }
    }
    run(|| {
        let unwinding = spawn(|| {
            let _sleeps = Sleeps;
            park();
        });
        yield_now();
        unwinding.cancel().unwrap();
        yield_now();
        yield_now();
        assert!(std::thread::panicking(), "the other waits in the middle of its unwinding");
        let beside = spawn(park);
        yield_now();
        cancelled(beside);
        assert!(unwinding.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_claim_beats_a_cancellation_that_comes_after_it() {
    run(|| {
        let (sender, receiver) = chan::rendezvous();
        let unit = spawn(move || receiver.recv().unwrap());
        yield_now();
        sender.send(5).unwrap();
        unit.cancel().unwrap();
        assert_eq!(unit.join().unwrap(), 5);
    });
}

#[test]
fn a_timed_wait_ends_by_its_deadline_or_by_its_wake_and_never_twice() {
    run(|| {
        assert!(!park_timeout(Duration::from_millis(1)));
        let me = unparker();
        let waker = spawn(move || me.unpark());
        assert!(park_timeout(Duration::from_secs(1000)));
        waker.join().unwrap();
        // The stale deadline of the wait above is not taken for this one's.
        assert!(!park_timeout(Duration::from_millis(1)));
        let slow = spawn(|| sleep(Duration::from_millis(20)));
        let slow = slow.join_timeout(Duration::from_millis(1)).unwrap_err();
        slow.join_timeout(Duration::from_secs(1000)).unwrap().unwrap();
    });
}

#[test]
fn cancellations_from_other_threads_meet_wakes_and_ends_without_loss() {
    run(|| {
        for round in 0..500_u32 {
            let unit = spawn(move || {
                if round % 3 != 0 {
                    yield_now();
                }
                if round % 2 == 0 {
                    park();
                }
                round
            });
            if round % 5 != 0 {
                yield_now();
            }
            let unit = Arc::new(unit);
            let canceller = std::thread::spawn({
                let unit = Arc::clone(&unit);
                move || unit.cancel().unwrap()
            });
            for _ in 0..round % 7 {
                yield_now();
            }
            while !unit.is_finished() {
                yield_now();
            }
            canceller.join().unwrap();
            match Arc::into_inner(unit).unwrap().join() {
                Ok(value) => assert_eq!(value, round),
                Err(error) => assert!(error.is_cancelled()),
            }
        }
    });
}

#[test]
fn cancelling_one_that_has_ended_does_nothing() {
    run(|| {
        let unit = spawn(|| 3);
        yield_now();
        unit.cancel().unwrap();
        assert_eq!(unit.join().unwrap(), 3);
    });
}
