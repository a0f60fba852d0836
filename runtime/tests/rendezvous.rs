//! The channel without a buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchmark_runtime::chan::{RecvError, SendError, TryRecvError, TrySendError, rendezvous};
use switchmark_runtime::{Builder, spawn, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

#[test]
fn a_send_returns_only_when_a_receiver_has_the_value() {
    run(|| {
        let (sender, receiver) = rendezvous();
        let sent = spawn(move || sender.send(1));
        (0..5).for_each(|_| yield_now());
        assert!(!sent.is_finished());
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(sent.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_waiting_receiver_gets_the_value_at_once() {
    run(|| {
        let (sender, receiver) = rendezvous();
        let waiting = spawn(move || receiver.recv());
        yield_now();
        assert_eq!(sender.try_send("here"), Ok(()));
        assert_eq!(waiting.join().unwrap(), Ok("here"));
        assert_eq!(sender.try_send("late"), Err(TrySendError::Closed("late")));
    });
}

#[test]
fn trying_with_nobody_there_gives_the_value_back() {
    let (sender, receiver) = rendezvous();
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    drop(sender);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(receiver.recv(), Err(RecvError));
}

#[test]
fn when_the_last_receiver_goes_waiting_senders_get_their_values_back() {
    run(|| {
        let (sender, receiver) = rendezvous();
        let other = receiver.clone();
        let waiting: Vec<_> = (0..3)
            .map(|n| {
                let sender = sender.clone();
                spawn(move || sender.send(vec![n]))
            })
            .collect();
        yield_now();
        drop(receiver);
        yield_now();
        assert!(waiting.iter().all(|handle| !handle.is_finished()), "a receiver is left");
        drop(other);
        for (n, handle) in waiting.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap(), Err(SendError(vec![n])));
        }
        assert_eq!(sender.send(vec![9]), Err(SendError(vec![9])));
    });
}

#[test]
fn when_the_last_sender_goes_waiting_receivers_learn_it() {
    run(|| {
        let (sender, receiver) = rendezvous::<String>();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let receiver = receiver.clone();
                spawn(move || receiver.recv())
            })
            .collect();
        yield_now();
        drop(sender.clone());
        yield_now();
        assert!(waiting.iter().all(|handle| !handle.is_finished()), "a sender is left");
        drop(sender);
        for handle in waiting {
            assert_eq!(handle.join().unwrap(), Err(RecvError));
        }
    });
}

#[test]
fn both_sides_are_served_in_the_order_they_came() {
    run(|| {
        let (sender, receiver) = rendezvous();
        for n in 0..10 {
            let sender = sender.clone();
            spawn(move || sender.send(n).unwrap());
        }
        drop(sender);
        yield_now();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());

        let (sender, receiver) = rendezvous();
        let handles: Vec<_> = (0..10)
            .map(|_| {
                let receiver = receiver.clone();
                spawn(move || receiver.recv().unwrap())
            })
            .collect();
        yield_now();
        (0..10).for_each(|n| sender.send(n).unwrap());
        let got: Vec<i32> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    });
}

/// Whatever the numbers of senders and receivers, each value arrives once.
#[test]
fn every_value_arrives_once_between_coroutines() {
    for (senders, receivers) in [(1, 1), (4, 1), (1, 4), (4, 4), (7, 3)] {
        run(|| {
            let (sender, receiver) = rendezvous();
            for first in 0..senders {
                let sender = sender.clone();
                spawn(move || {
                    for n in (first..1000).step_by(senders) {
                        sender.send(n).unwrap();
                    }
                });
            }
            drop(sender);
            let handles: Vec<_> = (0..receivers)
                .map(|turns| {
                    let receiver = receiver.clone();
                    spawn(move || {
                        let mut got = Vec::new();
                        for value in &receiver {
                            (0..turns).for_each(|_| yield_now());
                            got.push(value);
                        }
                        got
                    })
                })
                .collect();
            let mut all: Vec<usize> = handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
        });
    }
}

#[test]
fn every_value_arrives_once_between_threads_and_coroutines_of_two_runtimes() {
    let (sender, receiver) = rendezvous();
    let sum = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for runtime in 0..2 {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            let sum = &sum;
            scope.spawn(move || {
                sum.fetch_add(
                    run(move || {
                        for first in 0..2 {
                            let sender = sender.clone();
                            spawn(move || {
                                (0..500).for_each(|n| sender.send(n * 10 + first + 2 * runtime).unwrap());
                            });
                        }
                        drop(sender);
                        receiver.iter().sum::<usize>()
                    }),
                    Ordering::Relaxed,
                );
            });
        }
        for thread in 4..6 {
            let sender = sender.clone();
            scope.spawn(move || (0..500).for_each(|n| sender.send(n * 10 + thread).unwrap()));
        }
        drop(sender);
        sum.fetch_add(receiver.into_iter().sum::<usize>(), Ordering::Relaxed);
    });
    let expected: usize = (0..6).flat_map(|who| (0..500).map(move |n| n * 10 + who)).sum();
    assert_eq!(sum.into_inner(), expected);
}

#[test]
fn values_are_dropped_once_whichever_way_they_go() {
    let value = Arc::new(());
    run(|| {
        let (sender, receiver) = rendezvous();
        let (a, b, c) = (Arc::clone(&value), Arc::clone(&value), Arc::clone(&value));
        let taken = spawn(move || {
            sender.send(a).unwrap();
            sender.send(b).unwrap();
            sender.send(c).is_err()
        });
        drop(receiver.recv());
        drop(receiver.recv());
        drop(receiver);
        assert!(taken.join().unwrap());
    });
    assert_eq!(Arc::strong_count(&value), 1);
}
