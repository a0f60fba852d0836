//! `switchmark selftest`: does the instrument find what is there on this machine, and nothing else.

use super::print;
use crate::measure;
use crate::progress::Progress;
use crate::world::World;
use clap::ValueEnum;
use serde_json::json;
use std::fmt::Write as _;
use switchmark_harness::counters::{Choice, Probed};
use switchmark_harness::document::to_json;
use switchmark_harness::pin::Cpus;
use switchmark_harness::plan::{Plan, Profile, Selection};
use switchmark_harness::run::Instrument;
use switchmark_harness::selftest::{self, Proof, Test};
use switchmark_harness::{Result, environment};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to prove.
    #[arg(value_enum)]
    test: Which,
    /// Runs of 12 blocks each; 20 for aa and power, 5 for slot and drift, 1 for controls by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Fixes every random order.
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// Twins are found equal.
    Aa,
    /// 5 % and 10 % more are seen.
    Power,
    /// A worker that is slower when it is first is not found slower.
    Slot,
    /// Drift, steps and modes of the machine are laid to nobody.
    Drift,
    /// Broken estimators are caught by the controls.
    Controls,
}

impl Which {
    fn test(self) -> Test {
        match self {
            Which::Aa => Test::Aa,
            Which::Power => Test::Power,
            Which::Slot => Test::Slot,
            Which::Drift => Test::Drift,
            Which::Controls => Test::Controls,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let world = World::load(&[], None)?;
    let cpus = Cpus::allowed(None)?;
    let selection = Selection {
        definitions: &world.definitions,
        contenders: &world.contenders,
        named: None,
        filter: None,
        placement: None,
        cpus: &cpus,
        profile: Profile::named("quick")?,
    };
    let test = arguments.test.test();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let plan = Plan::of_controls(&selection, seed);
    // What is timed carries no instrument, and nothing is counted here.
    let probed = Probed::probe(&Choice::None);
    let executable = measure::this_program()?;
    let host = measure::host(&executable)?;
    let instrument = Instrument { host, cpus: &cpus, probed: &probed, budget: None };
    let mut progress = Progress::new();
    let runs = arguments.runs.unwrap_or_else(|| test.runs());
    let proofs = selftest::run(test, runs, &plan, &instrument, &mut |event| {
        progress.show(&event);
        Ok(())
    });
    progress.clear();
    let Some(proofs) = proofs? else { return Ok(130) };
    let passed = proofs.iter().all(|proof| proof.passed);
    print(&if arguments.json {
        let machine = environment::machine(&cpus, probed.pmu());
        to_json(&json!({"seed": seed, "machine": machine, "proofs": proofs, "passed": passed}))
    } else {
        text(&proofs, seed, passed)
    })?;
    Ok(if passed { 0 } else { 4 })
}

/// A line a proof, under its cell and trial.
fn text(proofs: &[Proof], seed: u64, passed: bool) -> String {
    let mut out = String::new();
    let mut above = None;
    for proof in proofs {
        let head = (&proof.cell, &proof.trial);
        if above != Some(head) {
            let _ = writeln!(out, "{}: {}", proof.cell, proof.trial);
            above = Some(head);
        }
        let Proof { claim, held, of, at_least, at_most, ratio, block_sigma, passed, .. } = proof;
        let word = if *passed { "ok " } else { "bad" };
        let bounds =
            if at_most < of { format!("{at_least} to {at_most}") } else { format!("at least {at_least}") };
        let found = ratio.zip(*block_sigma).map_or(String::new(), |(ratio, sigma)| {
            format!(", ratio {ratio:.4}, block σ {:.1} %", 100.0 * sigma)
        });
        let _ = writeln!(out, "  {word}  {claim}: in {held} of {of} runs ({bounds} needed){found}");
    }
    let verdict = if passed { "all as it must be" } else { "not to be trusted on this machine" };
    let _ = writeln!(out, "\n{verdict} (seed {seed})");
    out
}
