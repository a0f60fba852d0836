//! The page: which section comes when, and what each is filled with. The markup lies in `templates/`.
//!
//! Every string of a document reaches the page through the template engine, which escapes it. The only values
//! marked as safe are markup of our own: charts (escaped by plotters and `charts::finish`), styles, script.

use crate::anatomy;
use crate::charts::{self, Chart, file_name};
use crate::prose;
use crate::view::{self, Family, Workload, families};
use crate::words::{clean, count, digits, factor_interval, quantity};
use crate::{RenderError, table, theme};
use base64::Engine as _;
use minijinja::{AutoEscape, Environment, Value};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use switchmark_schema::{Cell, Counter, CounterState, FindingStatus, ResultDocument, Status, Witness};

/// What a page needs and a document does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageOptions {
    /// The command that made this page, as the reader would type it; left out where empty.
    pub command: String,
}

/// A page with more JSON than this leaves it beside the file.
const MOST_JSON: usize = 400 * 1024;
/// The same for CSV.
const MOST_CSV: usize = 150 * 1024;
/// And one with more rows than this leaves the counters of further cells to the JSON.
const MOST_COUNTER_ROWS: usize = 400;

const PAGE: &str = include_str!("../templates/page.html");
const STYLE: &str = include_str!("../templates/style.css");
const SCRIPT: &str = include_str!("../templates/script.js");

/// Renders `report.html`: one file that loads nothing. Several results get a section each and a table side by side.
pub fn render_page(results: &[ResultDocument], options: &PageOptions) -> Result<String, RenderError> {
    if results.is_empty() {
        return Err(RenderError::NoResult);
    }
    let fault = |e: minijinja::Error| RenderError::Page(format!("{e:#}"));
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let tidy = minijinja::syntax::SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(fault)?;
    env.set_syntax(tidy);
    env.add_template("page", PAGE).map_err(fault)?;
    let many = results.len() > 1;
    let mut ids = Ids::default();
    let sections = results
        .iter()
        .enumerate()
        .map(|(i, doc)| {
            let prefix = if many { format!("r{}-", i + 1) } else { String::new() };
            section(doc, &prefix, &mut ids)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let context = Page {
        title: if many {
            format!("Switchmark: {} results", results.len())
        } else {
            format!("Switchmark: {}", clean(&results[0].machine.cpu, 80))
        },
        style: Value::from_safe_string(format!("{}{}{STYLE}", theme::css_variables(), theme::svg_rules())),
        script: Value::from_safe_string(SCRIPT.into()),
        command: clean(&options.command, 600),
        beside: many.then(|| beside(results)),
        many,
        sections,
    };
    env.get_template("page").and_then(|t| t.render(minijinja::value::Serde(&context))).map_err(fault)
}

#[derive(Serialize)]
struct Page {
    title: String,
    style: Value,
    script: Value,
    command: String,
    many: bool,
    beside: Option<Beside>,
    sections: Vec<Section>,
}

/// Ratios of several results beside each other; nanoseconds of different machines never stand in one row.
#[derive(Serialize)]
struct Beside {
    heads: Vec<String>,
    rows: Vec<BesideRow>,
}

#[derive(Serialize)]
struct BesideRow {
    name: String,
    ratios: Vec<String>,
}

#[derive(Serialize)]
struct Section {
    /// Before every id, so that several results keep apart.
    prefix: String,
    title: String,
    answer: Vec<String>,
    machine: String,
    census: String,
    trust: Vec<String>,
    warnings: Vec<String>,
    date: String,
    run_command: String,
    headline: Option<Figure>,
    intervals: bool,
    aspects: Vec<AspectView>,
    families: Vec<FamilyView>,
    environment: Vec<(&'static str, String)>,
    findings: Vec<FindingView>,
    counters: Vec<CounterView>,
    counters_left_out: usize,
    controls: Vec<ControlView>,
    downloads: Vec<Download>,
    json_beside: bool,
}

#[derive(Serialize)]
struct Figure {
    id: String,
    title: String,
    svg: Value,
    file: String,
    href: String,
}

#[derive(Serialize)]
struct AspectView {
    title: &'static str,
    text: String,
    /// Id of the workload it is about.
    href: String,
    figure: Option<Figure>,
}

#[derive(Serialize)]
struct FamilyView {
    id: String,
    title: String,
    question: &'static str,
    workloads: Vec<WorkloadView>,
}

#[derive(Serialize)]
struct WorkloadView {
    id: String,
    anchor: String,
    name: String,
    finding: String,
    question: String,
    explanation: &'static str,
    witness: String,
    traps: Vec<String>,
    figures: Vec<Figure>,
    caption: String,
    rows: Vec<Row>,
    bill: Vec<BillRow>,
    parts: Vec<PartRow>,
    reproduce: String,
}

#[derive(Serialize)]
struct Row {
    cell: String,
    contender: String,
    setting: String,
    metric: String,
    status: &'static str,
    measured: bool,
    reason: String,
    value: String,
    sort: String,
    interval: String,
    level: String,
    processes: String,
    advantage: String,
    advantage_sort: String,
    ledger: String,
}

#[derive(Serialize)]
struct BillRow {
    cell: String,
    parts: Vec<String>,
    total: String,
    vmas: String,
    virtual_bytes: String,
    /// Of the control group: beside the bill, no part of it.
    witness: String,
}

/// A part of a hand-off, or what the parts leave: derived, so in no cell's row.
#[derive(Serialize)]
struct PartRow {
    contender: &'static str,
    part: &'static str,
    value: String,
    share: String,
    layers: String,
}

#[derive(Serialize)]
struct FindingView {
    check: String,
    status: &'static str,
    evidence: String,
    effect: String,
    remedy: String,
}

#[derive(Serialize)]
struct CounterView {
    cell: String,
    event: String,
    state: &'static str,
    counted: bool,
    value: String,
    per_op: String,
    reason: String,
}

#[derive(Serialize)]
struct ControlView {
    cell: String,
    kind: &'static str,
    expected: &'static str,
    ratio: String,
    level: String,
    blocks: u32,
    passed: bool,
}

#[derive(Serialize)]
struct Download {
    name: String,
    file: String,
    href: String,
}

fn data_uri(kind: &str, text: &str) -> String {
    format!("data:{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// Ids that are taken. Words of a document become ids, and two of them may become the same.
#[derive(Default)]
struct Ids(HashSet<String>);

impl Ids {
    /// The id wanted, or it with a number; those that hang on it are taken as well.
    fn take(&mut self, wanted: &str) -> String {
        const FIXED: [&str; 7] = ["main", "tools", "method", "environment", "headline", "aspects", "result"];
        let mut id = wanted.to_owned();
        let mut n = 2;
        loop {
            let all = [id.clone(), format!("{id}-t"), format!("{id}-d")];
            let free = |id: &String| !self.0.contains(id) && FIXED.iter().all(|f| !id.ends_with(f));
            if all.iter().all(free) {
                self.0.extend(all);
                return id;
            }
            id = format!("{wanted}-{n}");
            n += 1;
        }
    }
}

fn figure(chart: Chart, source: &str, prefix: &str, ids: &mut Ids) -> Figure {
    let id = ids.take(&format!("{prefix}fig-{}", chart.name));
    let name = &chart.name;
    let inline = chart
        .svg
        .replacen(
            &format!("aria-labelledby=\"{name}-t {name}-d\""),
            &format!("aria-labelledby=\"{id}-t {id}-d\""),
            1,
        )
        .replacen(&format!("<title id=\"{name}-t\""), &format!("<title id=\"{id}-t\""), 1)
        .replacen(&format!("<desc id=\"{name}-d\""), &format!("<desc id=\"{id}-d\""), 1);
    Figure {
        href: data_uri("image/svg+xml", &charts::stand_alone(&chart, source)),
        file: format!("{prefix}{name}.svg"),
        id,
        title: chart.title,
        svg: Value::from_safe_string(inline),
    }
}

fn section(doc: &ResultDocument, prefix: &str, ids: &mut Ids) -> Result<Section, RenderError> {
    let families = families(doc);
    let headline = charts::headline(&families)?.map(|c| figure(c, &charts::source(doc), prefix, ids));
    let views = families.iter().map(|f| family(doc, f, prefix, ids)).collect::<Result<Vec<_>, _>>()?;
    let mut aspects = Vec::new();
    for aspect in prose::aspects(&families) {
        let about = families.iter().flat_map(|f| &f.workloads).find(|w| w.id == aspect.workload);
        let chart = match about {
            Some(w) => charts::small(w, aspect.by_placement)?,
            None => None,
        };
        aspects.push(AspectView {
            href: views
                .iter()
                .flat_map(|f| &f.workloads)
                .find(|w| w.id == aspect.workload)
                .map_or_else(String::new, |w| w.anchor.clone()),
            title: aspect.title,
            text: aspect.text,
            figure: chart.map(|c| figure(c, &charts::source(doc), prefix, ids)),
        });
    }
    let json = serde_json::to_string(doc).map_err(|e| RenderError::Page(e.to_string()))?;
    let csv = table::csv(doc);
    let mut downloads = Vec::new();
    if csv.len() <= MOST_CSV {
        downloads.push(Download {
            name: "all cells as CSV".into(),
            file: format!("{prefix}cells.csv"),
            href: data_uri("text/csv", &csv),
        });
    }
    let json_beside = json.len() > MOST_JSON;
    if !json_beside {
        downloads.push(Download {
            name: "the result as JSON".into(),
            file: format!("{prefix}result.json"),
            href: data_uri("application/json", &json),
        });
    }
    let (counters, counters_left_out) = counters(doc);
    Ok(Section {
        prefix: prefix.into(),
        title: format!("{} · {}", clean(&doc.machine.cpu, 80), clean(&doc.run.started, 40)),
        answer: prose::answer(doc, &families),
        machine: machine_line(doc),
        census: prose::census(doc),
        trust: prose::trust(doc),
        warnings: doc.warnings.iter().take(20).map(|w| clean(w, 600)).collect(),
        date: clean(&doc.run.started, 40),
        run_command: clean(&format!("switchmark {}", doc.run.arguments.join(" ")), 600),
        headline,
        intervals: view::has_estimates(doc),
        aspects,
        families: views,
        environment: environment(doc),
        findings: findings(doc),
        counters,
        counters_left_out,
        controls: controls(doc),
        downloads,
        json_beside,
    })
}

fn machine_line(doc: &ResultDocument) -> String {
    let m = &doc.machine;
    let virtual_words = match m.hypervisor.as_str() {
        "" => "virtualisation unknown".into(),
        "none" => "bare metal".into(),
        other => format!("{} guest", clean(other, 40)),
    };
    format!(
        "{} · {} CPUs · Linux {} · {virtual_words} · {} · machine key {}",
        clean(&m.cpu, 100),
        m.cpus,
        clean(&m.kernel, 60),
        if m.pmu { "hardware counters" } else { "no hardware counters" },
        clean(&m.key, 60)
    )
}

fn environment(doc: &ResultDocument) -> Vec<(&'static str, String)> {
    let m = &doc.machine;
    let mut out = vec![
        ("Machine key", clean(&m.key, 80)),
        ("CPU", clean(&m.cpu, 120)),
        ("CPUs allowed", count(m.cpus.into())),
        ("Kernel", clean(&m.kernel, 120)),
        ("Hypervisor", clean(&m.hypervisor, 80)),
        ("Hardware counters", if m.pmu { "readable" } else { "none, or not readable" }.into()),
    ];
    // Old documents lack these two; absent is not zero.
    if m.numa_nodes > 0 {
        out.push(("NUMA nodes", count(m.numa_nodes.into())));
    }
    if m.memory_bytes > 0 {
        out.push(("Memory", quantity(m.memory_bytes as f64, "bytes")));
    }
    out.extend([
        ("Switchmark", clean(&format!("{} ({})", doc.tool.version, doc.tool.git), 120)),
        ("Compiler", clean(&doc.tool.rustc, 160)),
        ("Profile", clean(&doc.run.profile, 40)),
        ("Seed", doc.run.seed.to_string()),
        ("Run", clean(&doc.run.id, 120)),
        ("Started", clean(&doc.run.started, 40)),
        ("Finished", clean(&doc.run.finished, 40)),
    ]);
    out
}

fn findings(doc: &ResultDocument) -> Vec<FindingView> {
    let mut found: Vec<_> = doc.doctor.iter().collect();
    found.sort_by_key(|f| match f.status {
        FindingStatus::Bad => 0,
        FindingStatus::Warn => 1,
        FindingStatus::Unknown => 2,
        FindingStatus::Ok => 3,
    });
    found
        .into_iter()
        .take(200)
        .map(|f| FindingView {
            check: clean(&f.check, 120),
            status: match f.status {
                FindingStatus::Ok => "ok",
                FindingStatus::Warn => "warn",
                FindingStatus::Bad => "bad",
                FindingStatus::Unknown => "unknown",
            },
            evidence: clean(&f.evidence, 400),
            effect: clean(&f.effect, 400),
            remedy: clean(&f.remedy, 400),
        })
        .collect()
}

fn counters(doc: &ResultDocument) -> (Vec<CounterView>, usize) {
    // What was refused is refused to every cell alike, and said once.
    let mut refused: BTreeMap<(&String, String), usize> = BTreeMap::new();
    let refusal =
        |event, c: &Counter| c.value.is_none().then(|| (event, format!("{:?} {:?}", c.state, c.reason)));
    let mut readings: Vec<(&Cell, &String, &Counter)> = Vec::new();
    for (cell, event, c) in
        doc.cells.iter().flat_map(|cell| cell.counters.iter().map(move |(e, c)| (cell, e, c)))
    {
        let times = refusal(event, c).map(|refusal| refused.entry(refusal).or_default());
        if times.is_none_or(|times| std::mem::replace(times, *times + 1) == 0) {
            readings.push((cell, event, c));
        }
    }
    let all = readings.len();
    let rows: Vec<CounterView> = readings
        .into_iter()
        .take(MOST_COUNTER_ROWS)
        .map(|(cell, event, c)| {
            let usable = matches!(c.state, CounterState::Counted | CounterState::Scaled);
            let absent = || "–".to_owned();
            CounterView {
                cell: match refusal(event, c).and_then(|refusal| refused.get(&refusal)) {
                    Some(cells @ 2..) => format!("{cells} cells"),
                    _ => clean(&cell.id, 300),
                },
                event: clean(event, 80),
                state: match c.state {
                    CounterState::Counted => "counted",
                    CounterState::Scaled => "scaled",
                    CounterState::NotCounted => "not counted",
                    CounterState::Unsupported => "unsupported",
                    CounterState::Denied => "denied",
                    CounterState::Overflow => "overflow",
                },
                counted: usable,
                // A value beside a state that forbids its use is not shown: it would be read.
                value: c.value.filter(|_| usable).map_or_else(absent, count),
                per_op: c.per_op.filter(|v| usable && v.is_finite()).map_or_else(absent, digits),
                reason: match (c.state, c.share.filter(|s| s.is_finite()), &c.reason) {
                    (_, _, Some(reason)) => clean(reason, 400),
                    (CounterState::Scaled, Some(share), None) => {
                        format!("counted {} of the time and scaled up", crate::words::percent(share))
                    }
                    (CounterState::Counted, ..) => String::new(),
                    _ => "no reason given".into(),
                },
            }
        })
        .collect();
    let left_out = all - rows.len();
    (rows, left_out)
}

fn controls(doc: &ResultDocument) -> Vec<ControlView> {
    doc.controls
        .iter()
        .take(200)
        .map(|c| {
            let (kind, expected) = match c.kind {
                switchmark_schema::ControlKind::Null => ("null", "1: a twin of itself"),
                switchmark_schema::ControlKind::Liveness => ("liveness", "not 1: asked for 7 % more"),
            };
            let r = &c.ratio;
            ControlView {
                cell: clean(&c.cell, 300),
                kind,
                expected,
                ratio: if r.median.is_finite() {
                    format!("{} ({})", digits(r.median), crate::words::range(r.low, r.high))
                } else {
                    "–".into()
                },
                level: prose::level_words(r.level),
                blocks: r.blocks,
                passed: c.passed,
            }
        })
        .collect()
}

fn family(
    doc: &ResultDocument,
    family: &Family,
    prefix: &str,
    ids: &mut Ids,
) -> Result<FamilyView, RenderError> {
    Ok(FamilyView {
        id: ids.take(&format!("{prefix}{}", file_name(&family.id))),
        title: family.title.clone(),
        question: family.question,
        workloads: family
            .workloads
            .iter()
            .map(|w| workload(doc, w, prefix, ids))
            .collect::<Result<Vec<_>, _>>()?,
    })
}

fn workload(
    doc: &ResultDocument,
    w: &Workload,
    prefix: &str,
    ids: &mut Ids,
) -> Result<WorkloadView, RenderError> {
    let cells: Vec<&Cell> = w.groups.iter().flat_map(|g| g.cells.iter().copied()).collect();
    let figures: Vec<Figure> =
        charts::of_workload(w)?.into_iter().map(|c| figure(c, &charts::source(doc), prefix, ids)).collect();
    let mut placements: Vec<String> = cells.iter().map(|c| clean(&c.placement, 40)).collect();
    placements.sort();
    placements.dedup();
    placements.truncate(8);
    let unit = w.unit();
    Ok(WorkloadView {
        id: clean(w.id, 80),
        anchor: ids.take(&format!("{prefix}{}", file_name(w.id))),
        name: w.name.clone(),
        finding: prose::finding(w),
        question: w.definition.map_or_else(String::new, |d| clean(&d.question, 600)),
        explanation: prose::explanation(w.id),
        witness: w.definition.map_or_else(String::new, |d| clean(&d.witness, 600)),
        traps: w.definition.map_or_else(Vec::new, |d| traps(&d.traps)),
        caption: format!(
            "Unit: {}. {}. Placement: {}. Machine {}. Figure under MIT OR Apache-2.0; cite as Switchmark {}, run {}.",
            clean(unit, 40),
            table::interval_words(&cells),
            placements.join(", "),
            clean(&doc.machine.key, 60),
            clean(&doc.tool.version, 40),
            clean(&doc.run.id, 80)
        ),
        rows: cells.iter().flat_map(|c| rows(c)).collect(),
        bill: cells.iter().filter_map(|c| bill_row(c)).collect(),
        parts: anatomy::of(w).iter().flat_map(part_rows).collect(),
        reproduce: reproduce(doc, w.id),
        figures,
    })
}

/// The traps as written: sentences or fragments between `·`, or paragraphs. A definition ends its lines in a backslash, which is no text.
fn traps(text: &str) -> Vec<String> {
    let line = |t: &str| clean(t.trim_end().trim_end_matches('\\'), 600);
    text.split(['·', '\n']).map(line).filter(|t| !t.is_empty()).take(20).collect()
}

/// A regular expression of the id, the profile and the seed; the reader's shell gets it quoted.
fn reproduce(doc: &ResultDocument, id: &str) -> String {
    let plain = |s: &str| {
        s.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(80).collect::<String>()
    };
    format!(
        "switchmark run '^{}/' --profile {} --seed {}",
        plain(id).replace('.', "\\."),
        plain(&doc.run.profile),
        doc.run.seed
    )
}

/// A row a metric, the primary first; one row where a cell has none.
fn rows(cell: &Cell) -> Vec<Row> {
    let measured = cell.status == Status::Measured;
    let setting = cell
        .params
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .chain([cell.placement.clone()])
        .collect::<Vec<_>>()
        .join(" ");
    let row = || Row {
        cell: clean(&cell.id, 600),
        contender: clean(&cell.contender, 80),
        setting: clean(&setting, 200),
        metric: "–".into(),
        status: view::status_word(cell.status),
        measured,
        reason: clean(cell.reason.as_deref().unwrap_or(""), 600),
        value: "–".into(),
        sort: String::new(),
        interval: "–".into(),
        level: "–".into(),
        processes: "–".into(),
        advantage: "–".into(),
        advantage_sort: String::new(),
        ledger: ledger(cell),
    };
    if !measured || cell.metrics.is_empty() {
        return vec![row()];
    }
    let mut metrics: Vec<_> = cell.metrics.iter().take(40).collect();
    // What a request costs either end stands beside the rate: where the load is the bottleneck, it says what the rate does not.
    let beside = ["per_server_second", "per_client_second"];
    metrics.sort_by_key(|(name, _)| match beside.iter().position(|b| b == name) {
        _ if **name == cell.primary => 0,
        Some(place) => place + 1,
        None => beside.len() + 1,
    });
    metrics
        .into_iter()
        .map(|(name, metric)| {
            let mut r = row();
            r.metric = format!("{} ({})", clean(name, 40), clean(&metric.unit, 40));
            r.processes = metric.samples.len().to_string();
            if let Some(p) = view::point(metric) {
                r.value = quantity(p.middle, &metric.unit);
                r.sort = p.middle.to_string();
                match p.interval {
                    Some(i) => {
                        let s = crate::words::scale(p.middle, &metric.unit);
                        r.interval = crate::words::range(i.low / s.divisor, i.high / s.divisor);
                        r.level = prose::level_words(i.level);
                    }
                    None => r.interval = "no interval".into(),
                }
            }
            if let Some(a) = view::metric_advantage(metric, "thread") {
                r.advantage = factor_interval(a.median, a.low, a.high);
                r.advantage_sort = a.median.to_string();
            }
            r
        })
        .collect()
}

fn ledger(cell: &Cell) -> String {
    let Some(ledger) = &cell.ledger else {
        return "none".into();
    };
    let mut out = format!("{} units, {} at once", count(ledger.units), count(ledger.peak_live));
    if let Some(s) = &ledger.switches {
        let source = clean(&s.source, 30);
        let switches = match s.expected {
            Some(expected) => {
                format!("; {} switches of {} expected, by {source}", count(s.observed), count(expected))
            }
            None => format!("; {} switches recorded, by {source}", count(s.observed)),
        };
        out.push_str(&switches);
    }
    out
}

fn part_rows(side: &anatomy::Anatomy) -> Vec<PartRow> {
    let row = |part, value: &view::Point, share: f64, layers| PartRow {
        contender: side.contender,
        part,
        value: charts::told(value),
        share: crate::words::percent(share),
        layers,
    };
    let parts = side.parts.iter().map(|part| {
        let layer = |(layer, ns): &(anatomy::Layer, f64)| {
            format!("{} {}", anatomy::words(side.contender, *layer), quantity(*ns, "ns"))
        };
        let layers: Vec<String> = part.layers.iter().map(layer).collect();
        row(part.name, &part.value, part.value.middle / side.whole.middle, layers.join(" + "))
    });
    let rest = row("residual", &side.residual, side.share.middle, String::new());
    let whole = row("hand-off", &side.whole, 1.0, "half a round trip of switch.handoff".into());
    parts.chain([rest, whole]).collect()
}

fn bill_row(cell: &Cell) -> Option<BillRow> {
    let memory = cell.memory.as_ref()?;
    let bytes = |v: f64| {
        if v.is_finite() && (0.0..1e15).contains(&v) {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a number between 0 and 10^15"
            )]
            let whole = v.round() as u64;
            count(whole)
        } else {
            "–".into()
        }
    };
    let per_unit = &memory.per_unit_bytes;
    Some(BillRow {
        cell: clean(&cell.id, 600),
        parts: charts::components(per_unit).iter().map(|(_, v, _)| bytes(*v)).collect(),
        total: bytes(per_unit.total),
        vmas: digits(memory.vmas_per_unit),
        witness: witness(memory.cgroup.as_ref(), bytes),
        virtual_bytes: if memory.virtual_bytes.is_finite() {
            quantity(memory.virtual_bytes, "bytes")
        } else {
            "–".into()
        },
    })
}

/// The control group's charges, in the order of its columns; or why there are none.
fn witness(cgroup: Option<&Witness>, bytes: impl Fn(f64) -> String) -> String {
    match cgroup {
        Some(Witness { anonymous: Some(anonymous), kernel: Some(kernel), .. }) => {
            format!("{} + {}", bytes(*anonymous), bytes(*kernel))
        }
        Some(Witness { reason: Some(reason), .. }) => format!("none: {}", clean(reason, 120)),
        _ => "–".into(),
    }
}

/// Coroutine over thread, group by group, in every result that has it.
fn beside(results: &[ResultDocument]) -> Beside {
    let mut order: Vec<String> = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut found: Vec<BTreeMap<String, String>> = Vec::new();
    for doc in results {
        let mut column = BTreeMap::new();
        for family in families(doc) {
            for w in &family.workloads {
                for group in &w.groups {
                    let (Some(_), Some(_)) = (group.of("coroutine"), group.of("thread")) else {
                        continue;
                    };
                    if names
                        .insert(group.id.into(), clean(&format!("{} · {}", w.name, group.label), 160))
                        .is_none()
                    {
                        order.push(group.id.into());
                    }
                    let text = group
                        .verdict()
                        .map_or_else(|| "no ratio".into(), |a| factor_interval(a.median, a.low, a.high));
                    column.insert(group.id.to_owned(), text);
                }
            }
        }
        found.push(column);
    }
    Beside {
        heads: results
            .iter()
            .map(|d| format!("{} · {}", clean(&d.machine.key, 40), clean(&d.run.started, 40)))
            .collect(),
        rows: order
            .into_iter()
            .map(|id| BesideRow {
                name: names[&id].clone(),
                ratios: found
                    .iter()
                    .map(|c| c.get(&id).cloned().unwrap_or_else(|| "not in it".into()))
                    .collect(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_written_in_the_unit_of_its_middle() {
        assert_eq!(crate::words::quantity_interval(990.0, 980.0, 1010.0, "ns"), "990\u{a0}ns (980–1010)");
    }

    #[test]
    fn traps_are_told_apart_by_dots_and_lines() {
        assert_eq!(traps("a · b\nc\n\n"), ["a", "b", "c"]);
        assert_eq!(traps("A sentence. \\\nAnother.\\\n"), ["A sentence.", "Another."]);
    }
}
