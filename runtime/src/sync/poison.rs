//! Poison: the mark of a value whose guard was dropped by unwinding.
//!
//! `thread::panicking` speaks of the thread, not of the coroutine, so a guard is not told whether it is its own coroutine that
//! unwinds. Where that is in doubt it poisons: a mark too many says "look at this value", one too few hides half a change.

use std::sync::{LockResult, PoisonError};
use std::thread;

use crate::cancel;

// Of std also under a model checker: it is a mark that is read and written by who has the lock, and otherwise a hint.
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Default)]
pub(super) struct Poison(AtomicBool);

/// In a guard: whether its coroutine unwound already when it was made, so that dropping it then says nothing.
#[derive(Debug)]
pub(super) struct Watch {
    unwinding: bool,
}

impl Poison {
    pub(super) const fn new() -> Poison {
        Poison(AtomicBool::new(false))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        // Relaxed: whoever has the lock sees what was written under it; anybody else gets a hint.
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        // Relaxed: as above.
        self.0.store(false, Ordering::Relaxed);
    }

    /// For a guard that is made now.
    #[inline]
    #[allow(clippy::unused_self, reason = "of a poison one watches")]
    pub(super) fn watch(&self) -> Watch {
        Watch { unwinding: thread::panicking() && cancel::is_alone_in_unwinding() }
    }

    /// The guard goes.
    #[inline]
    pub(super) fn leave(&self, watch: &Watch) {
        if !watch.unwinding && thread::panicking() {
            // Relaxed: as above.
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[inline]
pub(super) fn result<G>(poisoned: bool, guard: G) -> LockResult<G> {
    if poisoned { Err(PoisonError::new(guard)) } else { Ok(guard) }
}
