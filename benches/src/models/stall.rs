//! `stall`: a unit in calls that block its OS thread, and one that serves a tick each millisecond, on one core.
//!
//! **Work.** The first makes calls of ten milliseconds that sleep in the kernel, one after the other with a turn for others in between, in
//! the way that `mechanism` names: `bare` as it is, `blocking` by the contender's own way off the core, `block_in_place` by its way of telling
//! the scheduler and staying. How late the ticks are is how long the others stood still.
//! **Ledger.** Two units.
//! **Check.** The ticks served.

use super::{Opened, ticks};
use crate::concurrency::{Blocks, Timed, UnitOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use switchmark_harness::protocol::Prepare;
use switchmark_schema::ParamValue;

/// A call.
const CALL_NS: u64 = 10_000_000;

/// Opens the cell.
pub(super) fn open<C: Timed>(prepare: &Prepare) -> Opened {
    let how = match prepare.param("mechanism") {
        Some(ParamValue::Word(word)) if word == "bare" => Blocks::Bare,
        Some(ParamValue::Word(word)) if word == "blocking" => Blocks::Elsewhere,
        Some(ParamValue::Word(word)) if word == "block_in_place" => Blocks::InPlace,
        other => {
            return Err(format!("parameter mechanism is {other:?}: it is bare, blocking or block_in_place"));
        }
    };
    C::room_for(2)?;
    Ok(Box::new(move |iterations| {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let start = C::stamp();
        let calls = C::spawn(UnitOptions::default(), move || {
            // Relaxed: the flag orders nothing.
            while !ends.load(Ordering::Relaxed) {
                C::block(how, CALL_NS);
                C::yield_now();
            }
        });
        let tick = C::spawn(UnitOptions::default(), move || ticks::serve::<C>(start, 1..=iterations, || ()));
        let late = C::join(tick.unwrap_or_else(|e| panic!("cannot start a unit: {e}")));
        let elapsed = C::stamp() - start;
        over.store(true, Ordering::Relaxed); // As above.
        C::join(calls.unwrap_or_else(|e| panic!("cannot start a unit: {e}")));
        ticks::sample(iterations, 2, elapsed, late)
    }))
}
