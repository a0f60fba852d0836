//! What a document says, in the order and words of the page: families, workloads, groups of cells, ratios.
//!
//! Charts, tables, prose and terminal all read a document through this file, so they cannot disagree.
//! Nothing here draws or escapes.

use crate::words::{clean, drawable, finite};
use switchmark_schema::{Better, Cell, Definition, Metric, ResultDocument, Status};

/// The catalogue's families, in its order, with the question each one answers.
const FAMILIES: [(&str, &str, &str); 6] = [
    ("switch", "Switch", "What does handing over the core cost?"),
    ("spawn", "Spawn", "What does it cost to start one more?"),
    ("stack", "Stack", "What does a unit weigh, and how deep may it go?"),
    ("policy", "Policy", "Who runs next, and who can be stopped?"),
    ("sync", "Sync", "What does coordination cost?"),
    ("io", "I/O", "What does fan-out cost?"),
];

/// Workloads by the words a reader knows them by; the id stands beside it.
const NAMES: [(&str, &str); 23] = [
    ("switch.raw", "Bare switch"),
    ("switch.yield", "Yield"),
    ("switch.handoff", "Hand-off"),
    ("switch.pipe", "Hand-off over pipes"),
    ("switch.ring", "Token ring"),
    ("switch.anatomy", "Anatomy of a hand-off"),
    ("switch.state", "Dirty registers"),
    ("switch.footprint", "Switch with a working set"),
    ("switch.cold", "Cold switch"),
    ("spawn.serial", "Spawn and join"),
    ("spawn.batch", "Spawn a batch"),
    ("spawn.first", "Time to the first instruction"),
    ("spawn.tree", "Tree of units"),
    ("stack.idle", "Parked unit"),
    ("stack.depth", "Descent into the stack"),
    ("stack.limit", "Units at once"),
    ("policy.hog", "Ticks beside a hog"),
    ("policy.timer", "Ticks of many"),
    ("policy.blocking", "Ticks beside a blocking call"),
    ("sync.channel", "Message"),
    // Whoever reads one of these numbers must know which loop it is of.
    ("io.echo", "Echo, closed loop"),
    ("io.open", "Echo, open loop"),
    ("io.idle", "Echo beside idle connections, closed loop"),
];

/// One family that has cells.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) question: &'static str,
    pub(crate) workloads: Vec<Workload<'a>>,
}

/// One workload that has cells.
#[derive(Debug)]
pub(crate) struct Workload<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: String,
    pub(crate) definition: Option<&'a Definition>,
    pub(crate) groups: Vec<Group<'a>>,
    /// Where its cells are parts: the cells of what they are parts of, as far as the document has it.
    pub(crate) whole: Vec<&'a Cell>,
}

/// Cells that differ in the contender alone.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) id: &'a str,
    pub(crate) label: String,
    pub(crate) cells: Vec<&'a Cell>,
}

/// A cell's number as far as it may be drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) middle: f64,
    /// Absent under six blocks: then `middle` is only the middle of the samples.
    pub(crate) interval: Option<Interval>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) level: f64,
}

/// How many times better a contender is than another, whichever direction is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Advantage {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) level: f64,
    pub(crate) blocks: u32,
}

impl Advantage {
    /// Whether the interval leaves out 1.
    pub(crate) fn told(self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// The families of a document: the catalogue's in its order, then any others as the document has them.
pub(crate) fn families(doc: &ResultDocument) -> Vec<Family<'_>> {
    let mut workloads: Vec<Workload> = Vec::new();
    let mut at = std::collections::HashMap::new();
    let mut group_at = std::collections::HashMap::new();
    for cell in &doc.cells {
        let w = *at.entry(cell.workload.as_str()).or_insert_with(|| {
            workloads.push(Workload {
                id: &cell.workload,
                name: name(&cell.workload),
                definition: doc.definitions.iter().find(|d| d.id == cell.workload),
                groups: Vec::new(),
                whole: Vec::new(),
            });
            workloads.len() - 1
        });
        let groups = &mut workloads[w].groups;
        let g = *group_at.entry((w, cell.group())).or_insert_with(|| {
            groups.push(Group { id: cell.group(), label: label(cell.group()), cells: Vec::new() });
            groups.len() - 1
        });
        groups[g].cells.push(cell);
    }
    let hand_offs =
        || doc.cells.iter().filter(|c| c.workload == "switch.handoff" && c.placement == "same-core");
    let mut out: Vec<Family> = Vec::new();
    for mut workload in workloads {
        if workload.is_of_parts() {
            workload.whole = hand_offs().collect();
        }
        let id = family_id(workload.id);
        if let Some(family) = out.iter_mut().find(|f| f.id == id) {
            family.workloads.push(workload);
            continue;
        }
        let known = FAMILIES.iter().find(|f| f.0 == id);
        out.push(Family {
            title: known.map_or_else(|| clean(id, 40), |f| f.1.into()),
            question: known.map_or("", |f| f.2),
            id: id.into(),
            workloads: vec![workload],
        });
    }
    out.sort_by_key(|f| FAMILIES.iter().position(|k| k.0 == f.id).unwrap_or(FAMILIES.len()));
    for family in &mut out {
        family.workloads.sort_by_key(|w| NAMES.iter().position(|k| k.0 == w.id).unwrap_or(NAMES.len()));
        for group in family.workloads.iter_mut().flat_map(|w| &mut w.groups) {
            group.cells.sort_by_key(|c| rank(&c.contender));
        }
    }
    out
}

/// What a summary has rows of: the operations, and parts of one only where there is nothing else.
pub(crate) fn operations<'f, 'a>(families: &'f [Family<'a>]) -> Vec<&'f Workload<'a>> {
    let all = || families.iter().flat_map(|f| &f.workloads);
    let whole: Vec<_> = all().filter(|w| !w.is_of_parts()).collect();
    if whole.is_empty() { all().collect() } else { whole }
}

/// What stands before the first dot of a workload's id.
pub(crate) fn family_id(workload: &str) -> &str {
    workload.split_once('.').map_or(workload, |(family, _)| family)
}

/// The workload in a reader's words.
pub(crate) fn name(workload: &str) -> String {
    NAMES.iter().find(|n| n.0 == workload).map_or_else(|| clean(workload, 60), |n| n.1.into())
}

/// Thread first, then coroutine, then the floors, then the peers by name.
pub(crate) fn rank(contender: &str) -> (usize, String) {
    let order = ["thread", "coroutine", "coroutine-migrating", "call", "epoll"];
    (order.iter().position(|o| *o == contender).unwrap_or(order.len()), clean(contender, 60))
}

/// `switch.yield/tasks=2/same-core` is `tasks 2 · same-core`; parameters keep the definition's order.
fn label(group: &str) -> String {
    let mut parts: Vec<String> = group
        .split('/')
        .skip(1)
        .map(|part| match part.split_once('=') {
            Some((key, value)) => {
                let number = value.parse::<u64>().map(crate::words::count);
                format!("{} {}", key.replace('_', " "), number.unwrap_or_else(|_| value.into()))
            }
            None => part.into(),
        })
        .map(|part| clean(&part, 60))
        .filter(|part| !part.is_empty())
        .collect();
    if parts.is_empty() {
        parts.push(clean(group, 60));
    }
    parts.join(" · ")
}

/// The metric's middle and interval; without an estimate the middle of the samples, so that it can still be drawn.
pub(crate) fn point(metric: &Metric) -> Option<Point> {
    if let Some(e) = &metric.estimate {
        let middle = finite(e.median)?;
        let interval = match (finite(e.low), finite(e.high), finite(e.level)) {
            (Some(low), Some(high), Some(level)) if low <= middle && middle <= high => {
                Some(Interval { low, high, level })
            }
            _ => None,
        };
        return Some(Point { middle, interval });
    }
    let mut values: Vec<f64> = metric.samples.iter().filter_map(|s| finite(s.value)).collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let middle = match n {
        0 => return None,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    };
    finite(middle).map(|middle| Point { middle, interval: None })
}

/// The cell's number, where it has one that counts.
pub(crate) fn cell_point(cell: &Cell) -> Option<Point> {
    (cell.status == Status::Measured).then(|| cell.primary_metric().and_then(point)).flatten()
}

/// How many times better this cell is than the same cell of another contender.
pub(crate) fn advantage(cell: &Cell, over: &str) -> Option<Advantage> {
    if cell.status != Status::Measured {
        return None;
    }
    metric_advantage(cell.primary_metric()?, over)
}

/// The same for any metric of a cell.
pub(crate) fn metric_advantage(metric: &Metric, over: &str) -> Option<Advantage> {
    let ratio = metric.ratios.iter().find(|r| r.to == over)?;
    let (median, low, high) = (drawable(ratio.median)?, drawable(ratio.low)?, drawable(ratio.high)?);
    if !(low <= median && median <= high) {
        return None;
    }
    let (median, low, high) = match metric.better {
        Better::Lower => (1.0 / median, 1.0 / high, 1.0 / low),
        Better::Higher => (median, low, high),
    };
    Some(Advantage { median, low, high, level: finite(ratio.level)?, blocks: ratio.blocks })
}

impl<'a> Group<'a> {
    pub(crate) fn of(&self, contender: &str) -> Option<&'a Cell> {
        self.cells.iter().copied().find(|c| c.contender == contender)
    }

    /// How many times better the coroutine is than the thread.
    pub(crate) fn verdict(&self) -> Option<Advantage> {
        advantage(self.of("coroutine")?, "thread")
    }

    pub(crate) fn unit(&self) -> &'a str {
        self.cells.iter().find_map(|c| c.primary_metric()).map_or("", |m| m.unit.as_str())
    }

    pub(crate) fn better(&self) -> Better {
        self.cells.iter().find_map(|c| c.primary_metric()).map_or(Better::Lower, |m| m.better)
    }
}

impl<'a> Workload<'a> {
    /// The group to quote: the first in which coroutine and thread have a ratio, else with any number, else the first.
    pub(crate) fn quoted(&self) -> Option<&Group<'a>> {
        let same_core = |g: &&Group| g.id.contains("same-core");
        let judged = || self.groups.iter().filter(|g| g.verdict().is_some());
        judged()
            .find(same_core)
            .or_else(|| judged().next())
            .or_else(|| self.groups.iter().find(|g| g.cells.iter().any(|c| cell_point(c).is_some())))
            .or_else(|| self.groups.first())
    }

    /// The workload and what tells this group from its others: `Yield · tasks 2`.
    pub(crate) fn row_name(&self, group: &Group) -> String {
        let common = |part: &str| self.groups.iter().all(|g| g.label.split(" · ").any(|p| p == part));
        let parts: Vec<&str> = group.label.split(" · ").filter(|part| !common(part)).collect();
        if parts.is_empty() { self.name.clone() } else { format!("{} · {}", self.name, parts.join(" · ")) }
    }

    /// A part that was measured alone.
    pub(crate) fn rung(&self, name: &str, contender: &str) -> Option<&'a Cell> {
        let is_it = |cell: &&Cell| cell.params.get("rung").is_some_and(|value| value.to_string() == name);
        self.groups.iter().filter_map(|g| g.of(contender)).find(is_it)
    }

    /// Whether its cells are parts of an operation, and none by themselves.
    pub(crate) fn is_of_parts(&self) -> bool {
        self.id == "switch.anatomy"
    }

    pub(crate) fn unit(&self) -> &str {
        match self.groups.iter().map(Group::unit).find(|u| !u.is_empty()) {
            Some(unit) => unit,
            None => self.definition.map_or("", |d| d.unit.as_str()),
        }
    }
}

/// The word a status is printed as.
pub(crate) fn status_word(status: Status) -> &'static str {
    match status {
        Status::Measured => "measured",
        Status::Invalid => "invalid",
        Status::Unsupported => "unsupported",
        Status::Skipped => "skipped",
        Status::Failed => "failed",
    }
}

/// What the ledger says of a cell, in a word.
pub(crate) fn ledger_word(cell: &Cell) -> &'static str {
    match (cell.status, &cell.ledger) {
        (Status::Invalid, _) => "refuted",
        (Status::Measured, Some(ledger)) => match &ledger.switches {
            Some(s) if s.expected.is_some() => "balanced",
            Some(_) => "recorded",
            None => "units only",
        },
        _ => "none",
    }
}

/// Whether any cell carries an interval; a smoke run has none.
pub(crate) fn has_estimates(doc: &ResultDocument) -> bool {
    doc.cells.iter().filter_map(cell_point).any(|p| p.interval.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_the_parameters_in_their_order_and_drops_the_workload() {
        assert_eq!(
            label("stack.idle/units=10000/stack=default/same-core"),
            "units 10\u{202f}000 · stack default · same-core"
        );
        assert_eq!(label("nothing"), "nothing");
    }

    #[test]
    fn an_advantage_is_the_inverse_ratio_where_less_is_better() {
        let mut metric = Metric {
            unit: "ns".into(),
            better: Better::Lower,
            minimum: None,
            samples: vec![],
            estimate: None,
            ratios: vec![switchmark_schema::Ratio {
                to: "thread".into(),
                median: 0.01,
                low: 0.008,
                high: 0.0125,
                level: 0.96,
                blocks: 12,
            }],
        };
        let a = metric_advantage(&metric, "thread").expect("a ratio");
        assert_eq!((a.median.round(), a.low.round(), a.high.round()), (100.0, 80.0, 125.0));
        metric.better = Better::Higher;
        let a = metric_advantage(&metric, "thread").expect("a ratio");
        assert!(a.median < a.high && a.high < 1.0 && a.told());
        metric.ratios[0].low = 0.0;
        assert_eq!(metric_advantage(&metric, "thread"), None, "an infinite end is not an interval");
    }
}
