//! What can be counted.

use super::{Machine, finding, unseen};
use switchmark_schema::{CounterState, Finding, FindingStatus};

pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    vec![paranoia(machine), events(machine)]
}

fn paranoia(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/proc/sys/kernel/perf_event_paranoid";
    let effect = "counters of threads: above 1 what happens in the kernel is not counted, above 2 nothing is";
    match machine.line(PATH).and_then(|line| line.parse::<i32>().ok()) {
        None => unseen("perf_event_paranoid", PATH, effect),
        Some(level) => {
            let mut refused = machine.counters.refusals().into_values();
            let asked = !machine.counters.sets().is_empty();
            // A privileged user may count whatever the level is.
            let may = asked && !refused.any(|counter| counter.state == CounterState::Denied);
            let status = if level <= 1 || may { FindingStatus::Ok } else { FindingStatus::Warn };
            let remedy = "sudo sysctl kernel.perf_event_paranoid=1, or give the program CAP_PERFMON";
            finding("perf_event_paranoid", status, format!("{PATH}: {level}"), effect, remedy)
        }
    }
}

fn events(machine: &Machine<'_>) -> Finding {
    let effect = "no number depends on them; with them a page says why one side is slower";
    let refused = machine.counters.refusals();
    let supported: usize = machine.counters.sets().iter().map(Vec::len).sum();
    if supported + refused.len() == 0 {
        return finding(
            "counters",
            FindingStatus::Unknown,
            "nobody asked",
            effect,
            "run with --counters auto",
        );
    }
    let denied = refused.values().find(|counter| counter.state == CounterState::Denied);
    let evidence = format!("{supported} of {} events can be counted", supported + refused.len());
    let (status, remedy) = match denied.and_then(|counter| counter.reason.clone()) {
        Some(reason) => (FindingStatus::Warn, reason),
        None if machine.counters.pmu() => (FindingStatus::Ok, String::new()),
        None => (FindingStatus::Warn, "measure where the processor's counters can be read".into()),
    };
    finding("counters", status, evidence, effect, remedy)
}
