//! The primitives of `sync`: what each promises, closing, time-outs and cancellation in each, coroutines and threads together.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use switchmark_runtime::sync::{
    Barrier, Condvar, Event, Mutex, MutexGuard, OnceCell, RwLock, Semaphore, WaitGroup,
};
use switchmark_runtime::{Builder, JoinHandle, cancel, park, sleep, spawn, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

const SOON: Duration = Duration::from_millis(2);
const NEVER: Duration = Duration::from_secs(1000);

fn cancelled<T: std::fmt::Debug>(unit: JoinHandle<T>) {
    unit.cancel().unwrap();
    assert!(unit.join().unwrap_err().is_cancelled());
}

fn join_all(units: impl IntoIterator<Item = JoinHandle<()>>) {
    for unit in units {
        unit.join().unwrap();
    }
}

/// Lets others run for a while.
fn others_run() {
    (0..20).for_each(|_| yield_now());
}

/// Runs `body` on two OS threads and in four coroutines each of two runtimes, all at once, and tells each who it is.
fn everywhere(body: impl Fn(usize) + Send + Sync + 'static) {
    let body = Arc::new(body);
    std::thread::scope(|scope| {
        for who in 0..2 {
            let body = Arc::clone(&body);
            scope.spawn(move || body(who));
        }
        for runtime in 0..2 {
            let body = Arc::clone(&body);
            scope.spawn(move || {
                run(move || {
                    for who in 0..4 {
                        let body = Arc::clone(&body);
                        spawn(move || body(2 + runtime * 4 + who));
                    }
                });
            });
        }
    });
}

const EVERYWHERE: usize = 10;

// Mutex

#[test]
fn a_mutex_lets_in_one_at_a_time_over_suspensions() {
    run(|| {
        let (mutex, inside) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(false)));
        let units: Vec<_> = (0..10)
            .map(|_| {
                let (mutex, inside) = (Arc::clone(&mutex), Arc::clone(&inside));
                spawn(move || {
                    for _ in 0..50 {
                        let mut value = mutex.lock().unwrap();
                        assert!(!inside.swap(true, Ordering::Relaxed));
                        yield_now();
                        *value += 1;
                        inside.store(false, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        join_all(units);
        assert_eq!(*mutex.lock().unwrap(), 500);
    });
}

#[test]
fn a_mutex_counts_right_between_threads_and_coroutines() {
    let mutex = Arc::new(Mutex::new(0_usize));
    let shared = Arc::clone(&mutex);
    everywhere(move |who| {
        for n in 0..500 {
            match n % 5 {
                // It may have been handed to another coroutine of this worker, so that has to run.
                0 => {
                    while shared.try_lock().map(|mut value| *value += 1).is_err() {
                        yield_now();
                    }
                }
                1 => loop {
                    if let Ok(mut value) = shared.lock_timeout(Duration::from_micros(30)) {
                        *value += 1;
                        break;
                    }
                },
                _ => *shared.lock().unwrap() += 1,
            }
            if n % 16 == who {
                let guard = shared.lock().unwrap();
                std::thread::yield_now();
                drop(guard);
            }
        }
    });
    assert_eq!(Arc::into_inner(mutex).unwrap().into_inner().unwrap(), EVERYWHERE * 500);
}

#[test]
fn one_that_has_waited_for_long_is_served_before_a_coroutine_that_barges_without_end() {
    run(|| {
        let (mutex, stop) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let barging = {
            let (mutex, stop) = (Arc::clone(&mutex), Arc::clone(&stop));
            spawn(move || {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    let guard = mutex.lock().unwrap();
                    // The other is woken by each unlock, finds the mutex taken, and is old soon.
                    yield_now();
                    sleep(Duration::from_micros(300));
                    drop(guard);
                    rounds += 1;
                }
                rounds
            })
        };
        yield_now();
        let start = Instant::now();
        drop(mutex.lock().unwrap());
        stop.store(true, Ordering::Relaxed);
        // Without the hand-over it would wait for as long as the other goes on.
        assert!(barging.join().unwrap() >= 1 && start.elapsed() < NEVER);
    });
}

#[test]
fn those_that_starve_are_served_in_order_and_then_barging_is_back() {
    run(|| {
        let (mutex, order) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(Vec::new())));
        let guard = mutex.lock().unwrap();
        let units: Vec<_> = (0..5)
            .map(|n| {
                let (mutex, order) = (Arc::clone(&mutex), Arc::clone(&order));
                spawn(move || {
                    let _guard = mutex.lock().unwrap();
                    order.lock().unwrap().push(n);
                    sleep(SOON); // The others grow older than a millisecond.
                })
            })
            .collect();
        yield_now();
        sleep(SOON);
        drop(guard);
        // This one comes late; the first time it may barge, which makes the one that was woken declare starvation.
        for _ in 0..2 {
            drop(mutex.lock().unwrap());
        }
        join_all(units);
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        // Nobody waits: the word is as in the beginning, or this would wait.
        for _ in 0..3 {
            drop(mutex.try_lock().unwrap());
        }
    });
}

#[test]
fn a_mutex_times_out_and_leaves_no_trace() {
    run(|| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let waiting = {
            let mutex = Arc::clone(&mutex);
            spawn(move || matches!(mutex.lock_timeout(SOON), Err(TryLockError::WouldBlock)))
        };
        assert!(waiting.join().unwrap());
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        drop(guard);
        *mutex.lock_timeout(NEVER).unwrap() += 1;
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    });
    let mutex = Mutex::new(());
    let guard = mutex.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(mutex.lock_timeout(SOON).is_err()));
    });
    drop(guard);
    drop(mutex.lock_timeout(Duration::ZERO).unwrap());
}

#[test]
fn a_cancelled_wait_for_a_mutex_leaves_it_to_the_others() {
    run(|| {
        for gone in 0..3 {
            let mutex = Arc::new(Mutex::new(Vec::new()));
            let guard = mutex.lock().unwrap();
            let mut units: Vec<_> = (0..3)
                .map(|n| {
                    let mutex = Arc::clone(&mutex);
                    spawn(move || mutex.lock().unwrap().push(n))
                })
                .collect();
            yield_now();
            cancelled(units.remove(gone));
            drop(guard);
            join_all(units);
            let value = mutex.lock().unwrap();
            assert_eq!(*value, (0..3).filter(|&n| n != gone).collect::<Vec<_>>());
        }
    });
}

#[test]
fn one_that_is_cancelled_on_its_way_to_a_mutex_wakes_the_next() {
    run(|| {
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let lock = |mutex: &Arc<Mutex<()>>| {
            let mutex = Arc::clone(mutex);
            spawn(move || drop(mutex.lock().unwrap()))
        };
        let (first, second) = (lock(&mutex), lock(&mutex));
        yield_now();
        drop(guard); // The first is woken,
        let guard = mutex.lock().unwrap(); // finds the mutex taken,
        first.cancel().unwrap(); // and is cancelled when it would wait again,
        assert!(first.join().unwrap_err().is_cancelled());
        drop(guard); // so this has to wake the second.
        second.join_timeout(NEVER).unwrap().unwrap();
    });
}

#[test]
fn a_panic_under_a_mutex_poisons_it_and_so_does_a_cancellation() {
    run(|| {
        let mutex = Arc::new(Mutex::new(1));
        let inside = Arc::clone(&mutex);
        let unit = spawn(move || {
            let mut value = inside.lock().unwrap();
            *value = 2;
            panic!("with the lock");
        });
        assert!(unit.join().is_err());
        assert!(mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap_err().into_inner(), 2);
        assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
        mutex.clear_poison();
        assert_eq!(*mutex.lock().unwrap(), 2);

        let inside = Arc::clone(&mutex);
        let unit = spawn(move || {
            let _value = inside.lock().unwrap();
            park();
        });
        yield_now();
        cancelled(unit);
        assert!(mutex.is_poisoned() && mutex.try_lock().is_err());
        mutex.clear_poison();
        drop(mutex.try_lock().unwrap());
    });
}

#[test]
fn a_mutex_used_in_a_destructor_during_an_unwinding_is_not_poisoned() {
    struct Uses<'a>(&'a Mutex<u32>);
    impl Drop for Uses<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0);
    let unwinds = AssertUnwindSafe(|| {
        let _uses = Uses(&mutex);
        panic!("an unwinding");
    });
    assert!(catch_unwind(unwinds).is_err());
    assert_eq!(*mutex.lock().unwrap(), 1);
}

#[test]
fn poison_is_not_missed_beside_a_coroutine_that_is_suspended_in_its_unwinding() {
    struct Suspends(fn());
    impl Drop for Suspends {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let ways: [fn(); 3] = [
        || sleep(Duration::from_millis(5)),
        || cancel::mask(|| sleep(Duration::from_millis(5))),
        || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(5) {
                yield_now();
            }
        },
    ];
    for (way, suspends) in ways.into_iter().enumerate() {
        run(|| {
            let unwinding = spawn(move || {
                let _suspends = Suspends(suspends);
                resume_unwind(Box::new("an unwinding"));
            });
            let mutex = Arc::new(Mutex::new(()));
            let inside = Arc::clone(&mutex);
            let unit = spawn(move || {
                assert!(std::thread::panicking(), "the other is in the middle of its unwinding");
                let _guard = inside.lock().unwrap();
                panic!("with the lock, beside an unwinding");
            });
            // Waits since before anybody unwound: it is not this wait that keeps the lock from a wrong conclusion.
            assert!(unit.join().unwrap_err().to_string().contains("with the lock"));
            assert!(mutex.is_poisoned(), "way {way}");
            assert!(unwinding.join().is_err());
        });
    }
}

// RwLock

#[test]
fn readers_share_and_a_writer_does_not() {
    run(|| {
        let (lock, present) = (Arc::new(RwLock::new(0)), Arc::new(AtomicUsize::new(0)));
        let most = Arc::new(AtomicUsize::new(0));
        let units: Vec<_> = (0..12)
            .map(|n| {
                let (lock, present, most) = (Arc::clone(&lock), Arc::clone(&present), Arc::clone(&most));
                spawn(move || {
                    for round in 0..30 {
                        if (n + round) % 4 == 0 {
                            let mut value = lock.write().unwrap();
                            assert_eq!(present.fetch_add(100, Ordering::Relaxed), 0);
                            yield_now();
                            *value += 1;
                            present.fetch_sub(100, Ordering::Relaxed);
                        } else {
                            let value = lock.read().unwrap();
                            let now = present.fetch_add(1, Ordering::Relaxed) + 1;
                            assert!(now < 100 && *value <= 90);
                            most.fetch_max(now, Ordering::Relaxed);
                            yield_now();
                            present.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        join_all(units);
        assert_eq!(*lock.read().unwrap(), 90);
        assert!(most.load(Ordering::Relaxed) > 1, "readers were in together");
    });
}

#[test]
fn a_writer_is_not_starved_by_readers_who_keep_coming() {
    run(|| {
        let (lock, written) = (Arc::new(RwLock::new(())), Arc::new(AtomicBool::new(false)));
        let readers: Vec<_> = (0..3)
            .map(|n| {
                let (lock, written) = (Arc::clone(&lock), Arc::clone(&written));
                spawn(move || {
                    let mut rounds = 0;
                    // At any time one of the three reads.
                    while !written.load(Ordering::Relaxed) {
                        let _guard = lock.read().unwrap();
                        (0..=n).for_each(|_| yield_now());
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        others_run();
        let guard = lock.write().unwrap();
        written.store(true, Ordering::Relaxed);
        drop(guard);
        assert!(readers.into_iter().all(|unit| unit.join().unwrap() > 0));
    });
}

#[test]
fn a_lock_is_handed_on_in_the_order_of_waiting_and_to_neighbouring_readers_together() {
    run(|| {
        let (lock, order) = (Arc::new(RwLock::new(())), Arc::new(Mutex::new(String::new())));
        let guard = lock.write().unwrap();
        let units: Vec<_> = "rrwrwwrr"
            .chars()
            .map(|kind| {
                let (lock, order) = (Arc::clone(&lock), Arc::clone(&order));
                spawn(move || {
                    let note = |what: char| order.lock().unwrap().push(what);
                    if kind == 'r' {
                        let _guard = lock.read().unwrap();
                        note('r');
                        yield_now();
                        note('-');
                    } else {
                        let _guard = lock.write().unwrap();
                        note('w');
                        yield_now();
                        note('-');
                    }
                })
            })
            .collect();
        yield_now();
        assert!(lock.try_read().is_err() && lock.try_write().is_err());
        drop(guard);
        join_all(units);
        assert_eq!(*order.lock().unwrap(), "rr--w-r-w-w-rr--");
        drop(lock.try_write().unwrap());
    });
}

#[test]
fn a_writer_that_leaves_the_line_lets_the_readers_behind_it_in() {
    run(|| {
        for by_time in [false, true] {
            let lock = Arc::new(RwLock::new(7));
            let reading = lock.read().unwrap();
            let writer = {
                let lock = Arc::clone(&lock);
                spawn(move || lock.write_timeout(if by_time { SOON } else { NEVER }).is_ok())
            };
            yield_now();
            let reader = {
                let lock = Arc::clone(&lock);
                spawn(move || *lock.read().unwrap())
            };
            others_run();
            assert!(!reader.is_finished(), "it queues behind the writer");
            if by_time {
                assert!(!writer.join().unwrap());
            } else {
                cancelled(writer);
            }
            assert_eq!(reader.join().unwrap(), 7, "while this one still reads");
            drop(reading);
            assert!(lock.try_write().is_ok() && !lock.is_poisoned());
        }
    });
}

#[test]
fn a_read_write_lock_counts_right_between_threads_and_coroutines() {
    let lock = Arc::new(RwLock::new([0_usize; 2]));
    let shared = Arc::clone(&lock);
    everywhere(move |who| {
        for n in 0..300 {
            if (n + who) % 3 == 0 {
                let mut both = shared.write().unwrap();
                both[0] += 1;
                if n % 8 == 0 {
                    std::thread::yield_now();
                }
                both[1] += 1;
            } else if let Ok(both) = shared.read_timeout(Duration::from_micros(100)) {
                assert_eq!(both[0], both[1]);
            }
        }
    });
    assert_eq!(*lock.read().unwrap(), [EVERYWHERE * 100; 2]);
}

#[test]
fn a_writer_that_unwinds_poisons_and_a_reader_does_not() {
    let lock = RwLock::new(0);
    let reads = AssertUnwindSafe(|| {
        let _guard = lock.read().unwrap();
        panic!("while reading");
    });
    assert!(catch_unwind(reads).is_err() && !lock.is_poisoned());
    let writes = AssertUnwindSafe(|| {
        let _guard = lock.write().unwrap();
        panic!("while writing");
    });
    assert!(catch_unwind(writes).is_err() && lock.is_poisoned());
    assert!(lock.read().is_err() && lock.write().is_err());
    lock.clear_poison();
    assert!(lock.read().is_ok());
}

// Condvar

#[test]
fn a_notification_after_the_unlocking_is_not_missed() {
    let shared = Arc::new((Mutex::new(0_usize), Condvar::new()));
    let waits = Arc::clone(&shared);
    everywhere(move |who| {
        let (turn, changed) = &*waits;
        for round in 0..50 {
            let mine = round * EVERYWHERE + who;
            let mut turn = changed.wait_while(turn.lock().unwrap(), |turn| *turn != mine).unwrap();
            *turn += 1;
            drop(turn);
            changed.notify_all();
        }
    });
    assert_eq!(*shared.0.lock().unwrap(), 50 * EVERYWHERE);
}

#[test]
fn notify_one_wakes_the_first_and_notify_all_the_rest() {
    run(|| {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let units: Vec<_> = (0..5)
            .map(|n| {
                let shared = Arc::clone(&shared);
                spawn(move || {
                    let mut woken = shared.1.wait(shared.0.lock().unwrap()).unwrap();
                    woken.push(n);
                })
            })
            .collect();
        others_run();
        shared.1.notify_one();
        others_run();
        assert_eq!(*shared.0.lock().unwrap(), [0]);
        shared.1.notify_all();
        join_all(units);
        shared.0.lock().unwrap().sort_unstable(); // Which of those that were woken runs first is the scheduler's choice.
        assert_eq!(*shared.0.lock().unwrap(), [0, 1, 2, 3, 4]);
        shared.1.notify_all(); // Nobody waits, and nothing is kept for later.
        let (_guard, result) = shared.1.wait_timeout(shared.0.lock().unwrap(), SOON).unwrap();
        assert!(result.timed_out());
    });
}

#[test]
fn a_condvar_times_out_with_the_lock() {
    let (mutex, changed) = (Mutex::new(0), Condvar::new());
    let (mut guard, result) = changed.wait_timeout(mutex.lock().unwrap(), SOON).unwrap();
    *guard += 1;
    assert!(result.timed_out() && mutex.try_lock().is_err());
    let (guard, result) = changed.wait_timeout_while(guard, SOON, |value| *value == 1).unwrap();
    assert!(result.timed_out());
    let (guard, result) = changed.wait_timeout_while(guard, NEVER, |value| *value != 1).unwrap();
    assert!(!result.timed_out() && *guard == 1);
}

#[test]
fn a_wait_that_is_cancelled_leaves_the_mutex_free_and_sound() {
    run(|| {
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        let inside = Arc::clone(&shared);
        let unit = spawn(move || drop(inside.1.wait(inside.0.lock().unwrap()).unwrap()));
        yield_now();
        cancelled(unit);
        drop(shared.0.try_lock().expect("free, and no poison"));
    });
}

#[test]
fn one_that_is_cancelled_after_its_notification_passes_it_on() {
    run(|| {
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        let wait = || {
            let shared = Arc::clone(&shared);
            spawn(move || drop(shared.1.wait(shared.0.lock().unwrap()).unwrap()))
        };
        let (first, second) = (wait(), wait());
        others_run();
        let guard = shared.0.lock().unwrap();
        shared.1.notify_one();
        others_run(); // The first has its notification and waits for the mutex.
        cancelled(first);
        drop(guard);
        second.join_timeout(NEVER).unwrap().unwrap();
    });
}

// Semaphore

#[test]
fn a_semaphore_lets_in_no_more_than_its_permits() {
    let slots = Arc::new(Semaphore::new(3));
    let (shared, inside) = (Arc::clone(&slots), AtomicUsize::new(0));
    everywhere(move |who| {
        for n in 0..200 {
            let count = 1 + (n + who) % 3;
            let permit = match n % 4 {
                0 => loop {
                    if let Some(permit) = shared.acquire_many_timeout(count, Duration::from_micros(50)) {
                        break permit;
                    }
                },
                _ => shared.acquire_many(count),
            };
            assert!(permit.count() == count && inside.fetch_add(count, Ordering::Relaxed) + count <= 3);
            if n % 16 == who {
                std::thread::yield_now();
            }
            inside.fetch_sub(count, Ordering::Relaxed);
        }
    });
    assert_eq!(slots.available_permits(), 3);
}

#[test]
fn permits_go_in_the_order_of_asking_whatever_the_number() {
    run(|| {
        let (slots, order) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let ask = |count: usize| {
            let (slots, order) = (Arc::clone(&slots), Arc::clone(&order));
            spawn(move || {
                slots.acquire_many(count).forget();
                order.lock().unwrap().push(count);
            })
        };
        let units = [ask(1), ask(3), ask(2)];
        others_run();
        slots.add_permits(3);
        others_run();
        assert_eq!(*order.lock().unwrap(), [1], "the second wants three and there are two");
        assert!(slots.try_acquire().is_none(), "nobody overtakes it");
        slots.add_permits(1);
        others_run();
        slots.add_permits(2);
        join_all(units);
        assert_eq!((&**order.lock().unwrap(), slots.available_permits()), (&[1, 3, 2][..], 0));
    });
}

#[test]
fn one_that_leaves_the_line_of_a_semaphore_no_longer_holds_up_the_others() {
    run(|| {
        for by_time in [false, true] {
            let slots = Arc::new(Semaphore::new(1));
            let greedy = {
                let slots = Arc::clone(&slots);
                spawn(move || slots.acquire_many_timeout(5, if by_time { SOON } else { NEVER }).is_some())
            };
            yield_now();
            let modest = {
                let slots = Arc::clone(&slots);
                spawn(move || slots.acquire().count())
            };
            others_run();
            assert!(!modest.is_finished());
            if by_time {
                assert!(!greedy.join().unwrap());
            } else {
                cancelled(greedy);
            }
            assert_eq!(modest.join().unwrap(), 1);
            assert_eq!(slots.available_permits(), 1);
        }
    });
}

// Barrier

#[test]
fn a_barrier_lets_all_go_at_once_again_and_again_with_one_leader_each_time() {
    let (barrier, came, leaders) =
        (Barrier::new(EVERYWHERE), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let led = Arc::clone(&leaders);
    everywhere(move |_| {
        for round in 1..=50 {
            came.fetch_add(1, Ordering::Relaxed);
            led.fetch_add(usize::from(barrier.wait().is_leader()), Ordering::Relaxed);
            assert!(came.load(Ordering::Relaxed) >= round * EVERYWHERE);
            barrier.wait();
        }
    });
    assert_eq!(leaders.load(Ordering::Relaxed), 50);
}

#[test]
fn one_that_leaves_a_barrier_is_not_counted() {
    run(|| {
        let barrier = Arc::new(Barrier::new(2));
        let inside = Arc::clone(&barrier);
        let unit = spawn(move || inside.wait());
        yield_now();
        cancelled(unit);
        assert_eq!(barrier.wait_timeout(SOON), None);
        let inside = Arc::clone(&barrier);
        let unit = spawn(move || inside.wait().is_leader());
        yield_now();
        assert!(!unit.is_finished(), "the two that left do not count");
        assert!(barrier.wait_timeout(NEVER).unwrap().is_leader());
        assert!(!unit.join().unwrap());
        assert!(Barrier::new(0).wait().is_leader() && Barrier::new(1).wait().is_leader());
    });
}

// WaitGroup

#[test]
fn a_wait_group_waits_for_all_however_they_end() {
    run(|| {
        let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        for n in 0..6 {
            let (group, done) = (group.clone(), Arc::clone(&done));
            let unit = spawn(move || {
                let _group = group;
                done.fetch_add(1, Ordering::Relaxed);
                match n % 3 {
                    0 => yield_now(),
                    1 => panic!("it ends like this"),
                    _ => park(),
                }
            });
            yield_now();
            if n % 3 == 2 {
                unit.cancel().unwrap();
            }
        }
        group.wait();
        assert_eq!(done.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn a_wait_group_may_be_waited_for_by_several_and_by_threads() {
    let (group, gone) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
    let (each, count) = (Mutex::new(group.clone()), Arc::clone(&gone));
    everywhere(move |who| {
        let mine = each.lock().unwrap().clone();
        if who % 2 == 0 {
            count.fetch_add(1, Ordering::SeqCst);
            drop(mine);
        } else {
            let waited = mine.wait_timeout(Duration::from_micros(100));
            drop(waited); // In time or not.
        }
    });
    // The closure, with the clone in its mutex, is gone.
    group.wait();
    assert_eq!(gone.load(Ordering::SeqCst), EVERYWHERE / 2);
}

#[test]
fn one_that_gives_up_waiting_is_back_in_the_group_and_one_that_is_cancelled_is_not() {
    run(|| {
        let group = WaitGroup::new();
        let mine = group.clone().wait_timeout(SOON).unwrap_err();
        let waiting = {
            let group = group.clone();
            spawn(move || group.wait())
        };
        yield_now();
        let patient = {
            let group = group.clone();
            spawn(move || group.wait())
        };
        yield_now();
        cancelled(waiting);
        drop(group);
        others_run();
        assert!(!patient.is_finished(), "one is left");
        drop(mine);
        patient.join_timeout(NEVER).unwrap().unwrap();
    });
}

// Event

#[test]
fn an_event_wakes_all_and_stays_set_until_it_is_reset() {
    let (event, ready) = (Arc::new(Event::new()), Arc::new(AtomicUsize::new(0)));
    let setter = {
        let (event, ready) = (Arc::clone(&event), Arc::clone(&ready));
        std::thread::spawn(move || {
            while ready.load(Ordering::Acquire) < EVERYWHERE {
                std::thread::yield_now();
            }
            event.set();
        })
    };
    let shared = Arc::clone(&event);
    everywhere(move |_| {
        ready.fetch_add(1, Ordering::Release);
        shared.wait();
        assert!(shared.is_set() && shared.wait_timeout(Duration::ZERO));
    });
    setter.join().unwrap();
    event.reset();
    assert!(!event.is_set() && !event.wait_timeout(SOON));
}

#[test]
fn a_cancelled_wait_for_an_event_leaves_it() {
    run(|| {
        let event = Arc::new(Event::new());
        let wait = || {
            let event = Arc::clone(&event);
            spawn(move || event.wait())
        };
        let (first, second) = (wait(), wait());
        yield_now();
        cancelled(first);
        event.set();
        event.reset(); // The one that was woken goes on all the same.
        second.join().unwrap();
    });
}

// OnceCell

#[test]
fn an_initialiser_that_suspends_runs_once_for_all() {
    let (cell, runs) = (Arc::new(OnceCell::new()), Arc::new(AtomicUsize::new(0)));
    let (shared, count) = (Arc::clone(&cell), Arc::clone(&runs));
    everywhere(move |who| {
        let value = shared.get_or_init(|| {
            sleep(SOON);
            count.fetch_add(1, Ordering::Relaxed);
            vec![who]
        });
        assert_eq!(value.len(), 1);
        assert!(std::ptr::eq(value, shared.get().unwrap()));
    });
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert_eq!(cell.set(vec![]), Err(vec![]));
}

#[test]
fn when_an_initialiser_panics_fails_or_is_cancelled_the_next_one_tries() {
    run(|| {
        let cell = Arc::new(OnceCell::new());
        let attempt = |how: &'static str| {
            let cell = Arc::clone(&cell);
            spawn(move || {
                cell.get_or_try_init(|| {
                    yield_now();
                    match how {
                        "panics" => panic!("in the initialiser"),
                        "waits" => park(),
                        "fails" => return Err(how),
                        _ => {}
                    }
                    Ok(how)
                })
                .copied()
            })
        };
        let (panics, waits, fails) = (attempt("panics"), attempt("waits"), attempt("fails"));
        let (succeeds, late) = (attempt("succeeds"), attempt("late"));
        assert!(panics.join().is_err());
        others_run();
        assert!(cell.get().is_none() && !fails.is_finished());
        cancelled(waits);
        assert_eq!(fails.join().unwrap(), Err("fails"));
        assert_eq!(succeeds.join().unwrap(), Ok("succeeds"));
        assert_eq!(late.join().unwrap(), Ok("succeeds"));
    });
}

#[test]
fn a_cancelled_wait_for_a_once_cell_leaves_it_to_the_others() {
    run(|| {
        let (cell, go) = (Arc::new(OnceCell::new()), Arc::new(Event::new()));
        let attempt = |n: u32| {
            let (cell, go) = (Arc::clone(&cell), Arc::clone(&go));
            spawn(move || {
                *cell.get_or_init(|| {
                    go.wait();
                    n
                })
            })
        };
        let units = [attempt(0), attempt(1), attempt(2)];
        others_run();
        let [maker, waits, other] = units;
        cancelled(waits);
        go.set();
        assert_eq!((maker.join().unwrap(), other.join().unwrap()), (0, 0));
    });
}

#[test]
fn an_initialiser_that_asks_for_its_own_value_panics_and_spoils_nothing() {
    fn recursive(cell: &OnceCell<u32>) -> u32 {
        *cell.get_or_init(|| recursive(cell) + 1)
    }
    let on_thread = OnceCell::new();
    assert!(catch_unwind(AssertUnwindSafe(|| recursive(&on_thread))).is_err());
    assert_eq!(on_thread.set(5), Ok(()));
    run(|| {
        let cell = OnceCell::new();
        assert!(catch_unwind(AssertUnwindSafe(|| recursive(&cell))).is_err());
        assert_eq!((*cell.get_or_init(|| 6), cell.into_inner()), (6, Some(6)));
    });
}

#[test]
fn values_are_dropped_once_with_what_holds_them() {
    let value = Arc::new(());
    {
        let (mutex, lock) = (Mutex::new(Arc::clone(&value)), RwLock::new(Arc::clone(&value)));
        let (full, empty) = (OnceCell::from(Arc::clone(&value)), OnceCell::<Arc<()>>::new());
        let mut taken = OnceCell::from(Arc::clone(&value));
        assert!(taken.take().is_some() && taken.get().is_none());
        assert_eq!(Arc::strong_count(&value), 4);
        drop((mutex, lock, full, empty));
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

#[test]
fn guards_stay_with_their_coroutine() {
    // A guard may be kept in a local over a suspension beside anything else that is not `Send`.
    run(|| {
        let (mutex, log) = (Mutex::new(Cell::new(1)), RefCell::new(Vec::new()));
        let guard: MutexGuard<'_, Cell<i32>> = mutex.lock().unwrap();
        yield_now();
        log.borrow_mut().push(guard.replace(2));
        drop(guard);
        cancel::mask(|| log.borrow_mut().push(mutex.lock().unwrap().get()));
        assert_eq!(*log.borrow(), [1, 2]);
    });
}
