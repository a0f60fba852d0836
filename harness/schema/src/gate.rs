//! `switchmark.gate/1`: a verdict on two builds, or on a run against a stored one.

use crate::result::{Control, Finding, Machine, Run, Tool};
use crate::version::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The verdict and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateDocument {
    /// `switchmark.gate/1`.
    pub schema: String,
    /// What measured.
    pub tool: Tool,
    /// How it was asked to.
    pub run: Run,
    /// Where.
    pub machine: Machine,
    /// Findings on the machine.
    #[serde(default)]
    pub doctor: Vec<Finding>,
    /// Controls of this gate.
    #[serde(default)]
    pub controls: Vec<Control>,
    /// Sentences a reader should see before a verdict.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How the verdict was reached.
    pub lane: Lane,
    /// What head is compared with.
    pub base: GateSide,
    /// What is judged.
    pub head: GateSide,
    /// Whether both sides are the same bytes.
    pub identical: bool,
    /// One verdict per cell and metric.
    pub cells: Vec<GateCell>,
    /// The cells by verdict.
    pub census: GateCensus,
    /// Exit code.
    pub exit: u8,
}

/// How a verdict was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Fresh processes of both builds, side by side.
    Paired,
    /// Counts that repeat bit for bit.
    Exact,
    /// Thread-relative ratios against a stored result.
    Ratio,
}

/// One side of a gate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GateSide {
    /// The command, or the document's path.
    #[serde(default)]
    pub command: String,
    /// Hash of the executable, or of the document.
    #[serde(default)]
    pub hash: String,
    /// Machine key of a stored result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// One cell's verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateCell {
    /// Cell id, the contender included.
    pub id: String,
    /// Metric judged.
    pub metric: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where it is not plainly OK.
    pub reason: Option<String>,
    /// Blocks it rests on.
    pub blocks: u32,
    /// Blocks taken again.
    pub redrawn: u32,
    /// Head against base.
    pub estimate: Option<GateEstimate>,
    /// The evidence as it grew.
    #[serde(default)]
    pub trace: Vec<TracePoint>,
}

/// The verdict on a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Worse by more than is tolerated.
    Regressed,
    /// Not worse by more than is tolerated.
    Ok,
    /// Better; reported, never gates.
    Improved,
    /// Not known.
    Inconclusive,
    /// Not possible here.
    Unsupported,
    /// Crashed, hung, wrong.
    Failed,
}

/// How much head differs from base.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateEstimate {
    /// Positive: head is worse where less is better.
    pub percent: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level.
    pub level: f64,
}

/// The evidence after one block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TracePoint {
    /// Block number.
    pub block: u32,
    /// ln(head / base).
    pub log_ratio: f64,
    /// Evidence for a regression.
    pub e_regressed: f64,
    /// Evidence against one.
    pub e_ok: f64,
}

/// The cells by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GateCensus {
    /// All cells.
    pub total: u32,
    /// With one of the verdicts REGRESSED, OK, IMPROVED.
    pub judged: u32,
    /// Worse.
    pub regressed: u32,
    /// Not worse.
    pub ok: u32,
    /// Better.
    pub improved: u32,
    /// Not known.
    pub inconclusive: u32,
    /// Not possible here.
    pub unsupported: u32,
    /// Crashed, hung, wrong.
    pub failed: u32,
}

impl GateCensus {
    /// Counts the cells of a document.
    pub fn of(cells: &[GateCell]) -> GateCensus {
        let mut census = GateCensus::default();
        for cell in cells {
            census.total += 1;
            *match cell.verdict {
                Verdict::Regressed => &mut census.regressed,
                Verdict::Ok => &mut census.ok,
                Verdict::Improved => &mut census.improved,
                Verdict::Inconclusive => &mut census.inconclusive,
                Verdict::Unsupported => &mut census.unsupported,
                Verdict::Failed => &mut census.failed,
            } += 1;
        }
        census.judged = census.regressed + census.ok + census.improved;
        census
    }
}

impl Document for GateDocument {
    const SCHEMA: &'static str = "switchmark.gate/1";

    fn check(&self) -> Result<(), String> {
        if self.census == GateCensus::of(&self.cells) {
            Ok(())
        } else {
            Err("at census: it does not count the cells of this document".into())
        }
    }
}
