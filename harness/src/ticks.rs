//! Cells of the policy family: how late each of a number of ticks was, and what that cost who computed meanwhile.
//!
//! A slice is as long as its ticks, so there is one in each block, and nothing to calibrate. What is reported are percentiles of it, from the
//! ticks as they came: that of a block is one sample, and the interval is over blocks.

use crate::contender::Contender;
use crate::environment::{self, proc_field};
use crate::latency::{self, Latencies};
use crate::ledger;
use crate::parent::Fault;
use crate::plan::Group;
use crate::protocol::Sample;
use crate::run::empty_record;
use std::collections::BTreeMap;
use std::time::Duration;
use switchmark_schema::{Better, WorkerRecord};

/// A metric that cells of ticks have: unit, and which direction is good.
pub(crate) fn beside(metric: &str) -> Option<(&'static str, Better)> {
    match metric {
        KEPT => Some(("%", Better::Higher)),
        THREADS => Some(("threads", Better::Lower)),
        _ => latency::METRICS.iter().any(|(name, _)| *name == metric).then_some(("µs late", Better::Lower)),
    }
}

/// The share of its work that who computed got done, over what it would have done alone.
const KEPT: &str = "kept";

/// Threads that came during the slice and carry no unit.
const THREADS: &str = "threads";

/// Threads of a process, by the kernel's count; `None` where it has ended.
pub(crate) fn threads(pid: u32) -> Option<u64> {
    proc_field(&environment::read(&format!("/proc/{pid}/status")), "Threads:")
}

/// The worker's count of threads against the parent's: what is there now and was not before cannot be more than came.
///
/// A unit that was joined may still be on its way out, so `now` is asked again for a little.
pub(crate) fn threads_agree(
    sample: &Sample,
    before: Option<u64>,
    now: impl Fn() -> Option<u64>,
) -> Result<(), Fault> {
    const AGAIN: u32 = 20;
    let (Some(counted), Some(before)) = (sample.threads, before) else { return Ok(()) };
    let mut grown = 0;
    for _ in 0..AGAIN {
        grown = now().unwrap_or(before).saturating_sub(before);
        if grown <= counted {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Fault::invalid(format!("the worker counted {counted} new threads, and {grown} are there")))
}

/// A worker's numbers, from its one slice, the books of which are right.
pub(crate) fn measured(
    group: &Group<'_>,
    contender: &Contender,
    sample: &Sample,
) -> Result<WorkerRecord, Fault> {
    let late = Latencies::new(sample.latencies_ns.clone());
    let late = late.ok_or_else(|| Fault::invalid("no tick came with its lateness"))?;
    let primary = group.primary();
    let mut values: BTreeMap<String, f64> =
        late.metrics(primary).into_iter().map(|(name, ns)| (name, ns / 1e3)).collect();
    if let Some(base_ns) = sample.base_ns {
        // Above 100 where the machine let it run slower beforehand.
        values.insert(KEPT.into(), 100.0 * base_ns as f64 / sample.elapsed_ns as f64);
    }
    if let Some(threads) = sample.threads {
        values.insert(THREADS.into(), threads as f64);
    }
    Ok(WorkerRecord {
        slices_ns: vec![sample.elapsed_ns],
        values,
        operations: sample.iterations,
        ledger: Some(ledger::of(group, contender, std::slice::from_ref(sample))),
        latency: Some(late.curve(primary, "open")),
        ..empty_record(contender, sample.iterations)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_the_worker_did_not_count_are_refuted() {
        let counted = |threads| Sample { threads, ..Sample::default() };
        let agree = |threads, now| threads_agree(&counted(threads), Some(3), || Some(now));
        assert_eq!(
            (agree(Some(1), 4), agree(Some(1), 3)),
            (Ok(()), Ok(())),
            "one that ended again was counted"
        );
        assert_eq!(agree(None, 9), Ok(()), "nobody asked");
        let refuted = agree(Some(0), 4).unwrap_err();
        assert!(refuted.reason.contains("counted 0 new threads, and 1 are there"), "{}", refuted.reason);
        let calls = std::cell::Cell::new(0);
        let leaving = || Some(if calls.replace(calls.get() + 1) < 3 { 4 } else { 3 });
        assert_eq!(threads_agree(&counted(Some(0)), Some(3), leaving), Ok(()), "it was on its way out");
        assert!(threads(std::process::id()).is_some_and(|n| n >= 1));
    }
}
