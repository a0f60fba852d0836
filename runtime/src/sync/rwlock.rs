#![allow(unsafe_code, reason = "hands out references to what it locks")]
//! A lock for many readers or one writer, in the order in which they came.
//!
//! Without anybody in the line, locking and unlocking are one exchange each. As soon as one has to wait all newcomers queue behind it, so
//! that readers who keep coming do not starve a writer. Whoever unlocks last hands over: to the writer that is first, or to all readers
//! up to the next writer. Those that are woken have the lock already.
//!
//! **The word**: [`WRITER`], [`QUEUED`], and the number of readers above them.
//!
//! 1. QUEUED says that the line is not empty, and changes under the line's lock only.
//! 2. While it is set nobody comes in but by being let in under that lock ([`Raw::admit`]); readers may go at any time.
//! 3. Whoever goes as the last and sees QUEUED lets others in; one that leaves the line does as well, for those behind it.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

use super::poison::{self, Poison};
use crate::atomic::{AtomicUsize, Ordering, const_unless_loom};
use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Locked, Place};

/// A writer has it.
const WRITER: usize = 1;
/// Somebody waits in the line.
const QUEUED: usize = 1 << 1;
/// One reader.
const READER: usize = 1 << 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Read,
    Write,
}

impl Access {
    /// The word with one more of these, if it may come in without waiting.
    #[inline]
    fn enter(self, word: usize) -> Option<usize> {
        match self {
            Access::Read => (word & (WRITER | QUEUED) == 0).then_some(word + READER),
            Access::Write => (word == 0).then_some(WRITER),
        }
    }
}

#[derive(Debug)]
struct Raw {
    word: AtomicUsize,
    line: Line<(), Access>,
}

impl Raw {
    const_unless_loom! {
        fn new() -> Raw {
            Raw { word: AtomicUsize::new(0), line: Line::new(()) }
        }
    }

    #[inline]
    fn try_lock(&self, access: Access) -> bool {
        // Relaxed: the exchange confirms what was read.
        let mut seen = self.word.load(Ordering::Relaxed);
        while let Some(to) = access.enter(seen) {
            // Acquire: pairs with the Release of `unlock`.
            match self.word.compare_exchange_weak(seen, to, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    #[inline]
    #[track_caller]
    fn lock(&self, access: Access, timeout: Option<Duration>) -> bool {
        self.try_lock(access) || self.lock_slowly(access, timeout)
    }

    #[cold]
    #[track_caller]
    fn lock_slowly(&self, access: Access, timeout: Option<Duration>) -> bool {
        let wait = Wait::begin(Kind::Lock); // Before the lock: it may unwind, and let others run.
        let line = self.line.lock();
        // Relaxed: the exchange confirms what was read.
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let enter = access.enter(seen);
            let to = enter.unwrap_or(seen | QUEUED);
            // Acquire, if we come in: pairs with the Release of `unlock`.
            match self.word.compare_exchange_weak(seen, to, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if enter.is_some() => return true,
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let deadline = timeout.map(Deadline::after);
        let (let_in, _) = line.wait(&wait, Place::Back, access, deadline, |line| self.admit(line));
        let_in
    }

    #[inline]
    fn unlock(&self, access: Access) {
        let one = match access {
            Access::Read => READER,
            Access::Write => WRITER,
        };
        // Release: pairs with the Acquire of whoever comes in next. Acquire: the last reader speaks for all when it lets others in.
        if self.word.fetch_sub(one, Ordering::AcqRel) - one == QUEUED {
            self.hand_over();
        }
    }

    #[cold]
    fn hand_over(&self) {
        let mut line = self.line.lock();
        let batch = self.admit(&mut line);
        drop(line);
        batch.wake();
    }

    /// Lets in whoever may come in, and notes whether anybody is left.
    fn admit(&self, line: &mut Locked<'_, (), Access>) -> Batch<Access> {
        let mut batch = Batch::new();
        let mut enter = 0;
        // Relaxed: the line's lock orders all but readers that go, and those that are let in are ordered by the wake-up; Acquire on
        // the way out, as they come after whoever went without the line's lock.
        let mut seen = self.word.load(Ordering::Acquire);
        while let Some(&access) = line.first() {
            let present = (seen & !QUEUED) + enter;
            let may_enter = match access {
                Access::Read => present & WRITER == 0,
                Access::Write => present == 0,
            };
            if !may_enter {
                break;
            }
            enter += if access == Access::Read { READER } else { WRITER };
            batch.push(line.pop().expect("it is the first"));
        }
        let queued = if line.nobody_waits() { 0 } else { QUEUED };
        loop {
            let to = ((seen & !QUEUED) + enter) | queued;
            // AcqRel: passes on what those that went have released.
            match self.word.compare_exchange_weak(seen, to, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return batch,
                Err(now) => seen = now, // A reader went.
            }
        }
    }
}

/// Lets many read a value or one change it; for coroutines and OS threads alike, in the order in which they came.
///
/// It is like [`std::sync::RwLock`], whose errors it uses, but may be held over a suspension.
///
/// ```
/// use switchmark_runtime::sync::RwLock;
///
/// let limits = RwLock::new(vec![1, 2]);
/// {
///     let (a, b) = (limits.read().unwrap(), limits.read().unwrap());
///     assert_eq!(a.len() + b.len(), 4);
///     assert!(limits.try_write().is_err());
/// }
/// limits.write().unwrap().push(3);
/// assert_eq!(*limits.read().unwrap(), [1, 2, 3]);
/// ```
///
/// **Fairness.** As soon as somebody waits newcomers queue behind it, so nobody starves; and a coroutine that reads and asks to read
/// once more waits for ever if a writer came in between.
///
/// **Poison.** By a writer that unwinds, as with [`Mutex`](super::Mutex); a reader leaves none.
///
/// **Cancellation.** As with [`Mutex`](super::Mutex).
pub struct RwLock<T: ?Sized> {
    raw: Raw,
    poison: Poison,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through shared references by readers, for which it is `Sync`, and by one writer or an exclusive
// borrow, for which it is `Send`.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

// Poison tells.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

/// A lock for reading. Not `Send`: the coroutine that locked unlocks.
#[must_use = "it unlocks at once if it is not kept"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    not_send: PhantomData<*const ()>,
}

/// The lock for writing. Not `Send`: the coroutine that locked unlocks.
#[must_use = "it unlocks at once if it is not kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    poison: poison::Watch,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard is a shared reference to the value.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    const_unless_loom! {
        /// A free lock.
        pub fn new(value: T) -> RwLock<T> {
            RwLock { raw: Raw::new(), poison: Poison::new(), value: UnsafeCell::new(value) }
        }
    }

    /// The value.
    ///
    /// # Errors
    /// If the lock is poisoned; the error has the value.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.is_set();
        poison::result(poisoned, self.value.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading, waiting while a writer has the lock or anybody waits.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled then.
    ///
    /// # Errors
    /// If the lock is poisoned; the error has the guard.
    ///
    /// # Panics
    /// As [`Mutex::lock`](super::Mutex::lock) does.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let locked = self.raw.lock(Access::Read, None);
        debug_assert!(locked, "without a timeout it waits until it has it");
        self.reading()
    }

    /// Locks for writing, waiting while anybody has the lock.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled then.
    ///
    /// # Errors
    /// If the lock is poisoned; the error has the guard.
    ///
    /// # Panics
    /// As [`Mutex::lock`](super::Mutex::lock) does.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let locked = self.raw.lock(Access::Write, None);
        debug_assert!(locked, "without a timeout it waits until it has it");
        self.writing()
    }

    /// Locks for reading if that needs no wait. Never suspends.
    ///
    /// # Errors
    /// If it would wait; and if the lock is poisoned: then the error has the guard.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.try_lock(Access::Read) { Ok(self.reading()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Locks for writing if that needs no wait. Never suspends.
    ///
    /// # Errors
    /// If it would wait; and if the lock is poisoned: then the error has the guard.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.try_lock(Access::Write) { Ok(self.writing()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Locks as [`RwLock::read`] does, waiting for at most `timeout`.
    ///
    /// # Errors
    /// `WouldBlock` if the time is over; and if the lock is poisoned: then the error has the guard.
    #[track_caller]
    pub fn read_timeout(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.lock(Access::Read, Some(timeout)) {
            Ok(self.reading()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Locks as [`RwLock::write`] does, waiting for at most `timeout`.
    ///
    /// # Errors
    /// `WouldBlock` if the time is over; and if the lock is poisoned: then the error has the guard.
    #[track_caller]
    pub fn write_timeout(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.lock(Access::Write, Some(timeout)) {
            Ok(self.writing()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    #[inline]
    fn reading(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        poison::result(self.poison.is_set(), RwLockReadGuard { lock: self, not_send: PhantomData })
    }

    #[inline]
    fn writing(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let guard = RwLockWriteGuard { lock: self, poison: self.poison.watch(), not_send: PhantomData };
        poison::result(self.poison.is_set(), guard)
    }

    /// The value, without locking: an exclusive borrow excludes everybody else.
    ///
    /// # Errors
    /// If the lock is poisoned; the error has the value.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.is_set();
        poison::result(poisoned, self.value.get_mut())
    }

    /// Whether the guard of a writer was dropped by unwinding.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Declares the value to be sound again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we have the lock for reading as long as the guard lives.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we have the lock for writing as long as the guard lives.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock(Access::Read);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(&self.poison);
        self.lock.raw.unlock(Access::Write);
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&*PoisonError::into_inner(error)),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
