//! Futures driven by coroutines and threads: no call of a waker is lost, and none that comes late harms.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use switchmark_runtime::{Builder, Runtime, cancel, sleep, spawn, spawn_local, wait, yield_now};

fn local<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn several(workers: usize) -> Runtime {
    // SAFETY: as above.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

/// Something that comes once, for one future; any thread may bring it.
#[derive(Debug)]
struct Slot<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Slot<T> {
        Slot(Arc::clone(&self.0))
    }
}

impl<T> Slot<T> {
    fn new() -> Slot<T> {
        Slot(Arc::new(Mutex::new((None, None))))
    }

    fn put(&self, value: T) {
        let waker = {
            let mut inside = self.0.lock().unwrap();
            inside.0 = Some(value);
            inside.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    async fn get(&self) -> T {
        poll_fn(|context| {
            let mut inside = self.0.lock().unwrap();
            let value = inside.0.take();
            if value.is_none() {
                inside.1 = Some(context.waker().clone());
            }
            value.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// A waker that a future has left behind.
fn left(place: &Mutex<Option<Waker>>) -> Waker {
    place.lock().unwrap().take().expect("the future was polled")
}

#[test]
fn a_waker_from_another_thread_ends_the_wait_whenever_it_comes() {
    for workers in [1, 2] {
        several(workers).block_on(|| {
            let (asks, asked) = mpsc::channel::<(Slot<u64>, u64)>();
            let thread = thread::spawn(move || asked.into_iter().for_each(|(slot, n)| slot.put(n)));
            let units: Vec<_> = (0..8)
                .map(|who| {
                    let asks = asks.clone();
                    spawn(move || {
                        for round in 0..2_000 {
                            let slot = Slot::new();
                            asks.send((slot.clone(), who * 10_000 + round)).unwrap();
                            // Sometimes before the first poll, sometimes during it, mostly after.
                            assert_eq!(wait(slot.get()), who * 10_000 + round);
                        }
                    })
                })
                .collect();
            drop(asks);
            for unit in units {
                unit.join().unwrap();
            }
            thread.join().unwrap();
        });
    }
}

#[test]
fn coroutines_of_one_worker_hand_values_to_futures() {
    local(|| {
        let (there, back) = (Slot::new(), Slot::new());
        let other = spawn({
            let (there, back) = (there.clone(), back.clone());
            move || {
                for _ in 0..1_000 {
                    back.put(wait(there.get()) + 1);
                }
            }
        });
        let mut n = 0;
        for _ in 0..1_000 {
            there.put(n);
            n = wait(back.get());
        }
        assert_eq!(n, 1_000);
        other.join().unwrap();
    });
}

#[test]
fn an_os_thread_drives_a_future_as_well() {
    let slot = Slot::new();
    let thread = thread::spawn({
        let slot = slot.clone();
        move || {
            thread::sleep(Duration::from_millis(2));
            slot.put(5);
        }
    });
    assert_eq!(wait(slot.get()), 5);
    thread.join().unwrap();
}

#[test]
fn a_future_that_calls_its_own_waker_lets_others_run() {
    local(|| {
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        let other = spawn_local(move || {
            for _ in 0..10 {
                counted.set(counted.get() + 1);
                yield_now();
            }
        });
        let mut polls = 0;
        wait(poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            if turns.get() < 10 { Poll::Pending } else { Poll::Ready(()) }
        }));
        assert!(polls >= 10, "{polls} polls");
        other.join().unwrap();
    });
}

#[test]
fn a_call_too_many_is_a_poll_too_many() {
    local(|| {
        let place = Rc::new(Mutex::new(None));
        let polls = Rc::new(Cell::new(0));
        let unit = spawn_local({
            let (place, polls) = (Rc::clone(&place), Rc::clone(&polls));
            move || {
                wait(poll_fn(|context| {
                    *place.lock().unwrap() = Some(context.waker().clone());
                    polls.set(polls.get() + 1);
                    if polls.get() < 5 { Poll::Pending } else { Poll::Ready(()) }
                }));
            }
        });
        yield_now();
        for round in 1..5 {
            assert_eq!(polls.get(), round, "it waits and is polled only when called");
            let waker = left(&place);
            // Two calls before it runs are one poll.
            waker.wake_by_ref();
            waker.wake();
            yield_now();
            yield_now();
        }
        unit.join().unwrap();
        assert_eq!(polls.get(), 5);
    });
}

#[test]
fn a_waker_outlives_the_coroutine_and_the_runtime_and_wakes_nobody() {
    let place = Arc::new(Mutex::new(None));
    let wakers = local(|| {
        let mut wakers = Vec::new();
        for _ in 0..10 {
            let unit = spawn({
                let place = Arc::clone(&place);
                move || {
                    let mut polls = 0;
                    wait(poll_fn(|context| {
                        polls += 1;
                        *place.lock().unwrap() = Some(context.waker().clone());
                        if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
                    }));
                }
            });
            yield_now();
            wakers.push(left(&place));
            wakers[wakers.len() - 1].wake_by_ref();
            unit.join().unwrap();
            // The record may be another coroutine's by now, which waits for something else.
            let other = spawn(|| sleep(Duration::from_millis(1)));
            yield_now();
            wakers.iter().for_each(Waker::wake_by_ref);
            other.join().unwrap();
        }
        wakers
    });
    thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
}

#[test]
fn a_coroutine_that_drives_a_future_can_be_cancelled_which_drops_the_future() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    local(|| {
        for round in 1..=20 {
            let place = Arc::new(Mutex::new(None));
            let (counted, keeps) = (Counted(Arc::clone(&drops)), Arc::clone(&place));
            let unit = spawn(move || {
                wait(async {
                    let _counted = counted;
                    poll_fn(|context| {
                        *keeps.lock().unwrap() = Some(context.waker().clone());
                        Poll::<()>::Pending
                    })
                    .await;
                });
            });
            yield_now();
            let waker = left(&place);
            unit.cancel().unwrap();
            if round % 2 == 0 {
                waker.wake_by_ref(); // It is woken and cancelled at once.
            }
            assert!(unit.join().unwrap_err().is_cancelled());
            assert_eq!(drops.load(Ordering::Relaxed), round);
            waker.wake();
        }
    });
}

#[test]
fn cancellations_and_wakers_from_other_threads_end_each_wait_once() {
    const ROUNDS: usize = 1_000;
    let ended = several(2).block_on(|| {
        let mut ended = [0, 0];
        for _ in 0..ROUNDS {
            let slot = Slot::new();
            let unit = Arc::new(spawn({
                let slot = slot.clone();
                move || wait(slot.get())
            }));
            let thread = spawn({
                let unit = Arc::clone(&unit);
                move || unit.cancel().unwrap()
            });
            slot.put(1_usize);
            thread.join().unwrap();
            while !unit.is_finished() {
                yield_now();
            }
            match Arc::into_inner(unit).unwrap().join() {
                Ok(one) => ended[0] += one,
                Err(error) => ended[1] += usize::from(error.is_cancelled()),
            }
        }
        ended
    });
    assert_eq!(ended[0] + ended[1], ROUNDS, "{ended:?}");
}

#[test]
fn masked_a_wait_is_not_cancelled() {
    local(|| {
        let slot = Slot::new();
        let unit = spawn({
            let slot = slot.clone();
            move || cancel::mask(|| wait(slot.get()))
        });
        yield_now();
        unit.cancel().unwrap();
        yield_now();
        slot.put(9);
        assert_eq!(unit.join().unwrap(), 9);
    });
}

#[test]
fn a_panic_of_the_future_comes_out_and_leaves_the_coroutine_in_order() {
    local(|| {
        let caught =
            catch_unwind(AssertUnwindSafe(|| wait(async { std::panic::resume_unwind(Box::new(3)) })));
        assert_eq!(*caught.unwrap_err().downcast::<i32>().unwrap(), 3);
        assert_eq!(wait(async { 4 }), 4);
    });
}

#[test]
fn futures_within_futures_and_calls_that_suspend_within_a_poll() {
    local(|| {
        let slot = Slot::new();
        let helper = spawn({
            let slot = slot.clone();
            move || slot.put(20)
        });
        // A poll may suspend, and may drive another future meanwhile.
        let sum = wait(async {
            sleep(Duration::from_millis(1));
            let inner = wait(slot.get());
            inner + async { 1 }.await
        });
        assert_eq!(sum, 21);
        helper.join().unwrap();
    });
}
