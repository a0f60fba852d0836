//! The ratio lane: the thread-relative ratios of this run against those of a stored result. Pure.
//!
//! For runners where both builds cannot be run. The machine's drift between the two runs cancels as far as it
//! moves a cell and its thread baseline alike, which is not far enough for a small effect: so a cell is
//! REGRESSED only where the two intervals are disjoint by more than [`BOUND`], OK only where the whole interval
//! of this run stays within [`BOUND`] of the stored median, and INCONCLUSIVE otherwise. Both sides are recomputed from their samples, block by block: what a
//! document says of itself is not evidence.

use crate::error::{Error, Result};
use crate::stats::{self, Interval};
use switchmark_schema::{
    Better, Cell, GateCell, GateCensus, GateDocument, GateEstimate, GateSide, Lane, ResultDocument, Status,
    Verdict,
};

/// Relative gap between the intervals that a regression must exceed.
pub const BOUND: f64 = 0.05;

/// The contender that all others are measured against.
const BASELINE: &str = "thread";

/// Compares `head`, this run, with `base`, a stored result.
pub fn judge(base: &ResultDocument, head: &ResultDocument, sides: [GateSide; 2]) -> Result<GateDocument> {
    let cells: Vec<GateCell> = head
        .cells
        .iter()
        .filter(|cell| cell.contender != BASELINE)
        .filter_map(|cell| Some(judge_cell(base, head, cell, base.cells.iter().find(|b| b.id == cell.id)?)))
        .collect();
    if cells.is_empty() {
        return Err(Error::usage(
            "the stored result and this run have no cell in common that could be gated",
        ));
    }
    let census = GateCensus::of(&cells);
    let [base_side, head_side] = sides;
    let mut warnings = Vec::new();
    if base.machine.key != head.machine.key {
        warnings.push(format!(
            "different machines: {} ({}) and {} ({})",
            base.machine.key, base.machine.cpu, head.machine.key, head.machine.cpu
        ));
    }
    Ok(GateDocument {
        schema: "switchmark.gate/1".into(),
        tool: head.tool.clone(),
        run: head.run.clone(),
        machine: head.machine.clone(),
        doctor: Vec::new(),
        controls: head.controls.clone(),
        warnings,
        lane: Lane::Ratio,
        identical: base_side.hash == head_side.hash,
        base: base_side,
        head: head_side,
        exit: exit_code(&census),
        cells,
        census,
    })
}

/// 3 before 1: a cell that could not be judged because a worker failed hides a regression.
fn exit_code(census: &GateCensus) -> u8 {
    match census {
        GateCensus { failed: 1.., .. } => 3,
        GateCensus { regressed: 1.., .. } => 1,
        _ => 0,
    }
}

fn judge_cell(base: &ResultDocument, head: &ResultDocument, cell: &Cell, stored: &Cell) -> GateCell {
    let judged = match (ratio_to_baseline(base, stored), ratio_to_baseline(head, cell)) {
        // A worker that failed now outranks whatever the stored result lacks.
        (_, Err((Verdict::Failed, why))) => Err((Verdict::Failed, why)),
        (Err((verdict, why)), _) => Err((verdict, format!("in the stored result: {why}"))),
        (_, Err(unjudged)) => Err(unjudged),
        (Ok((then, _)), Ok((now, blocks))) => Ok((then, now, blocks)),
    };
    let (verdict, reason, estimate, blocks) = match judged {
        Err((verdict, why)) => (verdict, Some(why), None, 0),
        Ok((then, now, blocks)) => {
            let lower = cell.primary_metric().is_none_or(|metric| metric.better == Better::Lower);
            // Of a rate the inverse is a cost, so that up is worse everywhere below.
            let [then, now] = [then, now].map(|i| if lower { i } else { inverse(i) });
            let (verdict, reason) = verdict(then, now);
            (verdict, reason, Some(change(then, now)), blocks)
        }
    };
    GateCell {
        id: cell.id.clone(),
        metric: cell.primary.clone(),
        verdict,
        reason,
        blocks,
        redrawn: 0,
        estimate,
        trace: Vec::new(),
    }
}

/// A cell's ratio to its thread baseline, from the samples of the blocks that both have; or what the cell is
/// called without one, and why.
fn ratio_to_baseline(
    document: &ResultDocument,
    cell: &Cell,
) -> std::result::Result<(Interval, u32), (Verdict, String)> {
    let (Status::Measured, Some(metric)) = (cell.status, cell.primary_metric()) else {
        let verdict = match cell.status {
            Status::Measured | Status::Invalid => Verdict::Inconclusive,
            Status::Unsupported | Status::Skipped => Verdict::Unsupported,
            Status::Failed => Verdict::Failed,
        };
        return Err((verdict, cell.reason.clone().unwrap_or_else(|| "no number".into())));
    };
    let baseline = document.cells.iter().find(|b| b.group() == cell.group() && b.contender == BASELINE);
    let baseline = baseline.filter(|b| b.status == Status::Measured).and_then(Cell::primary_metric);
    let nothing_beside = || (Verdict::Unsupported, "no thread was measured beside it".to_owned());
    let baseline = baseline.ok_or_else(nothing_beside)?;
    let log = |sample: &switchmark_schema::Sample| {
        let of_thread = baseline.samples.iter().find(|b| b.block == sample.block)?.value;
        (of_thread > 0.0 && sample.value > 0.0).then(|| (sample.value / of_thread).ln())
    };
    let logs: Vec<f64> = metric.samples.iter().filter_map(log).collect();
    let blocks = u32::try_from(logs.len()).unwrap_or(u32::MAX);
    let too_few = || (Verdict::Inconclusive, format!("{blocks} blocks are too few for an interval"));
    stats::ratio::over_blocks(logs).map(|i| (i, blocks)).ok_or_else(too_few)
}

fn inverse(i: Interval) -> Interval {
    Interval { median: 1.0 / i.median, low: 1.0 / i.high, high: 1.0 / i.low, level: i.level }
}

fn verdict(then: Interval, now: Interval) -> (Verdict, Option<String>) {
    if now.low > then.high * (1.0 + BOUND) {
        (Verdict::Regressed, None)
    } else if then.low > now.high * (1.0 + BOUND) {
        (Verdict::Improved, None)
    } else if now.high <= then.median * (1.0 + BOUND) {
        (Verdict::Ok, None)
    } else {
        let wide = format!("a change of more than {:.0} % is not excluded", BOUND * 100.0);
        (Verdict::Inconclusive, Some(wide))
    }
}

/// By how much head is worse: from the extremes of both intervals, so no narrower than what is known.
fn change(then: Interval, now: Interval) -> GateEstimate {
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    GateEstimate {
        percent: percent(now.median / then.median),
        low: percent(now.low / then.high),
        high: percent(now.high / then.low),
        level: then.level.min(now.level),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, median: f64, high: f64) -> Interval {
        Interval { median, low, high, level: 0.97 }
    }

    #[test]
    fn only_intervals_disjoint_beyond_the_bound_regress() {
        let then = interval(0.98, 1.0, 1.02);
        assert_eq!(verdict(then, interval(1.08, 1.1, 1.12)).0, Verdict::Regressed);
        assert_eq!(verdict(then, interval(1.03, 1.05, 1.07)).0, Verdict::Inconclusive);
        assert_eq!(verdict(then, interval(0.99, 1.0, 1.01)).0, Verdict::Ok);
        assert_eq!(verdict(then, interval(0.80, 0.82, 0.84)).0, Verdict::Improved);
        assert_eq!(verdict(then, interval(0.80, 1.0, 1.30)).0, Verdict::Inconclusive, "wide is not OK");
    }

    #[test]
    fn a_rate_that_falls_is_worse() {
        let (then, now) = (interval(98.0, 100.0, 102.0), interval(60.0, 65.0, 70.0));
        assert_eq!(verdict(inverse(then), inverse(now)).0, Verdict::Regressed);
    }

    #[test]
    fn a_failed_worker_outranks_a_regression() {
        assert_eq!(exit_code(&GateCensus { failed: 1, regressed: 1, ..GateCensus::default() }), 3);
        assert_eq!(exit_code(&GateCensus { regressed: 1, ..GateCensus::default() }), 1);
        assert_eq!(exit_code(&GateCensus { inconclusive: 9, ..GateCensus::default() }), 0);
    }

    /// The sample document, less the cells whose worker failed.
    fn stored() -> ResultDocument {
        let sample = include_str!("../../schema/samples/result-quick.json");
        let mut document: ResultDocument = switchmark_schema::read(sample).unwrap();
        document.cells.retain(|cell| cell.status != Status::Failed);
        document
    }

    fn sides() -> [GateSide; 2] {
        [GateSide::default(), GateSide::default()]
    }

    const CELL: &str = "switch.yield/tasks=2/same-core/coroutine";

    /// The stored result as it would be if one coroutine cell had been faster by this factor, in every block.
    fn with_samples_times(factor: f64) -> ResultDocument {
        let mut document = stored();
        let cell = document.cells.iter_mut().find(|c| c.id == CELL).unwrap();
        let metric = cell.metrics.get_mut(&cell.primary).unwrap();
        metric.samples.iter_mut().for_each(|s| s.value *= factor);
        document
    }

    #[test]
    fn a_result_against_itself_regresses_nowhere() {
        let gate = judge(&stored(), &stored(), sides()).unwrap();
        assert_eq!((gate.exit, gate.census.regressed, gate.census.improved), (0, 0, 0));
        assert!(gate.census.judged > 0, "{:?}", gate.census);
    }

    #[test]
    fn a_baseline_that_was_30_percent_faster_names_the_cell_and_no_other() {
        let gate = judge(&with_samples_times(0.7), &stored(), sides()).unwrap();
        let regressed: Vec<&str> =
            gate.cells.iter().filter(|c| c.verdict == Verdict::Regressed).map(|c| c.id.as_str()).collect();
        assert_eq!((gate.exit, regressed), (1, vec![CELL]));
    }

    #[test]
    fn a_cell_without_a_thread_beside_it_is_unsupported_not_inconclusive() {
        let gate = judge(&stored(), &stored(), sides()).unwrap();
        let raw: Vec<&GateCell> = gate.cells.iter().filter(|c| c.id.starts_with("switch.raw/")).collect();
        assert!(!raw.is_empty() && raw.iter().all(|c| c.verdict == Verdict::Unsupported), "{raw:?}");
    }

    #[test]
    fn what_a_document_says_of_its_own_ratios_is_not_evidence() {
        let mut base = stored();
        for metric in base.cells.iter_mut().flat_map(|c| c.metrics.values_mut()) {
            metric.ratios.iter_mut().for_each(|r| (r.median, r.low, r.high) = (1e-9, 1e-9, 1e-9));
            metric.estimate = None;
        }
        assert_eq!(judge(&base, &stored(), sides()).unwrap().exit, 0);
    }

    #[test]
    fn documents_without_a_common_cell_are_a_usage_error() {
        let mut other = stored();
        other.cells.retain(|cell| cell.contender == BASELINE);
        let error = judge(&other, &stored(), sides()).unwrap_err();
        assert_eq!(error.kind.exit_code(), 2);
    }
}
