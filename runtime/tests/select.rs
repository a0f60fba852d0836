//! `select!`: what it chooses, and that nothing is left of what it did not.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use switchmark_runtime::chan::{
    self, Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, select,
};
use switchmark_runtime::{Builder, select, spawn, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

const SOON: Duration = Duration::from_millis(2);
const NEVER: Duration = Duration::from_secs(1000);

#[test]
fn the_arm_that_is_ready_runs() {
    run(|| {
        let ((a, from_a), (b, from_b)) = (chan::bounded(1), chan::bounded::<u8>(1));
        a.send("here").unwrap();
        let got = select! {
            v = from_a => v,
            n = from_b => panic!("nothing was sent there: {n:?}"),
        };
        assert_eq!(got, Ok("here"));
        let sent = select! {
            v = from_a => panic!("it was taken: {v:?}"),
            sent = b.send(3) => sent,
        };
        assert_eq!((sent, from_b.recv()), (Ok(()), Ok(3)));
    });
}

#[test]
fn it_waits_for_whichever_comes_first_and_leaves_the_others() {
    run(|| {
        for first in 0..3 {
            let channels: Vec<_> = (0..3).map(|_| chan::rendezvous()).collect();
            let receivers: Vec<_> = channels.iter().map(|(_, receiver)| receiver.clone()).collect();
            let unit = spawn(move || {
                select! {
                    v = receivers[0] => (0, v),
                    v = receivers[1] => (1, v),
                    v = receivers[2] => (2, v),
                }
            });
            yield_now();
            channels[first].0.try_send(first).unwrap();
            for (sender, _) in &channels {
                assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)), "it has what it wanted");
            }
            assert_eq!(unit.join().unwrap(), (first, Ok(first)));
        }
    });
}

#[test]
fn two_selects_meet_over_one_of_two_channels_without_buffers_and_agree_which() {
    run(|| {
        for _ in 0..20 {
            let ((a, from_a), (b, from_b)) = (chan::rendezvous(), chan::rendezvous());
            let unit = spawn(move || {
                select! {
                    sent = a.send("to you") => sent.map(|()| "a").unwrap(),
                    v = from_b => v.unwrap(),
                }
            });
            yield_now();
            let met = select! {
                v = from_a => v.map(|v| { assert_eq!(v, "to you"); "a" }).unwrap(),
                sent = b.send("b") => sent.map(|()| "b").unwrap(),
                default => panic!("both are ready"),
            };
            assert_eq!(unit.join().unwrap(), met);
        }
    });
}

#[test]
fn one_that_sends_and_receives_on_one_channel_does_not_meet_itself() {
    run(|| {
        let (sender, receiver) = chan::rendezvous();
        let both = |name: &'static str| {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            spawn(move || {
                select! {
                    v = receiver => Some(v.unwrap()),
                    sent = sender.send(name) => { sent.unwrap(); None }
                }
            })
        };
        let first = both("first");
        (0..3).for_each(|_| yield_now());
        assert!(!first.is_finished());
        let outcomes = (first.join_timeout(SOON).unwrap_err(), both("second"));
        let outcomes = (outcomes.0.join().unwrap(), outcomes.1.join().unwrap());
        assert!(matches!(outcomes, (Some("second"), None) | (None, Some("first"))), "{outcomes:?}");
    });
}

#[test]
fn several_arms_may_be_of_one_channel() {
    run(|| {
        let (sender, receiver) = chan::rendezvous();
        let seen = Rc::new(RefCell::new([0; 2]));
        let unit = spawn(move || (0..200).for_each(|n| sender.send(n).unwrap()));
        let mut got = Vec::new();
        while got.len() < 200 {
            select! {
                v = receiver => { got.push(v.unwrap()); seen.borrow_mut()[0] += 1; }
                v = &receiver => { got.push(v.unwrap()); seen.borrow_mut()[1] += 1; }
            }
        }
        unit.join().unwrap();
        assert!(got.into_iter().eq(0..200));
        assert_eq!(seen.borrow().iter().sum::<i32>(), 200);
    });
}

const ROUNDS: u32 = 4000;

#[test]
fn ready_arms_have_the_same_chance_wherever_they_stand() {
    let channels: [(Sender<()>, Receiver<()>); 4] = std::array::from_fn(|_| chan::unbounded());
    let mut chosen = [0_u32; 4];
    for _ in 0..ROUNDS {
        // The second is never ready: its chance must not go to its neighbour.
        for index in [0, 2, 3] {
            if channels[index].1.is_empty() {
                channels[index].0.send(()).unwrap();
            }
        }
        select! {
            _ = channels[0].1 => chosen[0] += 1,
            _ = channels[1].1 => chosen[1] += 1,
            _ = channels[2].1 => chosen[2] += 1,
            _ = channels[3].1 => chosen[3] += 1,
        }
    }
    assert_eq!((chosen[1], chosen.iter().sum()), (0, ROUNDS));
    // A third each; of fair draws fewer than one run in 10^15 is off by a fifth.
    assert!(
        [0, 2, 3].iter().all(|&index: &usize| chosen[index].abs_diff(ROUNDS / 3) < ROUNDS / 15),
        "{chosen:?}"
    );
}

#[test]
fn a_closed_channel_is_ready_and_says_so() {
    run(|| {
        let (sender, receiver) = chan::bounded(1);
        let (other, keep) = chan::rendezvous::<u8>();
        sender.send(1).unwrap();
        drop(sender);
        for expected in [Ok(1), Err(RecvError)] {
            select! {
                v = receiver => assert_eq!(v, expected),
                sent = other.send(1) => panic!("nobody takes it: {sent:?}"),
            }
        }
        drop(keep);
        select! {
            sent = other.send(5) => assert_eq!(sent, Err(SendError(5))),
            _ = deadline(NEVER) => unreachable!("it is closed"),
        }
    });
}

#[test]
fn a_close_wakes_a_select_that_waits() {
    run(|| {
        let ((a, from_a), (b, from_b)) = (chan::rendezvous::<u8>(), chan::rendezvous());
        let units: Vec<_> = (0..2)
            .map(|_| {
                let (from_a, b) = (from_a.clone(), b.clone());
                spawn(move || {
                    select! {
                        v = from_a => v.map_err(|_| "no sender"),
                        sent = b.send(()) => sent.map(|()| 0).map_err(|_| "no receiver"),
                    }
                })
            })
            .collect();
        yield_now();
        drop(a);
        for unit in units {
            assert_eq!(unit.join().unwrap(), Err("no sender"));
        }
        drop(from_b);
    });
}

#[test]
fn a_default_never_waits_and_a_deadline_does() {
    run(|| {
        let (sender, receiver) = chan::rendezvous::<u8>();
        let mut turns = 0;
        let other = spawn(|| ());
        select! {
            _ = receiver => unreachable!(),
            _ = sender.send(1) => unreachable!("it does not meet itself"),
            default => turns += 1,
        }
        assert!(turns == 1 && !other.is_finished(), "no other ran");
        let start = Instant::now();
        select! {
            _ = receiver => unreachable!(),
            _ = deadline(SOON) => turns += 1,
        }
        assert!(start.elapsed() >= SOON && other.is_finished());
        select! {
            _ = receiver => unreachable!(),
            _ = deadline(start) => turns += 1, // A point in time, and past.
        }
        assert_eq!(turns, 3);
        // None of the three is served any more.
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        select! { default => turns += 1 }
        select! { _ = deadline(Duration::ZERO) => turns += 1 }
        assert_eq!(turns, 5);
    });
}

#[test]
fn bodies_may_leave_the_loop_or_the_function_and_use_the_channels() {
    fn leaves(receiver: Receiver<u8>) -> Result<u8, RecvError> {
        let mut all = 0;
        loop {
            select! {
                v = receiver => {
                    let v = v?;
                    if v == 0 {
                        drop(receiver); // The arms' borrows are over.
                        break;
                    }
                    if v == 1 { continue }
                    all += v;
                }
            }
        }
        Ok(all)
    }
    let (sender, receiver) = chan::unbounded();
    for n in [2, 1, 3, 0] {
        sender.send(n).unwrap();
    }
    assert_eq!(leaves(receiver), Ok(5));
    assert!(sender.is_closed());
    let (sender, receiver) = chan::unbounded();
    drop(sender);
    assert_eq!(leaves(receiver), Err(RecvError));
}

#[test]
fn a_shut_arm_is_never_chosen() {
    let (sender, receiver) = chan::unbounded();
    sender.send(1).unwrap();
    for open in [false, true] {
        select! {
            v = receiver, if open => assert!(open && v == Ok(1)),
            _ = sender.send(2), if false => unreachable!(),
            default => assert!(!open),
        }
    }
    assert!(receiver.is_empty());
}

#[test]
fn channels_of_a_temporary_and_behind_pointers_will_do() {
    let (sender, receiver) = chan::unbounded();
    let (boxed, shared) = (Box::new(sender.clone()), Arc::new(receiver.clone()));
    select! { sent = boxed.send(1) => sent.unwrap() }
    select! { v = shared => assert_eq!(v, Ok(1)) }
    select! { sent = sender.clone().send(2) => sent.unwrap() }
    select! { v = receiver.clone() => assert_eq!(v, Ok(2)) }
}

#[test]
fn more_arms_than_lie_on_the_stack() {
    let channels: Vec<_> = (0..40).map(|_| chan::bounded(1)).collect();
    for ready in [0, 17, 39] {
        channels[ready].0.send(ready).unwrap();
        let mut arms: Vec<_> = channels.iter().map(|(_, receiver)| select::receive(receiver)).collect();
        let mut arms: Vec<&mut dyn select::Arm> = arms.iter_mut().map(|arm| arm as _).collect();
        assert_eq!(select::wait(&mut arms), ready);
    }
    let (mut arms, receiver) = (channels.iter().map(|(_, r)| select::receive(r)).collect::<Vec<_>>(), ());
    let mut arms: Vec<&mut dyn select::Arm> = arms.iter_mut().map(|arm| arm as _).collect();
    assert_eq!(select::wait_until(&mut arms, SOON), None);
    assert_eq!((select::try_now(&mut arms), receiver), (None, ()));
}

#[test]
fn an_arm_may_be_used_again_once_it_gave_its_outcome() {
    let (sender, receiver) = chan::unbounded();
    (0..3).for_each(|n| sender.send(n).unwrap());
    let mut arm = select::receive(&receiver);
    for n in 0..3 {
        assert_eq!(select::wait(&mut [&mut arm]), 0);
        assert_eq!((arm.outcome(), arm.outcome()), (Some(Ok(n)), None));
    }
    sender.send(3).unwrap();
    assert_eq!(select::try_now(&mut [&mut arm]), Some(0));
    let twice = std::panic::AssertUnwindSafe(|| select::wait(&mut [&mut arm]));
    assert!(std::panic::catch_unwind(twice).is_err(), "its value would be lost");
    let mut arm = select::send(&sender, 4);
    assert_eq!(select::wait(&mut [&mut arm]), 0);
    let twice = std::panic::AssertUnwindSafe(|| select::wait(&mut [&mut arm]));
    assert!(std::panic::catch_unwind(twice).is_err(), "it has no value any more");
}

/// Counts its drops.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_cancelled_select_leaves_every_channel_and_drops_its_values() {
    run(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let ((a, from_a), (b, from_b)) = (chan::rendezvous::<Counted>(), chan::rendezvous::<Counted>());
        let unit = {
            let (a, from_b, drops) = (a.clone(), from_b.clone(), Arc::clone(&drops));
            spawn(move || {
                select! {
                    _ = a.send(Counted(Arc::clone(&drops))) => (),
                    _ = a.send(Counted(drops)) => (),
                    _ = from_b => (),
                    _ = deadline(NEVER) => (),
                }
            })
        };
        yield_now();
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
        assert_eq!(drops.load(Ordering::Relaxed), 2);
        assert!(matches!(from_a.try_recv(), Err(TryRecvError::Empty)), "no node is left");
        assert!(matches!(b.try_send(Counted(Arc::clone(&drops))), Err(TrySendError::Full(_))));
    });
}

#[test]
fn values_of_arms_that_lose_are_dropped_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let ((full, _full), (room, receiver)) = (chan::rendezvous(), chan::bounded(1));
    select! {
        _ = full.send(Counted(Arc::clone(&drops))) => unreachable!(),
        sent = room.send(Counted(Arc::clone(&drops))) => sent.unwrap(),
    }
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    drop(receiver);
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

/// Threads and coroutines select over the same channels, in both directions and with deadlines: each value arrives once.
#[test]
fn selects_everywhere_at_once_lose_and_double_nothing() {
    const EACH: usize = 500;
    for capacity in [0, 1, 5] {
        let ends: Arc<[(Sender<usize>, Receiver<usize>)]> = (0..3).map(|_| chan::bounded(capacity)).collect();
        let produce = |ends: Arc<[(Sender<usize>, Receiver<usize>)]>, who: usize| {
            for n in 0..EACH {
                let value = who * EACH + n;
                let sent = loop {
                    let mut arms: Vec<_> =
                        ends.iter().map(|(sender, _)| select::send(sender, value)).collect();
                    let mut arms: Vec<&mut dyn select::Arm> = arms.iter_mut().map(|arm| arm as _).collect();
                    if n % 3 != 0 {
                        break Some(select::wait(&mut arms));
                    }
                    if let Some(arm) = select::wait_until(&mut arms, Duration::from_micros(20)) {
                        break Some(arm);
                    }
                };
                assert!(sent.is_some());
            }
        };
        let left = Arc::new(AtomicUsize::new(4 * EACH));
        let consume = |ends: Arc<[(Sender<usize>, Receiver<usize>)]>, left: Arc<AtomicUsize>| {
            let mut got = Vec::new();
            while left.load(Ordering::Relaxed) > 0 {
                select! {
                    v = ends[2].1 => got.push(v.unwrap()),
                    v = ends[0].1 => got.push(v.unwrap()),
                    v = ends[1].1 => got.push(v.unwrap()),
                    _ = deadline(Duration::from_micros(100)) => continue,
                }
                left.fetch_sub(1, Ordering::Relaxed);
            }
            got
        };
        let mut all = std::thread::scope(|scope| {
            let (for_thread, for_units) = (Arc::clone(&ends), Arc::clone(&ends));
            scope.spawn(move || produce(for_thread, 0));
            let (for_thread, count) = (Arc::clone(&ends), Arc::clone(&left));
            let thread = scope.spawn(move || consume(for_thread, count));
            let count = Arc::clone(&left);
            let units = scope.spawn(move || {
                run(move || {
                    for who in 1..4 {
                        let ends = Arc::clone(&for_units);
                        spawn(move || produce(ends, who));
                    }
                    let units: Vec<_> = (0..2)
                        .map(|_| {
                            let (ends, count) = (Arc::clone(&for_units), Arc::clone(&count));
                            spawn(move || consume(ends, count))
                        })
                        .collect();
                    units.into_iter().flat_map(|unit| unit.join().unwrap()).collect::<Vec<_>>()
                })
            });
            [thread.join().unwrap(), units.join().unwrap()].concat()
        });
        all.sort_unstable();
        assert!(all.into_iter().eq(0..4 * EACH), "capacity {capacity}");
    }
}
