//! A semaphore: a number of permits, given out in the order in which they were asked for.
//!
//! Who asks for many is not overtaken by those who ask for few: while the first in the line has to wait, all do. When one leaves the line,
//! those behind it may be served at once.

use std::fmt;
use std::mem;
use std::time::Duration;

use crate::atomic::const_unless_loom;
use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Locked, Place};

/// How many permits one waits for.
type Wanted = usize;

/// Bounds how many coroutines or OS threads do something at a time.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// use switchmark_runtime::{Builder, spawn, sync::Semaphore, yield_now};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let (slots, busy) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicUsize::new(0)));
///         for _ in 0..10 {
///             let (slots, busy) = (Arc::clone(&slots), Arc::clone(&busy));
///             spawn(move || {
///                 let _slot = slots.acquire();
///                 assert!(busy.fetch_add(1, Ordering::Relaxed) < 2);
///                 yield_now();
///                 busy.fetch_sub(1, Ordering::Relaxed);
///             });
///         }
///     })?
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// **Cancellation.** Who waits and is cancelled leaves the line, and whom it kept waiting is served.
pub struct Semaphore {
    /// The permits that are there.
    line: Line<usize, Wanted>,
}

/// Permits, given back when this is dropped.
#[must_use = "permits that are not kept are given back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Semaphore {
    const_unless_loom! {
        /// One with so many permits.
        pub fn new(permits: usize) -> Semaphore {
            Semaphore { line: Line::new(permits) }
        }
    }

    /// Takes a permit, waiting for one in the order in which they were asked for.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled then.
    ///
    /// # Panics
    /// As [`Mutex::lock`](super::Mutex::lock) does.
    #[track_caller]
    pub fn acquire(&self) -> Permit<'_> {
        self.acquire_many(1)
    }

    /// Takes `count` permits at once, as [`Semaphore::acquire`] does. Of more than there will ever be it waits for ever, and everybody behind
    /// it.
    ///
    /// # Panics
    /// As [`Mutex::lock`](super::Mutex::lock) does.
    #[track_caller]
    pub fn acquire_many(&self, count: usize) -> Permit<'_> {
        self.acquire_for(count, None).expect("without a timeout it waits until it has them")
    }

    /// Takes a permit as [`Semaphore::acquire`] does, waiting for at most `timeout`. `None` if the time is over.
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        self.acquire_many_timeout(1, timeout)
    }

    /// Takes `count` permits at once, waiting for at most `timeout`. `None` if the time is over.
    #[track_caller]
    pub fn acquire_many_timeout(&self, count: usize, timeout: Duration) -> Option<Permit<'_>> {
        self.acquire_for(count, Some(timeout))
    }

    /// Takes a permit if one is there and nobody waits. Never suspends.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes `count` permits if they are there and nobody waits. Never suspends.
    pub fn try_acquire_many(&self, count: usize) -> Option<Permit<'_>> {
        let there = take(&mut self.line.lock(), count);
        // Not `then_some`, which would make a permit either way, and give it back.
        if there { Some(Permit { semaphore: self, count }) } else { None }
    }

    #[track_caller]
    fn acquire_for(&self, count: usize, timeout: Option<Duration>) -> Option<Permit<'_>> {
        let wait = Wait::begin(Kind::Semaphore); // Before the lock: it may unwind, and let others run.
        let mut line = self.line.lock();
        if !take(&mut line, count) {
            let deadline = timeout.map(Deadline::after);
            let (served, _) = line.wait(&wait, Place::Back, count, deadline, serve);
            if !served {
                return None;
            }
        }
        Some(Permit { semaphore: self, count })
    }

    /// Adds permits.
    ///
    /// # Panics
    /// If there would be more than `usize::MAX`.
    pub fn add_permits(&self, count: usize) {
        let mut line = self.line.lock();
        let sum = line.checked_add(count);
        if let Some(sum) = sum {
            *line = sum;
        }
        let batch = serve(&mut line);
        drop(line);
        batch.wake();
        assert!(sum.is_some(), "a semaphore has at most usize::MAX permits");
    }

    /// Permits that are there, at this moment.
    pub fn available_permits(&self) -> usize {
        *self.line.lock()
    }
}

fn take(line: &mut Locked<'_, usize, Wanted>, count: usize) -> bool {
    let there = line.nobody_waits() && **line >= count;
    if there {
        **line -= count;
    }
    there
}

/// Gives permits to those who wait, as far as they go.
fn serve(line: &mut Locked<'_, usize, Wanted>) -> Batch<Wanted> {
    let mut batch = Batch::new();
    while let Some(&wanted) = line.first()
        && wanted <= **line
    {
        **line -= wanted;
        batch.push(line.pop().expect("it is the first"));
    }
    batch
}

impl Permit<'_> {
    /// How many permits these are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Never gives them back: the semaphore has that many fewer.
    pub fn forget(self) {
        mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.add_permits(self.count);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.available_permits())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("count", &self.count).finish_non_exhaustive()
    }
}
