#![allow(unsafe_code, reason = "changes the access rights of memory")]
//! Guards: what makes an overflow a fault instead of a scribble.
//!
//! `MADV_GUARD_INSTALL` (Linux 6.13) marks page-table entries, so a million guards live in one mapping. `mprotect` splits
//! the mapping, two pieces a stack, and `vm.max_map_count` (65,530 by default) ends it near 32,700 stacks. The first is used where
//! the kernel has it, the second otherwise; the first refusal decides for the process.
//!
//! Guards are installed for a batch of slots that nobody used yet, through `process_madvise` on this very process, where it accepts
//! the advice; a batch refused or cut short is finished one guard at a time. They survive `MADV_DONTNEED` and are never
//! taken away.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{GUARD_BYTES, Slot};
use crate::sys;

/// How stacks are guarded, for the whole process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Guard {
    /// Page-table guards where the kernel has them, else `mprotect`.
    #[default]
    Auto,
    /// `mprotect`: works everywhere, and costs two mappings a stack.
    Protect,
}

const AUTO: u8 = 0;
const PROTECT: u8 = 1;

/// Relaxed everywhere: the word stands alone, and a thread that still sees `AUTO` only asks the kernel once more.
static METHOD: AtomicU8 = AtomicU8::new(AUTO);

/// Chooses the guard of stacks that are not made yet; those that exist keep theirs.
pub fn set_guard(guard: Guard) {
    let method = match guard {
        Guard::Auto => AUTO,
        Guard::Protect => PROTECT,
    };
    METHOD.store(method, Ordering::Relaxed);
}

/// Guards slots that nobody used yet. On an error some may be guarded; none may be used.
pub(super) fn install(slots: &[Slot]) -> io::Result<()> {
    if METHOD.load(Ordering::Relaxed) == AUTO && install_markers(slots).is_ok() {
        return Ok(());
    }
    // A marker and `mprotect` on the same range do not disturb each other, so all slots are simply done again.
    METHOD.store(PROTECT, Ordering::Relaxed);
    for slot in slots {
        // SAFETY: the slot is not used yet.
        unsafe { sys::protect(slot.guard(), GUARD_BYTES) }.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot guard stack {} of its class: {error}; each such guard takes two mappings, raise vm.max_map_count \
                     or use Linux 6.13",
                    slot.number
                ),
            )
        })?;
    }
    Ok(())
}

fn install_markers(slots: &[Slot]) -> io::Result<()> {
    let ranges: Vec<(*mut u8, usize)> = slots.iter().map(|slot| (slot.guard(), GUARD_BYTES)).collect();
    // SAFETY: nobody uses these slots yet.
    let bytes = unsafe { sys::guard_batch(&ranges) }.unwrap_or(0);
    for &(at, bytes) in &ranges[bytes / GUARD_BYTES..] {
        // SAFETY: as above.
        unsafe { sys::guard(at, bytes) }?;
    }
    Ok(())
}

/// Held by tests that choose the method, as it is one for the process.
#[cfg(test)]
pub(super) static METHOD_IN_TESTS: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Class, arena};
    use crate::sys::inject::{self, Call};

    fn fresh(count: u32) -> Vec<Slot> {
        let class = Class::ALL[0];
        arena::get().unwrap().take_fresh(class, count).map(|number| Slot { class, number }).collect()
    }

    /// The kernel's own opinion: it cannot read from a guarded page on our behalf.
    fn is_guarded(slot: Slot) -> bool {
        let (mut ends, last) = ([0; 2], slot.bottom().wrapping_sub(1));
        // SAFETY: fills two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        // SAFETY: the kernel checks the address; that is the point.
        let at_guard = unsafe { libc::write(ends[1], last.cast(), 1) };
        // SAFETY: as above, for the byte over the guard.
        let above = unsafe { libc::write(ends[1], slot.bottom().cast(), 1) };
        for end in ends {
            // SAFETY: ours, and used no more.
            unsafe { libc::close(end) };
        }
        at_guard == -1 && above == 1
    }

    #[test]
    fn a_batch_guards_every_slot() {
        let slots = fresh(5);
        install(&slots).unwrap();
        assert!(slots.into_iter().all(is_guarded));
    }

    #[test]
    fn a_refused_batch_is_installed_one_by_one() {
        inject::fail(Call::GuardBatch, 1, libc::EPERM);
        let slots = fresh(3);
        install_markers(&slots).unwrap();
        assert!(slots.into_iter().all(is_guarded));
    }

    #[test]
    fn an_error_of_the_last_resort_names_the_remedy() {
        let _one = METHOD_IN_TESTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slots = fresh(1);
        inject::fail(Call::Protect, 1, libc::ENOMEM);
        METHOD.store(PROTECT, Ordering::Relaxed);
        let error = install(&slots).unwrap_err().to_string();
        METHOD.store(AUTO, Ordering::Relaxed);
        assert!(error.contains("vm.max_map_count"), "{error}");
    }
}
