//! From what was measured to the result document. Pure; and reading one back.

use crate::contender::{Contender, Kind};
use crate::controls;
use crate::error::{Error, Result};
use crate::latency;
use crate::parent::Fault;
use crate::plan::{Group, Method, Plan};
use crate::run::Outcome;
use crate::served;
use crate::stats::{self, Interval};
use crate::ticks;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use switchmark_schema::{
    BlockRecord, Cell, Census, Counter, CounterState, Definition, Document, Estimate, Finding, Ledger,
    Machine, Memory, Metric, Ratio, ResultDocument, Run, Sample, Status, Stopped, Tool, WorkerRecord,
};

/// What a document says beside its numbers.
#[derive(Debug, Clone)]
pub struct Header {
    /// What measured.
    pub tool: Tool,
    /// How it was asked to.
    pub run: Run,
    /// Where.
    pub machine: Machine,
    /// How fit that is.
    pub doctor: Vec<Finding>,
}

/// Makes the result of a run, whole or interrupted.
pub fn assemble(header: Header, plan: &Plan<'_>, outcome: &Outcome) -> ResultDocument {
    let mut cells = Vec::new();
    let mut warnings = outcome.warnings.clone();
    if outcome.interrupted {
        warnings.push("the run was interrupted: cells hold what was measured until then".into());
    }
    let controls = controls::judged(plan, &outcome.blocks, controls::log_ratio);
    warnings.extend(controls::warning(plan, &controls, outcome.interrupted));
    for group in &plan.groups {
        let blocks: Vec<&BlockRecord> = outcome.blocks_of(group).collect();
        let look = last_look(plan, blocks.len());
        for contender in &group.contenders {
            let cell = measured_cell(group, contender, &blocks, look, outcome);
            warnings.extend(match group.method() {
                Method::Served => busy_client(group, &cell),
                _ => hidden_switches(&cell, contender),
            });
            cells.push(cell);
        }
        for refused in &group.refused {
            let cell = blank_cell(group, &refused.contender);
            cells.push(Cell { status: refused.status, reason: Some(refused.reason.clone()), ..cell });
        }
    }
    let mut seen = BTreeSet::new();
    let definitions = plan.groups.iter().map(|g| g.definition).filter(|d| seen.insert(d.id.clone()));
    let definitions = definitions.map(|d| Definition {
        id: d.id.clone(),
        question: d.question.clone(),
        unit: d.unit.clone(),
        traps: d.traps.clone(),
        witness: d.witness.clone(),
    });
    ResultDocument {
        schema: ResultDocument::SCHEMA.into(),
        tool: header.tool,
        run: header.run,
        machine: header.machine,
        doctor: header.doctor,
        definitions: definitions.collect(),
        census: Census::of(&cells),
        cells,
        controls,
        warnings,
    }
}

/// Blocks that the last look saw: those taken after it are kept as samples, and looked at by nobody.
fn last_look(plan: &Plan<'_>, blocks: usize) -> usize {
    plan.profile.looks.iter().map(|look| *look as usize).filter(|look| *look <= blocks).max().unwrap_or(0)
}

fn blank_cell(group: &Group<'_>, contender: &str) -> Cell {
    Cell {
        id: group.cell(contender),
        workload: group.definition.id.clone(),
        contender: contender.to_owned(),
        params: group.params.iter().cloned().collect(),
        placement: group.placement.clone(),
        status: Status::Skipped,
        reason: None,
        primary: group.primary().into(),
        metrics: BTreeMap::new(),
        ledger: None,
        counters: BTreeMap::new(),
        memory: None,
        latency: None,
    }
}

fn measured_cell(
    group: &Group<'_>,
    contender: &Contender,
    blocks: &[&BlockRecord],
    look: usize,
    outcome: &Outcome,
) -> Cell {
    let mut cell = blank_cell(group, contender.id());
    let records: Vec<(u32, &WorkerRecord)> = blocks
        .iter()
        .filter_map(|block| Some((block.block, of_contender(block, contender.id())?)))
        .filter(|(_, record)| record.status == Status::Measured)
        .collect();
    (cell.status, cell.reason) = match outcome.ended.get(&cell.id) {
        Some(Fault { status, reason }) => (*status, Some(reason.clone())),
        None if records.is_empty() => (Status::Skipped, Some("the run ended before its first block".into())),
        // Of a limit, its name.
        None => (Status::Measured, records.iter().find_map(|(_, record)| record.reason.clone())),
    };
    let stopped = outcome.stopped.get(&group.id).copied().unwrap_or(Stopped::Budget);
    let names: BTreeSet<&String> = records.iter().flat_map(|(_, r)| r.values.keys()).collect();
    for name in names {
        let metric = metric(group, contender, name, &blocks[..look], &records, stopped);
        cell.metrics.insert(name.clone(), metric);
    }
    cell.ledger = ledger(&records);
    cell.memory = typical_memory(&records);
    cell.latency =
        latency::merged(&records.iter().filter_map(|(_, r)| r.latency.as_ref()).collect::<Vec<_>>());
    let counted = blocks.iter().filter_map(|block| of_contender(block, contender.id()));
    if let Some(record) = counted.into_iter().find(|record| !record.counters.is_empty()) {
        cell.counters.clone_from(&record.counters);
    }
    cell
}

fn of_contender<'b>(block: &'b BlockRecord, contender: &str) -> Option<&'b WorkerRecord> {
    block.workers.iter().find(|worker| worker.contender == contender)
}

fn metric(
    group: &Group<'_>,
    contender: &Contender,
    name: &str,
    // Those that the last look saw.
    blocks: &[&BlockRecord],
    records: &[(u32, &WorkerRecord)],
    stopped: Stopped,
) -> Metric {
    let definition = group.definition;
    let declared = definition.beside.get(name).map_or(&definition.unit, |beside| &beside.unit);
    let (unit, better) = match group.method() {
        Method::Served => served::beside(name),
        Method::Ticks => ticks::beside(name),
        Method::Slices | Method::Population | Method::Limit => None,
    }
    .unwrap_or((declared.as_str(), definition.better));
    let samples: Vec<Sample> = records
        .iter()
        .filter_map(|(block, record)| Some(Sample { block: *block, value: *record.values.get(name)? }))
        .collect();
    let looked_at = samples.iter().filter(|s| blocks.iter().any(|b| b.block == s.block)).map(|s| s.value);
    let interval = stats::Sample::new(looked_at).and_then(|s| stats::interval(&s));
    let minima = records.iter().filter_map(|(_, record)| record.minima.get(name).copied());
    let others = group.contenders.iter().filter(|other| other.id() != contender.id());
    Metric {
        unit: unit.to_owned(),
        better,
        minimum: minima.reduce(f64::min),
        samples,
        estimate: interval.map(|Interval { median, low, high, level }| Estimate {
            median,
            low,
            high,
            level,
            method: "order-statistic".into(),
            stopped,
        }),
        ratios: others.filter_map(|other| ratio(group, contender.id(), other.id(), name, blocks)).collect(),
    }
}

/// A contender over another, paired by block.
fn ratio(
    group: &Group<'_>,
    contender: &str,
    to: &str,
    metric: &str,
    blocks: &[&BlockRecord],
) -> Option<Ratio> {
    let log = |block: &&BlockRecord| log_ratio(group, block, contender, to, metric);
    let logs: Vec<f64> = blocks.iter().filter_map(log).collect();
    let count = u32::try_from(logs.len()).ok()?;
    let Interval { median, low, high, level } = stats::ratio::over_blocks(logs)?;
    Some(Ratio { to: to.into(), median, low, high, level, blocks: count })
}

/// What a block says of a contender over another: from neighbouring slices where these two alternate, from the two samples where more
/// compete.
pub(crate) fn log_ratio(
    group: &Group<'_>,
    block: &BlockRecord,
    contender: &str,
    to: &str,
    metric: &str,
) -> Option<f64> {
    let (a, b) = (of_contender(block, contender)?, of_contender(block, to)?);
    if block.workers.len() == 2 && metric == group.primary() && !a.minima.is_empty() {
        let order: Vec<usize> = block.order.bytes().map(|letter| usize::from(letter - b'A')).collect();
        let first_is_a = block.workers.first().is_some_and(|w| w.contender == contender);
        let order: Vec<usize> = order.iter().map(|who| who ^ usize::from(!first_is_a)).collect();
        return stats::ratio::of_slices(&order, &costs(a), &costs(b));
    }
    // A share may be zero or below, and then nothing is a multiple of it.
    Some((a.values.get(metric)? / b.values.get(metric)?).ln()).filter(|log| log.is_finite())
}

/// Cost of an operation in each slice of a worker.
fn costs(record: &WorkerRecord) -> Vec<f64> {
    let operations_per_slice = record.operations as f64 / record.slices_ns.len() as f64;
    record.slices_ns.iter().map(|ns| *ns as f64 / operations_per_slice).collect()
}

fn ledger(records: &[(u32, &WorkerRecord)]) -> Option<Ledger> {
    let mut books = records.iter().filter_map(|(_, record)| record.ledger.as_ref());
    let mut sum = books.next()?.clone();
    for ledger in books {
        sum.units += ledger.units;
        sum.peak_live = sum.peak_live.max(ledger.peak_live);
        if let (Some(sum), Some(switches)) = (&mut sum.switches, &ledger.switches) {
            sum.observed += switches.observed;
            sum.expected = sum.expected.zip(switches.expected).map(|(a, b)| a + b);
        }
    }
    Some(sum)
}

/// The bill of the worker in the middle, whole: components averaged apart would not add up.
fn typical_memory(records: &[(u32, &WorkerRecord)]) -> Option<Memory> {
    let mut bills: Vec<&Memory> = records.iter().filter_map(|(_, record)| record.memory.as_ref()).collect();
    bills.sort_by(|a, b| a.per_unit_bytes.total.total_cmp(&b.per_unit_bytes.total));
    bills.get(bills.len().checked_sub(1)? / 2).copied().cloned()
}

/// Where a load has no time left, the rate is its own and says little of the server.
fn busy_client(group: &Group<'_>, cell: &Cell) -> Option<String> {
    const BUSY: f64 = 0.9;
    let middle = |name: &str| {
        let samples = cell.metrics.get(name)?.samples.iter().map(|s| s.value);
        stats::Sample::new(samples).map(|samples| samples.median())
    };
    let share = served::client_share(middle)?;
    (group.placement == "one-core" && share > BUSY).then(|| {
        let effect = if group.is_open_loop() {
            "its own queue is part of the latencies"
        } else {
            "compare what a CPU second of the server does, not the rate"
        };
        format!("{}: the load is the bottleneck, {:.0} % of its CPU: {effect}", cell.id, share * 100.0)
    })
}

/// Units that the kernel does not see must not cost switches of the kernel's: that would be their hidden price.
fn hidden_switches(cell: &Cell, contender: &Contender) -> Option<String> {
    let Counter { state: CounterState::Counted, per_op: Some(per_op), .. } =
        cell.counters.get("context-switches")?
    else {
        return None;
    };
    let hidden = contender.manifest.kind != Kind::Thread && *per_op > 0.01;
    hidden.then(|| {
        format!("{}: {per_op:.3} kernel switches an operation, though its units are not threads", cell.id)
    })
}

/// Reads a document of a kind from a file; the error names the file and the place of the fault.
pub fn read<D: Document>(path: &Path) -> Result<D> {
    let about = |e: &dyn std::fmt::Display| Error::document(format!("cannot read {}: {e}", path.display()));
    let size = fs::metadata(path).map_err(|e| about(&e))?.len();
    if size > switchmark_schema::MAX_BYTES {
        return Err(about(&format!("{size} bytes, more than {}", switchmark_schema::MAX_BYTES)));
    }
    let text = fs::read_to_string(path).map_err(|e| about(&e))?;
    switchmark_schema::read(&text).map_err(|e| about(&e))
}

/// Writes a file whole: beside its place first, then renamed into it, so that no reader sees half of it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let about = |e: std::io::Error| Error::document(format!("cannot write {}: {e}", path.display()));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".switchmark-").tempfile_in(folder).map_err(about)?;
    file.write_all(bytes).map_err(about)?;
    // A document is for others to read: the usual permissions, not those of a temporary file.
    let usual = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(usual).map_err(about)?;
    file.persist(path).map_err(|e| about(e.error))?;
    Ok(())
}

/// A document as it is written.
pub fn to_json<T: serde::Serialize>(document: &T) -> String {
    let mut json =
        serde_json::to_string_pretty(document).expect("a document has string keys and finite numbers");
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use crate::definition;
    use crate::plan::{Profile, Selection};
    use switchmark_schema::{BlockKind, Contamination};

    /// A run of `blocks` blocks in which each worker's slices cost as `cost` says, by block and contender.
    fn document(blocks: u32, cost: impl Fn(u32, &str) -> u64) -> ResultDocument {
        let text = "id = 'switch.yield'\nmodel = 'yield-ring'\nquestion = '?'\nunit = 'ns/switch'\nbetter = 'lower'\n\
                    placements = ['same-core']\ndefault = true\nwitness = 'w'\ntraps = 't'\n[expect]\ncheck = 'iterations'";
        let definitions = [definition::Definition::parse(text, "yield").unwrap()];
        let contender = |name: &str| {
            let text = format!("name = '{name}'\nkind = 'thread'\nmodels = ['yield-ring']");
            Contender::in_tree(&text, name).unwrap()
        };
        let contenders = [contender("thread"), contender("coroutine")];
        let cpus = crate::pin::Cpus::allowed(None).unwrap();
        let selection = Selection {
            definitions: &definitions,
            contenders: &contenders,
            named: None,
            filter: None,
            placement: None,
            cpus: &cpus,
            profile: Profile::named("quick").unwrap(),
        };
        let plan = Plan::new(&selection, 1).unwrap();
        let worker = |block: u32, who: &str| WorkerRecord {
            contender: who.into(),
            iterations: 10,
            slices_ns: vec![cost(block, who); 4],
            values: BTreeMap::from([("time".into(), cost(block, who) as f64 / 10.0)]),
            status: Status::Measured,
            reason: None,
            minima: BTreeMap::from([("time".into(), cost(block, who) as f64 / 10.0)]),
            operations: 40,
            ledger: None,
            counters: BTreeMap::new(),
            memory: None,
            latency: None,
            placed: None,
        };
        let block = |block: u32| BlockRecord {
            kind: BlockKind::Cell,
            cell: plan.groups[0].id.clone(),
            block,
            order: "ABBABAAB".into(),
            redrawn: false,
            workers: vec![worker(block, "thread"), worker(block, "coroutine")],
            contamination: Contamination::default(),
        };
        let outcome = Outcome { blocks: (1..=blocks).map(block).collect(), ..Outcome::default() };
        let sample: ResultDocument =
            switchmark_schema::read(include_str!("../schema/samples/result-smoke.json")).unwrap();
        let header =
            Header { tool: sample.tool, run: sample.run, machine: sample.machine, doctor: Vec::new() };
        assemble(header, &plan, &outcome)
    }

    fn time<'d>(document: &'d ResultDocument, contender: &str) -> &'d Metric {
        &document.cells.iter().find(|c| c.contender == contender).unwrap().metrics["time"]
    }

    #[test]
    fn blocks_after_the_last_look_are_kept_and_not_looked_at() {
        // Two blocks of a round that the budget cut short, and they would move the median.
        let document = document(8, |block, _| if block > 6 { 90_000 } else { 1_000 + u64::from(block) });
        let metric = time(&document, "coroutine");
        assert_eq!(metric.samples.len(), 8);
        let estimate = metric.estimate.as_ref().unwrap();
        assert!(estimate.high < 101.0 && (estimate.level - 0.968_75).abs() < 1e-9, "{estimate:?}");
        assert_eq!(metric.ratios[0].blocks, 6);
    }

    #[test]
    fn five_blocks_have_samples_and_no_estimate() {
        let document = document(5, |_, _| 1_000);
        let metric = time(&document, "thread");
        assert_eq!((metric.samples.len(), metric.estimate.is_none(), metric.ratios.len()), (5, true, 0));
    }

    #[test]
    fn a_ratio_is_the_inverse_of_its_inverse() {
        let document =
            document(12, |block, who| if who == "thread" { 1_000 } else { 10 + u64::from(block % 3) });
        let ratio = |of: &str| time(&document, of).ratios[0].clone();
        let (down, up) = (ratio("coroutine"), ratio("thread"));
        assert_eq!((down.to.as_str(), up.to.as_str()), ("thread", "coroutine"));
        assert!((down.median * up.median - 1.0).abs() < 1e-9 && (down.low * up.high - 1.0).abs() < 1e-9);
        assert!(down.low > 0.0099 && down.high < 0.0121, "{down:?}");
    }

    #[test]
    fn a_document_survives_its_own_border() {
        let document = document(6, |_, _| 1_000);
        assert_eq!(switchmark_schema::read::<ResultDocument>(&to_json(&document)), Ok(document));
    }
}
