//! The token of `park` and `unpark`: a wake-up that waits for a park, or a park that waits for a wake-up.
//!
//! The values, and who changes which to which, are in [`super::state`]. Whoever changes PARKED to RUNNING has claimed the park: an unparker,
//! who then wakes the task, or the task itself, which was interrupted and takes its park back.

use super::state::{PARKED, RUNNING, TOKEN};
use crate::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
pub(crate) struct Token(AtomicU32);

impl Token {
    pub(crate) fn new() -> Token {
        Token(AtomicU32::new(RUNNING))
    }

    /// For a record that nobody else knows.
    #[inline(always)]
    pub(crate) fn reset(&self) {
        // Relaxed: the record is shared later, through a queue, an inbox or a handle, each of which publishes it.
        self.0.store(RUNNING, Ordering::Relaxed);
    }

    /// Begins a park; false: there was a token, which is used.
    #[inline(always)]
    pub(crate) fn park(&self) -> bool {
        // Acquire on both ways: pairs with the Release of the unparker, on success with one whose token was used before, for what else it
        // published. Release: an unparker that finds PARKED runs after what we did before.
        let parked = self.0.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !parked {
            // Acquire: as above. An exchange, not a store: an unparker that comes just now finds its token used together with the one before
            // it, and what it published is seen here.
            self.0.swap(RUNNING, Ordering::Acquire);
        }
        parked
    }

    /// Takes a park back; false: an unparker has claimed it and will wake the task, or has.
    #[inline]
    pub(crate) fn retract(&self) -> bool {
        // Relaxed: whoever fails waits for the unparker's wake-up, and that orders.
        self.0.compare_exchange(PARKED, RUNNING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Leaves a token, or claims the park that waits for one; true: it has, and the caller alone wakes the task.
    #[inline]
    pub(crate) fn unpark(&self) -> bool {
        // Relaxed: the exchange below confirms what was read.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let to = if seen == PARKED { RUNNING } else { TOKEN };
            // Release: pairs with the Acquire in `park`. Acquire: a claim pairs with the Release of the park, so that it reads the
            // worker of a task that has got that far. TOKEN over TOKEN too: what this caller did must be published.
            match self.0.compare_exchange_weak(seen, to, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(before) => return before == PARKED,
                Err(now) => seen = now,
            }
        }
    }
}
