//! What a debugger needs to list coroutines, as plain data: `scripts/gdb_coroutines.py` finds [`MAP`] by its name, and everything else from
//! there. So it needs symbols and no debug information.
//!
//! All fields are words of eight bytes, in this order; the script says the same. Whoever changes a field changes [`VERSION`].

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};

use crate::stack::{Class, arena};
use crate::task::{self, Task};

const MAGIC: [u8; 8] = *b"switchmk";
const VERSION: usize = 1;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Map {
    magic: [u8; 8],
    version: usize,
    /// Where the arena begins, its bytes, and the table with a word for each granule.
    base: &'static AtomicUsize,
    limit: &'static AtomicUsize,
    table: &'static AtomicPtr<AtomicUsize>,
    /// Slots of each class that may have an occupant: so many from the front.
    used: &'static [AtomicU32; Class::COUNT],
    granule: usize,
    classes: usize,
    granules: [usize; Class::COUNT],
    usable: [usize; Class::COUNT],
    /// Offsets in a record.
    record: task::Offsets,
    kinds: &'static [&'static str; task::KINDS.len()],
}

static MAP: Map = Map {
    magic: MAGIC,
    version: VERSION,
    base: &arena::BASE,
    limit: &arena::LIMIT,
    table: &arena::TABLE,
    used: &arena::USED,
    granule: arena::GRANULE,
    classes: Class::COUNT,
    granules: [Class::ALL[0].granules(), Class::ALL[1].granules(), Class::ALL[2].granules()],
    usable: [Class::ALL[0].usable(), Class::ALL[1].usable(), Class::ALL[2].usable()],
    record: Task::OFFSETS,
    kinds: &task::KINDS,
};

/// Keeps the map in a program that is linked without what nobody uses.
pub(crate) fn keep() {
    std::hint::black_box(&MAP);
}
