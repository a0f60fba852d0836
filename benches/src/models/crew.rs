//! Units that outlive a slice: they park between slices and start one together.
//!
//! Spawning a thousand threads takes longer than a slice of theirs, so they are made once. What gathering and
//! dismissing them costs around a slice is reported apart, as `outside_ns`.
//!
//! A slice, step by step:
//! 1. the driver (who opened the cell) writes the iterations and opens the slice by raising `round`;
//! 2. it unparks each unit; a unit that sees the new round has arrived and begins its work;
//! 3. in that work the first unit calls [`Station::gather`], which returns when all have arrived, and
//!    [`Station::time`] around the work;
//! 4. the last to leave its work unparks the driver.

use crate::concurrency::{Concurrency, UnitOptions};
use crate::layout::Layout;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The round that ends the units.
const LAST_ROUND: u64 = u64::MAX;

/// Units that park between slices.
pub(super) struct Crew<C: Concurrency> {
    shared: Arc<Shared<C>>,
    units: Vec<C::Handle<()>>,
    round: u64,
}

struct Shared<C: Concurrency> {
    driver: C::Unparker,
    /// Set by each unit before it parks for the first time.
    unparkers: Vec<OnceLock<C::Unparker>>,
    round: AtomicU64,
    iterations: AtomicU64,
    /// Units that began the slice, and those that ended it (or their own start).
    arrived: AtomicUsize,
    left: AtomicUsize,
    elapsed_ns: AtomicU64,
    switches: AtomicU64,
    answer: AtomicU64,
    /// Of the units that work together: the round that they have begun, when, and how many of them have ended it.
    begun: AtomicU64,
    begun_ns: AtomicU64,
    ended: AtomicUsize,
}

/// One unit in one slice.
pub(super) struct Station<'a, C: Concurrency> {
    /// From 0.
    pub(super) ordinal: usize,
    /// Of the slice, from 1.
    pub(super) round: u64,
    /// Of the slice.
    pub(super) iterations: u64,
    /// This unit's own.
    pub(super) layout: &'a mut Layout,
    shared: &'a Shared<C>,
}

/// What a slice came to.
pub(super) struct Outcome {
    /// Of the work, by the first unit.
    pub(super) elapsed_ns: u64,
    /// Of gathering and dismissing the units around it.
    pub(super) outside_ns: u64,
    /// Within the work, by the contender's own count, where it has one.
    pub(super) switches: Option<u64>,
    /// Sum of the units' answers.
    pub(super) answer: u64,
}

impl<C: Concurrency> Crew<C> {
    /// Starts the units and returns when all are parked, or nearly so. The error names the limit that was met.
    pub(super) fn new(
        options: &[UnitOptions],
        work: impl Fn(&mut Station<'_, C>) + Clone + Send + 'static,
    ) -> Result<Crew<C>, String> {
        let shared = Arc::new(Shared {
            driver: C::unparker(),
            unparkers: options.iter().map(|_| OnceLock::new()).collect(),
            round: AtomicU64::new(0),
            iterations: AtomicU64::new(0),
            arrived: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            elapsed_ns: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            answer: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            begun_ns: AtomicU64::new(0),
            ended: AtomicUsize::new(0),
        });
        let mut crew =
            Crew { shared: Arc::clone(&shared), units: Vec::with_capacity(options.len()), round: 0 };
        for (ordinal, options) in options.iter().enumerate() {
            let (shared, work) = (Arc::clone(&shared), work.clone());
            match C::spawn(*options, move || serve(ordinal, &shared, &work)) {
                Ok(unit) => crew.units.push(unit),
                // Dropping the crew ends those that were started.
                Err(e) => {
                    return Err(format!("unit {} of {}: {e}", ordinal + 1, crew.shared.unparkers.len()));
                }
            }
        }
        crew.wait_until_left();
        Ok(crew)
    }

    pub(super) fn slice(&mut self, iterations: u64) -> Outcome {
        let begin = C::stamp();
        let shared = &self.shared;
        // Relaxed: the raise of `round` publishes these.
        shared.iterations.store(iterations, Ordering::Relaxed);
        shared.arrived.store(0, Ordering::Relaxed);
        shared.left.store(0, Ordering::Relaxed);
        shared.answer.store(0, Ordering::Relaxed);
        self.round += 1;
        self.open(self.round);
        self.wait_until_left();
        // Relaxed: `wait_until_left` has acquired what the units released when they left.
        let elapsed_ns = self.shared.elapsed_ns.load(Ordering::Relaxed);
        Outcome {
            elapsed_ns,
            outside_ns: (C::stamp() - begin).saturating_sub(elapsed_ns),
            switches: C::switches().map(|_| self.shared.switches.load(Ordering::Relaxed)),
            answer: self.shared.answer.load(Ordering::Relaxed),
        }
    }

    fn open(&self, round: u64) {
        // Release: pairs with the Acquire in `serve`; publishes what the driver wrote for the slice.
        self.shared.round.store(round, Ordering::Release);
        self.shared.unparkers.iter().filter_map(OnceLock::get).for_each(C::unpark);
    }

    fn wait_until_left(&self) {
        // Acquire: pairs with the AcqRel in `leave`; shows what all units wrote.
        while self.shared.left.load(Ordering::Acquire) < self.units.len() {
            C::park();
        }
    }
}

impl<C: Concurrency> Drop for Crew<C> {
    fn drop(&mut self) {
        self.open(LAST_ROUND);
        for unit in self.units.drain(..) {
            C::join(unit);
        }
    }
}

impl<C: Concurrency> std::fmt::Debug for Crew<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("round", &self.round).finish_non_exhaustive()
    }
}

/// The life of a unit.
fn serve<C: Concurrency>(ordinal: usize, shared: &Shared<C>, work: &impl Fn(&mut Station<'_, C>)) {
    let mut layout = Layout::of_unit(ordinal);
    let fresh = shared.unparkers[ordinal].set(C::unparker()).is_ok();
    assert!(fresh, "each ordinal is one unit's");
    leave(shared);
    let mut seen = 0;
    loop {
        // Acquire: pairs with the Release in `Crew::open`.
        let round = shared.round.load(Ordering::Acquire);
        if round == LAST_ROUND {
            return;
        }
        if round == seen {
            C::park();
            continue;
        }
        seen = round;
        // Release: pairs with the Acquire in `Station::gather`.
        shared.arrived.fetch_add(1, Ordering::Release);
        work(&mut Station {
            ordinal,
            round,
            // Relaxed: acquired with `round`.
            iterations: shared.iterations.load(Ordering::Relaxed),
            layout: &mut layout,
            shared,
        });
        leave(shared);
    }
}

fn leave<C: Concurrency>(shared: &Shared<C>) {
    // AcqRel: releases this unit's writes to the driver's Acquire in `wait_until_left`, through the later
    // increments of the other units.
    if shared.left.fetch_add(1, Ordering::AcqRel) + 1 == shared.unparkers.len() {
        C::unpark(&shared.driver);
    }
}

/// Switches since an earlier count.
pub(super) fn since<C: Concurrency>(earlier: Option<u64>) -> Option<u64> {
    Some(C::switches()? - earlier?)
}

impl<C: Concurrency> Station<'_, C> {
    /// Gives way until all units have arrived.
    pub(super) fn gather(&self) {
        // Acquire: pairs with the Release in `serve`.
        while self.shared.arrived.load(Ordering::Acquire) < self.shared.unparkers.len() {
            C::yield_now();
        }
    }

    /// Times the work of the slice; called by one unit.
    pub(super) fn time<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        // The switches are read outside the stamps: the kernel walks all threads for them.
        let switches = C::switches();
        let start = C::stamp();
        let done = work(self);
        let elapsed_ns = C::stamp() - start;
        // Relaxed: `leave` releases them.
        self.shared.switches.store(since::<C>(switches).unwrap_or(0), Ordering::Relaxed);
        self.shared.elapsed_ns.store(elapsed_ns, Ordering::Relaxed);
        done
    }

    /// Times the work of all units from when all have arrived until the last has ended; called by each.
    pub(super) fn together<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let shared = self.shared;
        if self.ordinal == 0 {
            self.gather();
            // Relaxed, these three: the raise of `begun` publishes them. What is counted before goes in here, and what
            // the last one counts less that comes out.
            shared.ended.store(0, Ordering::Relaxed);
            shared.switches.store(C::switches().unwrap_or(0), Ordering::Relaxed);
            shared.begun_ns.store(C::stamp(), Ordering::Relaxed);
            // Release: pairs with the Acquire of the others below.
            shared.begun.store(self.round, Ordering::Release);
        } else {
            // Acquire: pairs with the Release of the first above.
            while shared.begun.load(Ordering::Acquire) < self.round {
                C::yield_now();
            }
        }
        let done = work(self);
        // AcqRel: the last sees, through the others' increments, that they have ended.
        if shared.ended.fetch_add(1, Ordering::AcqRel) + 1 == shared.unparkers.len() {
            let now = C::stamp();
            // Relaxed: written before `begun`, which this unit has acquired or written; `leave` releases the results.
            let before = shared.switches.load(Ordering::Relaxed);
            shared.switches.store(since::<C>(Some(before)).unwrap_or(0), Ordering::Relaxed);
            shared.elapsed_ns.store(now - shared.begun_ns.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        done
    }

    /// Adds to the answer of the slice.
    pub(super) fn answer(&self, share: u64) {
        // Relaxed: `leave` releases it, and addition commutes.
        self.shared.answer.fetch_add(share, Ordering::Relaxed);
    }
}
