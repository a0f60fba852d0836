//! Every interleaving of what several threads do to one task: its token, its word and its worker's inbox.
//!
//! The word and the token are the real ones. The worker, its inbox and the task are played by the *owner*, as `park`, `sched::worker`
//! and `sched::inject` play them, with a lock in the place of the inbox's own word. Cells that loom watches stand for what one side does
//! before it and the other reads after it: an ordering too weak is a race it reports, a lost wake a deadlock.
//!
//! In every model: nobody pushes a task that is in the inbox already, whatever was pushed arrives, and when the owner goes it was told of all
//! that is still on the way.

use loom::cell::UnsafeCell;
use std::sync::atomic::AtomicUsize as Known; // What the test itself knows is no part of the model.
use std::sync::atomic::Ordering::SeqCst;

use super::state::{ALIGN, ASSIGNED};
use super::token::Token;
use super::word::{Cancel, End, Word};
use crate::atomic::testing::{Arc, Condvar, thread};
use crate::atomic::{AtomicUsize, Mutex, Ordering};

/// The only waiter there is.
const JOINER: usize = ALIGN;

/// A place for at most one, and a bed beside it.
#[derive(Debug, Default)]
struct Bed {
    full: Mutex<bool>,
    filled: Condvar,
}

impl Bed {
    fn fill(&self) {
        let mut full = self.full.lock().unwrap();
        assert!(!*full, "it is there already");
        *full = true;
        self.filled.notify_one();
    }

    fn empty(&self) {
        let mut full = self.full.lock().unwrap();
        while !*full {
            full = self.filled.wait(full).unwrap();
        }
        *full = false;
    }
}

/// Written by one side before, and read by the other after it: without an order in between loom reports a race.
#[derive(Debug)]
struct Done(UnsafeCell<bool>);

impl Done {
    fn new() -> Done {
        Done(UnsafeCell::new(false))
    }

    fn write(&self) {
        // SAFETY: loom sees to it that nobody else does.
        self.0.with_mut(|done| unsafe { *done = true });
    }

    fn read(&self) -> bool {
        // SAFETY: as above.
        self.0.with(|done| unsafe { *done })
    }
}

// SAFETY: what it is for: loom reports accesses that are not ordered.
unsafe impl Sync for Done {}

#[derive(Debug)]
struct World {
    word: Word,
    token: Token,
    inbox: Bed,
    joiner: Bed,
    pushes: Known,
    arrivals: Known,
    /// What the waker, the joiner, the task, and the one who gave it its worker did.
    by_waker: Done,
    by_joiner: Done,
    outcome: Done,
    worker: Done,
    /// How often the outcome was taken or dropped.
    taken: Known,
}

/// How a park ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Parked {
    Unparked,
    Cancelled,
}

impl World {
    fn new(bits: usize) -> Arc<World> {
        let world = World {
            word: Word::new(),
            token: Token::new(),
            inbox: Bed::default(),
            joiner: Bed::default(),
            pushes: Known::new(0),
            arrivals: Known::new(0),
            by_waker: Done::new(),
            by_joiner: Done::new(),
            outcome: Done::new(),
            worker: Done::new(),
            taken: Known::new(0),
        };
        world.word.reset(bits);
        Arc::new(world)
    }

    fn push(&self) {
        self.pushes.fetch_add(1, SeqCst);
        self.inbox.fill();
    }

    // What other threads do.

    fn unpark(&self) {
        if self.token.unpark() && self.word.wake() {
            self.push();
        }
    }

    /// Whether it had to push.
    fn cancel(&self) -> bool {
        let push = self.word.cancel() == Cancel::Push;
        if push {
            self.push();
        }
        push
    }

    /// Takes what the task left, as the one whose it is.
    fn take(&self) {
        assert!(self.outcome.read(), "no outcome");
        self.taken.fetch_add(1, SeqCst);
    }

    fn join(&self) {
        self.by_joiner.write();
        if self.word.register(JOINER) {
            self.joiner.empty();
            assert!(self.word.is_done());
        }
        self.take();
    }

    /// Joins, but is interrupted at once.
    fn join_and_go(&self) {
        self.by_joiner.write();
        if self.word.register(JOINER) {
            if self.word.retract() {
                return self.detach();
            }
            self.joiner.empty();
            assert!(self.word.is_done());
        }
        self.take();
    }

    fn detach(&self) {
        self.by_joiner.write();
        if !self.word.detach() {
            self.take();
        }
    }

    // What the owner does.

    /// Takes the task out of the inbox when it comes.
    fn arrive(&self) -> super::word::Arrival {
        self.inbox.empty();
        self.arrivals.fetch_add(1, SeqCst);
        self.word.arrive()
    }

    /// `park`, with others to run meanwhile.
    fn park(&self) -> Parked {
        if !self.token.park() {
            return Parked::Unparked;
        }
        loop {
            let arrival = self.arrive();
            assert!(!arrival.done);
            if arrival.wake {
                return Parked::Unparked;
            }
            assert!(arrival.poke, "it came for nothing");
            assert!(self.word.is_cancelled());
            if self.token.retract() {
                return Parked::Cancelled;
            }
            // Claimed after all: the wake-up is on its way, and no cancellation comes twice.
            let arrival = self.arrive();
            assert!(arrival.wake && !arrival.poke, "{arrival:?}");
            return Parked::Unparked;
        }
    }

    /// The end of the task, and then of its worker.
    fn end(&self) {
        self.outcome.write();
        let end = self.word.finish(false).unwrap_or_else(|| {
            assert!(
                self.by_joiner.read(),
                "what was done with the handle comes before the drop of the outcome"
            );
            self.take();
            self.word.finish(true).expect("its outcome is dropped")
        });
        let End { waiter, poked } = end;
        if waiter != 0 {
            assert_eq!(waiter, JOINER);
            assert!(self.by_joiner.read(), "it wakes somebody it knows nothing of");
            self.joiner.fill();
        }
        if poked {
            let arrival = self.arrive();
            assert!(arrival.done && !arrival.wake, "{arrival:?}"); // The end took the bit.
        }
    }
}

type Party = fn(&World);

/// Whether somebody has, or drops, the handle: then the outcome is taken exactly once.
fn is_handle(party: Party) -> bool {
    [joiner, detacher, World::join_and_go as Party].iter().any(|&handle| std::ptr::fn_addr_eq(handle, party))
}

/// The owner here, each of the others on a thread. What must be true in the end is.
fn check(bits: usize, owner: Party, others: &'static [Party]) {
    loom::model(move || {
        let world = World::new(bits);
        let threads: Vec<_> = others
            .iter()
            .map(|other| {
                let world = Arc::clone(&world);
                thread::spawn(move || other(&world))
            })
            .collect();
        owner(&world);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(!*world.inbox.full.lock().unwrap(), "the worker went, and somebody pushes yet");
        assert!(!*world.joiner.full.lock().unwrap(), "a joiner that has gone was woken");
        assert_eq!(world.pushes.load(SeqCst), world.arrivals.load(SeqCst));
        let handles = others.iter().filter(|&&other| is_handle(other)).count();
        assert_eq!(world.taken.load(SeqCst), handles, "outcomes taken or dropped");
    });
}

fn waker(world: &World) {
    world.by_waker.write();
    world.unpark();
}

fn canceller(world: &World) {
    world.cancel();
}

fn joiner(world: &World) {
    world.join();
}

fn detacher(world: &World) {
    world.detach();
}

fn parks_and_ends(world: &World) {
    if world.park() == Parked::Unparked {
        assert!(world.by_waker.read());
    }
    world.end();
}

fn ends(world: &World) {
    world.end();
}

#[test]
fn a_wake_meets_a_park() {
    check(ASSIGNED, parks_and_ends, &[waker]);
}

#[test]
fn a_wake_meets_a_cancellation_of_a_park() {
    check(ASSIGNED, parks_and_ends, &[waker, canceller]);
}

#[test]
fn two_cancellations_meet_a_wake_and_a_park() {
    check(ASSIGNED, parks_and_ends, &[waker, canceller, canceller]);
}

#[test]
fn a_join_meets_a_wake_and_a_cancellation() {
    check(ASSIGNED, parks_and_ends, &[waker, canceller, joiner]);
}

#[test]
fn a_cancellation_meets_the_end_and_the_handle_that_goes() {
    check(ASSIGNED, ends, &[canceller, detacher]);
}

#[test]
fn a_cancellation_meets_the_end_and_a_joiner() {
    check(ASSIGNED, ends, &[canceller, joiner]);
}

#[test]
fn a_joiner_that_is_interrupted_meets_the_end() {
    check(ASSIGNED, ends, &[World::join_and_go, canceller]);
}

/// Two tokens may come to one, but what their givers did is seen by whoever used it.
#[test]
fn two_wakes_are_not_lost_on_a_task_that_waits_for_both() {
    loom::model(|| {
        let world = World::new(ASSIGNED);
        let come = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let threads = come.clone().map(|come| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                // Relaxed: it is the token's part to order it.
                come.store(1, Ordering::Relaxed);
                world.unpark();
            })
        });
        let mut parks = 0;
        // Relaxed: as above.
        while come.iter().any(|come| come.load(Ordering::Relaxed) == 0) {
            assert_eq!(world.park(), Parked::Unparked);
            parks += 1;
        }
        assert!(parks <= 2, "a park returned without a token");
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A task gets its worker while somebody cancels it: either the canceller sees the worker, and reaches it, or the task sees at its first run
/// that it was cancelled.
#[test]
fn a_cancellation_meets_the_first_run() {
    loom::model(|| {
        let world = World::new(0);
        let there = Arc::clone(&world);
        let canceller = thread::spawn(move || {
            if there.word.cancel() == Cancel::Push {
                assert!(there.worker.read(), "it pushes, and knows no worker");
                there.push();
                return true;
            }
            false
        });
        world.worker.write();
        world.word.assign();
        let sees_it = world.word.is_cancelled();
        world.end();
        let pushed = canceller.join().unwrap();
        assert!(sees_it || pushed || !world.word.is_cancelled(), "a cancellation was lost");
        assert_eq!(world.pushes.load(SeqCst), world.arrivals.load(SeqCst));
    });
}
