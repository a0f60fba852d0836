//! A wait group: waits until all clones of it are gone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Place};

/// Lets one wait until others are done: each has a clone, and whoever waits goes on when all of them are dropped.
///
/// A clone goes when its coroutine ends, however it ends, so none is forgotten.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// use switchmark_runtime::{Builder, spawn, sync::WaitGroup, yield_now};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
///         for _ in 0..10 {
///             let (group, done) = (group.clone(), Arc::clone(&done));
///             spawn(move || {
///                 yield_now();
///                 done.fetch_add(1, Ordering::Relaxed);
///                 drop(group);
///             });
///         }
///         group.wait();
///         assert_eq!(done.load(Ordering::Relaxed), 10);
///     })?
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct WaitGroup {
    /// How many are counted.
    line: Arc<Line<usize, ()>>,
    /// Whether this one is: not while it waits.
    counted: bool,
}

impl WaitGroup {
    /// A group of one.
    pub fn new() -> WaitGroup {
        WaitGroup { line: Arc::new(Line::new(1)), counted: true }
    }

    /// Leaves the group and waits until all others have left. Several may wait at once.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled then.
    ///
    /// # Panics
    /// As [`Mutex::lock`](super::Mutex::lock) does.
    #[track_caller]
    pub fn wait(self) {
        let done = self.wait_for(None);
        debug_assert!(done.is_ok(), "without a timeout it waits for all");
    }

    /// Waits as [`WaitGroup::wait`] does, for at most `timeout`; if the time is over it is back in the group.
    #[track_caller]
    pub fn wait_timeout(self, timeout: Duration) -> Result<(), WaitGroup> {
        self.wait_for(Some(timeout))
    }

    #[track_caller]
    fn wait_for(mut self, timeout: Option<Duration>) -> Result<(), WaitGroup> {
        let wait = Wait::begin(Kind::WaitGroup); // Before the lock: it may unwind, and let others run.
        let shared = Arc::clone(&self.line);
        let mut line = shared.lock();
        self.counted = false;
        *line -= 1;
        if *line == 0 {
            let all = line.pop_all();
            drop(line);
            all.wake();
            return Ok(());
        }
        let (done, ()) = line.wait(&wait, Place::Back, (), timeout.map(Deadline::after), |line| {
            // Back in the group, before anybody can see it empty; in an unwinding the drop leaves it again.
            **line += 1;
            self.counted = true;
            Batch::new()
        });
        if done { Ok(()) } else { Err(self) }
    }
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> WaitGroup {
        *self.line.lock() += 1;
        WaitGroup { line: Arc::clone(&self.line), counted: true }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let mut line = self.line.lock();
        *line -= 1;
        if *line == 0 {
            let all = line.pop_all();
            drop(line);
            all.wake();
        }
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("count", &*self.line.lock()).finish_non_exhaustive()
    }
}
