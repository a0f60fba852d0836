//! `tree`: a ten-ary tree in which every node is a unit; the leaves' ordinals are summed on the way back.
//!
//! **Work.** A tree of `depth` levels below its root: an inner node starts ten units and joins them in turn.
//! **Ledger.** Units: all nodes, 1 111 for a depth of three, the same number on every side. The peak of those alive, from
//! their start until their parent has all ten answers, is printed. Switches are recorded.
//! **Check.** The sum of the leaves' ordinals, counted from 0: for n leaves n·(n − 1)/2, times the trees.
//!
//! An inner node counts its ten children at once, before it starts them and after it has joined them: two atomic
//! operations for ten units, so that the counting does not pull a line of memory between cores at each.

use super::crew::since;
use super::{Opened, number};
use crate::concurrency::{Concurrency, UnitOptions};
use crate::layout::{self, Layout};
use std::sync::atomic::{AtomicU64, Ordering};
use switchmark_harness::protocol::{Prepare, Sample};

/// Children of an inner node.
const FANOUT: usize = 10;

/// The same, where numbers are counted.
const TEN: u64 = FANOUT as u64;

/// What the nodes count. All accesses are Relaxed: counts alone, read when all units have been joined.
#[derive(Debug, Default)]
struct Census {
    started: AtomicU64,
    live: AtomicU64,
    peak: AtomicU64,
}

impl Census {
    fn start(&self, units: u64) {
        self.started.fetch_add(units, Ordering::Relaxed);
        let live = self.live.fetch_add(units, Ordering::Relaxed) + units;
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
    }

    fn end(&self, units: u64) {
        self.live.fetch_sub(units, Ordering::Relaxed);
    }
}

/// Opens the cell.
pub fn open<C: Concurrency>(prepare: &Prepare) -> Opened {
    let depth = u32::try_from(number(prepare, "depth")?).ok().filter(|d| (1..=9).contains(d));
    let depth = depth.ok_or("parameter depth is not between 1 and 9")?;
    let leaves = TEN.pow(depth);
    C::room_for((0..=depth).map(|level| TEN.pow(level)).sum())?;
    // For the life of the process: a node holds no share in it that would have to be counted, too.
    let census: &'static Census = Box::leak(Box::default());
    let mut layout = Layout::of_unit(0);
    Ok(Box::new(move |iterations| {
        census.started.store(0, Ordering::Relaxed);
        census.peak.store(0, Ordering::Relaxed);
        let mut sum = 0;
        let switches = C::switches();
        let start = C::stamp();
        for stay in layout::stays(iterations) {
            layout.enter(|| {
                for _ in 0..stay {
                    census.start(1);
                    sum += C::join(unit::<C>(census, 0, leaves));
                    census.end(1);
                }
            });
        }
        let elapsed_ns = C::stamp() - start;
        Sample {
            iterations,
            elapsed_ns,
            units: census.started.load(Ordering::Relaxed),
            peak_live: census.peak.load(Ordering::Relaxed),
            switches: since::<C>(switches),
            check: sum,
            ..Sample::default()
        }
    }))
}

/// Starts the node above the `leaves` that begin with `first`.
fn unit<C: Concurrency>(census: &'static Census, first: u64, leaves: u64) -> C::Handle<u64> {
    let unit = C::spawn(UnitOptions::default(), move || node::<C>(census, first, leaves));
    unit.unwrap_or_else(|e| panic!("cannot start a node above {leaves} leaves: {e}"))
}

fn node<C: Concurrency>(census: &'static Census, first: u64, leaves: u64) -> u64 {
    if leaves == 1 {
        return first;
    }
    let below = leaves / TEN;
    census.start(TEN);
    let children: [C::Handle<u64>; FANOUT] =
        std::array::from_fn(|n| unit::<C>(census, first + n as u64 * below, below));
    let sum = children.into_iter().map(C::join).sum();
    census.end(TEN);
    sum
}
