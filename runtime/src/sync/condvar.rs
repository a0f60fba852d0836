//! A condition variable: waits for a change of what a mutex guards.
//!
//! Whoever waits enters the line before it unlocks the mutex, so a notification that comes after the unlocking finds it. One that is
//! notified and then cancelled while it locks again passes the notification on, as if it had never come.

use std::fmt;
use std::mem;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

use super::mutex::{Mutex, MutexGuard};
use crate::atomic::const_unless_loom;
use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Place};

/// Lets coroutines and OS threads wait until something that a [`Mutex`] guards has changed.
///
/// ```
/// use std::sync::Arc;
/// use switchmark_runtime::{Builder, spawn, sync::{Condvar, Mutex}};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let shared = Arc::new((Mutex::new(false), Condvar::new()));
///         let waiting = spawn({
///             let shared = Arc::clone(&shared);
///             move || {
///                 let (ready, changed) = &*shared;
///                 let ready = changed.wait_while(ready.lock().unwrap(), |ready| !*ready).unwrap();
///                 assert!(*ready);
///             }
///         });
///         *shared.0.lock().unwrap() = true;
///         shared.1.notify_one();
///         waiting.join().unwrap();
///     })?
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// **Cancellation.** Whoever is cancelled in a wait unwinds without the lock, and leaves no poison.
pub struct Condvar {
    line: Line<(), ()>,
}

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over before anybody notified.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

/// One who was notified, while it may unwind.
struct Notified<'a>(&'a Condvar);

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Condvar {
    const_unless_loom! {
        /// One that nobody waits for.
        pub fn new() -> Condvar {
            Condvar { line: Line::new(()) }
        }
    }

    /// Unlocks, waits to be notified, and locks again.
    ///
    /// Suspends, and unwinds if the coroutine is cancelled. It returns for a notification only, but somebody else may have been faster to
    /// lock: look again, or use [`Condvar::wait_while`].
    ///
    /// # Errors
    /// If the mutex is poisoned; the error has the guard.
    ///
    /// # Panics
    /// As [`Mutex::lock`] does.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_for(guard, None).1
    }

    /// Waits as [`Condvar::wait`] does, for at most `timeout` and the time it takes to lock again.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error has the guard and the result.
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        with_result(self.wait_for(guard, Some(Deadline::after(timeout))))
    }

    /// Waits as long as `condition` says so.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error has the guard.
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits as long as `condition` says so, and for at most `timeout`. It timed out if the condition still says so then.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error has the guard and the result.
    #[track_caller]
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let deadline = Deadline::after(timeout);
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            if deadline.left().is_zero() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            guard = with_result(self.wait_for(guard, Some(deadline)))?.0;
        }
    }

    /// Returns whether it was notified, and the lock.
    #[track_caller]
    fn wait_for<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Deadline>,
    ) -> (bool, LockResult<MutexGuard<'a, T>>) {
        let wait = Wait::begin(Kind::Condvar); // Before the lock: it may unwind, and let others run.
        let line = self.line.lock();
        // Under the line's lock, which whoever notifies after this has to take, and so finds us in the line.
        let mutex: &Mutex<T> = guard.suspend();
        let (notified, ()) = line.wait(&wait, Place::Back, (), deadline, |_| Batch::new());
        let notification = notified.then(|| Notified(self));
        let guard = mutex.lock();
        mem::forget(notification); // It is ours.
        (notified, guard)
    }

    /// Wakes the first who waits, if anybody does.
    pub fn notify_one(&self) {
        let first = self.line.lock().pop();
        if let Some(first) = first {
            first.wake();
        }
    }

    /// Wakes everybody who waits now.
    pub fn notify_all(&self) {
        let all = self.line.lock().pop_all();
        all.wake();
    }
}

fn with_result<G>((notified, guard): (bool, LockResult<G>)) -> LockResult<(G, WaitTimeoutResult)> {
    let result = WaitTimeoutResult(!notified);
    match guard {
        Ok(guard) => Ok((guard, result)),
        Err(error) => Err(PoisonError::new((error.into_inner(), result))),
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
