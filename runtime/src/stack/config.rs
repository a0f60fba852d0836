//! What a program may say about stacks.
//!
//! Two kinds of settings meet here. The size is each runtime's own: the class of a coroutine that asks for none. The others are about
//! the pool, of which a process has one, so that [`StackConfig::apply`] sets them for the whole process: the last runtime that is built
//! decides, and stacks that exist keep the guard they have.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Class, DEFAULT_BYTES, Guard, guard};
use crate::sys::PAGE;

/// Bytes of one free stack that stay resident unless said otherwise: the first page, which each coroutine touches, and another, so that
/// a call or two deeper is no page fault either.
const KEEP_RESIDENT: usize = 8 << 10;
/// Bytes of free stacks, in each class, that stay resident unless said otherwise: a thousand stacks of two pages.
const KEEP_FREE: usize = 8 << 20;

/// Relaxed everywhere: each word stands alone, and whoever still sees the old one does what was right a moment ago.
static KEEP_RESIDENT_NOW: AtomicUsize = AtomicUsize::new(KEEP_RESIDENT);
static KEEP_FREE_NOW: AtomicUsize = AtomicUsize::new(KEEP_FREE);
static COLOR_NOW: AtomicBool = AtomicBool::new(true);

/// Settings of the stacks of a runtime.
///
/// ```
/// use switchmark_runtime::stack::{Guard, StackConfig};
///
/// let small = StackConfig::new(64 << 10).guard(Guard::Auto).color(true).keep_resident(8 << 10).keep_free(64 << 20);
/// assert_eq!(small.size(), 64 << 10);
/// ```
///
/// The size is the runtime's own. Everything else is about the pool of free stacks, of which a process has one: the runtime that is
/// built last decides, and stacks that exist keep the guard they have.
///
/// **What a free stack keeps.** A coroutine that ends leaves the pages it touched. Given back at once, they would be fetched again, by a
/// page fault each, by the next coroutine; kept for ever, one deep recursion or one crowd would hold its memory to the end of the
/// process. So there are two bounds:
///
/// - [`keep_resident`](StackConfig::keep_resident) is of *one* stack: so many bytes, from its top, stay with a free stack, and what was
///   touched below goes back to the kernel;
/// - [`keep_free`](StackConfig::keep_free) is of *all* free stacks of a class together: those beyond it go cold, that is without any
///   page, until they are used again.
///
/// Two small exceptions, for speed. The stacks freed last are not looked at yet: up to 64 (of 1 MiB, 16) on each worker, until it sleeps,
/// and per class as many as amount to 16 MiB if they were used to their bottom. And a program that takes and frees more stacks than
/// `keep_free` holds again and again, within a second, keeps them warm meanwhile, up to 128 times the bound; what it has not used for a
/// second goes cold when stacks next move, when a worker sleeps, or when the runtime ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "settings do nothing until a runtime is built with them"]
pub struct StackConfig {
    size: usize,
    guard: Guard,
    color: bool,
    keep_resident: usize,
    keep_free: usize,
}

impl Default for StackConfig {
    /// [`DEFAULT_BYTES`] of stack, a guard of whichever kind the kernel has, coloured, 8 KiB of a free stack and 8 MiB of free stacks
    /// resident.
    fn default() -> StackConfig {
        StackConfig::new(DEFAULT_BYTES)
    }
}

impl StackConfig {
    /// Stacks of at least `bytes` usable for coroutines that ask for no size; the rest as in [`StackConfig::default`].
    ///
    /// There are stacks of 64 KiB, 256 KiB and 1 MiB; a size in between gets the next larger one. Guards come on top.
    pub const fn new(bytes: usize) -> StackConfig {
        StackConfig {
            size: bytes,
            guard: Guard::Auto,
            color: true,
            keep_resident: KEEP_RESIDENT,
            keep_free: KEEP_FREE,
        }
    }

    /// How stacks made from now on are guarded. There is no way to have none.
    pub const fn guard(mut self, guard: Guard) -> StackConfig {
        self.guard = guard;
        self
    }

    /// Whether the first frames of neighbouring stacks are staggered by multiples of 128 bytes, within 2 KiB. Without it those of all
    /// stacks compete for the same few sets of the first-level cache; it is here to be measured.
    pub const fn color(mut self, color: bool) -> StackConfig {
        self.color = color;
        self
    }

    /// Bytes of *one* free stack, from its top, that stay resident; rounded up to pages. 0 leaves free stacks nothing.
    pub const fn keep_resident(mut self, bytes_per_stack: usize) -> StackConfig {
        self.keep_resident = bytes_per_stack;
        self
    }

    /// Bytes that the free stacks of a size class keep resident *together*, each taken for its [`keep_resident`](Self::keep_resident).
    pub const fn keep_free(mut self, bytes: usize) -> StackConfig {
        self.keep_free = bytes;
        self
    }

    /// Usable bytes asked for.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Sets what is set for the whole process; for programs that use raw coroutines alone, as building a runtime does this.
    pub fn apply(&self) {
        guard::set_guard(self.guard);
        COLOR_NOW.store(self.color, Ordering::Relaxed);
        KEEP_RESIDENT_NOW.store(self.keep_resident, Ordering::Relaxed);
        KEEP_FREE_NOW.store(self.keep_free, Ordering::Relaxed);
    }
}

/// Whether the tops of stacks are staggered.
#[inline]
pub(super) fn is_coloured() -> bool {
    COLOR_NOW.load(Ordering::Relaxed)
}

/// Bytes of a free stack of a class that stay resident: whole pages.
pub(super) fn kept_of_one(class: Class) -> usize {
    kept_of(KEEP_RESIDENT_NOW.load(Ordering::Relaxed), class)
}

fn kept_of(asked: usize, class: Class) -> usize {
    asked.min(class.usable()).next_multiple_of(PAGE)
}

/// Free stacks of a class that stay warm.
pub(super) fn kept_free(class: Class) -> usize {
    free_of(KEEP_FREE_NOW.load(Ordering::Relaxed), kept_of_one(class))
}

fn free_of(all: usize, one: usize) -> usize {
    // None if a free stack keeps nothing: it would be called warm and be cold.
    all.checked_div(one).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_whole_pages_of_one_stack_and_whole_stacks_of_all() {
        // Not through `apply`: the other tests of this process use the pool.
        for (class, pages) in Class::ALL.into_iter().zip([16, 64, 256]) {
            assert_eq!((kept_of(1, class), kept_of(0, class)), (PAGE, 0));
            assert_eq!(kept_of(usize::MAX, class), pages * PAGE);
            assert_eq!(kept_of(2 * PAGE, class), 2 * PAGE);
        }
        assert_eq!((free_of(8 << 20, 8 << 10), free_of(8 << 20, 0), free_of(0, 8 << 10)), (1024, 0, 0));
    }
}
