//! The word of a task: its end, its joiner, its cancellation, and who may put it into its worker's inbox.
//!
//! The bits are described in [`super::state`]. The inbox links tasks through their records, so a task may be in it once only. Two parties
//! want to put it there: whoever claimed its waiter on another thread, and whoever cancels it. WAKE and POKE settle that: the
//! first to set one of them pushes, the other's bit is found when the task arrives.
//!
//! POKE also keeps the worker: a canceller has no claim on the task, which may end at any time. It sets POKE in the same exchange in which
//! it sees that the task has not ended; the end finds the bit and tells the worker to wait for the arrival.

use super::state::{ASSIGNED, CANCEL, DETACHED, DONE, POKE, WAITER, WAKE};
use crate::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Word(AtomicUsize);

/// What the end of a task found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// Who waits in `join`; 0 for nobody.
    pub(crate) waiter: usize,
    /// A cancellation is on its way to the worker.
    pub(crate) poked: bool,
}

/// What a cancellation has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancel {
    /// Nothing: the task has ended, has been cancelled before, or will see the bit.
    Noted,
    /// Put the task into its worker's inbox.
    Push,
}

/// What brought a task into its worker's inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    /// Its waiter was claimed, or it was spawned.
    pub(crate) wake: bool,
    /// It was cancelled.
    pub(crate) poke: bool,
    /// It has ended meanwhile.
    pub(crate) done: bool,
}

impl Word {
    pub(crate) fn new() -> Word {
        Word(AtomicUsize::new(0))
    }

    /// For a record that nobody else knows: no end, no waiter, these bits.
    #[inline(always)]
    pub(crate) fn reset(&self, bits: usize) {
        // Relaxed: the record is shared later, through a queue, an inbox or a handle, each of which publishes it.
        self.0.store(bits, Ordering::Relaxed);
    }

    /// Whether the task has ended; then its outcome is visible.
    #[inline(always)]
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: pairs with the Release of `finish`.
        self.0.load(Ordering::Acquire) & DONE != 0
    }

    /// Whether the task is to unwind.
    #[inline(always)]
    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: a hint to stop; who must not miss it is woken through the inbox, which orders.
        self.0.load(Ordering::Relaxed) & CANCEL != 0
    }

    /// Registers who waits for the end; fails if that has come, and then the outcome is visible.
    #[inline]
    pub(crate) fn register(&self, waiter: usize) -> bool {
        // Relaxed: the exchange below confirms what was read.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & DONE != 0 {
                return !self.is_done(); // Read again, to acquire.
            }
            debug_assert_eq!(seen & WAITER, 0, "a task has one handle, and that one waiter");
            // Release: pairs with the Acquire of `finish`, which then wakes the waiter.
            match self.0.compare_exchange_weak(seen, seen | waiter, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the waiter back; fails if the end has claimed it and will wake it, or has.
    pub(crate) fn retract(&self) -> bool {
        // Relaxed: whoever fails waits for the wake-up, and that orders.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & DONE != 0 {
                return false;
            }
            // Relaxed, twice: nothing is published by going away.
            match self.0.compare_exchange_weak(seen, seen & !WAITER, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// The handle goes. Fails if the task has ended: then the outcome is the handle's, and visible.
    #[inline]
    pub(crate) fn detach(&self) -> bool {
        // Release: the end that finds DETACHED comes after what was done with the handle. Acquire: pairs with the Release of `finish`.
        self.0.fetch_or(DETACHED, Ordering::AcqRel) & DONE == 0
    }

    /// The task has ended and left its outcome. Refused while nobody will ask for that and `dropped` does not say that it is dropped: its
    /// drop is user code, to be run while the task still is one.
    #[inline]
    pub(crate) fn finish(&self, dropped: bool) -> Option<End> {
        // Relaxed: the exchange below confirms what was read.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(seen & (WAKE | DONE), 0, "a task that ends is running");
            let detached = seen & DETACHED != 0;
            if detached && !dropped {
                // Acquire: pairs with the Release of `detach`; the drop of the outcome comes after what was done with the handle.
                self.0.load(Ordering::Acquire);
                return None;
            }
            // Release: publishes the outcome to whoever sees DONE. Acquire: pairs with the Release of the waiter's registration, and of
            // `detach`.
            match self.0.compare_exchange_weak(seen, DONE, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(End { waiter: seen & WAITER, poked: seen & POKE != 0 }),
                Err(now) => seen = now,
            }
        }
    }

    /// The task gets its worker, which the caller has written into the record.
    #[inline]
    pub(crate) fn assign(&self) {
        // Release: pairs with the Acquire of `cancel`; publishes the worker.
        self.0.fetch_or(ASSIGNED, Ordering::Release);
    }

    /// Asks the task to unwind.
    pub(crate) fn cancel(&self) -> Cancel {
        // Relaxed: the exchange below confirms what was read.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & (DONE | CANCEL) != 0 {
                return Cancel::Noted;
            }
            let poke = if seen & ASSIGNED == 0 { 0 } else { POKE };
            let push = poke != 0 && seen & (POKE | WAKE) == 0;
            // Acquire: pairs with the Release of `assign`; the pusher reads the worker. Release: what the canceller did comes before
            // what the task does when it learns.
            let to = seen | CANCEL | poke;
            match self.0.compare_exchange_weak(seen, to, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return if push { Cancel::Push } else { Cancel::Noted },
                Err(now) => seen = now,
            }
        }
    }

    /// Notes that a claimed waiter is woken from another thread; returns whether the caller has to push it.
    pub(crate) fn wake(&self) -> bool {
        // Release: what the waker did comes before what the task does, also when somebody else's push carries the wake-up.
        let before = self.0.fetch_or(WAKE, Ordering::Release);
        debug_assert_eq!(before & (WAKE | DONE), 0, "a waiter is claimed once, and has not ended");
        before & POKE == 0
    }

    /// The task has come out of the inbox; from here on it may be pushed again.
    #[inline]
    pub(crate) fn arrive(&self) -> Arrival {
        // AcqRel: Acquire pairs with the Release of `wake` and `cancel`. Release: the next to push comes after our reading of the link.
        let before = self.0.fetch_and(!(POKE | WAKE), Ordering::AcqRel);
        Arrival { wake: before & WAKE != 0, poke: before & POKE != 0, done: before & DONE != 0 }
    }
}
