#![allow(unsafe_code, reason = "hands out references to what it locks")]
//! A mutex that may be held over a suspension.
//!
//! **Fast.** Locking what is free and unlocking what nobody waits for are one exchange each. Whoever unlocks while others wait wakes the
//! first of them and goes: the mutex is free until that one runs, and whoever comes by may *barge* in. That is quick, as the running
//! coroutine takes what is there, and unfair.
//!
//! **Fair enough** (Go, `internal/sync/mutex.go`). One who was woken and found the mutex taken waits again, before all others. If it has
//! waited for more than [`PATIENCE`] by then, it declares starvation: from then on an unlock *hands over* to the first who waits, without
//! ever being free, and newcomers queue. That ends when one gets it that waited less, or when nobody waits any more.
//!
//! **The word.** [`LOCKED`], [`WAITERS`], [`WOKEN`] and [`STARVING`]:
//!
//! 1. WAITERS says that the line is not empty. It, and the setting of the other two, change under the line's lock only.
//! 2. WOKEN says that somebody was woken to compete and has not yet got the mutex or gone back into the line: as long as it is on its way
//!    nobody else is woken. That is a duty: if it is cancelled on the way it passes it on ([`Duty`]).
//! 3. STARVING implies LOCKED, as the mutex is never free then. Whoever has it may clear it.
//! 4. So between the holder's look under the line's lock and its giving up LOCKED nobody else changes the word.
//!
//! It does not spin: whoever holds it may be a coroutine of the same thread.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

use super::poison::{self, Poison};
use crate::atomic::{AtomicU32, Ordering, const_unless_loom};
use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Locked, Place};

/// Somebody has it.
const LOCKED: u32 = 1;
/// Somebody waits in the line.
const WAITERS: u32 = 1 << 1;
/// Somebody was woken and competes.
const WOKEN: u32 = 1 << 2;
/// It goes from hand to hand.
const STARVING: u32 = 1 << 3;

/// How long one competes before it declares starvation.
const PATIENCE: Duration = Duration::from_millis(1);

/// Whether one competes for longer than that. Under shuttle by chance: it knows no time.
#[cfg(not(all(test, shuttle)))]
fn has_come(starves_from: Deadline) -> bool {
    starves_from.left().is_zero()
}

#[cfg(all(test, shuttle))]
fn has_come(_: Deadline) -> bool {
    shuttle::rand::Rng::gen_bool(&mut shuttle::rand::thread_rng(), 0.5)
}

/// The mutex without its value.
#[derive(Debug)]
pub(super) struct Raw {
    word: AtomicU32,
    line: Line<(), Handed>,
}

/// In the node of one who waits: whether the mutex was handed over, or it is to compete.
#[derive(Debug, Default)]
struct Handed(std::cell::Cell<bool>);

/// One who was woken to compete, while it may unwind.
struct Duty<'a>(&'a Raw);

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

impl Raw {
    const_unless_loom! {
        fn new() -> Raw {
            Raw { word: AtomicU32::new(0), line: Line::new(()) }
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        // Relaxed: the exchange confirms what was read.
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & LOCKED == 0 {
            // Acquire: pairs with the Release of an unlock.
            match self.word.compare_exchange_weak(seen, seen | LOCKED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Locks, and returns `true`; or waits for longer than `timeout`, and returns `false`; or unwinds.
    #[inline]
    #[track_caller]
    pub(super) fn lock(&self, timeout: Option<Duration>) -> bool {
        // Acquire: pairs with the Release of an unlock.
        self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            || self.lock_slowly(timeout)
    }

    #[cold]
    #[track_caller]
    fn lock_slowly(&self, timeout: Option<Duration>) -> bool {
        if self.try_lock() {
            return true;
        }
        let deadline = timeout.map(Deadline::after);
        let mut starves_from = None;
        let mut woken = 0; // Or WOKEN.
        loop {
            let duty = (woken != 0).then(|| Duty(self));
            let wait = Wait::begin(Kind::Lock); // Before the lock: it may unwind, and let others run.
            mem::forget(duty);
            let Some(locked) = self.join_line(woken, starves_from) else { return true };
            let starves_from = *starves_from.get_or_insert_with(|| Deadline::after(PATIENCE));
            let place = if woken == 0 { Place::Back } else { Place::Front };
            let (claimed, Handed(handed)) =
                locked.wait(&wait, place, Handed::default(), deadline, |line| self.left(line));
            if !claimed {
                return false;
            }
            if handed.get() {
                if !has_come(starves_from) {
                    // Relaxed: only who has the mutex asks for the bit, and whoever has it next is ordered after us.
                    self.word.fetch_and(!STARVING, Ordering::Relaxed);
                }
                return true;
            }
            woken = WOKEN;
        }
    }

    /// Takes the mutex if it is free (`None`), else says in its word that somebody waits. With WOKEN the caller was woken.
    fn join_line(&self, woken: u32, starves_from: Option<Deadline>) -> Option<Locked<'_, (), Handed>> {
        let starves = starves_from.is_some_and(has_come);
        let line = self.line.lock();
        // Relaxed: the exchange confirms what was read.
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let free = seen & LOCKED == 0;
            let add = if free {
                LOCKED
            } else if starves && woken != 0 {
                WAITERS | STARVING
            } else {
                WAITERS
            };
            // Acquire, if we take it: pairs with the Release of an unlock.
            match self.word.compare_exchange_weak(
                seen,
                (seen | add) & !woken,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) if free => return None,
                Ok(_) => return Some(line),
                Err(now) => seen = now,
            }
        }
    }

    /// One has left the line before its turn.
    fn left(&self, line: &mut Locked<'_, (), Handed>) -> Batch<Handed> {
        if line.nobody_waits() {
            // Relaxed: whoever unlocks looks again under the line's lock.
            self.word.fetch_and(!(WAITERS | STARVING), Ordering::Relaxed);
        }
        Batch::new()
    }

    #[inline]
    pub(super) fn unlock(&self) {
        // Release: pairs with the Acquire of whoever locks next.
        if self.word.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_slowly();
        }
    }

    #[cold]
    fn unlock_slowly(&self) {
        // Relaxed: the exchange confirms what was read.
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            debug_assert_ne!(seen & LOCKED, 0, "who unlocks has the mutex");
            if seen & STARVING == 0 && (seen & WAITERS == 0 || seen & WOKEN != 0) {
                // Release: as in `unlock`.
                let free = seen & !LOCKED;
                match self.word.compare_exchange_weak(seen, free, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(now) => seen = now,
                }
                continue;
            }
            let mut line = self.line.lock();
            // Relaxed: the lock orders everything but LOCKED, which is ours.
            seen = self.word.load(Ordering::Relaxed);
            if seen & WAITERS == 0 || seen & (WOKEN | STARVING) == WOKEN {
                continue; // They left, or somebody is on its way; the line's lock goes.
            }
            let first = line.pop().expect("WAITERS says that somebody waits");
            let waiters = if line.nobody_waits() { 0 } else { WAITERS };
            if seen & STARVING != 0 {
                first.data().0.set(true);
                let starving = if waiters == 0 { 0 } else { STARVING };
                // Relaxed: the wake-up orders. See 4 in the head for why a store will do.
                self.word.store(LOCKED | waiters | starving, Ordering::Relaxed);
            } else {
                // Release: as in `unlock`. See 4 in the head.
                self.word.store(WOKEN | waiters, Ordering::Release);
            }
            drop(line);
            first.wake();
            return;
        }
    }

    /// One who was woken will not compete: somebody else is to be, if the mutex is free.
    #[cold]
    fn pass_on(&self) {
        let mut line = self.line.lock();
        // Relaxed: if the mutex is taken, its unlock finds WAITERS without WOKEN and looks under the line's lock.
        let seen = self.word.fetch_and(!WOKEN, Ordering::Relaxed);
        if seen & LOCKED != 0 {
            return;
        }
        let Some(next) = line.pop() else { return };
        if line.nobody_waits() {
            // Relaxed: as above.
            self.word.fetch_and(!WAITERS, Ordering::Relaxed);
        }
        // Relaxed: nothing is published; the one that is woken acquires from whoever unlocked.
        self.word.fetch_or(WOKEN, Ordering::Relaxed);
        drop(line);
        next.wake();
    }
}

/// Lets one at a time have a value; for coroutines and OS threads alike. Others wait without keeping their worker.
///
/// It is like [`std::sync::Mutex`], whose errors it uses, but may be held over a suspension.
///
/// ```
/// use std::sync::Arc;
/// use switchmark_runtime::{Builder, spawn, sync::Mutex, yield_now};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let sum = unsafe {
///     Builder::new().run_local(|| {
///         let sum = Arc::new(Mutex::new(0));
///         let adders: Vec<_> = (1..=4)
///             .map(|n| {
///                 let sum = Arc::clone(&sum);
///                 spawn(move || {
///                     let mut sum = sum.lock().unwrap();
///                     let before = *sum;
///                     yield_now(); // Others run, and wait for the mutex.
///                     *sum = before + n;
///                 })
///             })
///             .collect();
///         adders.into_iter().for_each(|adder| adder.join().unwrap());
///         *sum.lock().unwrap()
///     })?
/// };
/// assert_eq!(sum, 10);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// **Fairness.** Who comes by may take it before those that wait. One that has waited for a millisecond turns on a hand-over in the order of
/// waiting, until nobody waits or one that waited less has had its turn.
///
/// **Poison.** A mutex whose guard is dropped by unwinding is poisoned, as the value may be half changed: by a panic, and by a
/// cancellation as well. Beside a coroutine that waits in the middle of its own unwinding, guards of others on its thread may poison
/// without need.
///
/// **Cancellation.** Only a `lock` that waits looks for it; one that is cancelled there leaves the line as if it had never come. Whoever is
/// cancelled at another suspension, holding the guard, unlocks in its unwinding, and leaves poison.
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    raw: Raw,
    poison: Poison,
    value: UnsafeCell<T>,
}

impl Default for Raw {
    fn default() -> Raw {
        Raw::new()
    }
}

// SAFETY: the value is reached by whoever has the lock, one at a time, and through an exclusive borrow.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

// Poison tells.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

/// The lock, and the way to the value; dropping it unlocks. Not `Send`: the coroutine that locked unlocks.
#[must_use = "it unlocks at once if it is not kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    poison: poison::Watch,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard is a shared reference to the value.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    const_unless_loom! {
        /// A free mutex.
        pub fn new(value: T) -> Mutex<T> {
            Mutex { raw: Raw::new(), poison: Poison::new(), value: UnsafeCell::new(value) }
        }
    }

    /// The value.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error has the value.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.is_set();
        poison::result(poisoned, self.value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks, waiting for it if somebody else has it.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled then. A coroutine that has it already waits for ever.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error has the guard.
    ///
    /// # Panics
    /// Instead of waiting, in the destructor of a closure that got no stack: the wait would block its own worker.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let locked = self.raw.lock(None);
        debug_assert!(locked, "without a timeout it waits until it has it");
        self.guard()
    }

    /// Locks if the mutex is free. Never suspends.
    ///
    /// # Errors
    /// If it is not free; and if it is poisoned: then the error has the guard.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.try_lock() { Ok(self.guard()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Locks as [`Mutex::lock`] does, waiting for at most `timeout`.
    ///
    /// # Errors
    /// `WouldBlock` if the time is over; and if the mutex is poisoned: then the error has the guard.
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.lock(Some(timeout)) { Ok(self.guard()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// The caller has the lock.
    #[inline]
    fn guard(&self) -> LockResult<MutexGuard<'_, T>> {
        let guard = MutexGuard { mutex: self, poison: self.poison.watch(), not_send: PhantomData };
        poison::result(self.poison.is_set(), guard)
    }

    /// The value, without locking: an exclusive borrow excludes everybody else.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error has the value.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.is_set();
        poison::result(poisoned, self.value.get_mut())
    }

    /// Whether a guard was dropped by unwinding.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Declares the value to be sound again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Unlocks, for a condition variable, which will lock again.
    pub(super) fn suspend(self) -> &'a Mutex<T> {
        let mutex = self.mutex;
        mem::forget(self); // No poison: nobody unwinds with the lock.
        mutex.raw.unlock();
        mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we have the lock as long as the guard lives.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.leave(&self.poison);
        self.mutex.raw.unlock();
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&*PoisonError::into_inner(error)),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, debug_assertions, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::atomic::locked_operations;

    #[test]
    fn a_mutex_that_nobody_else_wants_costs_two_locked_operations() {
        let mutex = Mutex::new(0);
        let before = locked_operations();
        *mutex.lock().unwrap() += 1;
        assert_eq!(locked_operations() - before, 2);
    }
}
