//! Channels, `select!` and `sync` under shuttle: random schedules of a few threads, each switch at an atomic, a lock or a wait.
//!
//! The waits are those of OS threads, with shuttle's `park` in the place of the futex; coroutines differ in `park` and `sched` only.
//! Time is chance: a time-out comes or does not, and a mutex is starved or not. Each model asks for what must hold whatever happens
//! (each value in one place, one at a time inside, the same number out as in), and shuttle itself reports a schedule in which all wait.
//!
//! Half of the schedules are drawn uniformly, half by PCT, which finds bugs of few preemptions with a known chance. `SHUTTLE_ITERATIONS`
//! says how many; a failure prints the schedule, which `shuttle::replay` takes.

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Arc;
use shuttle::thread;
use shuttle::{Config, Runner};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::chan::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use crate::select;
use crate::sync::{Barrier, Condvar, Event, Mutex, OnceCell, RwLock, Semaphore, WaitGroup};

const A_WHILE: Duration = Duration::from_millis(1); // By chance, whatever it says.

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    let iterations =
        std::env::var("SHUTTLE_ITERATIONS").map_or(2_000, |text| text.parse().expect("a number"));
    let config = || {
        let mut config = Config::new();
        config.stack_size = 256 << 10;
        config
    };
    Runner::new(RandomScheduler::new(iterations / 2), config()).run(model.clone());
    Runner::new(PctScheduler::new(3, iterations.div_ceil(2)), config()).run(model);
}

/// Runs these at once, and returns what they return.
fn all<T: Send + 'static>(bodies: Vec<Box<dyn FnOnce() -> T + Send>>) -> Vec<T> {
    let threads: Vec<_> = bodies.into_iter().map(|body| thread::spawn(body)).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn boxed<T>(body: impl FnOnce() -> T + Send + 'static) -> Box<dyn FnOnce() -> T + Send> {
    Box::new(body)
}

/// Counts itself while it lives.
#[derive(Debug)]
struct Token(Arc<AtomicUsize>);

impl Token {
    fn new(count: &Arc<AtomicUsize>) -> Token {
        // Relaxed: of std, one thread runs at a time.
        count.fetch_add(1, Ordering::Relaxed);
        Token(Arc::clone(count))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether one is alone in a place, with a switch inside.
struct Place(AtomicUsize);

impl Place {
    fn new() -> Place {
        Place(AtomicUsize::new(0))
    }

    fn visit(&self, most: usize) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < most, "too many are inside");
        thread::yield_now();
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn values_arrive_once_and_in_order(capacity: usize) {
    let (sender, receiver) = chan::bounded(capacity);
    let senders = (0..2).map(|who| {
        let sender = sender.clone();
        boxed(move || {
            (0..2).for_each(|n| sender.send((who, n)).unwrap());
            vec![]
        })
    });
    let receivers = (0..2).map(|_| {
        let receiver = receiver.clone();
        boxed(move || receiver.into_iter().collect::<Vec<_>>())
    });
    let bodies = senders.chain(receivers).collect();
    drop((sender, receiver));
    let got = all(bodies);
    for list in &got {
        for who in 0..2 {
            assert!(list.iter().filter(|value| value.0 == who).is_sorted());
        }
    }
    let mut got = got.concat();
    got.sort_unstable();
    assert_eq!(got, [(0, 0), (0, 1), (1, 0), (1, 1)]);
}

#[test]
fn values_arrive_once_and_in_order_without_a_buffer() {
    check(|| values_arrive_once_and_in_order(0));
}

#[test]
fn values_arrive_once_and_in_order_through_a_buffer() {
    check(|| values_arrive_once_and_in_order(1));
}

/// A receiver takes one and goes: every other value comes back or is dropped with the buffer, and nobody waits for ever.
#[test]
fn a_receiver_that_goes_leaves_no_value_behind() {
    check(|| {
        for capacity in 0..2 {
            let live = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = chan::bounded(capacity);
            let mut bodies: Vec<_> = (0..2)
                .map(|_| {
                    let (sender, live) = (sender.clone(), Arc::clone(&live));
                    boxed(move || {
                        (0..2)
                            .map(|_| sender.send(Token::new(&live)).map_err(|error| error.into_inner()))
                            .filter(Result::is_ok)
                            .count()
                    })
                })
                .collect();
            bodies.push(boxed(move || {
                receiver.recv().unwrap();
                0
            }));
            let sent: usize = all(bodies).into_iter().sum();
            assert!((1..=1 + capacity).contains(&sent), "{sent} of capacity {capacity}");
            assert!(sender.is_closed());
            assert_eq!(live.load(Ordering::Relaxed), 0);
        }
    });
}

#[test]
fn time_outs_and_tries_leave_each_value_in_one_place() {
    check(|| {
        for capacity in 0..2 {
            let (sender, receiver) = chan::bounded::<()>(capacity);
            let send = |sender: Sender<()>, by_time: bool| {
                boxed(move || {
                    if by_time {
                        usize::from(sender.send_timeout((), A_WHILE).is_ok())
                    } else {
                        usize::from(sender.try_send(()).is_ok())
                    }
                })
            };
            let receive = |receiver: Receiver<()>| {
                boxed(move || {
                    let mut got = 0;
                    loop {
                        match receiver.recv_timeout(A_WHILE) {
                            Ok(()) => got += 1,
                            Err(RecvTimeoutError::Timeout) => thread::yield_now(),
                            Err(RecvTimeoutError::Closed) => return 100 * got,
                        }
                    }
                })
            };
            let bodies = vec![
                send(sender.clone(), true),
                send(sender.clone(), false),
                send(sender, true),
                receive(receiver.clone()),
                receive(receiver),
            ];
            let sum: usize = all(bodies).into_iter().sum();
            assert_eq!(sum % 100, sum / 100, "as many came as went");
        }
    });
}

/// Two selects that want to send and to receive what the other does, over two channels in opposite order.
#[test]
fn selects_agree_on_where_they_meet() {
    check(|| {
        let ((a, from_a), (b, from_b)) = (chan::rendezvous(), chan::rendezvous());
        let one = {
            let (a, from_b) = (a.clone(), from_b.clone());
            boxed(move || {
                select! {
                    sent = a.send(1) => ("a", sent.map(|()| 1).unwrap()),
                    v = from_b => ("b", v.unwrap()),
                }
            })
        };
        let other = boxed(move || {
            select! {
                sent = b.send(2) => ("b", sent.map(|()| 2).unwrap()),
                v = from_a => ("a", v.unwrap()),
            }
        });
        let met = all(vec![one, other]);
        assert!(met == [("a", 1); 2] || met == [("b", 2); 2], "{met:?}");
        drop((a, from_b));
    });
}

/// Selects with deadlines against plain ends and each other: as many values come as go, and none is in two places.
#[test]
fn a_select_takes_one_value_and_leaves_every_other() {
    check(|| {
        let live = Arc::new(AtomicUsize::new(0));
        let channels: [(Sender<Token>, Receiver<Token>); 2] = [chan::rendezvous(), chan::bounded(1)];
        let senders: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
        let receivers: Vec<_> = channels.iter().map(|(_, receiver)| receiver.clone()).collect();
        drop(channels);
        let tokens = Arc::clone(&live);
        let (also, first) = (senders.clone(), senders[0].clone());
        let for_plain = Arc::clone(&live);
        let selects = boxed(move || {
            let mut sent = 0;
            for _ in 0..2 {
                select! {
                    result = also[0].send(Token::new(&tokens)) => sent += usize::from(result.is_ok()),
                    result = also[1].send(Token::new(&tokens)) => sent += usize::from(result.is_ok()),
                    _ = deadline(A_WHILE) => {}
                }
            }
            sent
        });
        let plain = boxed(move || usize::from(first.send(Token::new(&for_plain)).is_ok()));
        drop(senders);
        let receive = |receivers: Vec<Receiver<Token>>| {
            boxed(move || {
                let (mut got, mut open) = (0, [true; 2]);
                while open != [false; 2] {
                    select! {
                        v = receivers[1], if open[1] => { got += usize::from(v.is_ok()); open[1] = v.is_ok(); }
                        v = receivers[0], if open[0] => { got += usize::from(v.is_ok()); open[0] = v.is_ok(); }
                    }
                }
                100 * got
            })
        };
        let bodies = vec![selects, plain, receive(receivers.clone()), receive(receivers)];
        let sum: usize = all(bodies).into_iter().sum();
        assert!(sum % 100 == sum / 100 && sum > 0, "as many came as went: {sum}");
        assert_eq!(live.load(Ordering::Relaxed), 0);
    });
}

/// A close meets selects that wait, one that tries and one that has run out of time.
#[test]
fn a_close_reaches_every_select() {
    check(|| {
        let ((a, from_a), (b, from_b)) = (chan::bounded::<u8>(1), chan::rendezvous::<u8>());
        let wait = |from_a: Receiver<u8>, from_b: Receiver<u8>| {
            boxed(move || {
                select! {
                    v = from_a => usize::from(v.is_ok()),
                    v = from_b => usize::from(v.is_ok()),
                }
            })
        };
        let ends = boxed(move || {
            drop(b);
            let sent = usize::from(a.try_send(1).is_ok());
            drop(a);
            10 * sent
        });
        let bodies = vec![wait(from_a.clone(), from_b.clone()), wait(from_a.clone(), from_b), ends];
        let sum: usize = all(bodies).into_iter().sum();
        let left = from_a.try_recv();
        assert!(
            sum == 10 && left == Ok(1) || sum == 11 && left == Err(TryRecvError::Closed),
            "{sum} {left:?}"
        );
    });
}

#[test]
fn a_mutex_lets_in_one_at_a_time_and_forgets_nobody() {
    check(|| {
        let shared = Arc::new((Mutex::new(0), Place::new()));
        let bodies = (0..3)
            .map(|who| {
                let shared = Arc::clone(&shared);
                boxed(move || {
                    for round in 0..2 {
                        let guard = match (who + round) % 3 {
                            0 => shared.0.lock_timeout(A_WHILE).ok(),
                            1 if round == 1 => shared.0.try_lock().ok(),
                            _ => Some(shared.0.lock().unwrap()),
                        };
                        if let Some(mut guard) = guard {
                            shared.1.visit(1);
                            *guard += 1;
                        }
                    }
                })
            })
            .collect();
        all(bodies);
        // Nobody is left in the line, and nothing in the word.
        assert!(shared.0.try_lock().is_ok());
    });
}

/// Long enough for one to be woken, to fail, to starve, to be handed the mutex, and for barging to be back.
#[test]
fn a_mutex_is_handed_over_when_one_starves() {
    check(|| {
        let shared = Arc::new((Mutex::new(0), Place::new()));
        let bodies = (0..3)
            .map(|_| {
                let shared = Arc::clone(&shared);
                boxed(move || {
                    for _ in 0..3 {
                        let mut guard = shared.0.lock().unwrap();
                        shared.1.visit(1);
                        *guard += 1;
                    }
                })
            })
            .collect();
        all(bodies);
        assert_eq!(*shared.0.try_lock().unwrap(), 9);
    });
}

#[test]
fn a_condvar_misses_no_notification() {
    check(|| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let take = |by_time: bool| {
            let shared = Arc::clone(&shared);
            boxed(move || {
                let mut count = shared.0.lock().unwrap();
                while *count == 0 {
                    count = if by_time {
                        shared.1.wait_timeout(count, A_WHILE).unwrap().0
                    } else {
                        shared.1.wait(count).unwrap()
                    };
                }
                *count -= 1;
            })
        };
        let put = Arc::clone(&shared);
        let put = boxed(move || {
            for _ in 0..2 {
                *put.0.lock().unwrap() += 1;
                put.1.notify_one();
            }
        });
        all(vec![take(false), take(false), put]);
        let put = Arc::clone(&shared);
        let put = boxed(move || {
            *put.0.lock().unwrap() += 2;
            put.1.notify_all();
        });
        all(vec![take(false), take(true), put]);
        assert_eq!(*shared.0.lock().unwrap(), 0);
    });
}

#[test]
fn a_read_write_lock_keeps_writers_alone_and_forgets_nobody() {
    check(|| {
        let shared = Arc::new((RwLock::new(0), Place::new()));
        let write = |by_time: bool| {
            let shared = Arc::clone(&shared);
            boxed(move || {
                let guard =
                    if by_time { shared.0.write_timeout(A_WHILE).ok() } else { shared.0.write().ok() };
                if let Some(mut guard) = guard {
                    shared.1.visit(1);
                    *guard += 1;
                }
            })
        };
        let read = || {
            let shared = Arc::clone(&shared);
            boxed(move || {
                for _ in 0..2 {
                    let guard = shared.0.read().unwrap();
                    let before = *guard;
                    assert_eq!(shared.1.0.load(Ordering::Relaxed), 0, "no writer is inside");
                    thread::yield_now();
                    assert_eq!(*guard, before);
                }
            })
        };
        all(vec![write(true), write(false), read(), read()]);
        assert!(shared.0.try_write().is_ok());
        // While one reads, the writer runs out of time; the reader behind it comes in.
        let reading = shared.0.read().unwrap();
        all(vec![write(true), read()]);
        assert!(*reading <= 2 && shared.0.try_write().is_err());
    });
}

#[test]
fn permits_are_neither_lost_nor_made() {
    check(|| {
        let shared = Arc::new((Semaphore::new(2), Place::new()));
        let bodies = [(1, false), (2, true), (2, false), (1, true)]
            .map(|(count, by_time)| {
                let shared = Arc::clone(&shared);
                boxed(move || {
                    let permit = if by_time {
                        shared.0.acquire_many_timeout(count, A_WHILE)
                    } else {
                        Some(shared.0.acquire_many(count))
                    };
                    if permit.is_some() {
                        shared.1.visit(if count == 2 { 1 } else { 2 });
                    }
                })
            })
            .into();
        all(bodies);
        assert_eq!(shared.0.available_permits(), 2);
        // While one is out, nobody gives back what would serve those behind one that leaves.
        let out = shared.0.acquire();
        let ask = |count: usize, by_time: bool| {
            let shared = Arc::clone(&shared);
            boxed(move || {
                let permit = if by_time {
                    shared.0.acquire_many_timeout(count, A_WHILE)
                } else {
                    Some(shared.0.acquire_many(count))
                };
                assert_eq!(permit.is_some(), !by_time);
            })
        };
        all(vec![ask(2, true), ask(1, false)]);
        drop(out);
        assert_eq!(shared.0.available_permits(), 2);
    });
}

#[test]
fn a_barrier_counts_whom_it_has() {
    check(|| {
        let barrier = Arc::new(Barrier::new(2));
        let wait = || {
            let barrier = Arc::clone(&barrier);
            boxed(move || usize::from(barrier.wait().is_leader()))
        };
        let leaves = || {
            let barrier = Arc::clone(&barrier);
            boxed(move || match barrier.wait_timeout(A_WHILE) {
                None => 10,
                Some(result) => usize::from(result.is_leader()),
            })
        };
        // With or without those that leave the number comes out even, or one of them stands in for the other.
        let outcome: usize = all(vec![leaves(), leaves()]).into_iter().sum();
        assert!(outcome == 1 || outcome == 20, "both go on with one leader, or neither: {outcome}");
        assert_eq!(all(vec![wait(), wait()]).into_iter().sum::<usize>(), 1);
    });
}

#[test]
fn wait_groups_events_and_cells_wake_all() {
    check(|| {
        let (group, event) = (WaitGroup::new(), Arc::new(Event::new()));
        let (cell, made) = (Arc::new(OnceCell::new()), Arc::new(AtomicUsize::new(0)));
        let bodies = (0..3)
            .map(|who| {
                let (group, event) = (group.clone(), Arc::clone(&event));
                let (cell, made) = (Arc::clone(&cell), Arc::clone(&made));
                boxed(move || {
                    // The first attempt fails, whoever makes it.
                    let value = cell.get_or_try_init(|| {
                        thread::yield_now();
                        if made.fetch_add(1, Ordering::Relaxed) == 0 { Err(()) } else { Ok(who) }
                    });
                    if who == 0 {
                        event.set();
                    } else if who == 2 {
                        let in_time = event.wait_timeout(A_WHILE);
                        assert!(!in_time || event.is_set());
                    } else {
                        event.wait();
                    }
                    let failed = value.is_err();
                    let group = group.wait_timeout(A_WHILE);
                    drop(group);
                    usize::from(failed)
                })
            })
            .collect();
        let failures: usize = all(bodies).into_iter().sum();
        group.wait();
        assert!(failures == 1 && made.load(Ordering::Relaxed) == 2 && cell.get().is_some());
    });
}
