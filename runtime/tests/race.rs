//! Wakes from other OS threads, against everything the worker does meanwhile: none lost, none doubled, no hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use switchmark_runtime::{
    Builder, Handle, JoinError, Unparker, cancel, chan, park, park_timeout, spawn, unparker, yield_now,
};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

/// Each thread talks with a coroutine of its own: it raises a number and unparks, the coroutine answers by copying it. Were a
/// wake lost, both would wait for ever.
#[test]
fn no_wake_from_a_thread_is_lost_whether_the_worker_sleeps_or_runs() {
    const ROUNDS: u64 = 5_000;
    run(|| {
        let busy = Arc::new(AtomicBool::new(true));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let words = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
                let theirs = Arc::clone(&words);
                let answer = move || {
                    let (asked, answered) = &*theirs;
                    while answered.load(Ordering::Relaxed) < ROUNDS {
                        park();
                        answered.store(asked.load(Ordering::Acquire), Ordering::Release);
                    }
                };
                let (send, receive) = std::sync::mpsc::channel::<Unparker>();
                drop(spawn(move || {
                    send.send(unparker()).unwrap();
                    answer();
                }));
                std::thread::spawn(move || {
                    let coroutine = receive.recv().unwrap();
                    let (asked, answered) = &*words;
                    for round in 1..=ROUNDS {
                        asked.store(round, Ordering::Release);
                        coroutine.unpark();
                        while answered.load(Ordering::Acquire) < round {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        // For the first half somebody keeps the worker awake, so that wakes also meet a running one.
        let still = Arc::clone(&busy);
        spawn(move || {
            for _ in 0..200_000 {
                yield_now();
            }
            still.store(false, Ordering::Relaxed);
        });
        while busy.load(Ordering::Relaxed) {
            yield_now();
        }
        let me = unparker();
        let all = std::thread::spawn(move || {
            for thread in threads {
                thread.join().unwrap();
            }
            me.unpark();
        });
        park();
        all.join().unwrap();
    });
}

#[test]
fn many_threads_unparking_one_coroutine_wake_it_at_most_once_each() {
    const EACH: u64 = 10_000;
    run(|| {
        let (handle, me) = (Handle::try_current().unwrap(), unparker());
        let left = Arc::new(AtomicU64::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (me, left) = (me.clone(), Arc::clone(&left));
                std::thread::spawn(move || {
                    (0..EACH).for_each(|_| me.unpark());
                    left.fetch_sub(1, Ordering::Release);
                    me.unpark();
                })
            })
            .collect();
        park(); // The threads may have done it all by now: their tokens came to one.
        let mut returns = 1;
        while left.load(Ordering::Acquire) > 0 {
            park();
            returns += 1;
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(returns <= 4 * (EACH + 1), "{returns}"); // None, if the threads were faster.
        assert!(handle.metrics().inbox_wakes <= handle.metrics().parks);
    });
}

#[test]
fn threads_spawn_and_join_through_a_handle_all_at_once() {
    let sum: u64 = run(|| {
        let (handle, me) = (Handle::try_current().unwrap(), unparker());
        let all = std::thread::spawn(move || {
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let handle = handle.clone();
                    std::thread::spawn(move || {
                        (0..500).map(|n| handle.spawn(move || n + thread).join().unwrap()).sum::<u64>()
                    })
                })
                .collect();
            let sum = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            me.unpark();
            sum
        });
        park();
        all.join().unwrap()
    });
    assert_eq!(sum, 3 * (499 * 500 / 2) + 500 * (1 + 2));
}

/// The waker may be about to touch a worker whose last task it has just made runnable.
#[test]
fn a_runtime_may_end_while_the_thread_that_woke_its_last_coroutine_still_runs() {
    for _ in 0..300 {
        let thread = run(|| {
            let me = unparker();
            let thread = std::thread::spawn(move || me.unpark());
            park();
            thread
        });
        thread.join().unwrap();
    }
}

/// A number of instructions without pattern, below a few thousand; the same for the same number.
fn dither(round: u64) {
    let steps = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52;
    (0..steps).for_each(|step| _ = std::hint::black_box(step));
}

/// What came of the waits.
#[derive(Debug, Default)]
struct Outcomes {
    woken: AtomicU64,
    timed_out: AtomicU64,
    unwound: AtomicU64,
    joins_timed_out: AtomicU64,
}

impl Outcomes {
    fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// One wait, which its deadline ends, an unpark, or a cancellation. Exactly one unpark comes, so whatever ended the wait, exactly one token
/// is used up in the end: a lost one would hang here, and a second one is seen.
fn wait_once(outcomes: &Outcomes, time: Duration) {
    struct UsesTheToken<'a>(&'a Outcomes);
    impl Drop for UsesTheToken<'_> {
        fn drop(&mut self) {
            Outcomes::add(&self.0.unwound);
            park(); // In an unwinding nothing cancels it.
        }
    }
    let unwound = UsesTheToken(outcomes);
    let woken = park_timeout(time);
    std::mem::forget(unwound);
    if woken {
        Outcomes::add(&outcomes.woken);
    } else {
        Outcomes::add(&outcomes.timed_out);
        cancel::mask(park);
    }
    cancel::mask(|| assert!(!park_timeout(Duration::ZERO), "two tokens of one unpark"));
}

/// T4: three times a coroutine on one of two workers, a thread that unparks it, a thread that cancels and joins it, and its deadline, all at
/// once and at random distances.
#[test]
fn park_wake_deadline_and_cancellation_at_once_end_a_wait_once() {
    const LANES: u64 = 3;
    const ROUNDS: u64 = 6_000;
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    let runtime = unsafe { Builder::new().workers(2).build() }.unwrap();
    let outcomes = Arc::new(Outcomes::default());
    let cancelled = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for lane in 0..LANES {
            let (runtime, outcomes, cancelled) = (&runtime, &outcomes, &cancelled);
            let (give, parked) = mpsc::channel::<(u64, Unparker)>();
            threads.spawn(move || {
                for (round, parked) in parked {
                    dither(round * 3 + lane);
                    parked.unpark();
                }
            });
            threads.spawn(move || {
                for round in 0..ROUNDS {
                    let (tell, told) = mpsc::channel();
                    let theirs = Arc::clone(outcomes);
                    let unit = runtime.spawn(move || {
                        tell.send(unparker()).unwrap();
                        wait_once(&theirs, Duration::from_nanos((round * 7919 + lane) % 30_000));
                    });
                    give.send((round, told.recv().unwrap())).unwrap();
                    if round % 8 > 0 {
                        dither(round * 5 + lane);
                        unit.cancel().unwrap();
                    }
                    let joined = unit.join_timeout(Duration::from_nanos(round * 104_729 % 20_000));
                    let joined = joined.unwrap_or_else(|unit| {
                        Outcomes::add(&outcomes.joins_timed_out);
                        unit.join()
                    });
                    match joined {
                        Ok(()) => {}
                        Err(JoinError::Cancelled(_)) => Outcomes::add(cancelled),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (woken, timed_out, unwound) =
        (count(&outcomes.woken), count(&outcomes.timed_out), count(&outcomes.unwound));
    assert_eq!(woken + timed_out + unwound, LANES * ROUNDS, "{outcomes:?}");
    assert!(woken > 0 && timed_out > 0 && unwound > 0, "not all of them ever came first: {outcomes:?}");
    // One that was cancelled ends so, unless it got through all its waits before it could be told.
    assert!(unwound <= count(&cancelled), "{unwound} unwound, {cancelled:?} ended cancelled");
    let metrics = runtime.metrics();
    assert_eq!((metrics.spawned, metrics.ended), (LANES * ROUNDS, LANES * ROUNDS));
}

/// The same for a claimed wait: one value is sent, a receiver waits with a deadline and is cancelled. The value is received, or given back to
/// who sent it, never both.
#[test]
fn a_value_that_meets_a_deadline_and_a_cancellation_is_in_one_place() {
    const ROUNDS: u64 = 6_000;
    // SAFETY: as above.
    let runtime = unsafe { Builder::new().workers(2).build() }.unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let mut given_back = 0;
    std::thread::scope(|threads| {
        let (give, todo) = mpsc::channel::<(u64, chan::Sender<u64>)>();
        let (say, said) = mpsc::channel();
        threads.spawn(move || {
            for (round, sender) in todo {
                dither(round * 3);
                say.send(sender.send(round).is_err()).unwrap();
            }
        });
        for round in 0..ROUNDS {
            let (sender, values) = chan::rendezvous();
            let (tell, told) = mpsc::channel();
            let received = Arc::clone(&received);
            let unit = runtime.spawn(move || {
                tell.send(()).unwrap();
                if let Ok(value) = values.recv_timeout(Duration::from_nanos(round * 7919 % 30_000)) {
                    assert_eq!(value, round);
                    received.fetch_add(1, Ordering::Relaxed);
                }
            });
            told.recv().unwrap();
            give.send((round, sender)).unwrap();
            dither(round * 5);
            unit.cancel().unwrap();
            let _ = unit.join();
            given_back += u64::from(said.recv().unwrap());
        }
        drop(give);
    });
    let received = received.load(Ordering::Relaxed);
    assert_eq!(received + given_back, ROUNDS);
    assert!(received > 0 && given_back > 0, "{received} received, {given_back} given back");
}
