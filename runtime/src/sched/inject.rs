//! The inbox of a worker: the only door through which other OS threads reach it.
//!
//! One word: null, [`SLEEPING`], [`CLOSED`], [`NUDGED`], or the newest of a list of tasks linked through their records. Anybody pushes,
//! the worker takes the whole list at once, so no place of the list is ever popped concurrently and reuse of records does no harm.
//!
//! Sleep is a value of the same word, so no wake can slip between the last look and the sleep:
//!
//! 1. The worker, with nothing to run, exchanges null for SLEEPING. If a task came in between, that fails, and it takes the task.
//! 2. It waits on the futex of the word's low half while that reads SLEEPING; or, if it has descriptors to watch, in its epoll instance.
//!    Addresses of records are multiples of 128. When it comes back, it exchanges SLEEPING for null, unless a task is there.
//! 3. A pusher replaces whatever is there. If that was SLEEPING, it alone wakes the worker: by the bell, if there is one, which was hung up
//!    before that sleep began, else by the futex.
//!
//! NUDGED holds no task: it makes the worker look around, and a worker about to sleep stay awake.
//!
//! CLOSED is the end: the worker exchanges null for it when no task is left, and pushes fail from then on.

use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::poller::Epoll;
use crate::atomic::plain::AtomicPtr;
use crate::sys;
use crate::task::{self, Task};

/// Fits the futex's four bytes.
const SLEEPING: u32 = 1;
const CLOSED: u32 = 2;
const NUDGED: u32 = 3;

#[derive(Debug, Default)]
#[repr(align(64))] // Written by other threads: not in a line the worker writes at every switch.
pub(crate) struct Inbox {
    newest: AtomicPtr<Task>,
    /// Where the worker sleeps from now on, if not on the futex.
    bell: OnceLock<Arc<Epoll>>,
}

/// A push into an inbox whose worker has gone.
#[derive(Debug)]
pub(crate) struct Closed;

impl Inbox {
    /// Whether a look is worth its locked operation.
    #[inline(always)]
    pub(crate) fn may_have_some(&self) -> bool {
        // Relaxed: `take` acquires; a task that is not seen now is seen at the next look.
        !self.newest.load(Ordering::Relaxed).is_null()
    }

    /// Hands a task over, and wakes the worker if it sleeps.
    ///
    /// The word may be gone when the sleeper is woken, if the task was the worker's last; the caller keeps it alive.
    pub(crate) fn push(&self, task: &'static Task) -> Result<(), Closed> {
        // Relaxed: the exchange below confirms what was read.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            let below = match newest.addr() {
                addr if addr == CLOSED as usize => return Err(Closed),
                addr if addr <= NUDGED as usize => ptr::null_mut(),
                _ => newest,
            };
            // Relaxed: published by the exchange.
            task.link.store(below, Ordering::Relaxed);
            let to = ptr::from_ref(task).cast_mut();
            // Release: pairs with the Acquire in `take`; publishes the link, the record, and what the waker did before. Acquire: pairs with
            // the Release in `sleep`; the bell is seen.
            match self.newest.compare_exchange_weak(newest, to, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if newest.addr() == SLEEPING as usize => {
                    self.ring();
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(now) => newest = now,
            }
        }
    }

    /// Makes the worker look around, and wakes it if it sleeps.
    pub(crate) fn nudge(&self) {
        let nudged = ptr::without_provenance_mut(NUDGED as usize);
        let from = |addr: u32| ptr::without_provenance_mut(addr as usize);
        // Release, twice: pairs with the Acquire in `take`; what the caller did before is seen by the worker that looks around. Acquire: as
        // in `push`.
        let slept = self.newest.compare_exchange(from(SLEEPING), nudged, Ordering::AcqRel, Ordering::Relaxed);
        if slept.is_ok() {
            self.ring();
        } else {
            // If it fails, there are tasks to take, or it goes to sleep just now, or it has left.
            let awake = self.newest.compare_exchange(from(0), nudged, Ordering::Release, Ordering::Relaxed);
            if awake.is_err_and(|now| now.addr() == SLEEPING as usize) {
                self.nudge();
            }
        }
    }

    /// Whether the worker sleeps; a snapshot.
    pub(super) fn is_asleep(&self) -> bool {
        // Relaxed: a snapshot.
        self.newest.load(Ordering::Relaxed).addr() == SLEEPING as usize
    }

    /// Whether the worker has closed it.
    pub(super) fn is_closed(&self) -> bool {
        // Relaxed: nothing is reached through it.
        self.newest.load(Ordering::Relaxed).addr() == CLOSED as usize
    }

    /// Takes all tasks, calling `each` in the order in which they came.
    pub(crate) fn take(&self, mut each: impl FnMut(&'static Task)) {
        // Acquire: pairs with the Release in `push`; later pushes form a release sequence with it.
        let mut newest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        if newest.addr() <= NUDGED as usize {
            return;
        }
        let mut oldest: *mut Task = ptr::null_mut();
        while let Some(task) = task::from_ptr(newest) {
            // Relaxed: the list is ours.
            newest = task.link.swap_relaxed(oldest);
            oldest = ptr::from_ref(task).cast_mut();
        }
        while let Some(task) = task::from_ptr(oldest) {
            // Relaxed: as above. Read before `each` lets go of the task.
            oldest = task.link.load(Ordering::Relaxed);
            each(task);
        }
    }

    /// Wakes the sleeper that the caller has replaced.
    fn ring(&self) {
        match self.bell.get() {
            Some(epoll) => epoll.ring(),
            None => sys::futex_wake(&raw const self.newest),
        }
    }

    /// From its next sleep on the worker, whose thread this is, is woken through its epoll instance, and sleeps by [`Inbox::sleep_by`].
    pub(super) fn hang_up(&self, bell: Arc<Epoll>) {
        let _ = self.bell.set(bell); // Once: a worker has one.
    }

    /// Sleeps until a task comes, unless one is there, or until `timeout` is over. Returns whether it slept.
    ///
    /// A spurious wake-up before the timeout goes round once more through the caller, who knows the time.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) -> bool {
        self.sleep_by(|| sys::futex_wait(&self.newest, SLEEPING, timeout)).is_some()
    }

    /// Sleeps by `wait`, which the bell ends, unless a task is there. Returns what it returned, if it slept.
    pub(super) fn sleep_by<T>(&self, wait: impl FnOnce() -> T) -> Option<T> {
        let sleeping = ptr::without_provenance_mut(SLEEPING as usize);
        // Release: pairs with the Acquire of whoever replaces it and rings; what wakes us is acquired by `take`.
        self.newest.compare_exchange(ptr::null_mut(), sleeping, Ordering::Release, Ordering::Relaxed).ok()?;
        let result = wait();
        // Relaxed: as above. If it fails, a task came.
        let _ = self.newest.compare_exchange(sleeping, ptr::null_mut(), Ordering::Relaxed, Ordering::Relaxed);
        Some(result)
    }

    /// Closes an empty inbox. Fails if a task came.
    pub(crate) fn close(&self) -> bool {
        let closed = ptr::without_provenance_mut(CLOSED as usize);
        // Relaxed: a push that fails learns nothing but that.
        self.newest.compare_exchange(ptr::null_mut(), closed, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// An exchange without a locked operation, on a word that only one thread uses just now.
trait SwapRelaxed<T> {
    fn swap_relaxed(&self, to: *mut T) -> *mut T;
}

impl<T> SwapRelaxed<T> for AtomicPtr<T> {
    fn swap_relaxed(&self, to: *mut T) -> *mut T {
        let from = self.load(Ordering::Relaxed);
        self.store(to, Ordering::Relaxed);
        from
    }
}
