//! A barrier: some number wait until all of them have come.

use std::fmt;
use std::time::Duration;

use crate::atomic::const_unless_loom;
use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Place};

/// Lets a number of coroutines or OS threads go on together, again and again.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// use switchmark_runtime::{Builder, spawn, sync::Barrier};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let leaders = unsafe {
///     Builder::new().run_local(|| {
///         let (all, came) = (Arc::new(Barrier::new(3)), Arc::new(AtomicUsize::new(0)));
///         let units: Vec<_> = (0..3)
///             .map(|_| {
///                 let (all, came) = (Arc::clone(&all), Arc::clone(&came));
///                 spawn(move || {
///                     came.fetch_add(1, Ordering::Relaxed);
///                     let leads = all.wait().is_leader();
///                     assert_eq!(came.load(Ordering::Relaxed), 3);
///                     leads
///                 })
///             })
///             .collect();
///         units.into_iter().map(|unit| usize::from(unit.join().unwrap())).sum::<usize>()
///     })?
/// };
/// assert_eq!(leaders, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// **Cancellation.** Who is cancelled while it waits, or runs out of time, counts as if it had never come.
pub struct Barrier {
    number: usize,
    /// How many have come; the last is not in the line.
    line: Line<usize, ()>,
}

/// Whether one was the last to come to a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this is the one of its round that came last.
    pub fn is_leader(self) -> bool {
        self.0
    }
}

impl Barrier {
    const_unless_loom! {
        /// One for so many. With 0 or 1 nobody waits.
        pub fn new(number: usize) -> Barrier {
            Barrier { number, line: Line::new(0) }
        }
    }

    /// Waits until all have come.
    ///
    /// Suspends, but for the last, and unwinds if the coroutine is cancelled.
    ///
    /// # Panics
    /// As [`Mutex::lock`](super::Mutex::lock) does.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        self.wait_for(None).expect("without a timeout it waits for all")
    }

    /// Waits as [`Barrier::wait`] does, for at most `timeout`. `None` if the time is over.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<BarrierWaitResult> {
        self.wait_for(Some(timeout))
    }

    #[track_caller]
    fn wait_for(&self, timeout: Option<Duration>) -> Option<BarrierWaitResult> {
        let wait = Wait::begin(Kind::Barrier); // Before the lock: it may unwind, and let others run.
        let mut line = self.line.lock();
        if *line + 1 >= self.number {
            *line = 0;
            let all = line.pop_all();
            drop(line);
            all.wake();
            return Some(BarrierWaitResult(true));
        }
        *line += 1;
        let (all_came, ()) = line.wait(&wait, Place::Back, (), timeout.map(Deadline::after), |line| {
            **line -= 1;
            Batch::new()
        });
        all_came.then_some(BarrierWaitResult(false))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("number", &self.number).finish_non_exhaustive()
    }
}
