#![allow(
    dead_code,
    unused_imports,
    reason = "std's interface as far as a module may need it, whether or not one does today"
)]
//! The atomics and locks of the parts that a model checker drives: std's, or those of loom or shuttle.
//!
//! A module that says `use crate::atomic::…` instead of `use std::sync::atomic::…` has its unit tests run under `--cfg loom` and
//! `--cfg shuttle` (`scripts/loom`) without another change. A module with an atomic in a `static` keeps std's: loom cannot make one in a
//! constant. Both checkers are dependencies of these tests alone; everything else built under their flags has std's atomics.
//!
//! **Locked operations are counted in debug builds**, one number a thread ([`locked_operations`]), because what an operation of
//! this runtime costs is told best by them and a test can hold us to a count where it could not to a time. Counted are
//! read-modify-write operations (a failed exchange costs what a successful one does), fences and stores that are `SeqCst`, and two
//! for each lock of a mutex, which is what it takes when nobody else wants it. Not counted: `Arc`, and what std does inside. In
//! release builds the names below *are* std's.

#[cfg(all(test, loom))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(all(test, shuttle, not(loom)))]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(any(debug_assertions, all(test, any(loom, shuttle)))))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use plain::{Mutex, MutexGuard};

#[cfg(all(debug_assertions, not(all(test, any(loom, shuttle)))))]
pub(crate) use counted::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence, locked_operations};

/// For modules that no model checker drives, and for statics: std's, counted in debug builds, and the locks known to the thread sanitizer.
pub(crate) mod plain {
    #[cfg(all(debug_assertions, not(all(test, any(loom, shuttle)))))]
    pub(crate) use super::counted::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
    #[cfg(not(all(debug_assertions, not(all(test, any(loom, shuttle))))))]
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

    #[cfg(any(debug_assertions, feature = "sanitize"))]
    pub(crate) use super::watched::Mutex;
    #[cfg(not(any(debug_assertions, feature = "sanitize")))]
    pub(crate) use std::sync::Mutex;

    #[cfg(feature = "sanitize")]
    pub(crate) use super::watched::{Condvar, MutexGuard};
    #[cfg(not(feature = "sanitize"))]
    pub(crate) use std::sync::{Condvar, MutexGuard};
}

/// A `const fn`, but under loom, which makes nothing in constants.
macro_rules! const_unless_loom {
    ($(#[$attribute:meta])* $visible:vis fn $($function:tt)*) => {
        $(#[$attribute])*
        #[cfg(not(all(test, loom)))]
        $visible const fn $($function)*

        $(#[$attribute])*
        #[cfg(all(test, loom))]
        $visible fn $($function)*
    };
}
pub(crate) use const_unless_loom;

/// What tests of concurrent parts need besides, so that one scenario serves the checkers and real threads.
#[cfg(test)]
pub(crate) mod testing {
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) use super::plain::Condvar;
    #[cfg(loom)]
    pub(crate) use loom::{
        sync::{Arc, Condvar},
        thread,
    };
    #[cfg(all(shuttle, not(loom)))]
    pub(crate) use shuttle::{
        sync::{Arc, Condvar},
        thread,
    };
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) use std::{sync::Arc, thread};
}

#[cfg(all(debug_assertions, not(all(test, any(loom, shuttle)))))]
mod counted {
    use std::cell::Cell;
    use std::ops::Deref;
    use std::sync::atomic::Ordering;

    thread_local! {
        static LOCKED: Cell<u64> = const { Cell::new(0) };
    }

    /// How many locked operations this OS thread has done through this module.
    pub(crate) fn locked_operations() -> u64 {
        LOCKED.get()
    }

    #[inline]
    pub(super) fn count(operations: u64) {
        LOCKED.set(LOCKED.get() + operations);
    }

    #[inline]
    fn count_if_total(order: Ordering) {
        // A store that takes part in the one order of all is an exchange on this architecture, and a fence is a locked operation.
        if order == Ordering::SeqCst {
            count(1);
        }
    }

    #[inline]
    pub(crate) fn fence(order: Ordering) {
        count_if_total(order);
        std::sync::atomic::fence(order);
    }

    /// The operations that every atomic has; those that only read come from std's by `Deref`.
    macro_rules! exchanges {
        ($value:ty) => {
            #[inline]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                count_if_total(order);
                self.0.store(value, order);
            }

            #[inline]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                count(1);
                self.0.swap(value, order)
            }

            #[inline]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                count(1);
                self.0.compare_exchange(current, new, success, failure)
            }

            #[inline]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                count(1);
                self.0.compare_exchange_weak(current, new, success, failure)
            }
        };
    }

    macro_rules! number {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub(crate) struct $name(std::sync::atomic::$name);

            impl $name {
                pub(crate) const fn new(value: $value) -> $name {
                    $name(std::sync::atomic::$name::new(value))
                }

                exchanges!($value);

                number!(@fetch $value: fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
            }

            impl Deref for $name {
                type Target = std::sync::atomic::$name;

                #[inline]
                fn deref(&self) -> &Self::Target {
                    &self.0
                }
            }
        };
        (@fetch $value:ty: $($operation:ident)*) => {
            $(
                #[inline]
                pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                    count(1);
                    self.0.$operation(value, order)
                }
            )*
        };
    }

    number!(AtomicU32, u32);
    number!(AtomicU64, u64);
    number!(AtomicUsize, usize);

    #[repr(transparent)]
    pub(crate) struct AtomicPtr<T>(std::sync::atomic::AtomicPtr<T>);

    impl<T> AtomicPtr<T> {
        pub(crate) const fn new(value: *mut T) -> AtomicPtr<T> {
            AtomicPtr(std::sync::atomic::AtomicPtr::new(value))
        }

        exchanges!(*mut T);
    }

    impl<T> Deref for AtomicPtr<T> {
        type Target = std::sync::atomic::AtomicPtr<T>;

        #[inline]
        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }

    impl<T> Default for AtomicPtr<T> {
        fn default() -> AtomicPtr<T> {
            AtomicPtr::new(std::ptr::null_mut())
        }
    }

    impl<T> std::fmt::Debug for AtomicPtr<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
}

/// A lock that says when it is taken: to the count, and to the thread sanitizer, which cannot see std's, as the standard library is not
/// built with it.
#[cfg(any(debug_assertions, feature = "sanitize"))]
mod watched {
    use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

    #[cfg(not(feature = "sanitize"))]
    use std::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Mutex<T> {
            Mutex(std::sync::Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            // One to take it and one to let go; there may be more if others want it too.
            count();
            match self.0.lock() {
                Ok(guard) => Ok(self.taken(guard)),
                Err(error) => Err(PoisonError::new(self.taken(error.into_inner()))),
            }
        }

        #[inline]
        pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            count();
            self.0.try_lock().map(|guard| self.taken(guard)).map_err(|error| match error {
                TryLockError::Poisoned(error) => PoisonError::new(self.taken(error.into_inner())).into(),
                TryLockError::WouldBlock => TryLockError::WouldBlock,
            })
        }

        #[cfg(not(feature = "sanitize"))]
        #[inline]
        #[allow(clippy::unused_self, reason = "the other version needs it")]
        fn taken<'a>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            guard
        }

        #[cfg(feature = "sanitize")]
        fn taken<'a>(&self, guard: std::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            let lock = std::ptr::from_ref(self).addr();
            crate::sanitize::acquire(lock);
            MutexGuard { guard: Some(guard), lock }
        }
    }

    #[inline]
    fn count() {
        #[cfg(all(debug_assertions, not(all(test, any(loom, shuttle)))))]
        super::counted::count(2);
    }

    #[cfg(feature = "sanitize")]
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        /// Taken out by a wait.
        guard: Option<std::sync::MutexGuard<'a, T>>,
        lock: usize,
    }

    #[cfg(feature = "sanitize")]
    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            crate::sanitize::release(self.lock);
        }
    }

    #[cfg(feature = "sanitize")]
    impl<T> std::ops::Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.guard.as_ref().expect("it does not wait")
        }
    }

    #[cfg(feature = "sanitize")]
    impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.guard.as_mut().expect("it does not wait")
        }
    }

    #[cfg(feature = "sanitize")]
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(std::sync::Condvar);

    #[cfg(feature = "sanitize")]
    impl Condvar {
        pub(crate) const fn new() -> Condvar {
            Condvar(std::sync::Condvar::new())
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            let inner = guard.guard.take().expect("it does not wait");
            crate::sanitize::release(guard.lock);
            let (inner, poisoned) = match self.0.wait(inner) {
                Ok(inner) => (inner, false),
                Err(error) => (error.into_inner(), true),
            };
            crate::sanitize::acquire(guard.lock);
            guard.guard = Some(inner);
            if poisoned { Err(PoisonError::new(guard)) } else { Ok(guard) }
        }

        pub(crate) fn wait_timeout<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            duration: std::time::Duration,
        ) -> LockResult<(MutexGuard<'a, T>, std::sync::WaitTimeoutResult)> {
            let inner = guard.guard.take().expect("it does not wait");
            crate::sanitize::release(guard.lock);
            let ((inner, timeout), poisoned) = match self.0.wait_timeout(inner, duration) {
                Ok(both) => (both, false),
                Err(error) => (error.into_inner(), true),
            };
            crate::sanitize::acquire(guard.lock);
            guard.guard = Some(inner);
            if poisoned { Err(PoisonError::new((guard, timeout))) } else { Ok((guard, timeout)) }
        }
    }
}

#[cfg(all(test, debug_assertions, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Locked operations of `body`.
    fn locked(body: impl FnOnce()) -> u64 {
        let before = locked_operations();
        body();
        locked_operations() - before
    }

    #[test]
    fn locked_operations_are_counted_and_plain_ones_are_not() {
        let word = AtomicU64::new(1);
        let plain = || {
            word.store(word.load(Ordering::Acquire) + 1, Ordering::Release);
            fence(Ordering::AcqRel);
        };
        assert_eq!(locked(plain), 0);
        let each = || {
            word.fetch_add(1, Ordering::Relaxed);
            word.swap(7, Ordering::Relaxed);
            assert!(word.compare_exchange(7, 8, Ordering::Relaxed, Ordering::Relaxed).is_ok());
            assert!(word.compare_exchange(7, 8, Ordering::Relaxed, Ordering::Relaxed).is_err());
            word.store(9, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        };
        assert_eq!(locked(each), 6);
        let mutex = Mutex::new(());
        assert_eq!(locked(|| drop(mutex.lock())), 2);
    }

    #[test]
    fn each_thread_has_its_own_count() {
        let word = AtomicUsize::new(0);
        let before = locked_operations();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let one = || {
                    word.fetch_or(1, Ordering::Relaxed);
                };
                assert_eq!(locked(one), 1);
            });
        });
        assert_eq!(locked_operations(), before);
    }
}
