//! An event: something that has happened, or not yet.

use std::fmt;
use std::time::Duration;

use crate::atomic::{AtomicU32, Ordering, const_unless_loom};
use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Place};

/// Lets any number of coroutines and OS threads wait until it is set; it stays set until it is reset.
///
/// ```
/// use std::sync::Arc;
/// use switchmark_runtime::{Builder, spawn, sync::Event, yield_now};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let start = Arc::new(Event::new());
///         let units: Vec<_> = (0..3)
///             .map(|n| {
///                 let start = Arc::clone(&start);
///                 spawn(move || {
///                     start.wait();
///                     n
///                 })
///             })
///             .collect();
///         yield_now();
///         assert!(units.iter().all(|unit| !unit.is_finished()));
///         start.set();
///         units.into_iter().for_each(|unit| assert!(unit.join().unwrap() < 3));
///         start.wait(); // At once.
///     })?
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Event {
    /// 1 if it is set. Written under the line's lock, read by anybody.
    set: AtomicU32,
    line: Line<(), ()>,
}

impl Event {
    const_unless_loom! {
        /// One that is not set.
        pub fn new() -> Event {
            Event { set: AtomicU32::new(0), line: Line::new(()) }
        }
    }

    /// Sets it: whoever waits goes on, and nobody waits until it is reset.
    pub fn set(&self) {
        let mut line = self.line.lock();
        // Release: pairs with the Acquire of `is_set`; what was done before is seen by those who did not have to wait.
        self.set.store(1, Ordering::Release);
        let all = line.pop_all();
        drop(line);
        all.wake();
    }

    /// From now on one waits again. Those who were woken go on all the same.
    pub fn reset(&self) {
        let _line = self.line.lock();
        // Relaxed: nothing is published.
        self.set.store(0, Ordering::Relaxed);
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        // Acquire: pairs with the Release of `set`.
        self.set.load(Ordering::Acquire) != 0
    }

    /// Waits until it is set.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled then.
    ///
    /// # Panics
    /// As [`Mutex::lock`](super::Mutex::lock) does.
    #[inline]
    #[track_caller]
    pub fn wait(&self) {
        if !self.is_set() {
            self.wait_for(None);
        }
    }

    /// Waits as [`Event::wait`] does, for at most `timeout`. Returns whether it was set in time.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_for(Some(timeout))
    }

    #[track_caller]
    fn wait_for(&self, timeout: Option<Duration>) -> bool {
        let wait = Wait::begin(Kind::Event); // Before the lock: it may unwind, and let others run.
        let line = self.line.lock();
        self.is_set() || line.wait(&wait, Place::Back, (), timeout.map(Deadline::after), |_| Batch::new()).0
    }
}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
