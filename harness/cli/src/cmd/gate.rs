//! `switchmark gate --baseline FILE`: the ratio lane.

use super::print;
use super::run::{color, width};
use crate::measure::{self, measure};
use clap::ValueEnum;
use std::fs;
use std::path::PathBuf;
use switchmark_harness::document::{read, to_json, write_whole};
use switchmark_harness::environment::hex_digest;
use switchmark_harness::gate::ratio;
use switchmark_harness::{Error, Result};
use switchmark_reports::{gate_markdown, gate_text};
use switchmark_schema::{GateDocument, GateSide, ResultDocument};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stored result whose thread-relative ratios this run is held against.
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,
    #[command(flatten)]
    measure: measure::Arguments,
    /// Allow a baseline of another machine.
    #[arg(long)]
    across_machines: bool,
    /// What cells that could not be judged mean.
    #[arg(long, value_enum, default_value_t = Inconclusive::Pass)]
    inconclusive: Inconclusive,
    /// An invalid cell is a failure, and an inconclusive one is not a pass.
    #[arg(long)]
    strict: bool,
    /// How to print the verdict.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Inconclusive {
    Pass,
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let base: ResultDocument = read(&arguments.baseline)?;
    let base_side = side(&arguments.baseline, &base)?;
    refuse_a_gate_that_cannot_fire(&base, &arguments.measure)?;
    refuse_another_machine(&base, arguments)?;
    let measured = measure(&arguments.measure)?;
    let exit = measured.exit_code(arguments.strict);
    let (head, folder) = (measured.document, measured.folder);
    let head_side = side(&folder.join("result.json"), &head)?;
    let mut document = ratio::judge(&base, &head, [base_side, head_side])?;
    document.exit = exit_code(&document, exit, arguments);
    write_whole(&folder.join("gate.json"), to_json(&document).as_bytes())?;
    print(&match arguments.format {
        Format::Text => gate_text(&document, width(), color()),
        Format::Markdown => gate_markdown(&document),
        Format::Json => to_json(&document),
    })?;
    Ok(document.exit)
}

/// 130 and 3 before 1 before 4: what could not be judged may hide what would have been found.
fn exit_code(document: &GateDocument, of_run: u8, arguments: &Arguments) -> u8 {
    let doubtful = document.census.inconclusive > 0
        && (arguments.strict || arguments.inconclusive == Inconclusive::Fail);
    match (of_run, document.exit) {
        (0, 0) if doubtful => 4,
        (0, verdict) => verdict,
        (of_run, _) => of_run,
    }
}

/// A gate that could never fire is refused before it measures.
fn refuse_a_gate_that_cannot_fire(base: &ResultDocument, measure: &measure::Arguments) -> Result<()> {
    let metrics = base.cells.iter().flat_map(|cell| cell.metrics.values());
    let stored = metrics.map(|metric| metric.samples.len()).max().unwrap_or(0);
    let sides = [("the baseline has", stored), ("this run takes", measure.blocks_at_most()?)];
    match sides.into_iter().find(|(_, blocks)| *blocks < 6) {
        None => Ok(()),
        Some((side, blocks)) => Err(Error::usage(format!(
            "{side} {blocks} blocks a cell, and an interval needs 6 (1 - 2 x 0.5^6 = 96.9 %): this gate could \
             never fire; use profile quick or more on both sides"
        ))),
    }
}

fn refuse_another_machine(base: &ResultDocument, arguments: &Arguments) -> Result<()> {
    let here = arguments.measure.machine_key()?;
    if base.machine.key == here || arguments.across_machines {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the baseline is of machine {}, this is {here}; ratios travel badly, --across-machines compares them anyway",
        base.machine.key
    )))
}

fn side(path: &std::path::Path, document: &ResultDocument) -> Result<GateSide> {
    let bytes =
        fs::read(path).map_err(|e| Error::document(format!("cannot read {}: {e}", path.display())))?;
    Ok(GateSide {
        command: path.display().to_string(),
        hash: hex_digest(&bytes),
        machine: Some(document.machine.key.clone()),
    })
}
