//! `yield-ring`: n runnable units, each gives way in turn, until the first has done so `iterations` times.
//!
//! **Work.** The units stand in a ring only in so far as the scheduler makes them one: each calls `yield_now`
//! over and over. The first counts `iterations` of them and then raises a flag, at which the others stop.
//! **Ledger.** Units: the ring. Switches: the contender's own count between the two stamps; with two units one a
//! yield, with more threads whatever the kernel's scheduler makes of it.
//! **Check.** The yields of all units, each counted by itself.
//!
//! Before the stamp all units are awake and give way to each other, uncounted; so nobody is asleep when the
//! first yield is timed. Waking a large ring and putting it to sleep again takes as long as a slice: it is
//! reported as `base_ns`, and no part of `elapsed_ns`.

use super::crew::{Crew, Station};
use super::{Opened, number};
use crate::concurrency::{Concurrency, UnitOptions};
use crate::layout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use switchmark_harness::protocol::{Prepare, Sample};

/// The two moments of a slice, as the round in which each was reached last. Rounds and not flags, so that a unit
/// which the scheduler kept away from start to end still sees that both have passed.
#[derive(Debug, Default)]
struct Moments {
    /// Yields count from here.
    started: AtomicU64,
    /// The first unit has done its yields.
    over: AtomicU64,
}

/// In rings larger than this, a unit's share of a slice is too short to be entered 32 times.
const SMALL_RING: usize = 64;

/// Opens the cell.
pub fn open<C: Concurrency>(prepare: &Prepare) -> Opened {
    let tasks = number(prepare, "tasks")?;
    C::room_for(tasks as u64)?;
    // A large ring is at many depths at once, one a unit; entering again must not show beside its few yields.
    let shortest = if tasks > SMALL_RING { 256 } else { 1 };
    let moments = Arc::new(Moments::default());
    let mut crew = Crew::<C>::new(&vec![UnitOptions::default(); tasks], move |station| {
        let yields = if station.ordinal == 0 {
            lead(station, &moments, shortest)
        } else {
            follow(station, &moments, shortest)
        };
        station.answer(yields);
    })?;
    Ok(Box::new(move |iterations| {
        let slice = crew.slice(iterations);
        Sample {
            iterations,
            elapsed_ns: slice.elapsed_ns,
            base_ns: Some(slice.outside_ns),
            units: tasks as u64,
            peak_live: tasks as u64,
            switches: slice.switches,
            check: slice.answer,
            ..Sample::default()
        }
    }))
}

// All accesses to `Moments` are Relaxed: they order nothing but themselves. What the units write beside them is
// released by the crew when they leave.

/// The first unit: `iterations` yields, timed.
fn lead<C: Concurrency>(station: &mut Station<'_, C>, moments: &Moments, shortest: u64) -> u64 {
    station.gather();
    station.time(|station| {
        moments.started.store(station.round, Ordering::Relaxed);
        let mut yields = 0;
        for stay in layout::stays_of_at_least(shortest, station.iterations) {
            station.layout.enter(|| {
                for _ in 0..stay {
                    C::yield_now();
                }
                yields += stay;
            });
        }
        moments.over.store(station.round, Ordering::Relaxed);
        yields
    })
}

/// The others: yields until the flag.
fn follow<C: Concurrency>(station: &mut Station<'_, C>, moments: &Moments, shortest: u64) -> u64 {
    while moments.started.load(Ordering::Relaxed) < station.round {
        C::yield_now();
    }
    let round = station.round;
    let mut yields = 0;
    for stay in layout::stays_of_at_least(shortest, station.iterations) {
        station.layout.enter(|| yields += until_over::<C>(stay, moments, round));
    }
    // Where the scheduler favours this unit, it gets here before the flag.
    yields + until_over::<C>(u64::MAX, moments, round)
}

fn until_over<C: Concurrency>(most: u64, moments: &Moments, round: u64) -> u64 {
    let mut yields = 0;
    while yields < most && moments.over.load(Ordering::Relaxed) < round {
        C::yield_now();
        yields += 1;
    }
    yields
}
