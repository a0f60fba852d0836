//! Stacks: their sizes, where they come from, what a guard promises.
//!
//! A stack is a *slot* of one process-wide reservation (`arena`). Its usable part ends at the slot's top; right below it lie
//! 64 KiB of guard (`guard`) that fault on every access. Rust code touches each page of a large frame in order, so it cannot
//! step over a guard; C code can, with a frame above 64 KiB compiled without stack probes, and nothing here stops that.
//!
//! ```text
//!   slot: | unused (none in the smallest class) | guard 64 KiB | usable, grows down  <- top |
//! ```
//!
//! Slots are used and used again (`pool`), never unmapped: an address that was a stack once is a stack for ever, so the fault
//! handler (`overflow`) and the look-up of the current coroutine need no lock.

pub(crate) mod arena;
pub(crate) mod config;
pub(crate) mod guard;
pub(crate) mod overflow;
pub(crate) mod pool;
mod reclaim;
pub(crate) mod watermark;

pub use config::StackConfig;
pub use guard::{Guard, set_guard};
pub use watermark::{high_water, resident_bytes};

use std::io;

/// Bytes of guard below each stack, in every class: some C library functions have frames of several pages without probes, and
/// what lies behind a guard is the busiest page of the neighbour.
pub const GUARD_BYTES: usize = 64 << 10;

/// Usable bytes of a stack for which no size was asked.
pub const DEFAULT_BYTES: usize = 256 << 10;

/// Tops of stacks are staggered in steps of this many bytes ...
const COLOUR_STEP: usize = 128;
/// ... this many steps far, so that the first frames of neighbours do not compete for one set of the first-level cache. The
/// stagger stays within half a page: the other half is for the frames of a coroutine that only waits.
const COLOURS: usize = 16;

/// A size class: usable bytes 64 KiB, 256 KiB, 1 MiB for classes 0, 1, 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class(u8);

impl Class {
    pub(crate) const COUNT: usize = 3;
    pub(crate) const ALL: [Class; Self::COUNT] = [Class(0), Class(1), Class(2)];

    /// That of [`DEFAULT_BYTES`].
    pub(crate) const DEFAULT: Class = Class(1);

    /// The smallest class with at least `bytes` usable.
    pub(crate) fn for_bytes(bytes: usize) -> io::Result<Class> {
        Self::ALL.into_iter().find(|class| bytes <= class.usable()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot make a stack of {bytes} bytes: the largest class has {}; move deep work to an OS thread",
                    Class(2).usable()),
            )
        })
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Usable bytes.
    pub(crate) const fn usable(self) -> usize {
        (64 << 10) << (2 * self.0)
    }

    /// Granules of a slot: usable bytes, guard and a little more. Odd, for the reason given in `arena`.
    pub(crate) const fn granules(self) -> usize {
        [1, 3, 9][self.index()]
    }

    /// Bytes of a slot.
    pub(crate) const fn slot_bytes(self) -> usize {
        self.granules() * arena::GRANULE
    }
}

const _: () = assert!(Class::DEFAULT.usable() == DEFAULT_BYTES);

/// A slot of the arena: a class and a number within it. Whoever holds it owns the stack, unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) class: Class,
    pub(crate) number: u32,
}

impl Slot {
    /// One past the highest byte.
    pub(crate) fn top(self) -> *mut u8 {
        arena::get_ready().slot_base(self).wrapping_add(self.class.slot_bytes())
    }

    /// Where the first frame goes: the top, staggered by the slot's number unless that is turned off. Aligned to 128 bytes.
    pub(crate) fn coloured_top(self) -> *mut u8 {
        let colour = if config::is_coloured() { self.number as usize % COLOURS } else { 0 };
        self.top().wrapping_sub(colour * COLOUR_STEP)
    }

    /// Lowest usable byte.
    pub(crate) fn bottom(self) -> *mut u8 {
        self.top().wrapping_sub(self.class.usable())
    }

    /// Where the guard begins.
    pub(crate) fn guard(self) -> *mut u8 {
        self.bottom().wrapping_sub(GUARD_BYTES)
    }
}
