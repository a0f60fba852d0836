#![allow(unsafe_code, reason = "gives pages back to the kernel")]
//! Pages of free stacks, given back: many stacks a call.
//!
//! Neighbours lie side by side, guards included, and guards survive `MADV_DONTNEED`, so a run of neighbours is one range. Ranges that
//! have nothing to do with each other still go to the kernel together, by `process_madvise` on this very process, which saves the entry
//! into the kernel and, since Linux 6.16, all but one flush of the address translations. Where it is refused (before Linux 6.13 that
//! advice was for other processes only), or cut short, the rest is done a range a call.
//!
//! What is left of a cold stack is the entries of its guard, and with them its page tables: 272 bytes in the smallest class, a
//! sixteenth of a page that is used. Of a crowd's they are given back as well ([`strip`]).
//!
//! A refusal of that too (locked memory) leaves the pages, which is merely warmer than asked for.

use super::{Class, Slot, arena};
use crate::sys::{self, PAGE, Range};

/// Ranges given to one call. On the stack of whoever reclaims, which may be a coroutine's last frames: 512 bytes.
const BATCH: usize = 32;

/// Gives back all pages of these stacks, which are free. Sorts the numbers.
pub(super) fn discard(class: Class, numbers: &mut [u32]) {
    numbers.sort_unstable();
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    give_back(runs.map(|run| {
        let first = Slot { class, number: run[0] };
        Range::new(arena::get_ready().slot_base(first), run.len() * class.slot_bytes())
    }));
}

/// Bytes of a run of neighbours worth [`strip`]ping: their page tables are four pages and, where the run begins and ends, two more.
const STRIP: usize = 8 << 20;

/// Gives back the page tables of these stacks as well, which are free and hold no pages: of long runs of neighbours, as a table serves 2
/// MiB. That takes their guards with it. The stacks that lost their guard come first afterwards; their number is returned.
///
/// A page table of which nothing is left is freed since Linux 6.14; before that, this only costs the guards.
pub(super) fn strip(class: Class, numbers: &mut [u32]) -> usize {
    numbers.sort_unstable();
    let mut stripped = 0;
    let mut first = 0;
    while first < numbers.len() {
        let run = numbers[first..].chunk_by(|a, b| a + 1 == *b).next().map_or(0, <[u32]>::len);
        let next = first + run;
        if is_stripped(class, numbers[first], run) {
            // What stays behind may lose its order.
            for place in first..next {
                numbers.swap(stripped, place);
                stripped += 1;
            }
        }
        first = next;
    }
    stripped
}

fn is_stripped(class: Class, first: u32, count: usize) -> bool {
    let bytes = count * class.slot_bytes();
    if bytes < STRIP {
        return false;
    }
    let at = arena::get_ready().slot_base(Slot { class, number: first });
    // SAFETY: the caller owns these stacks, on which nobody runs, and guards them before that changes.
    if unsafe { sys::unguard(at, bytes) }.is_err() {
        return false;
    }
    one(Range::new(at, bytes));
    true
}

/// Gives back all but the uppermost `keep` bytes of each of these stacks, which are free.
pub(super) fn trim(class: Class, numbers: &[u32], keep: usize) {
    if keep < class.usable() {
        give_back(
            numbers.iter().map(|&number| Range::new(Slot { class, number }.bottom(), class.usable() - keep)),
        );
    }
}

/// Whether any of these stacks, which are free, was used below its uppermost `keep` bytes. Rust code touches a stack page by page, so
/// one page is asked about.
pub(super) fn is_any_deep<'a>(class: Class, mut numbers: impl Iterator<Item = &'a u32>, keep: usize) -> bool {
    keep < class.usable()
        && numbers.any(|&number| {
            let mut page = [0];
            let below = Slot { class, number }.top().wrapping_sub(keep + PAGE);
            sys::residency(below, &mut page).is_err() || page[0] & 1 != 0
        })
}

fn give_back(mut ranges: impl Iterator<Item = Range>) {
    let mut batch = [Range::EMPTY; BATCH];
    loop {
        let mut count = 0;
        for (place, range) in batch.iter_mut().zip(&mut ranges) {
            *place = range;
            count += 1;
        }
        match &batch[..count] {
            [] => return,
            [only] => one(*only),
            batch => many(batch),
        }
    }
}

fn many(ranges: &[Range]) {
    // SAFETY: the callers own these stacks, on which nobody runs.
    let mut done = unsafe { sys::discard_batch(ranges) }.unwrap_or(0);
    for range in ranges {
        // The kernel does them in order; one done in part is done again, which does no harm.
        if done >= range.bytes() {
            done -= range.bytes();
        } else {
            done = 0;
            one(*range);
        }
    }
}

fn one(range: Range) {
    // SAFETY: as above.
    let _ = unsafe { sys::discard(range.at(), range.bytes()) };
}
