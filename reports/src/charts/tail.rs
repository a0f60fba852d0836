//! Quantiles of lateness: from the median to the worst tick, each further nine as far apart as the one before.
//!
//! A mean says nothing of a policy, and a histogram hides the few ticks that matter. One panel a setting, all on one axis of time, so
//! that contenders stand together and settings can be compared. A mark is the middle of the processes', with the interval of the metric of the
//! same name; the line is of all their latencies together, where the document has their histogram, and goes as far as ten of them lie
//! beyond. Without one it joins the marks.

use super::{Canvas, Chart, Hold, LogAxis, WIDTH, draw, key, tick_label};
use crate::RenderError;
use crate::prose;
use crate::theme::{ABSENT, GRID, INK, MUTED, look};
use crate::view::{self, Group, Workload};
use crate::words::{drawable, fit_parts, quantity, unit_parts, width_em};
use switchmark_schema::{Cell, Histogram, Status};

/// The points of a curve, where they stand, in nines, and whether there is room for a word beneath. The worst of some thousand ticks has no place
/// of its own on such an axis; it stands a little further.
const POINTS: [(&str, f64, bool); 6] = [
    ("p50", 0.301, true),
    ("p75", 0.602, false),
    ("p90", 1.0, true),
    ("p99", 2.0, true),
    ("p99.9", 3.0, true),
    ("max", 3.75, true),
];
const PANEL: f64 = 220.0;
const HEAD: f64 = 24.0;
const FOOT: f64 = 34.0;
/// Left of the first panel of a row: the axis of time.
const LABELS: f64 = 58.0;
const BETWEEN: f64 = 22.0;
const A_ROW: usize = 3;
/// More settings than this are left to the table.
const MOST_PANELS: usize = 9;
/// Between neighbours at the same quantile.
const APART: f64 = 5.0;

/// Absent where no cell has a curve.
pub(super) fn tail(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    let groups: Vec<&Group> =
        workload.groups.iter().filter(|g| g.cells.iter().any(|c| curve(c).len() > 1)).collect();
    let shown = groups.len().min(MOST_PANELS);
    let (groups, left_out) = groups.split_at(shown);
    let cells = || groups.iter().flat_map(|g| g.cells.iter().copied());
    let values = cells().flat_map(|c| curve(c).into_iter().flat_map(|p| [p.low, p.at_ns, p.high]));
    let Some(range) = LogAxis::over(values, (1.0, 0.0)) else { return Ok(None) };
    let mut names: Vec<&str> =
        cells().filter(|c| !curve(c).is_empty()).map(|c| c.contender.as_str()).collect();
    names.sort_by_key(|name| view::rank(name));
    names.dedup();
    let columns = shown.min(A_ROW);
    let wide = (WIDTH - LABELS - BETWEEN * (columns as f64 - 1.0)) / columns as f64;
    // A lone panel as wide as the sheet would look like more than it is.
    let wide = wide.min(430.0);
    let rows = shown.div_ceil(A_ROW) as f64;
    let bottom = 48.0 + rows * (HEAD + PANEL + FOOT);
    let description = format!(
        "Lines on a logarithmic axis, by quantile: {}. {}",
        prose::what_waits(workload),
        groups.iter().map(|g| describe(g)).collect::<Vec<_>>().join(" ")
    );
    let name = format!("{}-tail", workload.id);
    draw(&name, prose::waited(workload), &description, bottom + 22.0, |canvas| {
        key(canvas, names.iter().copied());
        let what = prose::what_waits(workload);
        canvas.note((0.0, 36.0), &format!("{what}, log scale: lower is better"));
        for (n, group) in groups.iter().enumerate() {
            let left = LABELS + (wide + BETWEEN) * (n % A_ROW) as f64;
            let top = 48.0 + (n / A_ROW) as f64 * (HEAD + PANEL + FOOT);
            let label = workload.row_name(group);
            let label = label.strip_prefix(&format!("{} · ", workload.name)).unwrap_or(&group.label);
            let label = short(label, (wide - 6.0) / 13.0);
            canvas.text((left, top + 9.0), &label, 13.0, INK, Hold::Left, true);
            let axis = range.moved((top + HEAD + PANEL, top + HEAD));
            panel(canvas, group, &names, &axis, (left, left + wide), n % A_ROW == 0);
        }
        let mut note = if cells().any(|c| curve(c).iter().any(|p| p.low < p.high)) {
            "mark: middle of the processes · whisker: interval of the median over them".to_owned()
        } else {
            "marks: middle of the processes · no intervals: fewer than six of them".to_owned()
        };
        if groups.iter().flat_map(|g| &g.cells).any(|cell| line(cell).is_some()) {
            note.push_str(" · line: all latencies");
        }
        if !left_out.is_empty() {
            note = format!("{} more settings are in the table", left_out.len());
        }
        canvas.note((LABELS, bottom + 10.0), &note);
    })
    .map(Some)
}

/// What tells a panel from its neighbours, in a width: the values alone where there is no room for their names.
fn short(label: &str, em: f64) -> String {
    // Bold is wider than what is counted.
    if width_em(label) * 1.06 <= em {
        return label.to_owned();
    }
    let values = label.split(" · ").map(|part| part.rsplit_once(' ').map_or(part, |(_, value)| value));
    fit_parts(&values.collect::<Vec<_>>().join(" · "), em)
}

/// A point of a curve. Without an interval its ends are the point.
struct Late {
    name: &'static str,
    nines: f64,
    at_ns: f64,
    low: f64,
    high: f64,
}

/// What can be drawn of a cell's curve.
fn curve(cell: &Cell) -> Vec<Late> {
    let Some(latency) = cell.latency.as_ref().filter(|_| cell.status == Status::Measured) else {
        return Vec::new();
    };
    let point = |(name, nines, _): (&'static str, f64, bool)| {
        let at_ns = drawable(*latency.percentiles.get(name)?)?;
        let interval = cell.metrics.get(name).and_then(|m| {
            let to_ns = match unit_parts(&m.unit).0 {
                "ns" => 1.0,
                "µs" => 1e3,
                "ms" => 1e6,
                _ => return None,
            };
            let i = view::point(m)?.interval?;
            Some((drawable(i.low * to_ns)?, drawable(i.high * to_ns)?))
        });
        let (low, high) = interval.unwrap_or((at_ns, at_ns));
        Some(Late { name, nines, at_ns, low, high })
    };
    POINTS.into_iter().filter_map(point).collect()
}

/// The line through all latencies of a cell, as far as ten lie beyond: nines and nanoseconds. `None` where there is no histogram to read.
fn line(cell: &Cell) -> Option<Vec<(f64, f64)>> {
    const STEP: f64 = 0.05;
    const BEYOND: f64 = 10.0;
    let histogram = Histogram::read(cell.latency.as_ref()?.histogram.as_ref()?).ok()?;
    let count = histogram.count() as f64;
    let steps = (0..).map(|n| POINTS[0].1 + f64::from(n) * STEP);
    let nines = steps
        .take_while(|nines| *nines <= POINTS[POINTS.len() - 2].1 && count * 10_f64.powf(-nines) >= BEYOND);
    let at = |nines: f64| Some((nines, drawable(histogram.at(1.0 - 10_f64.powf(-nines)) as f64)?));
    Some(nines.filter_map(at).collect())
}

fn panel(
    canvas: &mut Canvas,
    group: &Group,
    names: &[&str],
    axis: &LogAxis,
    (left, right): (f64, f64),
    labelled: bool,
) {
    let (bottom, top) = axis.span();
    // Half of the last word, too, stands right of its place.
    let half = (APART * names.len() as f64 / 2.0 + 6.0).max(18.0);
    let (first, last) = (POINTS[0].1, POINTS[POINTS.len() - 1].1);
    let across = |nines: f64| {
        let share = (nines - first) / (last - first);
        left + half + share * (right - left - 2.0 * half)
    };
    for tick in axis.ticks("ns") {
        canvas.line((left, axis.at(tick)), (right, axis.at(tick)), GRID, 1);
        if labelled {
            let label = tick_label(tick, "ns");
            let x = left - 8.0 - width_em(&label) * 12.0;
            canvas.text((x, axis.at(tick)), &label, 12.0, MUTED, Hold::Left, false);
        }
    }
    for (name, nines, worded) in POINTS {
        canvas.line((across(nines), top), (across(nines), bottom), GRID, 1);
        if worded {
            canvas.text((across(nines), bottom + 12.0), name, 12.0, MUTED, Hold::Middle, false);
        }
    }
    canvas.line((left, bottom), (right, bottom), GRID, 1);
    for cell in &group.cells {
        let look = look(&cell.contender);
        let place = names.iter().position(|n| *n == cell.contender).unwrap_or(0) as f64;
        let aside = (place - (names.len() as f64 - 1.0) / 2.0) * APART;
        let points = curve(cell);
        let at = |p: &Late| (across(p.nines) + aside, axis.at(p.at_ns));
        let line = line(cell).filter(|_| !points.is_empty());
        let line =
            line.map(|line| line.iter().map(|(nines, ns)| (across(*nines) + aside, axis.at(*ns))).collect());
        canvas.curve(&line.unwrap_or_else(|| points.iter().map(at).collect::<Vec<_>>()), look);
        for p in points.iter().filter(|p| p.low < p.high) {
            canvas.upright(axis.at(p.low), axis.at(p.high), at(p).0, look);
        }
        for p in &points {
            let (x, y) = at(p);
            canvas.small_mark(x, y, look);
        }
    }
    let absent = group.cells.iter().filter(|c| curve(c).is_empty());
    for (n, cell) in absent.take(4).enumerate() {
        let text = format!("{}: {}", cell.contender, view::status_word(cell.status));
        let at = (left + 8.0, top + 12.0 + 15.0 * n as f64);
        canvas.text(
            at,
            &crate::words::fit(&text, (right - left) / 12.0 - 1.0),
            12.0,
            ABSENT,
            Hold::Left,
            false,
        );
    }
}

fn describe(group: &Group) -> String {
    let lines = group.cells.iter().map(|cell| {
        let points = curve(cell);
        let words = points.iter().map(|p| format!("{} {}", p.name, quantity(p.at_ns, "ns")));
        let words: Vec<String> = words.collect();
        let words = if words.is_empty() { view::status_word(cell.status).into() } else { words.join(", ") };
        format!("{}: {words}", cell.contender)
    });
    format!("{}: {}.", group.label, lines.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn panels_that_differ_are_told_apart_in_little_room() {
        let labels = ["mechanism block_in_place · medium sleep", "mechanism block_in_place · medium file"];
        assert_eq!(labels.map(|label| short(label, 99.0)), labels);
        assert_eq!(
            labels.map(|label| short(label, 15.0)),
            ["block_in_place · sleep", "block_in_place · file"]
        );
        assert_eq!(short("same-core", 1.0), "…");
    }
}
