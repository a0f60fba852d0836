//! Counters of a worker: written by it alone, read from anywhere.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one; only the owning worker may. A load and a store, not a locked operation.
    #[inline(always)]
    pub(crate) fn bump(&self) {
        // Relaxed, twice: one writer, and readers want a number, not an order.
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Raises to `value` if that is more; only the owning worker may.
    #[inline(always)]
    pub(crate) fn raise(&self, value: u64) {
        if value > self.get() {
            // Relaxed: as in `bump`.
            self.0.store(value, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: as in `bump`.
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters a worker keeps.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) spawned: Counter,
    pub(crate) ended: Counter,
    pub(crate) peak_live: Counter,
    pub(crate) switches: Counter,
    pub(crate) parks: Counter,
    pub(crate) inbox_wakes: Counter,
    pub(crate) sleeps: Counter,
    pub(crate) steals: Counter,
    pub(crate) preemptions: Counter,
    pub(crate) handoffs: Counter,
    pub(crate) deadlines: Counter,
    pub(crate) lateness_ns_max: Counter,
}

impl Counters {
    pub(crate) fn add_to(&self, sum: &mut Metrics) {
        sum.spawned += self.spawned.get();
        sum.ended += self.ended.get();
        sum.peak_live += self.peak_live.get();
        sum.switches += self.switches.get();
        sum.parks += self.parks.get();
        sum.inbox_wakes += self.inbox_wakes.get();
        sum.sleeps += self.sleeps.get();
        sum.steals += self.steals.get();
        sum.preemptions += self.preemptions.get();
        sum.handoffs += self.handoffs.get();
        sum.deadlines += self.deadlines.get();
        sum.lateness_ns_max = sum.lateness_ns_max.max(self.lateness_ns_max.get());
    }
}

/// What a runtime has done so far: the ledger that a benchmark is checked against.
///
/// The closure given to `run_local` runs in a coroutine too, but is none that anybody asked for: it is not in `spawned`, `ended` or
/// `peak_live`. Switches into it are in `switches`, because they happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Coroutines spawned.
    pub spawned: u64,
    /// Coroutines that have ended, in whatever way.
    pub ended: u64,
    /// Most coroutines that were spawned and not yet ended at one time. Exact with one worker; with several a sample of it, taken at
    /// every 64th spawn and every 61st pick of each, as counting exactly would have all workers write to one place.
    pub peak_live: u64,
    /// Times control came to a coroutine from another or from the worker's own stack, first entries included. A yield with
    /// nobody else to run is none.
    pub switches: u64,
    /// Times `park` found no token and waited.
    pub parks: u64,
    /// Coroutines taken from an inbox: woken by other OS threads, or spawned by them for that worker.
    pub inbox_wakes: u64,
    /// Times a worker found nothing to run and slept.
    pub sleeps: u64,
    /// Times a worker took unstarted coroutines, one or more, from another.
    pub steals: u64,
    /// Times a coroutine gave way because the monitor asked it to.
    pub preemptions: u64,
    /// Times a spare worker took unstarted coroutines, one or more, because a worker was stuck.
    pub handoffs: u64,
    /// Waits that ended because their deadline came: sleeps, ticks and whatever timed out.
    pub deadlines: u64,
    /// How long after its deadline such a wait was noticed, at worst. When its coroutine then ran is not in it.
    pub lateness_ns_max: u64,
}
