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
#[cfg(not(any(debug_assertions, all(test, any(loom, shuttle)))))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence},
};
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use std::sync::{MutexGuard, atomic::Ordering};

#[cfg(all(debug_assertions, not(all(test, any(loom, shuttle)))))]
pub(crate) use counted::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Mutex, fence, locked_operations};

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
    pub(crate) use std::{
        sync::{Arc, Condvar},
        thread,
    };
}

#[cfg(all(debug_assertions, not(all(test, any(loom, shuttle)))))]
mod counted {
    use std::cell::Cell;
    use std::ops::Deref;
    use std::sync::atomic::Ordering;
    use std::sync::{LockResult, MutexGuard};

    thread_local! {
        static LOCKED: Cell<u64> = const { Cell::new(0) };
    }

    /// How many locked operations this OS thread has done through this module.
    pub(crate) fn locked_operations() -> u64 {
        LOCKED.get()
    }

    #[inline]
    fn count(operations: u64) {
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

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Mutex<T> {
            Mutex(std::sync::Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            // One to take it and one to let go; there may be more if others want it too.
            count(2);
            self.0.lock()
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
