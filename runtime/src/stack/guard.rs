#![allow(unsafe_code, reason = "changes the access rights of memory")]
//! Guards: what makes an overflow a fault instead of a scribble.
//!
//! `MADV_GUARD_INSTALL` (Linux 6.13) marks page-table entries, so a million guards live in one mapping. `mprotect` splits
//! the mapping, two pieces a stack, and `vm.max_map_count` (65,530 by default) ends it near 32,700 stacks. The first is used where
//! the kernel has it, the second otherwise. A kernel that does not know the advice, or a process that may not give it (locked
//! memory), decides so for the whole process at the first refusal; any other refusal, such as want of memory for a page table,
//! moves only the batch at hand to `mprotect`.
//!
//! Guards are installed for a batch of slots that nobody used yet, through `process_madvise` on this very process, where it accepts
//! the advice; a batch refused or cut short is finished one guard at a time. They survive `MADV_DONTNEED` and are never
//! taken away.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Class, GUARD_BYTES, Slot};
use crate::sys::{self, Range};

/// Guards installed by one call.
const BATCH: usize = 32;

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
pub(super) fn install(class: Class, numbers: &[u32]) -> io::Result<()> {
    if METHOD.load(Ordering::Relaxed) == AUTO {
        match install_markers(class, numbers) {
            Ok(()) => return Ok(()),
            Err(error) if is_final(&error) => METHOD.store(PROTECT, Ordering::Relaxed),
            Err(_) => {}
        }
    }
    // A marker and `mprotect` on the same range do not disturb each other, so all slots are simply done again.
    for &number in numbers {
        // SAFETY: the slot is not used yet.
        unsafe { sys::protect(Slot { class, number }.guard(), GUARD_BYTES) }.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot guard stack {number} of its class: {error}; a guard by mprotect takes two mappings, raise \
                     vm.max_map_count or use Linux 6.13, whose guards take none"
                ),
            )
        })?;
    }
    Ok(())
}

/// Whether a refusal of markers is one for good: the kernel does not know them, or not in memory like ours.
fn is_final(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP))
}

fn install_markers(class: Class, numbers: &[u32]) -> io::Result<()> {
    let mut ranges = [Range::EMPTY; BATCH];
    for numbers in numbers.chunks(BATCH) {
        let ranges = &mut ranges[..numbers.len()];
        for (range, &number) in ranges.iter_mut().zip(numbers) {
            *range = Range::new(Slot { class, number }.guard(), GUARD_BYTES);
        }
        // SAFETY: nobody uses these slots yet.
        let bytes = unsafe { sys::guard_batch(ranges) }.unwrap_or(0);
        for range in &ranges[bytes / GUARD_BYTES..] {
            // SAFETY: as above.
            unsafe { sys::guard(range.at(), range.bytes()) }?;
        }
    }
    Ok(())
}

/// Held by tests that choose the method, as it is one for the process.
#[cfg(test)]
pub(super) static METHOD_IN_TESTS: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The kernel's own opinion: it cannot read from a guarded page on our behalf.
#[cfg(test)]
pub(super) fn is_guarded(class: Class, number: u32) -> bool {
    let (mut ends, slot) = ([0; 2], Slot { class, number });
    // SAFETY: fills two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the kernel checks the address; that is the point.
    let reads = |at: *mut u8| unsafe { libc::write(ends[1], at.cast(), 1) } == 1;
    let guarded = (0..GUARD_BYTES).step_by(sys::PAGE).all(|offset| !reads(slot.guard().wrapping_add(offset)));
    let usable = reads(slot.bottom());
    for end in ends {
        // SAFETY: ours, and used no more.
        unsafe { libc::close(end) };
    }
    guarded && usable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::arena;
    use crate::sys::inject::{self, Call};

    const SMALL: Class = Class::ALL[0];

    fn fresh(count: usize) -> Vec<u32> {
        arena::get().unwrap().take_fresh(SMALL, count).collect()
    }

    #[test]
    fn a_batch_guards_every_slot() {
        let slots = fresh(5);
        install(SMALL, &slots).unwrap();
        assert!(slots.into_iter().all(|number| is_guarded(SMALL, number)));
    }

    #[test]
    fn a_refused_batch_is_installed_one_by_one() {
        inject::fail(Call::GuardBatch, 1, libc::EPERM);
        let slots = fresh(3);
        install_markers(SMALL, &slots).unwrap();
        assert!(slots.into_iter().all(|number| is_guarded(SMALL, number)));
    }

    #[test]
    fn a_marker_refused_in_the_middle_of_a_batch_makes_way_for_mprotect() {
        let _one = METHOD_IN_TESTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (errno, method) in [(libc::ENOMEM, AUTO), (libc::EINVAL, PROTECT)] {
            inject::fail(Call::GuardBatch, 1, errno);
            inject::fail_also(Call::Guard, 2, 1, errno);
            let slots = fresh(4);
            install(SMALL, &slots).unwrap();
            assert!(inject::all_happened());
            assert!(slots.into_iter().all(|number| is_guarded(SMALL, number)));
            assert_eq!(METHOD.swap(AUTO, Ordering::Relaxed), method, "after errno {errno}");
        }
    }

    #[test]
    fn an_error_of_the_last_resort_names_the_remedy() {
        let _one = METHOD_IN_TESTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slots = fresh(1);
        inject::fail(Call::Protect, 1, libc::ENOMEM);
        METHOD.store(PROTECT, Ordering::Relaxed);
        let error = install(SMALL, &slots).unwrap_err();
        METHOD.store(AUTO, Ordering::Relaxed);
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
    }
}
