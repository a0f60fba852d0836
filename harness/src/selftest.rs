//! `switchmark selftest`: the instrument tried on differences that are known, because the parent made them.
//!
//! A *trial* is the blocks of a control taken anew, with fresh processes of one contender that sit in several seats. The parent asks
//! some slices for more iterations than it divides by, which slows them by just so much: a seat's own (an effect, to be seen) or
//! whoever's turn it is (an adversary, to which no effect may be laid). Each adversary is met twice: by the order that runs use, and by
//! the order of a careless benchmark, which must be taken in, or the adversary proves nothing.

use crate::controls::{self, BLOCKS, Estimator};
use crate::document;
use crate::error::{Error, Result};
use crate::plan::{self, Group, Plan};
use crate::run::{Asked, Event, Instrument, Observer, Run};
use crate::stats::{self, Sample};
use fastrand::Rng;
use serde::Serialize;
use std::time::Instant;
use switchmark_schema::{BlockRecord, Status};

/// What is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Twins are found equal, as often as the level of the interval says, and neither more often the slower.
    Aa,
    /// 5 % and 10 % more are seen.
    Power,
    /// A worker that is slower when it is first of a pair is not found slower.
    Slot,
    /// Neither drift nor a step of the machine nor modes of processes are laid to a contender.
    Drift,
    /// An estimator that always gives the same answer is caught by the controls.
    Controls,
}

impl Test {
    /// Runs by default: as many as its shares need, and those of seconds each.
    pub fn runs(self) -> u32 {
        match self {
            Test::Aa | Test::Power => 20,
            Test::Slot | Test::Drift => 5,
            Test::Controls => 1,
        }
    }
}

/// How often something held in so many runs, and how often it had to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// The cell it was tried on.
    pub cell: String,
    /// What was tried.
    pub trial: String,
    /// What had to hold.
    pub claim: String,
    /// Runs in which it held.
    pub held: u32,
    /// Runs.
    pub of: u32,
    /// In how many it had to.
    pub at_least: u32,
    /// In how many at most.
    pub at_most: u32,
    /// Ratio found over all blocks of all runs, by Hodges and Lehmann; none where nothing was compared.
    pub ratio: Option<f64>,
    /// Spread of the ratio from block to block, robust, as a share; none likewise.
    pub block_sigma: Option<f64>,
    /// Whether it was in bounds.
    pub passed: bool,
}

/// Tries the cells of the controls; `None` if the user stopped it. Runs are of 12 blocks.
///
/// # Errors
/// A worker of a control failed, or `observe` did.
pub fn run(
    test: Test,
    runs: u32,
    plan: &Plan<'_>,
    with: &Instrument<'_>,
    observe: &mut Observer<'_>,
) -> Result<Option<Vec<Proof>>> {
    let mut bench = Bench { plan, run: Run::new(plan, with), runs, began: Instant::now(), done: 0, of: 0 };
    bench.run.calibrate(observe)?;
    if let Some((cell, fault)) = bench.run.ended() {
        return Err(Error::worker(format!("{cell}: {}", fault.reason)));
    }
    if test == Test::Controls {
        return bench.broken_estimators(observe);
    }
    let trials = trials(test);
    let blocks = trials.len() * plan.controls.len() * (runs * BLOCKS) as usize;
    bench.of = blocks;
    let mut proofs = Vec::new();
    for trial in &trials {
        let mut cells: Vec<(String, Logs)> = Vec::new();
        for group in &plan.controls {
            let Some(logs) = bench.tried(trial, group, observe)? else { return Ok(None) };
            cells.push((group.cell(group.contenders[0].id()), logs));
        }
        proofs.extend(judged(trial, &cells));
    }
    Ok(Some(proofs))
}

fn judged(trial: &Trial, cells: &[(String, Logs)]) -> Vec<Proof> {
    let of_claim = |claim: &Claim| -> Vec<Proof> {
        if matches!(claim, Claim::Covered) {
            // Of 20 runs of an interval that is what it says, three or more miss in 4 of 100 cases; of 40, five or more in 2.
            let all = cells.iter().flat_map(|(_, logs)| logs.iter().cloned()).collect();
            return vec![claim.judged("all cells", trial.name, &all)];
        }
        cells.iter().map(|(cell, logs)| claim.judged(cell, trial.name, logs)).collect()
    };
    trial.claims.iter().flat_map(of_claim).collect()
}

/// Log ratios of the seats behind the first to it: by run, by seat, by block.
type Logs = Vec<Vec<Vec<f64>>>;

struct Bench<'a> {
    plan: &'a Plan<'a>,
    run: Run<'a>,
    runs: u32,
    began: Instant,
    /// Blocks done and in all.
    done: usize,
    of: usize,
}

impl<'a> Bench<'a> {
    /// All runs of a trial on a cell.
    fn tried(
        &mut self,
        trial: &Trial,
        group: &'a Group<'a>,
        observe: &mut Observer<'_>,
    ) -> Result<Option<Logs>> {
        let names: Vec<String> = (0..trial.seats.len()).map(|seat| format!("seat {seat}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut logs = Vec::new();
        for run in 0..self.runs {
            let mut by_seat = vec![Vec::new(); names.len() - 1];
            for block in 1..=BLOCKS {
                let mut rng = self.plan.rng(block, &format!("{} {run} {}", trial.name, group.id));
                let asked = trial.asked(&mut rng, self.plan.profile.slices);
                let Some(record) = self.block(group, block, &names, &asked, observe)? else {
                    return Ok(None);
                };
                for (seat, logs) in by_seat.iter_mut().enumerate() {
                    logs.push(log_ratio(group, &record, seat + 1)?);
                }
            }
            logs.push(by_seat);
        }
        Ok(Some(logs))
    }

    /// A block; `None` if the user stopped it.
    fn block(
        &mut self,
        group: &Group<'a>,
        block: u32,
        names: &[&str],
        asked: &[Asked],
        observe: &mut Observer<'_>,
    ) -> Result<Option<BlockRecord>> {
        if self.run.interrupted() {
            return Ok(None);
        }
        observe(Event::Block {
            group: &group.id,
            block,
            done: self.done,
            of: self.of,
            taken: self.done,
            widest: None,
            elapsed: self.began.elapsed(),
        })?;
        self.done += 1;
        let record = self.run.block_of_a_control(group, block, names, asked)?;
        if self.run.interrupted() {
            return Ok(None);
        }
        match record.workers.iter().find(|worker| worker.status != Status::Measured) {
            Some(worker) => {
                let reason = worker.reason.as_deref().unwrap_or("no reason given");
                Err(Error::worker(format!("{}: {reason}", group.id)))
            }
            None => Ok(Some(record)),
        }
    }

    /// The controls of runs, judged as runs judge them and by estimators that are broken.
    fn broken_estimators(&mut self, observe: &mut Observer<'_>) -> Result<Option<Vec<Proof>>> {
        let estimators: [(&str, Estimator, bool); 3] = [
            ("the estimator of runs", controls::log_ratio, true),
            ("an estimator that always says equal", |_| 0.0, false),
            ("an estimator that always says 7 % slower", |_| 0.07, false),
        ];
        self.of = self.plan.controls.len() * (self.runs * BLOCKS) as usize;
        let mut held = [0; 3];
        for run in 0..self.runs {
            let mut blocks = Vec::new();
            for block in 1..=BLOCKS {
                for group in &self.plan.controls {
                    let mut rng = self.plan.rng(block, &format!("controls {run} {}", group.id));
                    let (names, asked) = controls::seated(group, &mut rng, self.plan.profile.slices);
                    match self.block(group, block, &names, &asked, observe)? {
                        Some(record) => blocks.push(record),
                        None => return Ok(None),
                    }
                }
            }
            for (held, (_, estimator, trusted)) in held.iter_mut().zip(&estimators) {
                let controls = controls::judged(self.plan, &blocks, *estimator);
                let warning = controls::warning(self.plan, &controls, false);
                *held += u32::from(warning.is_none() == *trusted);
            }
        }
        let proof = |((trial, _, trusted), held): (&(&str, Estimator, bool), u32)| Proof {
            cell: "both controls".into(),
            trial: (*trial).into(),
            claim: if *trusted { "is trusted" } else { "is not trusted" }.into(),
            held,
            of: self.runs,
            at_least: self.runs,
            at_most: self.runs,
            ratio: None,
            block_sigma: None,
            passed: held == self.runs,
        };
        Ok(Some(estimators.iter().zip(held).map(proof).collect()))
    }
}

/// What a block says of a seat against the first: as documents have it or, where an order without pairs gives them nothing to
/// compare, of the medians, as a careless benchmark would.
fn log_ratio(group: &Group<'_>, record: &BlockRecord, seat: usize) -> Result<f64> {
    let (first, other) = (&record.workers[0], &record.workers[seat]);
    let metric = group.primary();
    let of_medians = || Some((other.values.get(metric)? / first.values.get(metric)?).ln());
    document::log_ratio(group, record, &other.contender, &first.contender, metric)
        .or_else(of_medians)
        .ok_or_else(|| Error::worker(format!("{}: a worker gave no time", group.id)))
}

/// Whose slices are slowed, whoever sits there.
#[derive(Debug, Clone, Copy)]
enum Adversary {
    Nobody,
    /// The first slice of each pair, by a tenth.
    Slot,
    /// Each slice more than the one before, up to a fifth.
    Drift,
    /// All from one on, somewhere in the middle third, by a tenth.
    Step,
    /// All of a process or none, by a coin, by 8 %: clusters of layout are so far apart.
    Modes,
    /// As modes, of one process a seat for all blocks.
    ModesForLife,
}

impl Adversary {
    fn times(self, rng: &mut Rng, seats: usize, turns: usize) -> Box<dyn Fn(usize, usize) -> f64> {
        match self {
            Adversary::Nobody => Box::new(|_, _| 1.0),
            Adversary::Slot => Box::new(|turn, _| if turn % 2 == 0 { 1.1 } else { 1.0 }),
            Adversary::Drift => Box::new(move |turn, _| 1.0 + 0.2 * turn as f64 / turns as f64),
            Adversary::Step => {
                let from = rng.usize(turns / 3..=2 * turns / 3);
                Box::new(move |turn, _| if turn >= from { 1.1 } else { 1.0 })
            }
            Adversary::Modes => {
                let slow: Vec<bool> = (0..seats).map(|_| rng.bool()).collect();
                Box::new(move |_, seat| if slow[seat] { 1.08 } else { 1.0 })
            }
            Adversary::ModesForLife => Box::new(|_, seat| if seat == 1 { 1.08 } else { 1.0 }),
        }
    }
}

/// Seats, their order, and who disturbs.
struct Trial {
    name: &'static str,
    /// How many times as slow each seat is made.
    seats: &'static [f64],
    order: fn(&mut Rng, usize, usize) -> Vec<usize>,
    adversary: Adversary,
    claims: &'static [Claim],
}

impl Trial {
    fn asked(&self, rng: &mut Rng, slices: usize) -> Vec<Asked> {
        let order = (self.order)(rng, self.seats.len(), slices);
        let times = self.adversary.times(rng, self.seats.len(), order.len());
        let asked =
            |(turn, &seat): (usize, &usize)| Asked { seat, times: self.seats[seat] * times(turn, seat) };
        order.iter().enumerate().map(asked).collect()
    }
}

/// A then B then A: in each pair the same one is first.
fn alternating(_: &mut Rng, seats: usize, slices: usize) -> Vec<usize> {
    (0..seats * slices).map(|turn| turn % seats).collect()
}

/// All of A, then all of B.
fn one_after_the_other(_: &mut Rng, seats: usize, slices: usize) -> Vec<usize> {
    (0..seats * slices).map(|turn| turn / slices).collect()
}

fn trials(test: Test) -> Vec<Trial> {
    const EQUAL: &[f64] = &[1.0, 1.0];
    const NOT_SEEN: &[Claim] = &[Claim::NeverSeen];
    const TAKEN_IN: &[Claim] = &[Claim::TakenIn];
    let met = |name, adversary| Trial { name, seats: EQUAL, order: plan::order, adversary, claims: NOT_SEEN };
    let taken_in = |name, order, adversary| Trial { name, seats: EQUAL, order, adversary, claims: TAKEN_IN };
    match test {
        Test::Aa => vec![Trial {
            name: "twins",
            claims: &[Claim::Covered, Claim::Balanced],
            ..met("", Adversary::Nobody)
        }],
        Test::Power => vec![Trial {
            name: "5 % and 10 % more",
            seats: &[1.0, 1.05, 1.1],
            claims: &[Claim::Seen { seat: 1, share: 0.9 }, Claim::Seen { seat: 2, share: 1.0 }],
            ..met("", Adversary::Nobody)
        }],
        Test::Slot => vec![
            met("slower when first, our order", Adversary::Slot),
            taken_in("slower when first, alternating", alternating, Adversary::Slot),
        ],
        Test::Drift => vec![
            met("drift, our order", Adversary::Drift),
            taken_in("drift, one after the other", one_after_the_other, Adversary::Drift),
            met("a step, our order", Adversary::Step),
            taken_in("a step, one after the other", one_after_the_other, Adversary::Step),
            met("modes, a process a block", Adversary::Modes),
            taken_in("modes, a process for all blocks", plan::order, Adversary::ModesForLife),
        ],
        Test::Controls => Vec::new(),
    }
}

/// What has to hold of the runs of a trial.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// The interval of 96 % holds 1 in nine of ten runs.
    Covered,
    /// Neither side is the slower more often than a fair coin falls, at 99 %.
    Balanced,
    /// The interval of 99.95 % holds 1 in every run.
    NeverSeen,
    /// The interval of 96 % lies to one side of 1 in nine of ten runs.
    TakenIn,
    /// The interval of 96 % lies above 1 in such a share of the runs.
    Seen { seat: usize, share: f64 },
}

impl Claim {
    fn judged(self, cell: &str, trial: &str, logs: &Logs) -> Proof {
        let of = u32::try_from(logs.len()).unwrap_or(u32::MAX);
        let seat = match self {
            Claim::Seen { seat, .. } => seat,
            _ => 1,
        };
        let runs: Vec<Sample> =
            logs.iter().filter_map(|run| Sample::new(run[seat - 1].iter().copied())).collect();
        let held = runs.iter().filter(|run| self.holds(run)).count();
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let (at_least, at_most) = self.bounds(of);
        let all = Sample::new(logs.iter().flat_map(|run| run[seat - 1].iter().copied()));
        Proof {
            cell: cell.into(),
            trial: trial.into(),
            claim: self.words(seat),
            held,
            of,
            at_least,
            at_most,
            ratio: all.as_ref().map(|all| stats::hodges_lehmann(all).exp()),
            block_sigma: all.as_ref().map(stats::spread),
            passed: (at_least..=at_most).contains(&held),
        }
    }

    fn holds(self, run: &Sample) -> bool {
        let holds_zero = |low: f64, high: f64| low <= 0.0 && 0.0 <= high;
        let interval = stats::interval(run);
        match self {
            Claim::Covered => interval.is_some_and(|i| holds_zero(i.low, i.high)),
            Claim::Balanced => run.median() > 0.0,
            Claim::NeverSeen => {
                let range = stats::range(run);
                holds_zero(range.low, range.high)
            }
            Claim::TakenIn => interval.is_some_and(|i| !holds_zero(i.low, i.high)),
            Claim::Seen { .. } => interval.is_some_and(|i| i.low > 0.0),
        }
    }

    /// Runs in which it has to hold, at least and at most.
    fn bounds(self, runs: u32) -> (u32, u32) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let share = |share: f64| (f64::from(runs) * share).ceil() as u32;
        match self {
            Claim::Covered | Claim::TakenIn => (share(0.9), runs),
            Claim::Balanced => {
                let few = stats::order::fewest_of_a_coin(runs as usize, 0.99);
                let few = u32::try_from(few).unwrap_or(0);
                (few, runs - few)
            }
            Claim::NeverSeen => (runs, runs),
            Claim::Seen { share: needed, .. } => (share(needed), runs),
        }
    }

    fn words(self, seat: usize) -> String {
        match self {
            Claim::Covered => "the interval holds 1".into(),
            Claim::Balanced => "the twin is the slower".into(),
            Claim::NeverSeen => "no effect appears".into(),
            Claim::TakenIn => "an effect appears that is none".into(),
            Claim::Seen { .. } => format!("seat {seat} is seen to be slower"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICES: usize = 16;

    /// Runs of a trial by arithmetic: a slice takes as long as it is asked for, with noise of so much on each.
    fn simulated(trial: &Trial, runs: u32, noise: f64, seed: u64) -> Logs {
        let mut rng = Rng::with_seed(seed);
        let mut block = || -> Vec<f64> {
            let asked = trial.asked(&mut rng, SLICES);
            let ns: Vec<f64> = asked.iter().map(|a| a.times * (1.0 + noise * (rng.f64() - 0.5))).collect();
            let of = |seat: usize| -> Vec<f64> {
                asked.iter().zip(&ns).filter(|(a, _)| a.seat == seat).map(|(_, ns)| *ns).collect()
            };
            (1..trial.seats.len())
                .map(|seat| {
                    let order: Vec<usize> = asked.iter().map(|a| usize::from(a.seat != seat)).collect();
                    let pairs = (trial.seats.len() == 2)
                        .then(|| stats::ratio::of_slices(&order, &of(seat), &of(0)))
                        .flatten();
                    let median = |seat| Sample::new(of(seat)).unwrap().median();
                    pairs.unwrap_or_else(|| (median(seat) / median(0)).ln())
                })
                .collect()
        };
        (0..runs)
            .map(|_| {
                let blocks: Vec<Vec<f64>> = (0..BLOCKS).map(|_| block()).collect();
                (0..trial.seats.len() - 1).map(|seat| blocks.iter().map(|b| b[seat]).collect()).collect()
            })
            .collect()
    }

    #[test]
    fn each_trial_proves_what_it_claims_on_a_machine_of_arithmetic() {
        for test in [Test::Aa, Test::Power, Test::Slot, Test::Drift] {
            for trial in trials(test) {
                let cell = |seed: u64| (format!("cell {seed}"), simulated(&trial, 20, 0.02, seed));
                let cells = [cell(7), cell(8)];
                for proof in judged(&trial, &cells) {
                    assert!(proof.passed, "{proof:?}");
                }
            }
        }
    }

    #[test]
    fn a_careless_order_would_fail_where_ours_passes() {
        for test in [Test::Slot, Test::Drift] {
            for trial in trials(test).into_iter().filter(|t| matches!(t.claims[0], Claim::TakenIn)) {
                let logs = simulated(&trial, 20, 0.02, 8);
                assert!(!Claim::NeverSeen.judged("cell", trial.name, &logs).passed, "{}", trial.name);
            }
        }
    }

    #[test]
    fn twins_that_differ_are_not_passed_as_equal() {
        let unequal = Trial { seats: &[1.0, 1.03], ..trials(Test::Aa).remove(0) };
        let logs = simulated(&unequal, 20, 0.02, 9);
        for claim in unequal.claims {
            assert!(!claim.judged("cell", "", &logs).passed, "{claim:?}");
        }
        let proof = Claim::Covered.judged("cell", "", &logs);
        assert!((proof.ratio.unwrap() - 1.03).abs() < 0.005, "{proof:?}");
        assert!((0.001..0.01).contains(&proof.block_sigma.unwrap()), "{proof:?}");
    }

    #[test]
    fn bounds_are_those_of_the_documents() {
        assert_eq!(Claim::Covered.bounds(20), (18, 20));
        assert_eq!(Claim::Seen { seat: 1, share: 0.9 }.bounds(20), (18, 20));
        assert_eq!(Claim::Seen { seat: 1, share: 1.0 }.bounds(20), (20, 20));
        assert_eq!(
            Claim::Balanced.bounds(20),
            (4, 16),
            "P(fewer than 4 of 20) twice is 0.26 %, than 5 1.2 %"
        );
        assert_eq!(Claim::Balanced.bounds(1), (0, 1));
    }
}
