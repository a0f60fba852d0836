//! `blocks.jsonl`: a head, then a line a block, flushed as it is measured. A kill loses the block in flight.

use crate::result::{Counter, Latency, Ledger, Memory, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlocksHead {
    /// `switchmark.blocks/1`.
    pub schema: String,
    /// Seed of the run.
    pub seed: u64,
    /// Hash of the plan.
    pub plan: String,
    /// Machine key.
    pub machine: String,
    /// Version and commit of what measures.
    #[serde(default)]
    pub tool: String,
}

impl BlocksHead {
    /// Schema name and major version.
    pub const SCHEMA: &'static str = "switchmark.blocks/1";
}

/// What a block is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// Cells of the run or the gate.
    Cell,
    /// A control.
    Control,
}

/// One block: a fresh worker per contender, slices interleaved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockRecord {
    /// What it is for.
    pub kind: BlockKind,
    /// Workload, parameters and placement; in a gate and a control the contender too.
    pub cell: String,
    /// From 1, within `cell`.
    pub block: u32,
    /// Whose slice when: a letter per worker, in the order of `workers`.
    pub order: String,
    /// Whether it was taken again by the declared rule.
    pub redrawn: bool,
    /// One per contender.
    pub workers: Vec<WorkerRecord>,
    /// What disturbed it.
    pub contamination: Contamination,
}

/// What one worker process delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRecord {
    /// Contender; in a control `twin` or `injected`, in a gate `base` or `head`.
    pub contender: String,
    /// Iterations of a slice.
    pub iterations: u64,
    /// Elapsed time of each slice, in order.
    pub slices_ns: Vec<u64>,
    /// The worker's number by metric.
    pub values: BTreeMap<String, f64>,
    /// Whether it has numbers.
    pub status: Status,
    /// Always set where the status is not `measured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Least slice by metric, in the metric's unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub minima: BTreeMap<String, f64>,
    /// Operations of all slices: what the counters are divided by.
    #[serde(default)]
    pub operations: u64,
    /// What really happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// Counters of a worker of their own, in the cell's first block; no other has any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, Counter>,
    /// The bill of the stack family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Latencies of this worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Where it was; of a server, not of its load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
}

/// Where the kernel had a worker's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placed {
    /// CPUs that its first thread might use at the end, as `Cpus_allowed_list` has them.
    pub allowed: String,
    /// CPUs that its first thread was last on, looked at after each slice, ascending.
    pub seen: Vec<usize>,
}

/// What disturbed a block, from outside the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Contamination {
    /// Ticks stolen by the hypervisor.
    pub steal_ticks: u64,
    /// Microseconds of CPU pressure.
    pub pressure_us: u64,
    /// Involuntary switches of the process that held the baton.
    pub involuntary: u64,
    /// Migrations while pinned.
    pub migrations: u64,
    /// Major page faults.
    pub faults: u64,
    /// CPU time of those who waited for the baton.
    pub idle_cpu_ns: u64,
}
