//! Measuring: calibration, counting, then block after block until each cell knows enough.
//!
//! Three kinds of worker process, each fresh and each for one cell:
//! - one *calibrates*: how many iterations fill a slice. Its times are discarded.
//! - one *counts*: kernel and hardware counters around slices of that length, times discarded too, since
//!   counters slow the very thing that is timed (`counters.rs`).
//! - one in each block is *timed*, and carries no instrument.
//!
//! A worker that fails takes its cell out of the later blocks and nothing else: what it measured before stays.

use crate::awake::Awake;
use crate::contender::{Contender, Kind};
use crate::controls;
use crate::counters::{self, Attached, Pair, Probed, Support, valgrind};
use crate::disturbance::Disturbance;
use crate::error::{Error, Result};
use crate::ledger;
use crate::memory::{self, Cgroup, Process, System};
use crate::parent::{Fault, Host, Worker};
use crate::pin::{Cpus, Pinned};
use crate::plan::{Group, Method, Plan, letters, order};
use crate::protocol::Sample;
use crate::served::{self, Pace, Pair as Served};
use crate::stats;
use crate::ticks;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use switchmark_schema::{
    BlockKind, BlockRecord, Contamination, Counter, CounterState, Ledger, Status, Stopped, Switches,
    WorkerRecord,
};

/// What the instrument measures with.
#[derive(Debug, Clone, Copy)]
pub struct Instrument<'a> {
    /// Starts workers.
    pub host: Host<'a>,
    /// CPUs of the run.
    pub cpus: &'a Cpus,
    /// Counters that can be had.
    pub probed: &'a Probed,
    /// Overrides the profile's budget.
    pub budget: Option<Duration>,
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A cell is calibrated and counted.
    Calibrating {
        /// Its id.
        cell: &'a str,
        /// Cells done before it.
        done: usize,
        /// Cells in all.
        of: usize,
    },
    /// A block is about to be taken.
    Block {
        /// Its group.
        group: &'a str,
        /// Block number.
        block: u32,
        /// Blocks done in all.
        done: usize,
        /// Blocks of the run, as far as is known now.
        of: usize,
        /// Those of the done that this run has taken itself.
        taken: usize,
        /// Widest relative half-width of a cell that is not yet narrow enough, if there is one.
        widest: Option<f64>,
        /// Time spent.
        elapsed: Duration,
    },
    /// A block is done: to be kept.
    Done(&'a BlockRecord),
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Blocks, in the order they were taken.
    pub blocks: Vec<BlockRecord>,
    /// Cells that ended without a number or before the last block, by cell id.
    pub ended: BTreeMap<String, Fault>,
    /// Why each group took no further block, by group id.
    pub stopped: BTreeMap<String, Stopped>,
    /// Sentences a reader should see.
    pub warnings: Vec<String>,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

impl Outcome {
    /// The blocks of a group, in order.
    pub fn blocks_of<'o>(&'o self, group: &'o Group<'_>) -> impl Iterator<Item = &'o BlockRecord> {
        self.blocks.iter().filter(|block| block.kind == BlockKind::Cell && block.cell == group.id)
    }
}

/// What the counting worker of a cell found.
#[derive(Debug, Clone, Default)]
struct Counted {
    /// By event.
    counters: BTreeMap<String, Counter>,
    /// Switches by the kernel's own count, where units are threads.
    switches: Option<Switches>,
}

/// Measures the plan. `observe` is told of each step and keeps each block; its error ends the run.
///
/// `kept` are blocks that a former run of the same plan and seed has taken: they are not taken again, and what
/// they say of iterations, failures and widths holds. The budget is this run's alone.
pub fn run(
    plan: &Plan<'_>,
    with: &Instrument<'_>,
    kept: Vec<BlockRecord>,
    observe: &mut Observer<'_>,
) -> Result<Outcome> {
    let began = Instant::now();
    let budget = with.budget.or(plan.profile.budget);
    let mut run = Run::new(plan, with);
    run.kept = kept.len();
    for record in kept {
        run.push(record);
    }
    run.calibrate(observe)?;
    let mut looks = plan.profile.looks.iter().copied();
    let mut look = looks.next().unwrap_or(1);
    let mut open: Vec<usize> = (0..plan.groups.len()).collect();
    let mut block = 0;
    while !run.interrupted() {
        open.retain(|&index| !run.competitors(&plan.groups[index]).is_empty());
        if open.is_empty() {
            break;
        }
        block += 1;
        run.round(&open, block, look, began, budget, observe)?;
        if block < look || run.interrupted() {
            continue;
        }
        // A look: who is narrow enough stops; the rest goes on to the next look, if there is one and time.
        let next = looks.next();
        let spent = budget.is_some_and(|budget| began.elapsed() >= budget);
        open.retain(|&index| {
            let group = &plan.groups[index];
            let narrow =
                plan.profile.width.is_some_and(|w| run.width(group, look).is_some_and(|found| found <= w));
            let cut_short = run.outcome.blocks_of(group).count() < look as usize;
            let stop = match (narrow, next) {
                _ if cut_short => Stopped::Budget,
                (_, None) => Stopped::Cap,
                (true, _) => Stopped::Width,
                (false, _) if spent => Stopped::Budget,
                _ => return true,
            };
            run.outcome.stopped.insert(group.id.clone(), stop);
            false
        });
        match next {
            Some(next) => look = next,
            None => break,
        }
    }
    run.outcome.interrupted = run.interrupted();
    Ok(run.outcome)
}

/// Told of each step of a run.
pub type Observer<'o> = dyn FnMut(Event<'_>) -> Result<()> + 'o;

pub(crate) struct Run<'a> {
    plan: &'a Plan<'a>,
    with: &'a Instrument<'a>,
    /// Iterations of a slice, by cell id.
    iterations: BTreeMap<String, u64>,
    /// What was counted, by cell id, until it goes into the cell's first block.
    counted: BTreeMap<String, Counted>,
    /// Blocks that were taken before.
    kept: usize,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    pub(crate) fn new(plan: &'a Plan<'a>, with: &'a Instrument<'a>) -> Run<'a> {
        Run {
            plan,
            with,
            iterations: BTreeMap::new(),
            counted: BTreeMap::new(),
            kept: 0,
            outcome: Outcome::default(),
        }
    }

    /// Why a cell was given up, if any was.
    pub(crate) fn ended(&self) -> Option<(&String, &Fault)> {
        self.outcome.ended.first_key_value()
    }

    pub(crate) fn interrupted(&self) -> bool {
        // Relaxed: the flag stands alone, nothing is published with it.
        self.with.host.interrupted.load(Ordering::Relaxed)
    }

    /// Contenders of a group that are still in the race.
    fn competitors(&self, group: &Group<'a>) -> Vec<&'a Contender> {
        let in_race = |c: &&&Contender| !self.outcome.ended.contains_key(&group.cell(c.id()));
        group.contenders.iter().filter(in_race).copied().collect()
    }

    /// Takes a block into the books.
    fn push(&mut self, record: BlockRecord) {
        let cells: &[WorkerRecord] = if record.kind == BlockKind::Cell { &record.workers } else { &[] };
        for worker in cells {
            let cell = format!("{}/{}", record.cell, worker.contender);
            if worker.status != Status::Measured {
                let reason = worker.reason.clone().unwrap_or_default();
                self.outcome.ended.insert(cell.clone(), Fault { status: worker.status, reason });
            }
            self.iterations.insert(cell, worker.iterations);
        }
        self.outcome.blocks.push(record);
    }

    pub(crate) fn calibrate(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        let groups = self.plan.groups.iter().chain(&self.plan.controls);
        let cells: Vec<(&Group<'a>, &Contender)> =
            groups.flat_map(|g| g.contenders.iter().map(move |c| (g, *c))).collect();
        for (done, (group, contender)) in cells.iter().enumerate() {
            let cell = group.cell(contender.id());
            observe(Event::Calibrating { cell: &cell, done, of: cells.len() })?;
            if self.interrupted() {
                return Ok(());
            }
            let known = self.iterations.contains_key(&cell) || self.outcome.ended.contains_key(&cell);
            if known || matches!(group.method(), Method::Population | Method::Ticks | Method::Limit) {
                continue;
            }
            let _aside = self.stand_aside(group)?;
            let _awake = Awake::for_group(group);
            let calibrated = self.calibrated(group, contender).and_then(|iterations| {
                let mut counted = repeated(COUNTS_AGAIN, || self.counted(group, contender, iterations))?;
                counted.counters.extend(self.counted_exactly(group, contender, iterations));
                Ok((iterations, counted))
            });
            match calibrated {
                Ok((iterations, counted)) => {
                    self.iterations.insert(cell.clone(), iterations);
                    self.counted.insert(cell, counted);
                }
                Err(_) if self.interrupted() => return Ok(()),
                Err(fault) => {
                    self.outcome.ended.insert(cell, fault);
                }
            }
        }
        Ok(())
    }

    /// The parent waits on CPUs that the placement leaves free, if there are any.
    fn stand_aside(&self, group: &Group<'_>) -> Result<Pinned> {
        let aside = self.with.cpus.aside(&group.cpus);
        Pinned::to(&aside).map_err(|e| Error::usage(format!("cannot pin to {aside:?}: {e}")))
    }

    /// How many iterations fill a slice.
    fn calibrated(&self, group: &Group<'_>, contender: &Contender) -> std::result::Result<u64, Fault> {
        if group.method() == Method::Served {
            // A tenth of a slice is as good a measure, and a second is long. Of an open loop too: it is asked for a share of what
            // the contender can do, which a closed one finds out.
            let tenth = self.plan.profile.loads.1 / LOAD_PARTS;
            let (mut pair, _) = Served::start(self.with.host, group, contender, &[], Pace::Closed)?;
            let one_each = ["connections", "active"].iter().find_map(|name| group.number(name)).unwrap_or(1);
            let iterations =
                filling(tenth, one_each, |n| Ok(pair.slice(group, contender, n)?.sample.elapsed_ns))?;
            pair.finish()?;
            return Ok(served::asked(group, iterations * u64::from(LOAD_PARTS)));
        }
        let (mut worker, _) = self.start(group, contender, &[])?;
        let iterations = filling(self.plan.profile.slice, 1, |n| Ok(worker.slice(n)?.0.elapsed_ns))?;
        worker.finish()?;
        Ok(iterations)
    }

    /// Counters of slices that nobody times.
    fn counted(
        &self,
        group: &Group<'_>,
        contender: &Contender,
        iterations: u64,
    ) -> std::result::Result<Counted, Fault> {
        let sets = self.with.probed.sets();
        let mut found = Counted { counters: self.with.probed.refusals(), switches: None };
        if sets.is_empty() {
            return Ok(found);
        }
        if group.method() == Method::Served {
            let pace = Pace::of(group, iterations, self.plan.profile.loads.1, self.plan.seed);
            let (mut pair, mut attached) = Served::start(self.with.host, group, contender, &sets, pace)?;
            let part = iterations.div_ceil(u64::from(LOAD_PARTS));
            for set in &mut attached {
                let (taken, pairs) = around(set, || pair.slice(group, contender, part))?;
                for (event, before, after) in pairs {
                    let counter = counters::counted(before, after, ledger::divisor(group, &taken.sample)?);
                    found.counters.insert(event.name.to_owned(), counter);
                }
            }
            pair.finish()?;
            return Ok(found);
        }
        let (mut worker, mut attached) = self.start(group, contender, &sets)?;
        slice(group, contender, &mut worker, iterations)?;
        let mut switches = None;
        for set in &mut attached {
            let ((sample, _), pairs) = around(set, || worker.slice(iterations))?;
            let operations = ledger::divisor(group, &sample)?;
            for (event, before, after) in pairs {
                let counter = counters::counted(before, after, operations);
                if event.name == "context-switches" && contender.manifest.kind == Kind::Thread {
                    switches = counter.value.map(|n| ledger::kernel_switches(group, contender, &sample, n));
                }
                found.counters.insert(event.name.to_owned(), counter);
            }
        }
        worker.finish()?;
        found.switches = switches.transpose()?.flatten();
        Ok(found)
    }

    /// Instructions by valgrind, where they were asked for and can repeat.
    fn counted_exactly(
        &self,
        group: &Group<'_>,
        contender: &Contender,
        iterations: u64,
    ) -> Option<(String, Counter)> {
        let exact = self.with.probed.exact().filter(|_| valgrind::repeats(group, contender))?;
        let counter = match exact {
            Support::Supported => valgrind::counted(self.with.host, group, contender, iterations),
            Support::Unsupported(why) => counters::without_value(CounterState::Unsupported, why),
            Support::Denied(why) => counters::without_value(CounterState::Denied, why),
        };
        Some((valgrind::NAME.into(), counter))
    }

    fn start(
        &self,
        group: &Group<'_>,
        contender: &Contender,
        sets: &[Vec<crate::counters::Event>],
    ) -> std::result::Result<(Worker<'a>, Vec<Attached>), Fault> {
        let (mut worker, attached) = Worker::start(self.with.host, contender, &group.cpus, sets)?;
        worker.prepare(group.prepare())?;
        Ok((worker, attached))
    }

    /// One block of every open group, shuffled, so that the host's drift is shared.
    fn round(
        &mut self,
        open: &[usize],
        block: u32,
        look: u32,
        began: Instant,
        budget: Option<Duration>,
        observe: &mut Observer<'_>,
    ) -> Result<()> {
        let plan = self.plan;
        let first_look = plan.profile.looks[0];
        let cells = open.iter().map(|&index| (BlockKind::Cell, &plan.groups[index], block));
        let due = controls::due(block, first_look);
        let controls =
            plan.controls.iter().flat_map(|group| due.clone().map(move |n| (BlockKind::Control, group, n)));
        let mut blocks: Vec<(BlockKind, &Group<'a>, u32)> = cells.chain(controls).collect();
        plan.rng(block, "round").shuffle(&mut blocks);
        blocks.retain(|(_, group, number)| group.method() != Method::Limit || *number == 1);
        blocks.retain(|(kind, group, number)| {
            let id = block_id(*kind, group);
            !self.outcome.blocks.iter().any(|kept| kept.cell == id && kept.block == *number)
        });
        let in_round = blocks.len();
        for (position, (kind, group, number)) in blocks.into_iter().enumerate() {
            // The first look is reached whatever it takes; after it the budget is the limit.
            let spent = budget.is_some_and(|budget| began.elapsed() >= budget);
            if self.interrupted() || (spent && block > first_look) {
                return Ok(());
            }
            let blocks_left = open.len() * (look - block) as usize + in_round - position;
            let id = block_id(kind, group);
            observe(Event::Block {
                group: &id,
                block: number,
                done: self.outcome.blocks.len(),
                of: self.outcome.blocks.len() + blocks_left,
                taken: self.outcome.blocks.len() - self.kept,
                widest: self.widest(open, block),
                elapsed: began.elapsed(),
            })?;
            if kind == BlockKind::Control {
                let mut rng = plan.rng(number, &group.cell(group.contenders[0].id()));
                let (names, asked) = controls::seated(group, &mut rng, plan.profile.slices);
                let record = self.block_of_a_control(group, number, &names, &asked)?;
                if self.interrupted() {
                    return Ok(()); // As below.
                }
                observe(Event::Done(&record))?;
                self.push(record);
                continue;
            }
            let mut rng = plan.rng(block, &group.id);
            let mut record = match group.method() {
                Method::Slices => self.block_of_slices(group, block, &mut rng)?,
                Method::Population => {
                    let units = group.number("units").unwrap_or(0);
                    self.block_one_by_one(group, block, &mut rng, units, |c| self.population(group, c))?
                }
                Method::Ticks => {
                    let ticks = self.plan.profile.ticks;
                    self.block_one_by_one(group, block, &mut rng, ticks, |c| self.ticks(group, c))?
                }
                Method::Limit => {
                    let most = self.plan.profile.most_units;
                    self.block_one_by_one(group, block, &mut rng, most, |c| self.limit(group, c))?
                }
                Method::Served => self.block_of_loads(group, block, &mut rng)?,
            };
            if self.interrupted() {
                return Ok(()); // The block in flight is lost, no other.
            }
            for worker in &mut record.workers {
                if let Some(counted) = self.counted.remove(&group.cell(&worker.contender)) {
                    worker.counters = counted.counters;
                    if let (Some(ledger), Some(switches)) = (&mut worker.ledger, counted.switches) {
                        ledger.switches = Some(switches);
                    }
                }
            }
            observe(Event::Done(&record))?;
            self.push(record);
        }
        Ok(())
    }

    /// One fresh worker a contender, their slices in a balanced order.
    fn block_of_slices(&self, group: &Group<'a>, block: u32, rng: &mut Rng) -> Result<BlockRecord> {
        let _aside = self.stand_aside(group)?;
        let _awake = Awake::for_group(group);
        let known =
            |contender: &Contender| self.iterations.get(&group.cell(contender.id())).copied().unwrap_or(1);
        let seats: Vec<(&Contender, u64)> =
            self.competitors(group).into_iter().map(|c| (c, known(c))).collect();
        let turns = order(rng, seats.len(), self.plan.profile.slices);
        let turns: Vec<Turn> =
            turns.into_iter().map(|seat| Turn { seat, iterations: seats[seat].1 }).collect();
        let (seats, contamination) = self.seated(group, seats, &turns);
        let workers = seats.into_iter().map(|seat| seat.record(group)).collect();
        Ok(block_record(group, block, &seats_of(&turns), workers, contamination))
    }

    /// A block of a control: so many times the same contender, named apart, each slice of which is asked for so many times the
    /// iterations of the cell. What more is asked for is not divided by: to the block it is a slow-down.
    pub(crate) fn block_of_a_control(
        &self,
        group: &Group<'a>,
        block: u32,
        names: &[&str],
        asked: &[Asked],
    ) -> Result<BlockRecord> {
        let _aside = self.stand_aside(group)?;
        let _awake = Awake::for_group(group);
        let contender = group.contenders[0];
        let cell = group.cell(contender.id());
        let iterations = self.iterations.get(&cell).copied().unwrap_or(1).max(controls::LEAST);
        let turn = |asked: &Asked| Turn { seat: asked.seat, iterations: scaled(iterations, asked.times) };
        let turns: Vec<Turn> = asked.iter().map(turn).collect();
        let seats = names.iter().map(|_| (contender, iterations)).collect();
        let (seats, contamination) = self.seated(group, seats, &turns);
        let workers = seats
            .into_iter()
            .zip(names)
            .map(|(seat, name)| WorkerRecord { contender: (*name).to_owned(), ..seat.record(group) });
        let record = block_record(group, block, &seats_of(&turns), workers.collect(), contamination);
        Ok(BlockRecord { kind: BlockKind::Control, cell, ..record })
    }

    /// Fresh workers, warmed up, and their slices in turn.
    fn seated(
        &self,
        group: &Group<'a>,
        seats: Vec<(&'a Contender, u64)>,
        turns: &[Turn],
    ) -> (Vec<Seat<'a>>, Contamination) {
        let mut seats: Vec<Seat<'a>> = seats
            .into_iter()
            .map(|(contender, iterations)| {
                let warmed = self.start(group, contender, &[]).and_then(|(mut worker, _)| {
                    for _ in 0..contender.manifest.warmup {
                        slice(group, contender, &mut worker, iterations)?;
                    }
                    Ok(worker)
                });
                Seat { contender, iterations, worker: warmed, samples: Vec::new() }
            })
            .collect();
        let before = Disturbance::read(&group.cpus, pids(&seats));
        let mut idle_cpu = Duration::ZERO;
        for turn in turns {
            if self.interrupted() {
                break;
            }
            let used_before = waiting_cpu_time(&seats, turn.seat);
            seats[turn.seat].take(group, turn.iterations);
            idle_cpu += waiting_cpu_time(&seats, turn.seat).saturating_sub(used_before);
        }
        let contamination = before.until(Disturbance::read(&group.cpus, pids(&seats)), idle_cpu);
        (seats, contamination)
    }

    /// One fresh server and its load at a time, contenders in random order: what waits would keep its connections, and the kernel's memory.
    fn block_of_loads(&self, group: &Group<'a>, block: u32, rng: &mut Rng) -> Result<BlockRecord> {
        let _aside = self.stand_aside(group)?;
        let competitors = self.competitors(group);
        let mut order: Vec<usize> = (0..competitors.len()).collect();
        rng.shuffle(&mut order);
        let seed = rng.u64(..);
        let before = Disturbance::read(&group.cpus, []);
        let mut workers: Vec<WorkerRecord> = competitors.iter().map(|c| empty_record(c, 1)).collect();
        for &turn in &order {
            if self.interrupted() {
                break;
            }
            let contender = competitors[turn];
            let iterations = self.iterations.get(&group.cell(contender.id())).copied().unwrap_or(1);
            let (slices, length) = self.plan.profile.loads;
            let pace = Pace::of(group, iterations, length, seed);
            let record = served::measured(self.with.host, group, contender, iterations, slices, pace);
            workers[turn] = record.unwrap_or_else(|fault| WorkerRecord {
                status: fault.status,
                reason: Some(fault.reason),
                ..empty_record(contender, iterations)
            });
        }
        let contamination = before.until(Disturbance::read(&group.cpus, []), Duration::ZERO);
        Ok(block_record(group, block, &order, workers, contamination))
    }

    /// One worker at a time, contenders in random order, each measured by itself.
    fn block_one_by_one(
        &self,
        group: &Group<'a>,
        block: u32,
        rng: &mut Rng,
        iterations: u64,
        measured: impl Fn(&Contender) -> std::result::Result<WorkerRecord, Fault>,
    ) -> Result<BlockRecord> {
        let _aside = self.stand_aside(group)?;
        let mut competitors = self.competitors(group);
        rng.shuffle(&mut competitors);
        let before = Disturbance::read(&group.cpus, []);
        let mut workers = Vec::new();
        for contender in &competitors {
            if self.interrupted() {
                break;
            }
            let record = repeated(MEASURED_AGAIN, || measured(contender));
            workers.push(record.unwrap_or_else(|fault| WorkerRecord {
                status: fault.status,
                reason: Some(fault.reason),
                ..empty_record(contender, iterations)
            }));
        }
        let order: Vec<usize> = (0..competitors.len()).collect();
        let contamination = before.until(Disturbance::read(&group.cpus, []), Duration::ZERO);
        Ok(block_record(group, block, &order, workers, contamination))
    }

    /// One slice of ticks.
    fn ticks(&self, group: &Group<'_>, contender: &Contender) -> std::result::Result<WorkerRecord, Fault> {
        let (mut worker, _) = self.start(group, contender, &[])?;
        let threads = ticks::threads(worker.pid());
        let (sample, _) = worker.slice(self.plan.profile.ticks)?;
        ledger::checked(group, contender, &sample)?;
        ticks::threads_agree(&sample, threads, || ticks::threads(worker.pid()))?;
        let placed = worker.leave()?;
        Ok(WorkerRecord { placed, ..ticks::measured(group, contender, &sample)? })
    }

    /// One search for the most units.
    fn limit(&self, group: &Group<'_>, contender: &Contender) -> std::result::Result<WorkerRecord, Fault> {
        let most = self.plan.profile.most_units;
        let (mut worker, _) = self.start(group, contender, &[])?;
        let (sample, _) = worker.slice(most)?;
        ledger::checked(group, contender, &sample)?;
        worker.finish()?;
        if sample.limit.is_none() {
            return Err(Fault::invalid("the search ended without the name of a limit"));
        }
        Ok(WorkerRecord {
            slices_ns: vec![sample.elapsed_ns],
            values: BTreeMap::from([(group.primary().to_owned(), sample.units as f64)]),
            reason: sample.limit.clone(),
            operations: sample.units,
            ledger: Some(ledger::of(group, contender, std::slice::from_ref(&sample))),
            ..empty_record(contender, most)
        })
    }

    fn population(
        &self,
        group: &Group<'_>,
        contender: &Contender,
    ) -> std::result::Result<WorkerRecord, Fault> {
        /// For the kernel to finish what growing began: exits of the former worker, per-CPU books.
        const SETTLE: Duration = Duration::from_millis(200);
        let units = group.number("units").ok_or_else(|| Fault::failed("the definition has no `units`"))?;
        let cannot = |e: std::io::Error| Fault::failed(format!("cannot read the memory ledgers: {e}"));
        let (mut worker, _) = self.start(group, contender, &[])?;
        let mut readings = Vec::new();
        let mut slices_ns = Vec::new();
        for population in [units.div_ceil(4), units.div_ceil(2), units] {
            let (sample, _) = worker.slice(population)?;
            ledger::checked(group, contender, &sample)?;
            if sample.parked != Some(population) {
                let parked = sample.parked.map_or("none".to_owned(), |n| n.to_string());
                return Err(Fault::failed(format!("asked to park {population} units, parked {parked}")));
            }
            std::thread::sleep(SETTLE);
            slices_ns.push(sample.elapsed_ns);
            readings.push(memory::Reading {
                units: population,
                process: Process::read(worker.pid()).map_err(cannot)?,
                system: System::read().map_err(cannot)?,
                user_stack: sample.user_stack_bytes,
                cgroup: Cgroup::read(worker.pid()),
            });
        }
        let placed = worker.leave()?;
        let memory = memory::bill(&readings).map_err(Fault::invalid)?;
        Ok(WorkerRecord {
            slices_ns,
            values: BTreeMap::from([("bytes".to_owned(), memory.per_unit_bytes.total)]),
            operations: units,
            ledger: Some(Ledger { units, peak_live: units, switches: None }),
            memory: Some(memory),
            placed,
            ..empty_record(contender, units)
        })
    }

    /// Half-width of the widest interval of a group, as a share: of the ratio to the first other contender,
    /// or without one of the median, over the blocks up to `last`. `None` before the first look.
    fn width(&self, group: &Group<'a>, last: u32) -> Option<f64> {
        let competitors = self.competitors(group);
        let metric = group.primary();
        let logs = |a: &Contender, b: Option<&Contender>| {
            let blocks = self.outcome.blocks_of(group).filter(|block| block.block <= last);
            let value = |block: &BlockRecord, who: &Contender| {
                let worker = block.workers.iter().find(|w| w.contender == who.id())?;
                worker.values.get(metric).copied()
            };
            let log = |block: &BlockRecord| {
                let below = match b {
                    Some(b) => value(block, b)?,
                    None => 1.0,
                };
                Some((value(block, a)? / below).ln())
            };
            stats::ratio::over_blocks(blocks.filter_map(log).collect::<Vec<f64>>())
        };
        let base = competitors.iter().find(|c| c.id() == "thread").or(competitors.first()).copied()?;
        let others = competitors.iter().filter(|c| c.id() != base.id());
        let widths: Option<Vec<f64>> = if competitors.len() == 1 {
            logs(base, None).map(|i| vec![i.relative_half_width()])
        } else {
            others.map(|c| logs(c, Some(base)).map(|i| i.relative_half_width())).collect()
        };
        widths?.into_iter().reduce(f64::max)
    }

    fn widest(&self, open: &[usize], last: u32) -> Option<f64> {
        let width = self.plan.profile.width?;
        let widths = open.iter().filter_map(|&index| self.width(&self.plan.groups[index], last));
        widths.filter(|w| *w > width).reduce(f64::max)
    }
}

/// What the record of a block calls what it is of.
fn block_id(kind: BlockKind, group: &Group<'_>) -> String {
    match kind {
        BlockKind::Cell => group.id.clone(),
        BlockKind::Control => group.cell(group.contenders[0].id()),
    }
}

fn block_record(
    group: &Group<'_>,
    block: u32,
    order: &[usize],
    workers: Vec<WorkerRecord>,
    contamination: Contamination,
) -> BlockRecord {
    BlockRecord {
        kind: BlockKind::Cell,
        cell: group.id.clone(),
        block,
        order: letters(order),
        redrawn: false,
        workers,
        contamination,
    }
}

/// A slice of a block: whose, and of how many iterations.
#[derive(Debug, Clone, Copy)]
struct Turn {
    seat: usize,
    iterations: u64,
}

fn seats_of(turns: &[Turn]) -> Vec<usize> {
    turns.iter().map(|turn| turn.seat).collect()
}

/// A slice of a control's block: whose, and how many times the iterations of the cell it is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Asked {
    pub(crate) seat: usize,
    pub(crate) times: f64,
}

/// A contender's place in a block.
struct Seat<'a> {
    contender: &'a Contender,
    /// Of a slice of this cell.
    iterations: u64,
    worker: std::result::Result<Worker<'a>, Fault>,
    samples: Vec<Sample>,
}

impl<'a> Seat<'a> {
    fn running(&self) -> Option<&Worker<'a>> {
        self.worker.as_ref().ok()
    }

    /// Takes one slice; a fault ends the worker.
    fn take(&mut self, group: &Group<'_>, iterations: u64) {
        let Ok(worker) = &mut self.worker else { return };
        match slice(group, self.contender, worker, iterations) {
            Ok(sample) => self.samples.push(sample),
            Err(fault) => self.worker = Err(fault),
        }
    }

    fn record(self, group: &Group<'_>) -> WorkerRecord {
        let left = self.worker.and_then(Worker::leave);
        let record = left.and_then(|placed| {
            let record = measured(group, self.contender, self.iterations, &self.samples)?;
            Ok(WorkerRecord { placed, ..record })
        });
        record.unwrap_or_else(|fault| WorkerRecord {
            status: fault.status,
            reason: Some(fault.reason),
            slices_ns: self.samples.iter().map(|s| s.elapsed_ns).collect(),
            ..empty_record(self.contender, self.iterations)
        })
    }
}

/// Processes of the workers that still run.
fn pids<'s>(seats: &'s [Seat<'_>]) -> impl Iterator<Item = u32> + 's {
    seats.iter().filter_map(Seat::running).map(Worker::pid)
}

/// CPU time of the workers that do not hold the baton: they should use none.
fn waiting_cpu_time(seats: &[Seat<'_>], turn: usize) -> Duration {
    let waiting = seats.iter().enumerate().filter(|(seat, _)| *seat != turn);
    waiting.filter_map(|(_, seat)| seat.running()).map(Worker::cpu_time).sum()
}

pub(crate) fn empty_record(contender: &Contender, iterations: u64) -> WorkerRecord {
    WorkerRecord {
        contender: contender.id().to_owned(),
        iterations,
        slices_ns: Vec::new(),
        values: BTreeMap::new(),
        status: Status::Measured,
        reason: None,
        minima: BTreeMap::new(),
        operations: 0,
        ledger: None,
        counters: BTreeMap::new(),
        memory: None,
        latency: None,
        placed: None,
    }
}

/// One slice whose books are right and whose time the parent's clock confirms; taken again where they are not.
fn slice(
    group: &Group<'_>,
    contender: &Contender,
    worker: &mut Worker<'_>,
    iterations: u64,
) -> std::result::Result<Sample, Fault> {
    repeated(SLICES_AGAIN, || {
        let (sample, outside) = worker.slice(iterations)?;
        ledger::checked(group, contender, &sample)?;
        ledger::confirmed(&sample, outside)?;
        Ok(sample)
    })
}

/// A slice that its books or clocks refute is repeated so often before its cell is: among two threads the kernel
/// at times lets a yield come back to who gave way, 1 to 2 % of them for some ten slices running.
const SLICES_AGAIN: u32 = 15;

/// Counts are of one slice in a process of its own: where they are refuted, those ten slices may have been met.
const COUNTS_AGAIN: u32 = 4;

/// A population or a slice of ticks takes a second, and is refuted when the machine did much for others meanwhile.
const MEASURED_AGAIN: u32 = 2;

/// Tries again what its own books or clocks refute, never what a worker that failed did.
fn repeated<T>(
    again: u32,
    mut attempt: impl FnMut() -> std::result::Result<T, Fault>,
) -> std::result::Result<T, Fault> {
    let mut result = attempt();
    for _ in 0..again {
        if !matches!(&result, Err(fault) if fault.status == Status::Invalid) {
            break;
        }
        result = attempt();
    }
    result
}

/// What a set of counters saw of a slice.
fn around<T>(
    set: &mut Attached,
    slice: impl FnOnce() -> std::result::Result<T, Fault>,
) -> std::result::Result<(T, Vec<Pair>), Fault> {
    let counted = set.around(slice);
    let (slice, pairs) = counted.map_err(|e| Fault::failed(format!("cannot read the counters: {e}")))?;
    Ok((slice?, pairs))
}

/// A slice of a load is a second; what needs no such length takes one in so many parts.
const LOAD_PARTS: u32 = 10;

/// How many iterations fill a slice, tried from `first` on; `slice` tells the nanoseconds that some took.
fn filling(
    target: Duration,
    first: u64,
    mut slice: impl FnMut(u64) -> std::result::Result<u64, Fault>,
) -> std::result::Result<u64, Fault> {
    let mut iterations = first;
    loop {
        let elapsed = Duration::from_nanos(slice(iterations)?);
        // Half a slice is long enough for the rest to be a rule of three.
        if elapsed * 2 >= target {
            let factor = target.as_secs_f64() / elapsed.as_secs_f64();
            return Ok(scaled(iterations, factor).max(1));
        }
        if iterations >= 1 << 40 {
            return Err(Fault::failed(format!("{iterations} iterations take {elapsed:?}: no work is done")));
        }
        let factor = target.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
        // At most eightfold at a time: the first iterations of a worker are slower than the rest.
        iterations = scaled(iterations, factor.clamp(2.0, 8.0));
    }
}

fn scaled(iterations: u64, factor: f64) -> u64 {
    let scaled = iterations as f64 * factor;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by 2^44, positive")]
    let scaled = scaled.clamp(1.0, (1_u64 << 44) as f64) as u64;
    scaled
}

/// A worker's numbers: the median and the least of its slices.
fn measured(
    group: &Group<'_>,
    contender: &Contender,
    iterations: u64,
    samples: &[Sample],
) -> std::result::Result<WorkerRecord, Fault> {
    let definition = group.definition;
    let mut record = empty_record(contender, iterations);
    let beside = definition.beside.iter().map(|(name, b)| (name.as_str(), b.dividend.as_ref(), &b.divisor));
    let primary = (group.primary(), None, &definition.divisor);
    for (name, dividend, divisor) in std::iter::once(primary).chain(beside) {
        let dividends: Option<Vec<u64>> = match dividend {
            None => Some(samples.iter().map(|s| s.elapsed_ns).collect()),
            Some(formula) => samples.iter().map(|s| ledger::observed(group, s, formula)).collect(),
        };
        // What a worker has no count of cannot be divided: then the cell has no such metric.
        let Some(dividends) = dividends else { continue };
        let costs = samples.iter().zip(dividends).map(|(sample, dividend)| {
            // Of a control; one everywhere else.
            let times = sample.iterations as f64 / iterations as f64;
            Ok(dividend as f64 / ledger::evaluated(group, sample, divisor)? as f64 * times)
        });
        let costs = costs.collect::<std::result::Result<Vec<f64>, Fault>>()?;
        let costs = stats::Sample::new(costs).ok_or_else(|| Fault::failed("no slice was measured"))?;
        record.values.insert(name.to_owned(), costs.median());
        record.minima.insert(name.to_owned(), costs.minimum());
    }
    record.slices_ns = samples.iter().map(|s| s.elapsed_ns).collect();
    for sample in samples {
        // Those that it stands for: what a control was asked for beyond the cell's count is a slow-down there, too.
        record.operations +=
            scaled(ledger::divisor(group, sample)?, iterations as f64 / sample.iterations as f64);
    }
    record.ledger = Some(ledger::of(group, contender, samples));
    Ok(record)
}
