//! What the walks over definitions and contenders share: the questions, the cells, and what a sample must say.

use switchmark_harness::definition::Definition;
use switchmark_harness::load::Load;
use switchmark_harness::pin::Cpus;
use switchmark_harness::plan::Method;
use switchmark_harness::protocol::{Prepare, Sample, Served};
use switchmark_schema::ParamValue;

pub(crate) fn definitions() -> Vec<Definition> {
    let parsed = switchmark_benches::definitions().map(|(path, text)| Definition::parse(text, path));
    parsed.collect::<Result<_, _>>().expect("every definition parses")
}

pub(crate) fn prepare(
    definition: &Definition,
    placement: &str,
    params: Vec<(String, ParamValue)>,
) -> Prepare {
    let cpus = Cpus::allowed(None).expect("a CPU is allowed");
    Prepare {
        workload: definition.id.clone(),
        model: definition.model.clone(),
        placement: placement.into(),
        cpus: cpus.of_placement(placement).expect("a placement of this machine"),
        params,
    }
}

/// Every cell at smoke size that is asked in slices.
pub(crate) fn sliced() -> Vec<(Definition, Prepare)> {
    all(|method| method != Method::Served)
}

/// Every cell at smoke size in which a contender serves and a load asks.
pub(crate) fn served() -> Vec<(Definition, Prepare)> {
    all(|method| method == Method::Served)
}

/// Every cell of every definition with such a method, in the placements that this machine has.
fn all(wanted: impl Fn(Method) -> bool) -> Vec<(Definition, Prepare)> {
    let cpus = Cpus::allowed(None).expect("a CPU is allowed");
    let mut cells = Vec::new();
    for definition in definitions().into_iter().filter(|d| wanted(Method::of(d))) {
        for placement in definition.placements.iter().filter(|p| cpus.of_placement(p).is_ok()) {
            for params in definition.grid(Some("smoke")) {
                cells.push((definition.clone(), prepare(&definition, placement, params)));
            }
        }
    }
    cells
}

/// A cell's id, to name it where it fails.
pub(crate) fn name(prepare: &Prepare, contender: &str) -> String {
    let params: Vec<String> = prepare.params.iter().map(|(name, value)| format!("{name}={value}/")).collect();
    format!("{}/{}{}/{contender}", prepare.workload, params.concat(), prepare.placement)
}

/// How many iterations each slice of a walk takes.
pub(crate) fn slices(prepare: &Prepare) -> Vec<u64> {
    match prepare.model.as_str() {
        "parked" => {
            let units = prepare.number("units").expect("a population has a size");
            vec![units / 4, units / 2, units]
        }
        "spawn-join" => vec![5, 100],
        "spawn-batch" | "tree" => vec![1, 5],
        "hog-and-tick" | "tickers" | "stall" => vec![5, 50],
        "recurse" => vec![1, 50],
        "limit" => vec![10, 600],
        _ => vec![40, 3000],
    }
}

/// What a sample's switches are held to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Books {
    /// The definition's promise.
    Held,
    /// Nothing: the worker has no count.
    Uncounted,
    /// Nothing, nor is an answer that may be off: the scheduler's order decides.
    Recorded,
}

/// What is wrong with a sample, by the definition's formulas.
pub(crate) fn faults(
    definition: &Definition,
    prepare: &Prepare,
    sample: &Sample,
    books: Books,
) -> Vec<String> {
    let expected = |name: &str| match name {
        "iterations" => Some(sample.iterations),
        "units" if definition.value(&prepare.params, name).is_none() => Some(sample.units),
        _ => definition.value(&prepare.params, name),
    };
    let mut faults = Vec::new();
    let mut compare = |what: &str, formula, observed: u64, tolerance: f64, slack: f64| {
        let formula: &switchmark_harness::definition::Formula = formula;
        let expected = formula.evaluate(expected).expect("a formula of numbers that the cell has");
        if observed.abs_diff(expected) as f64 > expected as f64 * tolerance + slack {
            faults.push(format!("{what}: {observed}, not {expected}"));
        }
    };
    let expect = &definition.expect;
    if expect.tolerance == 0.0 || books != Books::Recorded {
        compare("check", &expect.check, sample.check, expect.tolerance, 0.0);
    }
    if let Some(units) = &expect.units {
        compare("units", units, sample.units, 0.0, 0.0);
    }
    let checked = expect.checked.is_empty() || expect.checked.contains(&prepare.placement);
    if let (Some(switches), true) = (&expect.switches, checked && books == Books::Held) {
        // The kernel's count has other programs in it: a few a slice.
        compare("switches", switches, sample.switches.unwrap_or(0), 0.01, 8.0);
    }
    faults
}

/// The same sample, had its worker done a tenth less than it was asked for and divided by: its books must refute it. Where the units are the
/// answer, had it made a tenth fewer than it says.
pub(crate) fn overstated(sample: &Sample) -> Sample {
    if sample.limit.is_some() {
        return Sample { units: sample.units + sample.units.div_ceil(10), ..sample.clone() };
    }
    Sample { iterations: sample.iterations + sample.iterations.div_ceil(10), ..sample.clone() }
}

/// Puts load on the server of a cell, as the parent would: fewer requests than connections, then more. What the load has made and seen.
pub(crate) fn loaded(definition: &Definition, prepare: &Prepare, address: String, cell: &str) -> Served {
    let mut prepare = prepare.clone();
    prepare.params.push(("address".into(), ParamValue::Word(address)));
    // What the parent finds out and fixes, where the loop is open.
    prepare.params.push(("rate".into(), ParamValue::Number(10_000)));
    prepare.params.push(("seed".into(), ParamValue::Number(1)));
    let mut load = Load::open(&prepare).unwrap_or_else(|e| panic!("{cell}: {e:?}"));
    let mut requests = load.served().answered;
    for iterations in [3, 1000] {
        let sample = load.slice(iterations).unwrap_or_else(|e| panic!("{cell}: {e}"));
        let faults = faults(definition, &prepare, &sample, Books::Held);
        assert!(faults.is_empty(), "{cell}: {faults:?} in {sample:?}");
        let lie = self::faults(definition, &prepare, &overstated(&sample), Books::Held);
        assert!(!lie.is_empty(), "{cell}: a wrong divisor passes");
        assert_eq!((sample.sent, sample.answered), (Some(iterations), Some(iterations)), "{cell}");
        requests += iterations;
    }
    let served = load.served();
    assert_eq!(served.answered, requests, "{cell}");
    served
}
