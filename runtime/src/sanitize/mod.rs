//! What the address and the thread sanitizer have to be told about switches; nothing in any other build.
//!
//! Both believe that a thread has one stack, and both can be told otherwise by a pair of calls around each switch: which stack is left
//! for which ([`leave`], [`leave_for_good`]), and that one has arrived ([`arrive`]). What they know of a stack is a [`Fiber`]: one beside
//! each slot of the arena, one for a worker's own stack, and one on the stack of whoever resumes a raw coroutine.
//!
//! ```text
//!   on the stack that is left                      on the stack that goes on
//!     leave(from, to)
//!     arch::switch(..)          ----------->         (returns from its own switch, or is entered)
//!                                                    arrive(itself)
//! ```
//!
//! The feature `sanitize` makes this real and needs a nightly compiler; `scripts/sanitizers` sets it. Without it a [`Fiber`] has no size
//! and the functions are empty.

use std::sync::atomic::Ordering;

/// Release, for what an Acquire fence follows: the thread sanitizer knows no fences, so that under it the operation acquires itself.
pub(crate) const RELEASE_BEFORE_FENCE: Ordering =
    if cfg!(feature = "sanitize") { Ordering::AcqRel } else { Ordering::Release };

#[cfg(feature = "sanitize")]
#[allow(unsafe_code, reason = "calls into the sanitizers' run time")]
mod fibers;
#[cfg(feature = "sanitize")]
pub(crate) use fibers::*;

#[cfg(not(feature = "sanitize"))]
pub(crate) use nothing::*;

#[cfg(not(feature = "sanitize"))]
mod nothing {
    use crate::stack::Slot;

    /// What the sanitizers know of a stack: nothing here.
    #[derive(Debug)]
    pub(crate) struct Fiber;

    impl Fiber {
        #[inline(always)]
        pub(crate) const fn new() -> Fiber {
            Fiber
        }
    }

    #[inline(always)]
    pub(crate) fn of_running(_: Slot) -> &'static Fiber {
        &Fiber
    }

    #[inline(always)]
    pub(crate) fn of_context(_: *mut u8, _: Slot) -> &'static Fiber {
        &Fiber
    }

    #[inline(always)]
    pub(crate) fn prepare(_: Slot) {}

    #[inline(always)]
    pub(crate) fn leave(_: &Fiber, _: &Fiber) {}

    #[inline(always)]
    pub(crate) fn leave_for_good(_: &Fiber) {}

    #[inline(always)]
    pub(crate) fn arrive(_: &Fiber) {}

    #[inline(always)]
    pub(crate) fn enter(_: *mut *mut u8, _: &Fiber) {}

    #[inline(always)]
    pub(crate) fn leave_to_resumer(_: *mut *mut u8) {}

    #[inline(always)]
    pub(crate) fn leave_to_resumer_for_good(_: *mut *mut u8) {}

    #[inline(always)]
    pub(crate) fn arrive_inside(_: *mut *mut u8) {}
}
