//! The books of a slice: what really happened against what the definition promises. Pure.
//!
//! A cell whose books are wrong prints the reason and no number. A wrong *answer* is the contender's failure;
//! a wrong *count* makes the number invalid.

use crate::contender::Contender;
use crate::definition::Formula;
use crate::parent::{Fault, Outside};
use crate::plan::{Group, kernel_decides};
use crate::protocol::Sample;
use std::time::Duration;
use switchmark_schema::{Ledger, Switches};

/// Share by which switches may be off.
const SWITCHES: f64 = 0.01;

fn off(observed: u64, expected: u64, tolerance: f64) -> bool {
    observed.abs_diff(expected) as f64 > tolerance * expected as f64
}

/// Where none is promised, the few that the machine makes for others are held against the iterations.
fn switches_off(observed: u64, expected: u64, iterations: u64) -> bool {
    if expected == 0 {
        observed as f64 > SWITCHES * iterations as f64
    } else {
        off(observed, expected, SWITCHES)
    }
}

/// Compares a sample with what the definition promises.
pub(crate) fn checked(group: &Group<'_>, contender: &Contender, sample: &Sample) -> Result<(), Fault> {
    let expect = &group.definition.expect;
    let free = scheduler_decides(group, contender, sample);
    let check = promised(group, sample, &expect.check)?;
    // An exact answer that is wrong is the contender's failure; one that may be off counts, and is judged, like
    // the switches.
    if expect.tolerance > 0.0 {
        if !free && off(sample.check, check, expect.tolerance) {
            return Err(Fault::invalid(format!(
                "expected about {check} as the answer, got {}",
                sample.check
            )));
        }
    } else if sample.check != check {
        return Err(Fault::failed(format!("wrong answer: expected {check}, got {}", sample.check)));
    }
    if let Some(units) = &expect.units {
        let units = promised(group, sample, units)?;
        if sample.units != units {
            return Err(Fault::invalid(format!("expected {units} units, {} were created", sample.units)));
        }
    }
    let (promised, observed) = (promised_switches(group, contender, sample), sample.switches);
    if let (Some(expected), Some(observed)) = (promised, observed)
        && switches_off(observed, expected, sample.iterations)
    {
        return Err(Fault::invalid(format!("expected {expected} switches, counted {observed}")));
    }
    Ok(())
}

/// The switches that a sample is held to; `None` where they are recorded only.
fn promised_switches(group: &Group<'_>, contender: &Contender, sample: &Sample) -> Option<u64> {
    let expect = &group.definition.expect;
    let held = expect.checked.is_empty() || expect.checked.contains(&group.placement);
    if !held || scheduler_decides(group, contender, sample) {
        return None;
    }
    promised(group, sample, expect.switches.as_ref()?).ok()
}

/// Whether the scheduler, and not the model, decides how often the units switch.
fn scheduler_decides(group: &Group<'_>, contender: &Contender, sample: &Sample) -> bool {
    kernel_decides(contender.manifest.kind, sample.peak_live)
        || contender.records(&group.definition.id, &group.placement)
}

/// The kernel's own count of a slice's switches beside what was promised, which it must agree with.
pub(crate) fn kernel_switches(
    group: &Group<'_>,
    contender: &Contender,
    sample: &Sample,
    observed: u64,
) -> Result<Option<Switches>, Fault> {
    if group.definition.expect.switches.is_none() {
        return Ok(None);
    }
    let expected = promised_switches(group, contender, sample);
    match expected {
        Some(expected) if switches_off(observed, expected, sample.iterations) => {
            Err(Fault::invalid(format!("expected {expected} switches, the kernel counted {observed}")))
        }
        _ => Ok(Some(switches(expected, observed, "perf"))),
    }
}

/// As a document has them. A promise of none is kept by few, not by none, so no expectation is printed beside these.
fn switches(expected: Option<u64>, observed: u64, source: &str) -> Switches {
    Switches { expected: expected.filter(|n| *n > 0), observed, source: source.into() }
}

/// The worker's clock against the parent's. Its time cannot exceed what passed outside; and what it spent
/// outside its time (setting up, cleaning up) must be small. That is seen in the time that passed or, where the
/// host kept either side waiting, in the CPU time that the worker used: a stall uses none.
pub(crate) fn confirmed(sample: &Sample, outside: Outside) -> Result<(), Fault> {
    const SHARE: f64 = 0.02;
    const FIXED: Duration = Duration::from_micros(100);
    if !sample.latencies_ns.is_empty() {
        return Ok(());
    }
    let Outside { wall, cpu } = outside;
    let inside = Duration::from_nanos(sample.elapsed_ns + sample.base_ns.unwrap_or(0));
    let allowed = wall.mul_f64(SHARE) + FIXED;
    let unseen = wall.min(cpu).saturating_sub(inside);
    if inside <= wall + allowed && unseen <= allowed {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "the worker's clock says {inside:?} for a slice; the parent's {wall:?}, of which it worked {cpu:?}"
    )))
}

/// What a formula promises before the work: over parameters and `iterations`.
fn promised(group: &Group<'_>, sample: &Sample, formula: &Formula) -> Result<u64, Fault> {
    let lookup = |name: &str| match name {
        "iterations" => Some(sample.iterations),
        // Of what has no number before it is tried, the answer can only be promised in terms of what was done.
        "units" if group.number(name).is_none() => Some(sample.units),
        name => group.number(name),
    };
    formula.evaluate(lookup).ok_or_else(|| Fault::failed("a formula of the definition has no value here"))
}

/// What a formula says after the work: also over what the sample observed. `None` where the worker has no count of it.
pub(crate) fn observed(group: &Group<'_>, sample: &Sample, formula: &Formula) -> Option<u64> {
    formula.evaluate(|name| match name {
        "iterations" => Some(sample.iterations),
        "units" => Some(sample.units),
        "switches" => sample.switches,
        "check" => Some(sample.check),
        "second_ns" => sample.second_ns,
        "kept_bytes" => sample.kept_bytes,
        "trimmed_bytes" => sample.trimmed_bytes,
        name => group.number(name),
    })
}

/// As [`observed`], of what divides: there, and never zero.
pub(crate) fn evaluated(group: &Group<'_>, sample: &Sample, formula: &Formula) -> Result<u64, Fault> {
    match observed(group, sample, formula) {
        Some(0) => Err(Fault::invalid("no operation was observed to divide by")),
        Some(divisor) => Ok(divisor),
        None => Err(Fault::failed("the divisor of the definition has no value here")),
    }
}

/// What a sample's time is divided by.
pub(crate) fn divisor(group: &Group<'_>, sample: &Sample) -> Result<u64, Fault> {
    evaluated(group, sample, &group.definition.divisor)
}

/// The books of all slices of a worker together.
pub(crate) fn of(group: &Group<'_>, contender: &Contender, samples: &[Sample]) -> Ledger {
    let peak_live = samples.iter().map(|s| s.peak_live).max().unwrap_or(0);
    let expected: Option<u64> = samples.iter().map(|s| promised_switches(group, contender, s)).sum();
    let observed: Option<u64> = samples.iter().map(|s| s.switches).sum();
    Ledger {
        units: samples.iter().map(|s| s.units).sum(),
        peak_live,
        switches: observed.map(|observed| switches(expected, observed, "worker")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(inside_ms: u64, wall_ms: u64, cpu_ms: u64) -> Result<(), Fault> {
        let sample = Sample { elapsed_ns: inside_ms * 1_000_000, ..Sample::default() };
        let [wall, cpu] = [wall_ms, cpu_ms].map(Duration::from_millis);
        confirmed(&sample, Outside { wall, cpu })
    }

    #[test]
    fn where_a_schedulers_own_order_decides_switches_are_recorded_and_elsewhere_checked() {
        let definition = "id = 'switch.yield'\nmodel = 'yield-ring'\nquestion = '?'\nunit = 'ns/switch'\n\
            better = 'lower'\nplacements = ['same-core']\nwitness = 'w'\ntraps = 't'\n\
            [expect]\nswitches = '2 * iterations'\ncheck = '2 * iterations'\ntolerance = 0.01";
        let definition = crate::definition::Definition::parse(definition, "yield.toml").unwrap();
        let group = Group {
            id: "switch.yield/same-core".into(),
            definition: &definition,
            params: Vec::new(),
            placement: "same-core".into(),
            cpus: vec![0],
            contenders: Vec::new(),
            refused: Vec::new(),
        };
        let contender = |more: &str| {
            let text = format!("name = 'peer'\nkind = 'stackless'\nmodels = ['yield-ring']\n{more}");
            Contender::in_tree(&text, "contender.toml").unwrap()
        };
        let half = Sample {
            iterations: 1000,
            units: 2,
            peak_live: 2,
            switches: Some(1000),
            check: 2000,
            ..Sample::default()
        };
        let refuted = checked(&group, &contender(""), &half).unwrap_err();
        assert!(refuted.reason.contains("expected 2000 switches, counted 1000"), "{}", refuted.reason);
        for (workload, kept) in [("switch.yield", true), ("switch.handoff", false)] {
            let other =
                contender(&format!("[[recorded]]\nworkload = '{workload}'\nwhy = 'last in, first out'"));
            assert_eq!(checked(&group, &other, &half).is_ok(), kept, "{workload}");
            let switches = of(&group, &other, std::slice::from_ref(&half)).switches.unwrap();
            assert_eq!((switches.expected.is_none(), switches.observed), (kept, 1000));
        }
    }

    #[test]
    fn where_no_switch_is_promised_a_few_are_the_machines_and_many_are_refuted() {
        assert!(!switches_off(10, 0, 1000), "one in a hundred");
        assert!(switches_off(11, 0, 1000));
        assert!(switches_off(1, 0, 0), "not even those where nothing was done");
        assert!(
            switches_off(990, 1000, 1_000_000) != switches_off(989, 1000, 1_000_000),
            "a promise is its own measure"
        );
        assert_eq!(switches(Some(0), 3, "worker").expected, None);
    }

    #[test]
    fn a_clock_that_agrees_is_confirmed() {
        assert_eq!(slice(100, 101, 100), Ok(()));
        assert_eq!(slice(100, 101, 190), Ok(()), "two CPUs at work");
    }

    #[test]
    fn a_stall_of_the_host_is_not_held_against_the_worker() {
        assert_eq!(slice(100, 400, 99), Ok(()));
    }

    #[test]
    fn work_outside_the_time_and_time_out_of_nowhere_are_refuted() {
        assert!(slice(100, 110, 110).is_err(), "a tenth of the work is not in the time");
        assert!(slice(100, 90, 90).is_err(), "more time than passed");
    }
}
