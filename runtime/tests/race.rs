//! Wakes from other OS threads, against everything the worker does meanwhile: none lost, none doubled, no hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use switchmark_runtime::{Builder, Handle, Unparker, park, spawn, unparker, yield_now};

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
