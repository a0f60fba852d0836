//! Calls that are given up: at any suspension point, to the right frame, and with nothing left behind.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use switchmark_runtime::net::UnixStream;
use switchmark_runtime::sync::{Event, Mutex, Semaphore};
use switchmark_runtime::{
    Builder, Runtime, TimeoutError, blocking, cancel, chan, park, park_timeout, raw, scope, sleep, spawn,
    spawn_local, timeout, wait, yield_now,
};

const SOON: Duration = Duration::from_millis(2);
const NEVER: Duration = Duration::from_secs(1000);
const ELAPSED: TimeoutError = TimeoutError::Elapsed;

fn local<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn several(workers: usize) -> Runtime {
    // SAFETY: as above.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

/// Computes for a while, without a suspension point.
fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
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

#[test]
fn every_kind_of_wait_is_ended_and_drops_what_lies_on_its_stack() {
    local(|| {
        let (guard, drops) = counted();
        let (sender, receiver) = chan::rendezvous::<u8>();
        let (_keep, never) = chan::rendezvous::<u8>();
        let (lock, event, semaphore) = (Rc::new(Mutex::new(0)), Event::new(), Semaphore::new(0));
        let holder = spawn_local({
            let lock = Rc::clone(&lock);
            move || {
                let _held = lock.lock().unwrap();
                park();
            }
        });
        let (mut stream, _other) = UnixStream::pair().unwrap();
        yield_now();
        let (done, ends) = chan::rendezvous::<()>();
        let long = spawn(move || _ = ends.recv());
        let mut ended = 0;
        let mut gives_up = |f: &mut dyn FnMut()| {
            let guard = guard.clone();
            let outcome = timeout(SOON, || {
                let _guard = guard;
                f();
            });
            assert_eq!(outcome, Err(ELAPSED));
            ended += 1;
            assert_eq!(drops(), ended);
        };
        gives_up(&mut park);
        gives_up(&mut || sleep(NEVER));
        gives_up(&mut || _ = park_timeout(NEVER));
        gives_up(&mut || sender.send(1).unwrap());
        gives_up(&mut || _ = never.recv());
        gives_up(&mut || _ = lock.lock());
        gives_up(&mut || event.wait());
        gives_up(&mut || _ = semaphore.acquire());
        gives_up(&mut || _ = stream.read(&mut [0]));
        gives_up(&mut || wait(std::future::pending()));
        gives_up(&mut || blocking(|| std::thread::sleep(20 * SOON)));
        gives_up(&mut || {
            loop {
                yield_now();
            }
        });
        let mut long = Some(long);
        gives_up(&mut || long.take().unwrap().join().unwrap());
        // They were left as if nobody had come.
        assert!(receiver.try_recv().is_err());
        holder.cancel().unwrap();
        assert!(holder.join().unwrap_err().is_cancelled());
        assert!(lock.is_poisoned(), "its holder was cancelled, and not while it was waited for");
        semaphore.add_permits(1);
        assert!(timeout(NEVER, || drop(semaphore.acquire())).is_ok());
        drop(done); // The joined one was left running.
    });
}

#[test]
fn what_comes_in_time_is_the_value_and_panics_go_on() {
    local(|| {
        assert_eq!(timeout(NEVER, || 1), Ok(1));
        assert_eq!(timeout(Duration::MAX, || 2), Ok(2));
        let (sender, receiver) = chan::rendezvous();
        let unit = spawn(move || sender.send(3));
        assert_eq!(timeout(NEVER, || receiver.recv().unwrap()), Ok(3));
        unit.join().unwrap().unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            timeout(NEVER, || -> () { std::panic::resume_unwind(Box::new(4)) })
        }));
        assert_eq!(*caught.unwrap_err().downcast::<i32>().unwrap(), 4);
        // A call that has ended is not given up later.
        assert_eq!(timeout(SOON, || 5), Ok(5));
        sleep(2 * SOON);
        yield_now();
    });
}

#[test]
fn a_call_that_computes_is_ended_at_its_next_suspension_point_or_not_at_all() {
    local(|| {
        assert_eq!(timeout(SOON, || compute(2 * SOON)), Ok(()));
        let outcome = timeout(SOON, || {
            compute(2 * SOON);
            let mut turns = 0;
            // As soon as the worker has looked.
            while turns < 1_000_000 {
                yield_now();
                turns += 1;
            }
        });
        assert_eq!(outcome, Err(ELAPSED));
    });
}

/// Calls within calls, of which the innermost ends first, then the next one outwards.
fn nest(depth: u32, ended: &Cell<u32>) {
    if depth == 0 {
        park();
    }
    if timeout(SOON * depth, || nest(depth - 1, ended)).is_err() {
        ended.set(ended.get() + 1);
        park();
    }
}

#[test]
fn of_nested_calls_the_one_ends_whose_time_comes_and_of_two_the_outer() {
    local(|| {
        // The inner one first.
        let outcome = timeout(NEVER, || {
            assert_eq!(timeout(SOON, park), Err(ELAPSED));
            8
        });
        assert_eq!(outcome, Ok(8));
        // The outer one first: the inner call does not return.
        let (guard, drops) = counted();
        let outcome = timeout(SOON, || {
            let _guard = guard;
            let inner = timeout(NEVER, park);
            unreachable!("{inner:?}")
        });
        assert_eq!((outcome, drops()), (Err(ELAPSED), 1));
        // Both at once.
        let outcome = timeout(SOON, || {
            let inner = timeout(SOON, || {
                compute(2 * SOON);
                park();
            });
            unreachable!("{inner:?}")
        });
        assert_eq!(outcome, Err(ELAPSED));
        // Many, in each of which the time of the innermost comes first.
        let ended = Cell::new(0);
        assert_eq!(timeout(20 * SOON, || nest(10, &ended)), Err(ELAPSED));
        assert!((1..=10).contains(&ended.get()), "{} of them, unless the machine stood still", ended.get());
    });
}

#[test]
fn a_cancellation_goes_before_a_timeout_and_to_the_root() {
    local(|| {
        for cancelled_first in [true, false] {
            let went_on = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&went_on);
            let unit = spawn(move || {
                let outcome = timeout(SOON, || timeout(SOON, park));
                counts.fetch_add(1, Ordering::Relaxed);
                assert_eq!(outcome, Err(ELAPSED));
                park();
            });
            yield_now();
            if !cancelled_first {
                sleep(3 * SOON);
            }
            unit.cancel().unwrap();
            assert!(unit.join().unwrap_err().is_cancelled());
            assert_eq!(went_on.load(Ordering::Relaxed), usize::from(!cancelled_first));
        }
        // Both before it runs again.
        let unit = spawn(|| {
            let outcome = timeout(SOON, park);
            unreachable!("{outcome:?}")
        });
        yield_now();
        compute(2 * SOON);
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_mask_defers_what_would_pass_it_and_nothing_else() {
    local(|| {
        let finished = Cell::new(0);
        let outcome = timeout(SOON, || {
            cancel::mask(|| {
                sleep(3 * SOON); // The time of the outer call comes here.
                finished.set(1);
                // Inside the mask a call of its own is given up.
                assert_eq!(timeout(SOON, park), Err(ELAPSED));
                assert_eq!(timeout(SOON, || cancel::mask(|| sleep(3 * SOON))), Ok(()));
                finished.set(2);
            });
            yield_now();
            unreachable!("the mask is off")
        });
        assert_eq!((outcome, finished.get()), (Err::<(), _>(ELAPSED), 2));
        // A cancellation is deferred meanwhile, and a timeout inside is not.
        let unit = spawn(|| {
            let inner = cancel::mask(|| {
                while !cancel::is_requested() {
                    yield_now();
                }
                timeout(SOON, park)
            });
            assert_eq!(inner, Err(ELAPSED));
            park();
        });
        yield_now();
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_swallowed_one_is_thrown_again_while_others_run_and_ends_at_its_call() {
    local(|| {
        let others = Rc::new(Cell::new(0));
        let over = Rc::new(Cell::new(false));
        let counting = spawn_local({
            let (others, over) = (Rc::clone(&others), Rc::clone(&over));
            move || {
                while !over.get() {
                    others.set(others.get() + 1);
                    yield_now();
                }
            }
        });
        let caught = Cell::new(0);
        let before = others.get();
        let outcome = timeout(SOON, || {
            loop {
                caught.set(caught.get() + u32::from(catch_unwind(park).is_err()));
                if caught.get() == 5 {
                    park();
                }
            }
        });
        assert_eq!((outcome, caught.get()), (Err::<(), _>(ELAPSED), 5));
        assert!(others.get() >= before + 4, "others had {} turns", others.get() - before);
        // What is returned after all is the value.
        assert_eq!(timeout(SOON, || catch_unwind(park).is_err()), Ok(true));
        // A payload that was kept is nobody's later.
        let mut kept = None;
        assert_eq!(timeout(SOON, || kept = catch_unwind(park).err()), Ok(()));
        let kept = kept.unwrap();
        let rethrown = catch_unwind(AssertUnwindSafe(|| timeout(NEVER, || std::panic::resume_unwind(kept))));
        assert!(rethrown.is_err());
        over.set(true);
        counting.join().unwrap();
    });
}

#[test]
fn a_scope_inside_cancels_its_children_and_waits_for_them() {
    for workers in [1, 2] {
        several(workers).block_on(|| {
            let (guard, drops) = counted();
            let outcome = timeout(SOON, || {
                let text = String::from("borrowed");
                scope(|s| {
                    for _ in 0..10 {
                        s.spawn(|| {
                            let _guard = guard.clone();
                            assert_eq!(text.len(), 8);
                            // Its destructor takes longer than the call may.
                            let _slow = scopeguard(|| sleep(2 * SOON));
                            park();
                        });
                    }
                    park();
                });
            });
            assert_eq!((outcome, drops()), (Err(ELAPSED), 10));
            // A child's own call ends within it.
            let inner = scope(|s| s.spawn(|| timeout(SOON, park)).join().unwrap());
            assert_eq!(inner, Err(ELAPSED));
        });
    }
}

/// Runs something when it goes.
fn scopeguard(f: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(f)
}

#[test]
fn a_destructor_that_waits_is_let_finish_and_its_own_calls_are_deferred() {
    local(|| {
        let finished = Cell::new(false);
        let outcome = timeout(SOON, || {
            let _waits = scopeguard(|| {
                sleep(SOON);
                assert_eq!(timeout(SOON, || sleep(2 * SOON)), Ok(()));
                finished.set(true);
            });
            park();
        });
        assert_eq!((outcome, finished.get()), (Err(ELAPSED), true));
    });
}

#[test]
fn beside_somebody_who_unwinds_a_call_is_ended_when_that_is_over() {
    local(|| {
        let unwinding = spawn(|| {
            let _waits = scopeguard(|| sleep(4 * SOON));
            park();
        });
        yield_now();
        unwinding.cancel().unwrap();
        yield_now();
        yield_now();
        assert!(std::thread::panicking(), "the other waits in the middle of its unwinding");
        assert_eq!(timeout(SOON, park), Err(ELAPSED));
        assert!(!std::thread::panicking());
        assert!(unwinding.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_lock_that_was_held_is_poisoned_and_a_stream_goes_on() {
    local(|| {
        let lock = Mutex::new(0);
        let outcome = timeout(SOON, || {
            let mut held = lock.lock().unwrap();
            *held = 1;
            park();
        });
        assert_eq!((outcome, lock.is_poisoned()), (Err(ELAPSED), true));
        let (mut one, mut other) = UnixStream::pair().unwrap();
        for round in 0..20 {
            assert!(timeout(Duration::from_micros(300), || one.read(&mut [0])).is_err());
            other.write_all(&[round]).unwrap();
            let mut byte = [0];
            assert_eq!(timeout(NEVER, || one.read_exact(&mut byte)).unwrap().map_err(|e| e.kind()), Ok(()));
            assert_eq!(byte[0], round);
        }
    });
}

#[test]
fn deadlines_and_values_that_meet_give_one_or_the_other() {
    const ROUNDS: usize = 2_000;
    for workers in [1, 2] {
        let outcomes = several(workers).block_on(|| {
            let mut outcomes = [0, 0];
            for round in 0..ROUNDS as u64 {
                let (sender, receiver) = chan::unbounded();
                let unit = spawn(move || {
                    sleep(Duration::from_micros(round % 100));
                    sender.send(round)
                });
                match timeout(Duration::from_micros(round * 7 % 100), || receiver.recv().unwrap()) {
                    Ok(value) => {
                        assert_eq!(value, round);
                        outcomes[0] += 1;
                    }
                    Err(error) => {
                        assert_eq!(error, ELAPSED);
                        outcomes[1] += 1;
                        assert_eq!(receiver.recv().unwrap(), round, "it was not taken");
                    }
                }
                unit.join().unwrap().unwrap();
            }
            outcomes
        });
        assert_eq!(outcomes.iter().sum::<usize>(), ROUNDS);
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
    }
}

#[test]
fn many_calls_in_many_coroutines_each_end_their_own() {
    several(2).block_on(|| {
        let units: Vec<_> = (0..500_u64)
            .map(|who| {
                spawn(move || {
                    for round in 0..20 {
                        let due = Duration::from_micros((who * 13 + round * 101) % 3000);
                        let outcome = timeout(due, || -> () {
                            let inner = timeout(due * 2, || sleep(NEVER));
                            unreachable!("{inner:?}")
                        });
                        assert_eq!(outcome, Err(ELAPSED));
                        assert_eq!(timeout(NEVER, || timeout(NEVER, || who)), Ok(Ok(who)));
                    }
                })
            })
            .collect();
        for unit in units {
            unit.join().unwrap();
        }
    });
}

#[test]
fn where_it_could_not_work_it_says_so() {
    let outside = catch_unwind(|| timeout(NEVER, || ())).unwrap_err();
    assert!(outside.downcast::<String>().unwrap().contains("timeout() is for code that runs in a coroutine"));
    local(|| {
        // SAFETY: it ends before this function does.
        let mut co = unsafe {
            raw::Coroutine::new(raw::Stack::new(64 << 10).unwrap(), |_: &raw::Yielder<(), ()>, ()| {
                timeout(NEVER, || ()).is_ok()
            })
        };
        let refused = catch_unwind(AssertUnwindSafe(|| co.resume(()))).map(drop).unwrap_err();
        assert!(refused.downcast::<&str>().unwrap().contains("raw coroutine"));
        // Around the resume it works, and unwinds through.
        // SAFETY: as above.
        let mut co = unsafe {
            raw::Coroutine::new(raw::Stack::new(64 << 10).unwrap(), |_: &raw::Yielder<(), ()>, ()| park())
        };
        assert_eq!(timeout(SOON, || _ = co.resume(())), Err(ELAPSED));
    });
    let text = io::Error::other(TimeoutError::Unsupported).to_string();
    assert!(text.contains("panic=abort"), "{text}");
}
