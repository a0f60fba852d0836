//! How much of its stack a coroutine used: residency, asked of the kernel by `mincore`.
//!
//! A page that was touched stays resident until the pool gives it back, so the lowest resident page of a stack is the
//! high-water mark of *all* coroutines that ran on it since it was cold. Swapped-out pages count as untouched.

use std::io;

use super::{Class, Slot, arena};
use crate::sys::{self, PAGE};

/// Pages asked about by one call.
const CHUNK: usize = 16 << 10;

/// High-water mark, in bytes from the top, of the stack that contains the address; `None` if it is none of ours.
pub fn high_water(addr: usize) -> io::Result<Option<usize>> {
    let Some(slot) = arena::slot_of(addr) else {
        return Ok(None);
    };
    let mut pages = vec![0_u8; slot.class.usable() / PAGE];
    sys::residency(slot.bottom(), &mut pages)?;
    let untouched = pages.iter().take_while(|&&page| page & 1 == 0).count();
    Ok(Some((pages.len() - untouched) * PAGE))
}

/// Resident bytes of all stacks that have an occupant, in the whole process. Free stacks that are kept warm do not count.
pub fn resident_bytes() -> io::Result<usize> {
    let arena = arena::get()?;
    let mut resident = 0;
    let mut pages = vec![0_u8; CHUNK];
    for class in Class::ALL {
        let slot_pages = class.slot_bytes() / PAGE;
        let usable_pages = class.usable() / PAGE;
        #[expect(clippy::cast_possible_truncation, reason = "a chunk holds at most 512 slots")]
        let step = (CHUNK / slot_pages) as u32;
        let used = arena.used(class);
        for first in (0..used).step_by(step as usize) {
            let count = step.min(used - first) as usize;
            let pages = &mut pages[..count * slot_pages];
            sys::residency(arena.slot_base(Slot { class, number: first }), pages)?;
            for (number, slot) in (first..).zip(pages.chunks(slot_pages)) {
                if arena::is_occupied(Slot { class, number }) {
                    let usable = &slot[slot_pages - usable_pages..];
                    resident += usable.iter().filter(|&&page| page & 1 != 0).count() * PAGE;
                }
            }
        }
    }
    Ok(resident)
}
