//! Controls: comparisons whose answer is known beforehand, taken among the cells of each run but smoke.
//!
//! A block of a control holds a contender three times: itself, a twin, and a twin that the parent asks for 7 % more, which is
//! a slow-down that no noise explains away. The twin must be found equal (*null*) and the slower one different (*liveness*);
//! where either comes out wrong, the environment is not to be trusted, and neither is any other number of the run.

use crate::plan::{Group, Plan, order};
use crate::run::Asked;
use crate::stats::{self, Interval, Sample};
use fastrand::Rng;
use std::ops::RangeInclusive;
use switchmark_schema::{BlockKind, BlockRecord, Control, ControlKind, ControlSample, Ratio, Status};

/// What a control is taken on, one of either side of the comparison: workload, parameter, placement, contender.
pub(crate) const CELLS: [(&str, (&str, &str), &str, &str); 2] = [
    ("switch.handoff", ("idle_policy", "default"), "same-core", "thread"),
    ("switch.yield", ("tasks", "2"), "same-core", "coroutine"),
];

/// Blocks of each control, always.
pub(crate) const BLOCKS: u32 = 12;

/// Who sits in a block beside the contender, by the names in its record.
const TWIN: &str = "twin";
const INJECTED: &str = "injected";

/// What the injected twin is asked for.
const MORE: f64 = 1.07;

/// Who sits in a block, and what each of its slices is asked for.
pub(crate) fn seated<'a>(group: &Group<'a>, rng: &mut Rng, slices: usize) -> ([&'a str; 3], Vec<Asked>) {
    let names = [group.contenders[0].id(), TWIN, INJECTED];
    (names, order(rng, names.len(), slices).into_iter().map(asked).collect())
}

fn asked(seat: usize) -> Asked {
    Asked { seat, times: if seat == 2 { MORE } else { 1.0 } }
}

/// Fewer iterations than these cannot be made 7 % more.
pub(crate) const LEAST: u64 = 1000;

/// Blocks of each control that a round takes, so that all are taken by the first look.
pub(crate) fn due(round: u32, first_look: u32) -> RangeInclusive<u32> {
    let by = |round: u32| (BLOCKS * round.min(first_look)).div_ceil(first_look);
    by(round - 1) + 1..=by(round)
}

/// What a block says of a twin: the log of its ratio to the contender.
pub(crate) type Estimator = fn(&ControlSample) -> f64;

/// The one that runs use.
pub(crate) fn log_ratio(sample: &ControlSample) -> f64 {
    (sample.twin / sample.value).ln()
}

/// The answers, of those controls that have all their blocks.
pub(crate) fn judged(plan: &Plan<'_>, blocks: &[BlockRecord], by: Estimator) -> Vec<Control> {
    plan.controls.iter().flat_map(|group| judged_cell(group, blocks, by).into_iter().flatten()).collect()
}

fn judged_cell(group: &Group<'_>, blocks: &[BlockRecord], by: Estimator) -> Option<[Control; 2]> {
    let contender = group.contenders.first()?.id();
    let cell = group.cell(contender);
    let of_cell = blocks.iter().filter(|block| block.kind == BlockKind::Control && block.cell == cell);
    let against = |twin: &str| -> Vec<ControlSample> {
        let value = |block: &BlockRecord, who: &str| {
            let worker = block.workers.iter().find(|w| w.contender == who)?;
            worker.values.get(group.primary()).copied().filter(|_| worker.status == Status::Measured)
        };
        let pair = |block: &BlockRecord| {
            Some(ControlSample {
                block: block.block,
                value: value(block, contender)?,
                twin: value(block, twin)?,
            })
        };
        of_cell.clone().filter_map(pair).collect()
    };
    let control = |kind, samples: Vec<ControlSample>| {
        if samples.len() != BLOCKS as usize {
            return None;
        }
        let logs = Sample::new(samples.iter().map(by))?;
        let interval = match kind {
            ControlKind::Null => stats::range(&logs),
            ControlKind::Liveness => stats::interval(&logs)?,
        };
        let Interval { median, low, high, level } = interval.map(f64::exp);
        let covers_one = low <= 1.0 && 1.0 <= high;
        let ratio = Ratio { to: contender.into(), median, low, high, level, blocks: BLOCKS };
        let passed = covers_one == (kind == ControlKind::Null);
        Some(Control { kind, cell: cell.clone(), samples, ratio, passed })
    };
    Some([control(ControlKind::Null, against(TWIN))?, control(ControlKind::Liveness, against(INJECTED))?])
}

/// What a reader should know before any number, if a control came out wrong or could not be taken.
pub(crate) fn warning(plan: &Plan<'_>, controls: &[Control], interrupted: bool) -> Option<String> {
    let wrong = |control: &&Control| !control.passed;
    let wrong: Vec<String> = controls
        .iter()
        .filter(wrong)
        .map(|control| {
            let (kind, must) = match control.kind {
                ControlKind::Null => ("null", "hold 1"),
                ControlKind::Liveness => ("liveness", "not hold 1"),
            };
            let Ratio { low, high, .. } = control.ratio;
            format!("the {kind} control on {} is {low:.3} to {high:.3} and must {must}", control.cell)
        })
        .collect();
    let absent = !interrupted && controls.len() < 2 * plan.controls.len();
    let absent = absent.then(|| "controls could not be taken".to_owned());
    let reasons: Vec<String> = wrong.into_iter().chain(absent).collect();
    (!reasons.is_empty()).then(|| format!("{NOT_TRUSTED}: {}", reasons.join("; ")))
}

/// How the warning begins.
pub const NOT_TRUSTED: &str = "environment: not trusted";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use crate::definition::Definition;
    use crate::pin::Cpus;
    use crate::plan::{Profile, Selection};
    use std::collections::BTreeMap;
    use switchmark_schema::{Contamination, WorkerRecord};

    #[test]
    fn all_controls_are_taken_by_the_first_look_and_none_twice() {
        for first_look in [6, 20, 40] {
            let taken: Vec<u32> = (1..=first_look + 3).flat_map(|round| due(round, first_look)).collect();
            assert_eq!(taken, (1..=BLOCKS).collect::<Vec<_>>(), "{first_look}");
        }
    }

    /// The controls of a run in which twin and injected twin cost so many times what the contender did, with noise of ± 2 %.
    fn answers(blocks: u32, twin: f64, injected: f64) -> (Vec<(ControlKind, bool)>, Option<String>) {
        let text = "id = 'switch.yield'\nmodel = 'yield-ring'\nquestion = '?'\nunit = 'ns/switch'\nbetter = 'lower'\n\
                    placements = ['same-core']\ndefault = true\nwitness = 'w'\ntraps = 't'\n\
                    [params]\ntasks = [2, 64]\n[expect]\ncheck = 'iterations'";
        let definitions = [Definition::parse(text, "yield").unwrap()];
        let text = "name = 'coroutine'\nkind = 'stackful'\nmodels = ['yield-ring']";
        let contenders = [Contender::in_tree(text, "coroutine").unwrap()];
        let cpus = Cpus::allowed(None).unwrap();
        let selection = Selection {
            definitions: &definitions,
            contenders: &contenders,
            named: None,
            filter: None,
            placement: None,
            cpus: &cpus,
            profile: Profile::named("quick").unwrap(),
        };
        let plan = Plan::new(&selection, 1).unwrap();
        assert_eq!(plan.controls.len(), 1, "where there is no such workload there is no control on it");
        let mut noise = fastrand::Rng::with_seed(1);
        let mut worker = |who: &str, cost: f64| WorkerRecord {
            contender: who.into(),
            values: BTreeMap::from([("time".into(), cost * (0.98 + 0.04 * noise.f64()))]),
            ..crate::run::empty_record(&contenders[0], 1)
        };
        let block = |block: u32| BlockRecord {
            kind: BlockKind::Control,
            cell: "switch.yield/tasks=2/same-core/coroutine".into(),
            block,
            order: "ABC".into(),
            redrawn: false,
            workers: vec![
                worker("coroutine", 5.0),
                worker(TWIN, 5.0 * twin),
                worker(INJECTED, 5.0 * injected),
            ],
            contamination: Contamination::default(),
        };
        let blocks: Vec<BlockRecord> = (1..=blocks).map(block).collect();
        let controls = judged(&plan, &blocks, log_ratio);
        let warning = warning(&plan, &controls, false);
        (controls.iter().map(|c| (c.kind, c.passed)).collect(), warning)
    }

    #[test]
    fn equal_twins_and_a_slower_one_are_told_apart() {
        let (answers, warning) = answers(12, 1.0, 1.07);
        assert_eq!(answers, [(ControlKind::Null, true), (ControlKind::Liveness, true)]);
        assert_eq!(warning, None);
    }

    #[test]
    fn an_estimator_that_always_says_the_same_is_caught() {
        let (equal, said) = answers(12, 1.0, 1.0);
        assert_eq!(equal, [(ControlKind::Null, true), (ControlKind::Liveness, false)]);
        let said = said.unwrap();
        assert!(said.starts_with(NOT_TRUSTED) && said.contains("liveness control on switch.yield"), "{said}");
        let (different, said) = answers(12, 1.07, 1.07);
        assert_eq!(different, [(ControlKind::Null, false), (ControlKind::Liveness, true)]);
        assert!(said.unwrap().contains("null control"));
    }

    #[test]
    fn eleven_blocks_are_no_control_and_that_is_said() {
        let (none, said) = answers(11, 1.0, 1.07);
        assert_eq!(none, []);
        assert!(said.unwrap().contains("could not be taken"));
    }

    #[test]
    fn of_the_three_only_the_injected_twin_is_asked_for_more() {
        let asked = [0, 2, 1].map(asked);
        assert_eq!(asked.iter().map(|a| a.seat).collect::<Vec<_>>(), [0, 2, 1]);
        assert!(asked.iter().all(|a| (a.times > 1.0) == (a.seat == 2)), "{asked:?}");
    }
}
