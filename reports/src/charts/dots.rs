//! Dot plots on a log axis: the headline (a block of lanes per operation) and one figure per workload.
//!
//! A lane holds one contender: its mark at the median, its interval as a whisker, a faint dot for every process.
//! A cell without a number keeps its lane and says why in grey.

use super::{Canvas, Chart, Hold, LogAxis, WIDTH, draw, draw_sized};
use crate::RenderError;
use crate::prose;
use crate::theme::{ABSENT, GRID, INK, MUTED, PAPER, look};
use crate::view::{self, Family, Group, Point, Workload};
use crate::words::{
    digits, drawable, factor_interval, fit, fit_parts, quantity, quantity_interval, scale, unit_parts,
};
use switchmark_schema::{Cell, Status};

/// More lanes than a figure can hold; the table has all.
const MOST_LANES: usize = 48;

/// One contender's line in a figure.
struct Lane<'a> {
    cell: &'a Cell,
    point: Option<Point>,
    samples: Vec<f64>,
}

impl<'a> Lane<'a> {
    fn of(cell: &'a Cell) -> Lane<'a> {
        let measured = cell.status == Status::Measured;
        let metric = cell.primary_metric().filter(|_| measured);
        Lane {
            cell,
            point: metric.and_then(view::point).filter(|p| drawable(p.middle).is_some()).map(|p| Point {
                interval: p.interval.filter(|i| drawable(i.low).is_some() && drawable(i.high).is_some()),
                ..p
            }),
            samples: metric
                .map_or_else(Vec::new, |m| m.samples.iter().filter_map(|s| drawable(s.value)).collect()),
        }
    }

    fn unit(&self) -> &'a str {
        self.cell.primary_metric().map_or("", |m| m.unit.as_str())
    }

    /// Everything this lane puts on the axis.
    fn values(&self) -> Vec<f64> {
        let mut out = self.samples.clone();
        if let Some(p) = &self.point {
            out.push(p.middle);
            out.extend(p.interval.iter().flat_map(|i| [i.low, i.high]));
        }
        out
    }

    fn draw(&self, canvas: &mut Canvas, axis: &LogAxis, y: f64) {
        let look = look(&self.cell.contender);
        // Past forty the dots are a band anyway, and the page has a size to keep.
        let stride = self.samples.len().div_ceil(40).max(1);
        for v in self.samples.iter().step_by(stride) {
            canvas.faint_dot(axis.at(*v), y, look.colour);
        }
        let Some(p) = &self.point else { return };
        if let Some(i) = p.interval {
            canvas.whisker(axis.at(i.low), axis.at(i.high), y, look);
        }
        canvas.mark(axis.at(p.middle), y, look);
    }

    fn why_not(&self) -> String {
        match self.cell.status {
            Status::Measured => "measured, but its number cannot be drawn on a log axis".into(),
            status => format!(
                "{}: {}",
                view::status_word(status),
                self.cell.reason.as_deref().unwrap_or("no reason given")
            ),
        }
    }
}

/// What the marks mean; where nothing has an interval that is said.
fn key<'a>(mut lanes: impl Iterator<Item = &'a Lane<'a>>) -> &'static str {
    if lanes.any(|l| l.point.as_ref().is_some_and(|p| p.interval.is_some())) {
        "mark: median · whisker: its interval · faint dots: single processes"
    } else {
        "marks: middle of the processes · no intervals: fewer than six of them"
    }
}

/// Vertical lines with their labels above and below the plot.
fn grid(canvas: &mut Canvas, axis: &LogAxis, (top, bottom): (f64, f64), unit: &str) {
    let mut last = f64::NEG_INFINITY;
    for tick in axis.ticks(unit) {
        let x = axis.at(tick);
        canvas.line((x, top), (x, bottom), GRID, 1);
        let label = tick_label(tick, unit);
        // A tick without room for its label keeps its line.
        let half = crate::words::width_em(&label) * 6.0;
        if x - half > last {
            canvas.text((x, bottom + 11.0), &label, 12.0, MUTED, Hold::Middle, false);
            last = x + half + 6.0;
        }
    }
}

/// A tick in the unit that fits it, where there is one; else the number alone.
pub(super) fn tick_label(tick: f64, unit: &str) -> String {
    if !is_scaled(unit) {
        return tick_digits(tick);
    }
    let s = scale(tick, unit);
    format!("{}\u{a0}{}", tick_digits(tick / s.divisor), s.symbol)
}

/// Whether a number of this unit is shown in the larger or smaller one that fits it: those of time and memory.
fn is_scaled(unit: &str) -> bool {
    ["ns", "us", "µs", "ms", "s", "bytes"].contains(&unit_parts(unit).0)
}

/// A tick is 1, 2 or 5 times a power of ten: no digits behind it but what is needed.
pub(super) fn tick_digits(v: f64) -> String {
    let text = digits(v);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

const OPERATIONS: [&str; 10] = [
    "switch.raw",
    "switch.yield",
    "switch.handoff",
    "switch.pipe",
    "switch.ring",
    "spawn.serial",
    "spawn.batch",
    "spawn.first",
    "spawn.tree",
    "sync.channel",
];

pub(super) fn headline(families: &[Family]) -> Result<Option<Chart>, RenderError> {
    const TOP: f64 = 46.0;
    const LANE: f64 = 19.0;
    const GAP: f64 = 12.0;
    let rows: Vec<(&Workload, &Group, Vec<Lane>)> = families
        .iter()
        .flat_map(|f| &f.workloads)
        .filter(|w| OPERATIONS.contains(&w.id) && unit_parts(w.unit()).0 == "ns")
        .filter_map(|w| {
            let group = w.quoted()?;
            let lanes: Vec<Lane> =
                group.cells.iter().map(|c| Lane::of(c)).filter(|l| l.point.is_some()).collect();
            (!lanes.is_empty()).then_some((w, group, lanes))
        })
        .collect();
    let values = rows.iter().flat_map(|(_, _, lanes)| lanes.iter().flat_map(Lane::values));
    let plot = (206.0, 562.0);
    let Some(axis) = LogAxis::over(values, plot) else {
        return Ok(None);
    };
    let row_height = |lanes: usize| (lanes as f64 * LANE).max(2.0 * LANE) + GAP;
    let height_of_rows: f64 = rows.iter().map(|(_, _, lanes)| row_height(lanes.len())).sum();
    let bottom = TOP + height_of_rows;
    let title = prose::headline(families);
    let description = format!(
        "Dot plot on a logarithmic axis of time for one operation, less is better. {}",
        rows.iter().map(|(w, g, _)| describe(&w.name, g)).collect::<Vec<_>>().join(" ")
    );
    draw("headline", title, &description, bottom + 42.0, |canvas| {
        canvas.note((0.0, 12.0), "One operation");
        canvas.note((plot.0, 12.0), "time for it, log scale: further left is cheaper");
        canvas.note((plot.1 + 16.0, 12.0), "coroutine’s advantage");
        grid(canvas, &axis, (TOP - 18.0, bottom), "ns");
        let mut y = TOP;
        for (w, group, lanes) in &rows {
            let height = row_height(lanes.len());
            let middle = y + (height - GAP) / 2.0;
            canvas.line((0.0, y - GAP / 2.0), (WIDTH, y - GAP / 2.0), GRID, 1);
            canvas.text((0.0, middle - 8.5), &fit(&w.name, 13.0), 13.5, INK, Hold::Left, true);
            canvas.note(
                (0.0, middle + 8.5),
                &fit_parts(group.label.strip_suffix(" · same-core").unwrap_or(&group.label), 17.4),
            );
            let mut lane_y = middle - (lanes.len() as f64 - 1.0) / 2.0 * LANE;
            for lane in lanes {
                lane.draw(canvas, &axis, lane_y);
                label_beside(canvas, &axis, lane, lane_y, plot);
                lane_y += LANE;
            }
            let verdict = group
                .verdict()
                .map_or_else(|| no_ratio(group).into(), |a| factor_interval(a.median, a.low, a.high));
            let (colour, bold) = if group.verdict().is_some() { (INK, true) } else { (ABSENT, false) };
            canvas.text((plot.1 + 16.0, middle), &fit(&verdict, 11.0), 13.0, colour, Hold::Left, bold);
            y += height;
        }
        canvas.line((0.0, bottom), (WIDTH, bottom), GRID, 1);
        let note = key(rows.iter().flat_map(|(_, _, lanes)| lanes));
        canvas.note((plot.0, bottom + 31.0), note);
    })
    .map(Some)
}

/// Why the right column has no number.
fn no_ratio(group: &Group) -> &'static str {
    match (group.of("thread"), group.of("coroutine")) {
        (None, _) => "no thread in it",
        (_, None) => "no coroutine in it",
        _ => "no ratio",
    }
}

/// The contender's name at its mark: to the right of all it draws, or to the left where there is no room.
fn label_beside(canvas: &mut Canvas, axis: &LogAxis, lane: &Lane, y: f64, plot: (f64, f64)) {
    let text = fit(&lane.cell.contender, 14.0);
    let wide = crate::words::width_em(&text) * 12.0;
    let xs: Vec<f64> = lane.values().iter().map(|v| axis.at(*v)).collect();
    let right = xs.iter().copied().fold(plot.0, f64::max) + 11.0;
    let left = xs.iter().copied().fold(plot.1, f64::min) - 11.0 - wide;
    let x = if right + wide <= plot.1 + 4.0 { right } else { left.max(plot.0) };
    canvas.text((x, y), &text, 12.0, INK, Hold::Left, false);
}

/// One sentence for those who cannot see the row.
fn describe(name: &str, group: &Group) -> String {
    let numbers: Vec<String> =
        group.cells.iter().map(|c| format!("{} {}", c.contender, value(&Lane::of(c)))).collect();
    format!("{name} ({}): {}.", group.label, numbers.join(", "))
}

fn value(lane: &Lane) -> String {
    match &lane.point {
        Some(Point { middle, interval: Some(i) }) => quantity_interval(*middle, i.low, i.high, lane.unit()),
        Some(p) => format!("{}, no interval", quantity(p.middle, lane.unit())),
        None => lane.why_not(),
    }
}

pub(super) fn small(workload: &Workload, by_placement: bool) -> Result<Option<Chart>, RenderError> {
    const WIDE: f64 = 274.0;
    const LANE: f64 = 24.0;
    const MOST: usize = 4;
    let plot = (132.0, 250.0);
    let mut lanes: Vec<(String, Lane)> = Vec::new();
    if by_placement {
        let mut seen = Vec::new();
        for group in &workload.groups {
            let Some(placement) = group.cells.first().map(|c| c.placement.as_str()) else {
                continue;
            };
            if seen.contains(&placement) || seen.len() == 2 {
                continue;
            }
            seen.push(placement);
            let place = match placement {
                "same-core" => "one core",
                "cross-core" => "across",
                other => other,
            };
            for name in ["thread", "coroutine"] {
                lanes.extend(group.of(name).map(|c| (format!("{name}, {place}"), Lane::of(c))));
            }
        }
    } else if let Some(group) = workload.quoted() {
        lanes.extend(group.cells.iter().take(MOST).map(|c| (c.contender.clone(), Lane::of(c))));
    }
    let values = lanes.iter().flat_map(|(_, lane)| lane.values());
    let Some(axis) = LogAxis::over(values, plot) else {
        return Ok(None);
    };
    let bottom = 6.0 + LANE * lanes.len() as f64;
    let unit = workload.unit();
    let numbers: Vec<String> = lanes.iter().map(|(name, lane)| format!("{name} {}", value(lane))).collect();
    let title = format!("{}, in {unit}", workload.name);
    let description = format!("Dot plot on a logarithmic axis. {}.", numbers.join(", "));
    let name = format!("{}-small", workload.id);
    draw_sized(&name, title, &description, (WIDE, bottom + 40.0), |canvas| {
        for tick in axis.ticks(unit) {
            canvas.line((axis.at(tick), 0.0), (axis.at(tick), bottom), GRID, 1);
        }
        for (n, (name, lane)) in lanes.iter().enumerate() {
            let y = 6.0 + LANE * (n as f64 + 0.5);
            let colour = if lane.point.is_some() { INK } else { ABSENT };
            canvas.text((0.0, y), &fit(name, 10.0), 12.0, colour, Hold::Left, false);
            lane.draw(canvas, &axis, y);
            if lane.point.is_none() {
                canvas.rect((plot.0 - 2.0, y - 9.0), (WIDE, y + 9.0), PAPER);
                let word = view::status_word(lane.cell.status);
                canvas.text((plot.0, y), word, 13.0, ABSENT, Hold::Left, false);
            }
        }
        grid(canvas, &axis, (bottom, bottom + 4.0), unit);
        let note = format!("{}, log scale", fit(unit, 9.0));
        canvas.note((plot.0, bottom + 30.0), &note);
    })
    .map(Some)
}

pub(super) fn workload(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    const TOP: f64 = 30.0;
    const HEAD: f64 = 25.0;
    const LANE: f64 = 22.0;
    let mut groups: Vec<(&Group, Vec<Lane>)> = Vec::new();
    let (mut lanes, mut left_out) = (0, 0);
    for group in &workload.groups {
        if lanes + group.cells.len() > MOST_LANES {
            left_out += group.cells.len();
            continue;
        }
        lanes += group.cells.len();
        groups.push((group, group.cells.iter().map(|c| Lane::of(c)).collect()));
    }
    let plot = (142.0, 414.0);
    let (value_x, verdict_x) = (424.0, 584.0);
    let values = groups.iter().flat_map(|(_, lanes)| lanes.iter().flat_map(Lane::values));
    let Some(axis) = LogAxis::over(values, plot) else {
        return Ok(None);
    };
    let bottom = TOP + groups.iter().map(|(_, l)| HEAD + LANE * l.len() as f64 + 5.0).sum::<f64>();
    let unit = workload.unit();
    let threaded = groups.iter().any(|(g, _)| g.cells.iter().any(|c| view::advantage(c, "thread").is_some()));
    let description = format!(
        "Dot plot on a logarithmic axis, in {unit}. {}",
        groups.iter().map(|(g, _)| describe(&workload.name, g)).collect::<Vec<_>>().join(" ")
    );
    let title = prose::finding(workload);
    draw(workload.id, title, &description, bottom + 42.0, |canvas| {
        let direction = match workload.groups.first().map(Group::better) {
            Some(switchmark_schema::Better::Higher) => "further right is better",
            _ => "further left is better",
        };
        let axis_words = format!("{}, log scale: {direction}", fit(unit, 11.0));
        canvas.note((plot.0, 12.0), &axis_words);
        canvas.note((value_x, 12.0), "median (interval)");
        if threaded {
            canvas.note((verdict_x, 12.0), "better than thread");
        }
        let mut y = TOP;
        // The grid lies beneath everything, so the bands are walked twice.
        for (group, lanes) in &groups {
            canvas.text((0.0, y + 13.0), &fit(&group.label, 50.0), 13.0, INK, Hold::Left, true);
            let from = y + HEAD - 3.0;
            y += HEAD + LANE * lanes.len() as f64 + 5.0;
            for tick in axis.ticks(unit) {
                canvas.line((axis.at(tick), from), (axis.at(tick), y - 3.0), GRID, 1);
            }
            canvas.line((0.0, y), (WIDTH, y), GRID, 1);
        }
        let mut y = TOP;
        for (_, lanes) in &groups {
            y += HEAD;
            for lane in lanes {
                lane_of_figure(canvas, &axis, lane, y + LANE / 2.0, plot, (value_x, verdict_x));
                y += LANE;
            }
            y += 5.0;
        }
        grid(canvas, &axis, (bottom, bottom + 4.0), unit);
        let mut note = key(groups.iter().flat_map(|(_, lanes)| lanes)).to_owned();
        if left_out > 0 {
            note = format!("{left_out} more cells are in the table");
        }
        canvas.note((plot.0, bottom + 31.0), &note);
    })
    .map(Some)
}

/// Room for a ratio and its interval, in em.
const VERDICT: f64 = 10.6;

/// A lane's number with its interval. A unit that no prefix fits stands above the axis already, and beside it there is no room for numbers of six
/// digits: those are in thousands.
fn beside(point: &Point, unit: &str) -> String {
    let (divisor, unit) = match point.middle {
        _ if is_scaled(unit) => (1.0, unit),
        v if v >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let of = |v: f64| v / divisor;
    match point.interval {
        Some(i) => quantity_interval(of(point.middle), of(i.low), of(i.high), unit),
        None => quantity(of(point.middle), unit) + ", no interval",
    }
}

fn lane_of_figure(
    canvas: &mut Canvas,
    axis: &LogAxis,
    lane: &Lane,
    y: f64,
    plot: (f64, f64),
    (value_x, verdict_x): (f64, f64),
) {
    let name = fit(&lane.cell.contender, 8.6);
    let Some(point) = &lane.point else {
        canvas.text((20.0, y), &name, 13.0, ABSENT, Hold::Left, false);
        canvas.rect((plot.0 - 2.0, y - 8.0), (WIDTH, y + 8.0), PAPER);
        let why = fit(&lane.why_not(), (WIDTH - plot.0) / 12.0 - 0.5);
        canvas.text((plot.0, y), &why, 12.0, ABSENT, Hold::Left, false);
        return;
    };
    canvas.mark(8.0, y, look(&lane.cell.contender));
    canvas.text((20.0, y), &name, 13.0, INK, Hold::Left, false);
    lane.draw(canvas, axis, y);
    let text = beside(point, lane.unit());
    let advantage = view::advantage(lane.cell, "thread");
    // Without a ratio beside it the value has the rest of the row.
    let room = if advantage.is_some() { 12.2 } else { (WIDTH - value_x) / 13.0 };
    canvas.text((value_x, y), &fit(&text, room), 13.0, INK, Hold::Left, false);
    if let Some(a) = advantage {
        canvas.text(
            (verdict_x, y),
            &fit(&factor_interval(a.median, a.low, a.high), VERDICT),
            13.0,
            INK,
            Hold::Left,
            false,
        );
    }
}
