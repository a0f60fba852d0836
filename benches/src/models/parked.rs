//! `parked`: a population of units that do nothing but exist.
//!
//! **Work.** `iterations` is the population to grow to. Each new unit reports once and parks; all live until the
//! cell closes.
//! **Ledger.** Units and `parked`: the population. `user_stack_bytes`: the resident part of their stacks, where the
//! contender knows the addresses; weighing them is no growth, and what it took is `base_ns`.
//! **Check.** Units that have reported: `iterations`.
//!
//! What the model itself keeps a unit is part of the bill, the same on both sides: a handle and an unparker. The
//! table of stack addresses is none of it: it is written full when the cell opens, so it is a fixed cost that the
//! slope over populations drops.

use super::{Opened, number, stack};
use crate::concurrency::{Concurrency, UnitOptions};
use crate::sys;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use switchmark_harness::protocol::{Prepare, Sample};

struct Shared<C: Concurrency> {
    driver: C::Unparker,
    /// Population that the driver waits for.
    awaited: AtomicU64,
    reported: AtomicU64,
    over: AtomicBool,
    unparkers: Vec<OnceLock<C::Unparker>>,
    /// Low and high end of each unit's stack; equal where unknown.
    stacks: Vec<[AtomicUsize; 2]>,
}

struct Population<C: Concurrency> {
    shared: Arc<Shared<C>>,
    units: Vec<C::Handle<()>>,
}

/// Opens the cell.
pub fn open<C: Concurrency>(prepare: &Prepare) -> Opened {
    let options = stack(prepare)?;
    let most = number(prepare, "units")?;
    C::room_for(most as u64)?;
    let shared = Arc::new(Shared::<C> {
        driver: C::unparker(),
        awaited: AtomicU64::new(0),
        reported: AtomicU64::new(0),
        over: AtomicBool::new(false),
        unparkers: (0..most).map(|_| OnceLock::new()).collect(),
        // Not zero, which the allocator would hand out untouched.
        stacks: (0..most).map(|_| [AtomicUsize::new(1), AtomicUsize::new(1)]).collect(),
    });
    let mut population = Population { shared, units: Vec::new() };
    Ok(Box::new(move |iterations| {
        let start = C::stamp();
        population.grow(iterations, options);
        let elapsed_ns = C::stamp() - start;
        let parked = population.units.len() as u64;
        let user_stack_bytes = population.stack_bytes();
        let weighing_ns = C::stamp() - start - elapsed_ns;
        Sample {
            iterations,
            elapsed_ns,
            units: parked,
            peak_live: parked,
            // Relaxed: acquired when the driver saw all reports.
            check: population.shared.reported.load(Ordering::Relaxed),
            parked: Some(parked),
            user_stack_bytes,
            base_ns: Some(weighing_ns),
            ..Sample::default()
        }
    }))
}

impl<C: Concurrency> Population<C> {
    fn grow(&mut self, to: u64, options: UnitOptions) {
        let shared = &self.shared;
        // Relaxed: `spawn` makes it visible to the units.
        shared.awaited.store(to, Ordering::Relaxed);
        for ordinal in self.units.len()..usize::try_from(to).expect("no more than `units`") {
            let shared = Arc::clone(shared);
            let unit = C::spawn(options, move || live(ordinal, &shared));
            self.units.push(unit.unwrap_or_else(|e| panic!("cannot start unit {}: {e}", ordinal + 1)));
        }
        // Acquire: pairs with the AcqRel in `live`; shows what all units wrote.
        while self.shared.reported.load(Ordering::Acquire) < to {
            C::park();
        }
    }

    /// `None` where neither the contender nor its units know.
    fn stack_bytes(&self) -> Option<u64> {
        let own = C::resident_stacks();
        if own.is_some() {
            return own;
        }
        let mut sum = None;
        for [low, high] in &self.shared.stacks[..self.units.len()] {
            // Relaxed: acquired when the driver saw all reports.
            let stack = low.load(Ordering::Relaxed)..high.load(Ordering::Relaxed);
            if !stack.is_empty() {
                sum = Some(sum.unwrap_or(0) + sys::resident_bytes(&stack).ok()?);
            }
        }
        sum
    }
}

impl<C: Concurrency> Drop for Population<C> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `live`.
        self.shared.over.store(true, Ordering::Release);
        self.shared.unparkers.iter().filter_map(OnceLock::get).for_each(C::unpark);
        for unit in self.units.drain(..) {
            C::join(unit);
        }
    }
}

/// The life of a unit: report, then park until the cell closes.
fn live<C: Concurrency>(ordinal: usize, shared: &Shared<C>) {
    if let Some(stack) = C::stack() {
        // Relaxed, both: released by the report.
        shared.stacks[ordinal][0].store(stack.start, Ordering::Relaxed);
        shared.stacks[ordinal][1].store(stack.end, Ordering::Relaxed);
    }
    let fresh = shared.unparkers[ordinal].set(C::unparker()).is_ok();
    assert!(fresh, "each ordinal is one unit's");
    // AcqRel: releases the above to the driver's Acquire in `grow`, through the later reports.
    // Relaxed for `awaited`: it was written before this unit was spawned.
    if shared.reported.fetch_add(1, Ordering::AcqRel) + 1 == shared.awaited.load(Ordering::Relaxed) {
        C::unpark(&shared.driver);
    }
    // Acquire: pairs with the Release in `drop`.
    while !shared.over.load(Ordering::Acquire) {
        C::park();
    }
}
