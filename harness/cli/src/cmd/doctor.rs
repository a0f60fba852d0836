//! `switchmark doctor`: is this machine fit to measure on.

use super::print;
use super::run::{color, width};
use serde_json::json;
use switchmark_harness::counters::{Choice, Probed};
use switchmark_harness::document::to_json;
use switchmark_harness::pin::Cpus;
use switchmark_harness::{Result, doctor, environment};
use switchmark_reports::doctor_text;
use switchmark_schema::FindingStatus;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON document: machine and findings, as in a result.
    #[arg(long)]
    json: bool,
    /// End with 4 if something is bad.
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let cpus = Cpus::allowed(None)?;
    let counters = Probed::probe(&Choice::Auto);
    let findings = doctor::examine_this_one(&cpus, &counters, cfg!(debug_assertions));
    print(&if arguments.json {
        to_json(&json!({"machine": environment::machine(&cpus, counters.pmu()), "doctor": findings}))
    } else {
        doctor_text(&findings, width(), color())
    })?;
    let bad = findings.iter().any(|finding| finding.status == FindingStatus::Bad);
    Ok(if bad && arguments.strict { 4 } else { 0 })
}
