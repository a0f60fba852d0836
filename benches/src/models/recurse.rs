//! `recurse`: a unit that descends into pages of its stack that are not there, and again now that they are.
//!
//! **Work.** One unit a slice, with a stack that has room for `depth_kib` and a little more. Before each descent it gives the kernel the
//! pages back that it is about to use; then it descends by recursion until a frame lies in the last of them, returns, and descends once
//! more. `elapsed_ns` is of the first descents, `second_ns` of the second ones, and what stands between them is `base_ns`, with the unit's
//! start and end.
//! **Ledger.** One unit. `kept_bytes`: what of that depth is in memory when the unit has ended; `trimmed_bytes`: what still is when the
//! contender has had more than a second with nothing to do, after which a pool of stacks gives pages back. That takes long, so only the first
//! slice rests; the others repeat what it found.
//! **Check.** Each page is written by the first frame that begins in it, with twice its number from 1, and read back on the way up: of p pages
//! each descent makes `p * p + p`. (Twice, because a formula knows no division.) The kernel must say, by mincore, that all of these pages and none
//! of the next are in memory: otherwise the worker fails.

use super::{Opened, number};
use crate::concurrency::{Timed, UnitOptions};
use crate::sys;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ops::Range;
use switchmark_harness::protocol::{Prepare, Sample};

/// Two rests: the runtime looks at the stacks that were freed last at most once a second, when a worker is about to sleep.
const RESTS_NS: [u64; 2] = [1_100_000_000, 5_000_000];

/// Stack beside what is descended: frames at either end, and a contender's own.
const MORE: usize = 40 << 10;

/// What a unit found.
#[derive(Default)]
struct Found {
    first_ns: u64,
    second_ns: u64,
    sum: u64,
    /// Where the pages lie that it descended into last.
    pages: Range<usize>,
}

/// Opens the cell.
pub fn open<C: Timed>(prepare: &Prepare) -> Opened {
    let bytes = number(prepare, "depth_kib")? << 10;
    if bytes == 0 || !bytes.is_multiple_of(sys::PAGE) {
        return Err(format!("parameter depth_kib is {}, which is no number of pages", bytes >> 10));
    }
    let options = UnitOptions { stack: Some(bytes + MORE), cpu: None };
    // One unit shows whether such a stack can be had.
    C::join(C::spawn(options, || ()).map_err(|e| format!("cannot start a unit: {e}"))?);
    let mut trimmed = None;
    Ok(Box::new(move |iterations| {
        let start = C::stamp();
        let unit = C::spawn(options, move || live::<C>(iterations, bytes));
        let found = C::join(unit.unwrap_or_else(|e| panic!("cannot start a unit: {e}")));
        // What is no longer mapped is not kept.
        let kept = || sys::resident_bytes(&found.pages).unwrap_or(0);
        let kept_bytes = kept();
        let trimmed_bytes = *trimmed.get_or_insert_with(|| {
            for rest in RESTS_NS {
                C::sleep_until(C::stamp() + rest);
            }
            kept()
        });
        Sample {
            iterations,
            elapsed_ns: found.first_ns,
            base_ns: Some(C::stamp() - start - found.first_ns),
            second_ns: Some(found.second_ns),
            kept_bytes: Some(kept_bytes),
            trimmed_bytes: Some(trimmed_bytes),
            units: 1,
            peak_live: 1,
            check: found.sum,
            ..Sample::default()
        }
    }))
}

/// The life of a unit.
fn live<C: Timed>(iterations: u64, bytes: usize) -> Found {
    let mut found = Found::default();
    for _ in 0..iterations {
        let top =
            sys::cool_stack(bytes).unwrap_or_else(|e| panic!("cannot give back the stack's pages: {e}"));
        let pages = top - bytes..top;
        let start = C::stamp();
        found.sum += descend(&pages, 0);
        let first = C::stamp();
        found.sum += descend(&pages, 0);
        let second = C::stamp();
        found.first_ns += first - start;
        found.second_ns += second - first;
        found.pages = pages;
    }
    let resident = |range| sys::resident_bytes(&range).unwrap_or_else(|e| panic!("cannot ask mincore: {e}"));
    let Range { start, end } = found.pages;
    let (there, below) = (resident(start..end), resident(start - sys::PAGE..start));
    assert!(
        (there, below) == (bytes as u64, 0),
        "of {bytes} bytes {there} are in memory, and {below} below them"
    );
    found
}

/// Goes down to the last of `pages`, which are counted from above; returns twice the sum of the numbers below `seen`, read back.
#[inline(never)]
fn descend(pages: &Range<usize>, seen: usize) -> u64 {
    // Far smaller than a page, so that none is stepped over.
    let mut frame = [MaybeUninit::<u64>::uninit(); 64];
    black_box(&mut frame);
    let at = frame.as_ptr().addr();
    let page = pages.end.saturating_sub(at).div_ceil(sys::PAGE);
    let word = frame[0].write(if page > seen { 2 * page as u64 } else { 0 });
    black_box(&mut *word);
    let below = if at < pages.start + sys::PAGE { 0 } else { descend(pages, page) };
    // The frame is in use until here: no tail call, and what is added was kept on the stack.
    *black_box(word) + below
}
