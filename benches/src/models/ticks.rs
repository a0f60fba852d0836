//! Ticks of a millisecond, and how late each is served: what the models of the policy family share.
//!
//! A tick that was missed is served as soon as its unit runs again, and counts with all of its lateness: who leaves it out reports a hog
//! of two seconds as one late tick.

use super::{number, unknown};
use crate::concurrency::Timed;
use std::hint::black_box;
use switchmark_harness::protocol::{Prepare, Sample};

/// Between two ticks.
pub(super) const PERIOD_NS: u64 = 1_000_000;

/// Serves `ticks`, by their numbers from 1, with `work` after each; returns how late each was.
pub(super) fn serve<C: Timed>(
    start_ns: u64,
    ticks: impl Iterator<Item = u64>,
    mut work: impl FnMut(),
) -> Vec<u64> {
    let late = ticks.map(|tick| {
        let due = start_ns + tick * PERIOD_NS;
        if C::stamp() < due {
            C::sleep_until(due);
        }
        let late = C::stamp() - due;
        work();
        late
    });
    late.collect()
}

/// Computes, and does nothing that a scheduler could see: some microsecond of it.
pub(super) fn compute() {
    let mut state = 1_u64;
    for _ in 0..1000 {
        // The constants of Knuth's MMIX generator; any chain that the compiler cannot shorten would do.
        state =
            black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    }
    black_box(state);
}

/// What a slice of ticks answers: as many of them as were asked for.
pub(super) fn sample(iterations: u64, units: u64, elapsed_ns: u64, latencies_ns: Vec<u64>) -> Sample {
    Sample {
        iterations,
        elapsed_ns,
        units,
        peak_live: units,
        check: latencies_ns.len() as u64,
        latencies_ns,
        ..Sample::default()
    }
}

/// The models that need a clock to wait for.
pub fn timed<C: Timed>(prepare: &Prepare) -> super::Opened {
    match prepare.model.as_str() {
        "hog-and-tick" => super::hog_and_tick::open::<C>(prepare),
        "tickers" => super::tickers::open::<C>(prepare),
        "stall" => super::stall::open::<C>(prepare),
        other => Err(unknown(other)),
    }
}

/// A parameter that is a time.
pub(super) fn nanoseconds(prepare: &Prepare, name: &str) -> Result<u64, String> {
    number(prepare, name).map(|value| value as u64)
}
