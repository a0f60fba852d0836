//! Cells of the policy family: how late each of a number of ticks was, and what that cost who computed meanwhile.
//!
//! A slice is as long as its ticks, so there is one in each block, and nothing to calibrate. What is reported are quantiles of it, from the
//! ticks as they came: that of a block is one sample, and the interval is over blocks.

use crate::contender::Contender;
use crate::environment::{self, proc_field};
use crate::ledger;
use crate::parent::Fault;
use crate::plan::Group;
use crate::protocol::Sample;
use crate::run::empty_record;
use std::collections::BTreeMap;
use std::time::Duration;
use switchmark_schema::{Better, Latency, WorkerRecord};

/// What is reported of the ticks of a slice, with the share that was no later.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Further points of the curve that is drawn.
const CURVE: [(&str, f64); 5] = [("p1", 0.01), ("p10", 0.1), ("p25", 0.25), ("p75", 0.75), ("p90", 0.9)];

/// A metric that cells of ticks have: unit, and which direction is good.
pub(crate) fn beside(metric: &str) -> Option<(&'static str, Better)> {
    match metric {
        KEPT => Some(("%", Better::Higher)),
        THREADS => Some(("threads", Better::Lower)),
        _ => QUANTILES.iter().any(|(name, _)| *name == metric).then_some(("µs late", Better::Lower)),
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
    let mut late = sample.latencies_ns.clone();
    late.sort_unstable();
    if late.is_empty() {
        return Err(Fault::invalid("no tick came with its lateness"));
    }
    let at = |(name, share): (&str, f64)| (name.to_owned(), quantile(&late, share) as f64);
    let mut values: BTreeMap<String, f64> = QUANTILES.map(at).map(|(name, ns)| (name, ns / 1e3)).into();
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
        latency: Some(Latency {
            percentiles: QUANTILES.into_iter().chain(CURVE).map(at).collect(),
            count: late.len() as u64,
            load: "open".into(),
            histogram: None,
        }),
        ..empty_record(contender, sample.iterations)
    })
}

/// The least value that a share of them does not exceed.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The curves of several workers, as one: in each point the middle of theirs.
pub(crate) fn typical(curves: &[&Latency]) -> Option<Latency> {
    let first = curves.first()?;
    let middle = |name: &String| {
        let mut values: Vec<f64> = curves.iter().filter_map(|c| c.percentiles.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Some(Latency {
        percentiles: first.percentiles.keys().map(|name| (name.clone(), middle(name))).collect(),
        count: curves.iter().map(|curve| curve.count).sum(),
        load: first.load.clone(),
        histogram: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_came() {
        let late: Vec<u64> = (1..=1000).collect();
        let found = [0.5, 0.99, 0.999, 1.0, 0.0].map(|share| quantile(&late, share));
        assert_eq!(found, [500, 990, 999, 1000, 1]);
        assert_eq!(quantile(&[7], 0.99), 7);
    }

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

    #[test]
    fn curves_meet_in_the_middle_of_each_point() {
        let curve = |p50: f64, max: f64| Latency {
            percentiles: [("p50".to_owned(), p50), ("max".to_owned(), max)].into(),
            count: 10,
            load: "open".into(),
            histogram: None,
        };
        let all = [curve(1.0, 9.0), curve(2.0, 7.0), curve(3.0, 8.0)];
        let typical = typical(&all.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(typical, Latency { count: 30, ..curve(2.0, 8.0) });
        assert_eq!(super::typical(&[]), None);
    }
}
