//! `spawn-batch`: start many empty units, then wait for the end of each.
//!
//! **Work.** A batch: `batch` units are started before the first is joined; each returns a number.
//! **Ledger.** As many units as batches times `batch`. The peak of those alive, started and not yet ended, is printed: where a
//! new unit runs at once, most have ended before the last is started. Switches are recorded.
//! **Check.** The i-th unit of a slice returns 2·i, counted from 1; with n units their sum is n·n + n.
//! (Twice i, because a formula of a definition knows no division.)
//!
//! To be counted, a unit's end adds one to a word that all share: one more atomic operation a unit on every side.

use super::crew::since;
use super::{Opened, number};
use crate::concurrency::{Concurrency, UnitOptions};
use crate::layout::{self, Layout};
use std::sync::atomic::{AtomicU64, Ordering};
use switchmark_harness::protocol::{Prepare, Sample};

/// Opens the cell.
pub fn open<C: Concurrency>(prepare: &Prepare) -> Opened {
    let batch = number(prepare, "batch")?;
    if batch == 0 {
        return Err("parameter batch is 0: there is nobody to start".into());
    }
    C::room_for(batch as u64)?;
    // One word a cell, for the life of the process: a unit holds no share in it that would have to be counted, too.
    let ended: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    let mut units = Vec::with_capacity(batch);
    let mut layout = Layout::of_unit(0);
    Ok(Box::new(move |iterations| {
        // Relaxed, here and below: a count, read to know how many, not to see what they did.
        ended.store(0, Ordering::Relaxed);
        let (mut started, mut peak, mut sum) = (0, 0, 0);
        let switches = C::switches();
        let start = C::stamp();
        for stay in layout::stays(iterations) {
            layout.enter(|| {
                for _ in 0..stay {
                    for _ in 0..batch {
                        started += 1;
                        let answer = 2 * started;
                        let unit = C::spawn(UnitOptions::default(), move || {
                            ended.fetch_add(1, Ordering::Relaxed);
                            answer
                        });
                        units.push(unit.unwrap_or_else(|e| panic!("cannot start unit {started}: {e}")));
                        peak = peak.max(started - ended.load(Ordering::Relaxed));
                    }
                    for unit in units.drain(..) {
                        sum += C::join(unit);
                    }
                }
            });
        }
        let elapsed_ns = C::stamp() - start;
        Sample {
            iterations,
            elapsed_ns,
            units: started,
            peak_live: peak,
            switches: since::<C>(switches),
            check: sum,
            ..Sample::default()
        }
    }))
}
