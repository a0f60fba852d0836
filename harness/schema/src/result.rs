//! `switchmark.result/1`: everything a run found out, and all that a page needs.

use crate::version::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One run on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultDocument {
    /// `switchmark.result/1`.
    pub schema: String,
    /// What measured.
    pub tool: Tool,
    /// How it was asked to.
    pub run: Run,
    /// Where.
    pub machine: Machine,
    /// Findings on whether the machine is fit to measure on.
    #[serde(default)]
    pub doctor: Vec<Finding>,
    /// The questions, so that a page needs nothing else.
    pub definitions: Vec<Definition>,
    /// The numbers, and the reasons where there is none.
    pub cells: Vec<Cell>,
    /// Comparisons whose answer is known beforehand; never cells.
    #[serde(default)]
    pub controls: Vec<Control>,
    /// The cells by status.
    pub census: Census,
    /// Sentences a reader should see before a number.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The program that measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Package version.
    pub version: String,
    /// Commit it was built from, or `unknown`.
    pub git: String,
    /// Compiler that built it.
    pub rustc: String,
}

/// The run as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Also the name of its folder.
    pub id: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub finished: String,
    /// Fixes every random order of the run.
    pub seed: u64,
    /// `smoke`, `quick`, `standard` or `full`.
    pub profile: String,
    /// Command line after the program's name.
    pub arguments: Vec<String>,
}

/// The machine's fingerprint; results of different keys are not compared in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Hash over what does not drift: CPU model and count, NUMA nodes, kernel major.minor, hypervisor.
    pub key: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs that the run was allowed to use.
    pub cpus: u32,
    /// Kernel release.
    pub kernel: String,
    /// `none` on bare metal.
    pub hypervisor: String,
    /// Whether hardware counters exist and may be read.
    pub pmu: bool,
    /// NUMA nodes.
    #[serde(default)]
    pub numa_nodes: u32,
    /// Total memory, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// One thing the doctor looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What was checked.
    pub check: String,
    /// How it stands.
    pub status: FindingStatus,
    /// Path and value.
    pub evidence: String,
    /// What it does to which family.
    pub effect: String,
    /// A command.
    pub remedy: String,
}

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingStatus {
    /// As it should be.
    Ok,
    /// Numbers are noisier or narrower than they could be.
    Warn,
    /// Numbers are not to be trusted.
    Bad,
    /// Not visible from here.
    Unknown,
}

/// A workload's question, as the page prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Definition {
    /// Workload id, as in `switch.yield`.
    pub id: String,
    /// The question.
    pub question: String,
    /// Unit of the primary metric.
    pub unit: String,
    /// Famous ways to get it wrong.
    #[serde(default)]
    pub traps: String,
    /// What counts the work independently.
    #[serde(default)]
    pub witness: String,
}

/// Workload × parameters × placement × contender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// `workload/param=value/…/placement/contender`, parameters in definition order.
    pub id: String,
    /// Workload id.
    pub workload: String,
    /// Contender id.
    pub contender: String,
    /// Parameters by name.
    pub params: BTreeMap<String, ParamValue>,
    /// `same-core`, `cross-core`, `all-cores`, `free`, `one-core`.
    pub placement: String,
    /// Whether there is a number.
    pub status: Status,
    /// Always set where the status is not `measured`.
    pub reason: Option<String>,
    /// Name of the metric that answers the question.
    pub primary: String,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Metric>,
    /// What really happened.
    pub ledger: Option<Ledger>,
    /// Kernel and hardware counters by event.
    #[serde(default)]
    pub counters: BTreeMap<String, Counter>,
    /// The bill of the stack family.
    pub memory: Option<Memory>,
    /// Merged latencies, for drawing alone.
    pub latency: Option<Latency>,
}

/// A parameter's value: a number, or a word such as `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ParamValue {
    /// A count, or in the unit that the parameter's name says.
    Number(u64),
    /// A word.
    Word(String),
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParamValue::Number(n) => n.fmt(f),
            ParamValue::Word(w) => w.fmt(f),
        }
    }
}

/// Whether a cell has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has.
    Measured,
    /// It was measured, and its own books refute it.
    Invalid,
    /// The contender or the machine cannot do this.
    Unsupported,
    /// The contender is not built or its toolchain is missing.
    Skipped,
    /// The worker crashed, hung or answered wrongly.
    Failed,
}

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

/// One measured quantity: a number per worker process, and what follows from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// `ns/switch`, `bytes/unit`.
    pub unit: String,
    /// Which direction is good.
    pub better: Better,
    /// Least slice of all, for nanosecond metrics.
    pub minimum: Option<f64>,
    /// One number per worker process, by block.
    pub samples: Vec<Sample>,
    /// `null` under six blocks.
    pub estimate: Option<Estimate>,
    /// To `thread` and to every other contender of the block; empty under six blocks.
    #[serde(default)]
    pub ratios: Vec<Ratio>,
}

/// One worker process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Block number, from 1; the same number pairs contenders of one block.
    pub block: u32,
    /// In the metric's unit.
    pub value: f64,
}

/// Median over processes with its order-statistic interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Median over processes.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// True confidence level of the pair of order statistics.
    pub level: f64,
    /// `order-statistic`.
    pub method: String,
    /// Why no further block was taken.
    pub stopped: Stopped,
}

/// Why a cell took no further block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// The interval is narrow enough.
    Width,
    /// The time was used up, or the run interrupted.
    Budget,
    /// The profile's blocks are done.
    Cap,
}

/// This cell's value over another contender's, paired by block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// The other contender.
    pub to: String,
    /// Median over blocks.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// True confidence level.
    pub level: f64,
    /// Blocks in which both have a number.
    pub blocks: u32,
}

/// What really happened, beside what should have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    /// Units created in the measured slices.
    pub units: u64,
    /// Most units alive at once.
    pub peak_live: u64,
    /// `null` where the workload promises no number of switches.
    pub switches: Option<Switches>,
}

/// Switches counted against switches promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switches {
    /// By the definition's formula; `null` where switches are recorded, not checked.
    pub expected: Option<u64>,
    /// By `source`.
    pub observed: u64,
    /// Who counted: `worker`, `perf`, `proc`.
    pub source: String,
}

/// One event over all slices of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counter {
    /// Whether the value can be used.
    pub state: CounterState,
    /// Sum over the slices; absent where it was not read, never 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// Value by operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_op: Option<f64>,
    /// Share of the time the event was counted, where `scaled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Always set where there is no value, with the remedy where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a counter's value can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CounterState {
    /// Counted all the time.
    Counted,
    /// Counted a part of the time and scaled up; may not gate.
    Scaled,
    /// Opened, but never scheduled.
    NotCounted,
    /// The machine has no such event.
    Unsupported,
    /// The kernel refuses it to this user.
    Denied,
    /// It wrapped, or ran backwards.
    Overflow,
}

/// What a unit weighs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Bytes per unit by component.
    pub per_unit_bytes: PerUnitBytes,
    /// Mappings per unit.
    pub vmas_per_unit: f64,
    /// Address space per unit, in bytes.
    pub virtual_bytes: f64,
    /// What the worker's control group is charged for a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Witness>,
}

/// The memory controller's books of the worker's control group: beside the bill, and never held against it. Others in the group are in it too.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Witness {
    /// Anonymous pages per unit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<f64>,
    /// The kernel's memory per unit, in bytes: stacks, records and page tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<f64>,
    /// Always set where there is no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Bytes per unit by component; `total` is their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PerUnitBytes {
    /// The whole bill.
    pub total: f64,
    /// Pages of the units' stacks.
    pub user_stack: f64,
    /// Other pages of the process.
    pub user_other: f64,
    /// Kernel stacks.
    pub kernel_stack: f64,
    /// Kernel objects: task, signal, mappings.
    pub slab: f64,
    /// Page tables.
    pub page_tables: f64,
}

/// Latencies merged over workers: drawn, never judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Percentiles and extremes by name (`p50`, `p99`, `p99.9`, `max`), in nanoseconds: those with ten latencies of a worker beyond them, each the
    /// middle of the workers'.
    #[serde(flatten)]
    pub percentiles: BTreeMap<String, f64>,
    /// Latencies merged.
    pub count: u64,
    /// `open` or `closed`.
    #[serde(rename = "loop")]
    pub load: String,
    /// All of them by value, in nanoseconds to three digits: an HDR histogram in its interchange form V2, uncompressed, base64 (`Histogram`).
    pub histogram: Option<String>,
}

/// A comparison whose answer is known beforehand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// What is known of it.
    pub kind: ControlKind,
    /// The cell it was taken on.
    pub cell: String,
    /// Contender and twin, by block.
    pub samples: Vec<ControlSample>,
    /// Twin over contender.
    pub ratio: Ratio,
    /// Whether the known answer came out.
    pub passed: bool,
}

/// What is known of a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControlKind {
    /// A twin: the ratio is 1.
    Null,
    /// A twin asked for 7 % more: the ratio is not 1.
    Liveness,
}

/// One control block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ControlSample {
    /// Block number.
    pub block: u32,
    /// The contender.
    pub value: f64,
    /// Its twin.
    pub twin: f64,
}

/// The cells by status; `total` is their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Census {
    /// All cells.
    pub total: u32,
    /// With a number.
    pub measured: u32,
    /// Refuted by their own books.
    pub invalid: u32,
    /// Not possible here.
    pub unsupported: u32,
    /// Not built.
    pub skipped: u32,
    /// Crashed, hung, wrong.
    pub failed: u32,
}

impl Census {
    /// Counts the cells of a document.
    pub fn of(cells: &[Cell]) -> Census {
        let mut census = Census::default();
        for cell in cells {
            census.total += 1;
            *match cell.status {
                Status::Measured => &mut census.measured,
                Status::Invalid => &mut census.invalid,
                Status::Unsupported => &mut census.unsupported,
                Status::Skipped => &mut census.skipped,
                Status::Failed => &mut census.failed,
            } += 1;
        }
        census
    }
}

impl Cell {
    /// The cell's id without the contender: what the contenders of one block share.
    pub fn group(&self) -> &str {
        self.id.rsplit_once('/').map_or(&self.id, |(group, _)| group)
    }

    /// The metric that answers the question, where there is a number.
    pub fn primary_metric(&self) -> Option<&Metric> {
        self.metrics.get(&self.primary)
    }
}

/// More cells than any run can have; a document with more is hostile.
const MAX_CELLS: usize = 100_000;

impl Document for ResultDocument {
    const SCHEMA: &'static str = "switchmark.result/1";

    fn check(&self) -> Result<(), String> {
        if self.cells.len() > MAX_CELLS {
            return Err(format!("at cells: {} cells, more than {MAX_CELLS}", self.cells.len()));
        }
        if self.census != Census::of(&self.cells) {
            return Err("at census: it does not count the cells of this document".into());
        }
        let mut ids = std::collections::BTreeSet::new();
        for (index, cell) in self.cells.iter().enumerate() {
            let at = |what: String| Err(format!("at cells[{index}] ({}): {what}", cell.id));
            if !ids.insert(&cell.id) {
                return at("the id occurs twice".into());
            }
            if cell.status != Status::Measured && cell.reason.is_none() {
                return at("a status other than measured needs a reason".into());
            }
            if cell.status == Status::Measured && cell.primary_metric().is_none() {
                return at(format!("measured, but without its primary metric `{}`", cell.primary));
            }
            for (name, metric) in &cell.metrics {
                if let Some(sample) = metric.samples.iter().find(|s| !s.value.is_finite() || s.value < 0.0) {
                    return at(format!("metrics.{name}: block {} has value {}", sample.block, sample.value));
                }
                let mut blocks = std::collections::BTreeSet::new();
                if let Some(sample) = metric.samples.iter().find(|s| !blocks.insert(s.block)) {
                    return at(format!("metrics.{name}: block {} occurs twice", sample.block));
                }
            }
        }
        Ok(())
    }
}
