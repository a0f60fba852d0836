//! `hog-and-tick`: a unit that computes, and one that serves a tick each millisecond, on one core.
//!
//! **Work.** The hog is started first and computes until the last tick is due; it asks at each step, some microsecond, whether it should give
//! way, where the contender has such a question (`dial`). With `dial=handoff` it never asks.
//! **Ledger.** Two units.
//! **Check.** The ticks served: each of them, however late.
//!
//! `base_ns` is what the hog's steps would have taken without the ticks, at the pace of the fastest of some stretches of the same steps
//! before: the rest of its time was lost to them and to whoever switched.

use super::{Opened, ticks};
use crate::concurrency::{Timed, UnitOptions};
use switchmark_harness::protocol::{Prepare, Sample};

/// The stretches for which the hog runs alone beforehand: one that the machine disturbed is not the fastest.
const STRETCHES: u64 = 10;

/// The share of a slice that all of them take.
const ALONE: u64 = 10;

/// Opens the cell.
pub(super) fn open<C: Timed>(prepare: &Prepare) -> Opened {
    let asks = !matches!(prepare.param("dial"), Some(switchmark_schema::ParamValue::Word(word)) if word == "handoff");
    C::room_for(2)?;
    Ok(Box::new(move |iterations| {
        let window = iterations * ticks::PERIOD_NS;
        let alone = (0..STRETCHES).map(|_| hog::<C>(C::stamp() + window / (ALONE * STRETCHES), asks));
        let (alone_steps, alone_ns) =
            alone.min_by_key(|(steps, ns)| ns * 1000 / steps).expect("some stretches");
        let start = C::stamp();
        let spawned = |unit: std::io::Result<_>| unit.unwrap_or_else(|e| panic!("cannot start a unit: {e}"));
        let hogs = spawned(C::spawn(UnitOptions::default(), move || hog::<C>(start + window, asks)));
        let tick = C::spawn(UnitOptions::default(), move || ticks::serve::<C>(start, 1..=iterations, || ()));
        let late = C::join(tick.unwrap_or_else(|e| panic!("cannot start a unit: {e}")));
        let (steps, _) = C::join(hogs);
        let base_ns = u128::from(steps) * u128::from(alone_ns) / u128::from(alone_steps);
        Sample {
            base_ns: Some(u64::try_from(base_ns).expect("a few seconds")),
            ..ticks::sample(iterations, 2, C::stamp() - start, late)
        }
    }))
}

/// Computes until `end_ns`. Returns the steps and the time.
fn hog<C: Timed>(end_ns: u64, asks: bool) -> (u64, u64) {
    let start = C::stamp();
    let mut steps = 0;
    while C::stamp() < end_ns {
        ticks::compute();
        steps += 1;
        if asks {
            C::checkpoint();
        }
    }
    (steps, C::stamp() - start)
}
