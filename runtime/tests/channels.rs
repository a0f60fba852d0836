//! Channels of every capacity. What is particular to the one without a buffer is in `rendezvous.rs`.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use switchmark_runtime::chan::{
    self, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError,
    TrySendError,
};
use switchmark_runtime::{Builder, JoinHandle, cancel, sleep, spawn, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn each_kind<T>() -> [(Sender<T>, Receiver<T>); 4] {
    [chan::rendezvous(), chan::bounded(1), chan::bounded(3), chan::unbounded()]
}

const SOON: Duration = Duration::from_millis(2);
const NEVER: Duration = Duration::from_secs(1000);

/// Counts its drops.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counted() -> (impl Fn() -> Counted, impl Fn() -> usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let again = Arc::clone(&count);
    (move || Counted(Arc::clone(&again)), move || count.load(Ordering::Relaxed))
}

#[test]
fn a_send_waits_only_when_the_buffer_is_full() {
    run(|| {
        let (sender, receiver) = chan::bounded(2);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert!(sender.is_full() && receiver.len() == 2 && receiver.capacity() == Some(2));
        let third = spawn({
            let sender = sender.clone();
            move || sender.send(3)
        });
        (0..5).for_each(|_| yield_now());
        assert!(!third.is_finished());
        assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
        assert_eq!(receiver.recv(), Ok(1));
        assert!(receiver.is_full(), "the value of the sender that waited took the place");
        third.join().unwrap().unwrap();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2, 3]);
        assert!(receiver.is_empty());
    });
}

#[test]
fn a_receiver_that_waits_gets_the_value_past_the_buffer() {
    run(|| {
        for (sender, receiver) in each_kind() {
            let waiting = spawn({
                let receiver = receiver.clone();
                move || receiver.recv()
            });
            yield_now();
            sender.try_send(7).unwrap();
            assert!(
                receiver.is_empty() && receiver.try_recv() == Err(TryRecvError::Empty),
                "it is spoken for"
            );
            assert_eq!(waiting.join().unwrap(), Ok(7));
        }
    });
}

#[test]
fn values_keep_their_order_through_a_full_buffer() {
    run(|| {
        for (sender, receiver) in each_kind() {
            spawn(move || (0..1000).for_each(|n| sender.send(n).unwrap()));
            assert!(receiver.iter().eq(0..1000));
        }
    });
}

#[test]
fn what_is_in_the_buffer_or_in_the_hand_of_a_waiting_sender_outlives_the_other_senders() {
    run(|| {
        let (sender, receiver) = chan::bounded(2);
        (0..2).for_each(|n| sender.send(n).unwrap());
        let waiting = spawn(move || sender.send(2)); // The last sender, and it waits.
        yield_now();
        assert!(!receiver.is_closed());
        assert_eq!(receiver.recv(), Ok(0));
        waiting.join().unwrap().unwrap();
        assert!(!receiver.is_closed(), "two values are left");
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Ok(2)));
        assert!(receiver.is_closed());
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(receiver.recv_timeout(NEVER), Err(RecvTimeoutError::Closed));
    });
}

#[test]
fn after_the_last_receiver_values_come_back_and_the_buffer_is_dropped() {
    run(|| {
        let (make, drops) = counted();
        let (sender, receiver) = chan::bounded(2);
        (0..2).for_each(|_| sender.send(make()).unwrap());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let (sender, value) = (sender.clone(), make());
                spawn(move || sender.send(value))
            })
            .collect();
        yield_now();
        let other = receiver.clone();
        drop(receiver);
        yield_now();
        assert!(drops() == 0 && !sender.is_closed() && waiting.iter().all(|unit| !unit.is_finished()));
        drop(other);
        assert_eq!(drops(), 2, "those in the buffer");
        assert!(sender.is_closed());
        let back: Vec<_> = waiting.into_iter().map(|unit| unit.join().unwrap().unwrap_err()).collect();
        assert_eq!((drops(), back.len()), (2, 3), "those in hand came back");
        drop(back);
        assert!(matches!(sender.try_send(make()), Err(TrySendError::Closed(_))));
        assert!(matches!(sender.send_timeout(make(), NEVER), Err(SendTimeoutError::Closed(_))));
        let SendError(value) = sender.send(make()).unwrap_err();
        assert_eq!(drops(), 7);
        drop(value);
        assert_eq!(drops(), 8);
    });
}

#[test]
fn a_time_out_gives_the_value_back_and_leaves_no_trace() {
    run(|| {
        for capacity in [0, 2] {
            let (sender, receiver) = chan::bounded(capacity);
            for n in 0..capacity {
                sender.send_timeout(n, SOON).unwrap();
            }
            assert_eq!(sender.send_timeout(8, SOON), Err(SendTimeoutError::Timeout(8)));
            let mut left: Vec<_> = receiver.try_iter().collect();
            assert!(left.iter().copied().eq(0..capacity), "the value that came back is not there as well");
            assert_eq!(receiver.recv_timeout(SOON), Err(RecvTimeoutError::Timeout));
            // Whoever timed out is not served: these two meet.
            let sending = spawn(move || sender.send_timeout(9, NEVER));
            left.push(receiver.recv_timeout(NEVER).unwrap());
            assert_eq!(left.last(), Some(&9));
            sending.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_thread_times_out_like_a_coroutine() {
    let (sender, receiver) = chan::rendezvous::<u8>();
    assert_eq!(sender.send_timeout(1, SOON), Err(SendTimeoutError::Timeout(1)));
    assert_eq!(receiver.recv_timeout(SOON), Err(RecvTimeoutError::Timeout));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    let sending = std::thread::spawn(move || sender.send_timeout(2, NEVER));
    assert_eq!(receiver.recv_timeout(NEVER), Ok(2));
    sending.join().unwrap().unwrap();
}

fn cancelled<T: std::fmt::Debug>(unit: JoinHandle<T>) {
    unit.cancel().unwrap();
    assert!(unit.join().unwrap_err().is_cancelled());
}

#[test]
fn a_cancelled_wait_leaves_the_queue_from_anywhere_in_it() {
    run(|| {
        for gone in 0..4 {
            let (make, drops) = counted();
            let (sender, receiver) = chan::rendezvous();
            let mut waiting: Vec<_> = (0..4)
                .map(|n| {
                    let (sender, value) = (sender.clone(), (n, make()));
                    spawn(move || sender.send(value).unwrap())
                })
                .collect();
            drop(sender);
            yield_now();
            cancelled(waiting.remove(gone));
            assert_eq!(drops(), 1, "its value went with it");
            let got: BTreeSet<usize> = receiver.iter().map(|(n, _)| n).collect();
            assert_eq!(got, (0..4).filter(|&n| n != gone).collect());
            assert_eq!(drops(), 4);

            let (sender, receiver) = chan::bounded(1);
            let mut waiting: Vec<_> = (0..4)
                .map(|_| {
                    let receiver = receiver.clone();
                    spawn(move || receiver.recv().unwrap())
                })
                .collect();
            yield_now();
            cancelled(waiting.remove(gone));
            (0..3).for_each(|n| sender.send(n).unwrap());
            assert!(sender.is_empty(), "each of the three others had its value directly");
            let got: Vec<usize> = waiting.into_iter().map(|unit| unit.join().unwrap()).collect();
            assert_eq!(got, [0, 1, 2]);
        }
    });
}

#[test]
fn a_masked_wait_is_not_cancelled() {
    run(|| {
        let (sender, receiver) = chan::bounded(1);
        let unit = spawn(move || cancel::mask(|| receiver.recv()));
        yield_now();
        unit.cancel().unwrap();
        (0..3).for_each(|_| yield_now());
        sender.send(5).unwrap();
        assert_eq!(unit.join().unwrap(), Ok(5));
    });
}

#[test]
fn a_value_that_uses_the_channel_when_it_is_dropped_finds_it_unlocked() {
    struct Curious(Option<Sender<Curious>>, Arc<AtomicUsize>);
    impl Drop for Curious {
        fn drop(&mut self) {
            let sender = self.0.take().unwrap();
            assert!(sender.is_closed() && sender.is_empty());
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = chan::unbounded();
    for _ in 0..3 {
        let value = Curious(Some(sender.clone()), Arc::clone(&drops));
        assert!(sender.send(value).is_ok());
    }
    drop(receiver);
    assert_eq!(drops.load(Ordering::Relaxed), 3);
}

#[test]
fn a_panic_in_a_values_drop_loses_neither_waiters_nor_other_values() {
    struct Panics(Arc<AtomicUsize>);
    impl Drop for Panics {
        fn drop(&mut self) {
            assert_ne!(self.0.fetch_add(1, Ordering::Relaxed), 0, "the first panics");
        }
    }
    run(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = chan::bounded(3);
        for _ in 0..3 {
            assert!(sender.send(Panics(Arc::clone(&drops))).is_ok());
        }
        let waiting = {
            let (sender, drops) = (sender.clone(), Arc::clone(&drops));
            spawn(move || sender.send(Panics(drops)).map_err(drop))
        };
        yield_now();
        std::panic::catch_unwind(|| drop(receiver)).unwrap_err();
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        assert_eq!(waiting.join().unwrap(), Err(()));
        assert_eq!(drops.load(Ordering::Relaxed), 4, "the one that was to be sent came back");
        assert!(sender.is_closed());
    });
}

/// Whatever the capacity and the numbers of senders and receivers, each value arrives once, and those of one sender in order.
#[test]
fn every_value_arrives_once_between_threads_and_coroutines() {
    const EACH: usize = 400;
    for capacity in [Some(0), Some(1), Some(7), None] {
        let (sender, receiver) = capacity.map_or_else(chan::unbounded, chan::bounded);
        let take = |receiver: Receiver<(usize, usize)>| {
            let got: Vec<_> = receiver.into_iter().collect();
            for who in 0..8 {
                let of_one = got.iter().filter(|value| value.0 == who).map(|value| value.1);
                assert!(of_one.is_sorted(), "a receiver sees the values of one sender in order");
            }
            got
        };
        let mut all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let receiver = receiver.clone();
                    scope.spawn(move || take(receiver))
                })
                .collect();
            for who in 0..2 {
                let sender = sender.clone();
                scope.spawn(move || (0..EACH).for_each(|n| sender.send((who, n)).unwrap()));
            }
            let runtimes: Vec<_> = (0..2)
                .map(|runtime| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    scope.spawn(move || {
                        run(move || {
                            for who in 0..3 {
                                let sender = sender.clone();
                                let who = 2 + who + 3 * runtime;
                                spawn(move || {
                                    for n in 0..EACH {
                                        sender.send((who, n)).unwrap();
                                        if n % 16 == who {
                                            yield_now();
                                        }
                                    }
                                });
                            }
                            drop(sender);
                            let units: Vec<_> = (0..2)
                                .map(|_| {
                                    let receiver = receiver.clone();
                                    spawn(move || {
                                        let got: Vec<_> = receiver.into_iter().collect();
                                        got
                                    })
                                })
                                .collect();
                            drop(receiver);
                            units.into_iter().flat_map(|unit| unit.join().unwrap()).collect::<Vec<_>>()
                        })
                    })
                })
                .collect();
            drop((sender, receiver));
            threads.into_iter().chain(runtimes).flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        all.sort_unstable();
        assert!(all.into_iter().eq((0..8).flat_map(|who| (0..EACH).map(move |n| (who, n)))));
    }
}

/// Time-outs and cancellations against deliveries from another thread: whatever happens, a value is in exactly one place.
#[test]
fn interrupted_waits_meet_deliveries_without_loss() {
    let (sender, receiver) = chan::bounded(1);
    let taken = std::thread::spawn(move || {
        let mut taken = 0_usize;
        loop {
            match receiver.recv_timeout(Duration::from_micros(50)) {
                Ok(()) => taken += 1,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Closed) => return taken,
            }
        }
    });
    let sent = run(move || {
        let mut sent = 0;
        for round in 0..300_u64 {
            let (sender, again) = (sender.clone(), sender.clone());
            let timed = spawn(move || sender.send_timeout((), Duration::from_micros(round % 60)));
            let passed = Arc::new(AtomicUsize::new(0));
            let counting = Arc::clone(&passed);
            let plain = spawn(move || {
                loop {
                    again.send(()).unwrap();
                    counting.fetch_add(1, Ordering::Relaxed);
                }
            });
            sleep(Duration::from_micros(round % 80));
            cancelled(plain);
            sent += passed.load(Ordering::Relaxed) + usize::from(timed.join().unwrap().is_ok());
        }
        sent
    });
    assert_eq!(taken.join().unwrap(), sent);
}
