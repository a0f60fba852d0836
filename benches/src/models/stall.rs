//! `stall`: a unit in calls that block its OS thread, and one that serves a tick each millisecond, on one core.
//!
//! **Work.** The first makes calls that block in the kernel, one after the other with a turn for others in between. `medium` says for what:
//! `sleep` for ten milliseconds, `file` for a file to come from storage, of as many bytes as take about as long (`cold_file`). `mechanism` says
//! how: `bare` as it is, `blocking` by the contender's own way off the core, `block_in_place` by its way of telling the scheduler and
//! staying. How late the ticks are is how long the others stood still.
//! **Ledger.** Two units. `threads`: those of the process that came during the slice and carry no unit, so what the mechanism made. One
//! that ends again within the slice is not seen; the parent's count from outside can only be less.
//! **Check.** The ticks served.

use super::cold_file::{self, ColdFile};
use super::{Opened, ticks};
use crate::concurrency::{Blocks, Timed, UnitOptions};
use crate::sys;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use switchmark_harness::protocol::{Prepare, Sample};
use switchmark_schema::ParamValue;

/// A call.
const CALL_NS: u64 = 10_000_000;

/// A call shorter than this delays no more than a tick or two, and says nothing.
const LEAST_NS: u64 = 2 * ticks::PERIOD_NS;

/// What the calls wait for.
#[derive(Clone)]
enum Medium {
    Sleep,
    File(Arc<ColdFile>),
}

impl Medium {
    fn of<C: Timed>(prepare: &Prepare) -> Result<Medium, String> {
        match prepare.param("medium") {
            Some(ParamValue::Word(word)) if word == "sleep" => Ok(Medium::Sleep),
            Some(ParamValue::Word(word)) if word == "file" => {
                let file = ColdFile::taking(CALL_NS, LEAST_NS, C::stamp, &std::env::temp_dir())?;
                Ok(Medium::File(Arc::new(file)))
            }
            other => Err(format!("parameter medium is {other:?}: it is sleep or file")),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a call that no scheduler knows is what is asked for")]
    fn wait(&self) {
        match self {
            Medium::Sleep => std::thread::sleep(Duration::from_nanos(CALL_NS)),
            Medium::File(file) => file.read().unwrap_or_else(|e| panic!("cannot read the cold file: {e}")),
        }
    }

    /// Panics where the calls did not wait for what they were to wait for.
    fn confirm(&self, calls: u64, from_storage: u64) {
        if let Medium::File(file) = self {
            let cold = file.is_cold(calls, from_storage);
            assert!(
                cold,
                "only {from_storage} bytes of {calls} calls came from storage: the file was in memory"
            );
        }
    }
}

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
    let medium = Medium::of::<C>(prepare)?;
    C::room_for(2)?;
    Ok(Box::new(move |iterations| {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let waits = medium.clone();
        let (threads, stored) = (threads(), cold_file::from_storage().unwrap_or(0));
        let start = C::stamp();
        let calls = C::spawn(UnitOptions::default(), move || {
            let mut calls = 0;
            // Relaxed: the flag orders nothing.
            while !ends.load(Ordering::Relaxed) {
                let waits = waits.clone();
                C::block(how, move || waits.wait());
                calls += 1;
                C::yield_now();
            }
            (calls, sys::thread_id())
        });
        let tick = C::spawn(UnitOptions::default(), move || {
            (ticks::serve::<C>(start, 1..=iterations, || ()), sys::thread_id())
        });
        let (late, ticked_on) = C::join(tick.unwrap_or_else(|e| panic!("cannot start a unit: {e}")));
        let elapsed = C::stamp() - start;
        over.store(true, Ordering::Relaxed); // As above.
        let (calls, called_on) = C::join(calls.unwrap_or_else(|e| panic!("cannot start a unit: {e}")));
        medium.confirm(calls, cold_file::from_storage().unwrap_or(0) - stored);
        let units = [ticked_on, called_on];
        let made = self::threads().into_iter().filter(|id| !threads.contains(id) && !units.contains(id));
        Sample { threads: Some(made.count() as u64), ..ticks::sample(iterations, 2, elapsed, late) }
    }))
}

/// The numbers of the process's threads.
fn threads() -> BTreeSet<u64> {
    let tasks = fs::read_dir("/proc/self/task").expect("a process may list its own threads");
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}
