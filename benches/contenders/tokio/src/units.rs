//! Tasks that know when control comes to them, and a count of it.
//!
//! tokio counts polls only in builds with unstable features, so the runner counts: each unit that takes part in a switch
//! is wrapped in [`counted`], which notes at each poll whether another unit was polled last. On the current-thread
//! scheduler one thread polls all, so that is the number of switches; on the other one nothing is counted.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The unit that was polled last, and how often that was another one than before.
    static LAST: Cell<usize> = const { Cell::new(usize::MAX) };
    static SWITCHES: Cell<u64> = const { Cell::new(0) };
}

/// Whether one thread polls all units, so that they can be counted.
pub(crate) fn count_switches(alone: bool) {
    // Relaxed, here and below: set before any task exists.
    COUNTING.store(alone, Ordering::Relaxed);
}

/// Switches between counted units so far.
pub(crate) fn switches() -> Option<u64> {
    COUNTING.load(Ordering::Relaxed).then(|| SWITCHES.get())
}

/// Switches since an earlier count.
pub(crate) fn since(earlier: Option<u64>) -> Option<u64> {
    Some(switches()? - earlier?)
}

/// The work of the unit with this ordinal, counted at each poll.
pub(crate) async fn counted<F: Future>(ordinal: usize, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        if LAST.replace(ordinal) != ordinal {
            SWITCHES.set(SWITCHES.get() + 1);
        }
        work.as_mut().poll(context)
    })
    .await
}
