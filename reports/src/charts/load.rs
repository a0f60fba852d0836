//! Servers under load: requests a second against connections, and beside them how long the slowest had to wait.
//!
//! The two panels share their x axis and nothing else: some servers lead in rate and make a few wait for that, which one panel
//! alone would hide. Contenders at the same number of connections stand a little apart, so that their intervals can be told.

use super::{Canvas, Chart, Hold, LogAxis, draw, key, tick_label};
use crate::RenderError;
use crate::prose;
use crate::theme::{GRID, INK, MUTED, look};
use crate::view::{self, Point, Workload};
use crate::words::{count, drawable, fit, quantity, quantity_interval, width_em};
use switchmark_schema::{Cell, ParamValue, Status};

/// The parameter of the x axis.
const CONNECTIONS: &str = "connections";
const PANEL: f64 = 212.0;
const HEAD: f64 = 46.0;
const FOOT: f64 = 30.0;
/// Between neighbours at the same number of connections.
const APART: f64 = 5.0;
/// More settings than this are left to the table.
const MOST_SETTINGS: usize = 4;

/// Where a panel's plot stands, what it shows, and what is said above it.
const PANELS: [((f64, f64), &str, &str); 2] = [
    ((56.0, 344.0), "rate", "requests a second, log scale: higher is better"),
    ((428.0, 716.0), "p99", "99th percentile, log scale: lower is better"),
];

/// A contender's cells of one setting, by connections.
struct Line<'a> {
    contender: &'a str,
    cells: Vec<(f64, &'a Cell)>,
}

/// What differs in contender and connections alone.
struct Setting<'a> {
    label: String,
    lines: Vec<Line<'a>>,
}

/// Absent where no contender has a rate and a tail at two numbers of connections.
pub(super) fn load(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    let mut settings = settings(workload);
    settings.retain(|s| s.lines.iter().any(|l| l.cells.len() > 1));
    settings.truncate(MOST_SETTINGS);
    if settings.is_empty() {
        return Ok(None);
    }
    let mut names: Vec<&str> = settings.iter().flat_map(|s| s.lines.iter().map(|l| l.contender)).collect();
    names.sort_by_key(|name| view::rank(name));
    names.dedup();
    let height = |n: usize| 26.0 + n as f64 * (HEAD + PANEL + FOOT);
    let title = prose::loaded(workload);
    let description = settings.iter().map(|s| describe(s, settings.len() > 1)).collect::<Vec<_>>().join(" ");
    let name = format!("{}-load", workload.id);
    let description = format!("Two panels of lines on logarithmic axes. {description}");
    draw(&name, title, &description, height(settings.len()) + 24.0, |canvas| {
        key(canvas, names.iter().copied());
        for (n, setting) in settings.iter().enumerate() {
            let top = height(n);
            canvas.text((0.0, top + 10.0), &fit(&setting.label, 50.0), 13.0, INK, Hold::Left, true);
            for (span, metric, words) in PANELS {
                canvas.note((span.0, top + 30.0), words);
                panel(canvas, setting, &names, (span, metric), top + HEAD);
            }
        }
        let note = if with_intervals(&settings) {
            "mark: median · whisker: its interval"
        } else {
            "marks: middle of the processes · no intervals: fewer than six of them"
        };
        canvas.note((PANELS[0].0.0, height(settings.len()) + 13.0), note);
    })
    .map(Some)
}

fn settings<'a>(workload: &Workload<'a>) -> Vec<Setting<'a>> {
    let mut out: Vec<Setting> = Vec::new();
    for group in &workload.groups {
        let others = group.label.split(" · ").filter(|part| !part.starts_with(CONNECTIONS));
        let label = others.collect::<Vec<_>>().join(" · ");
        for cell in group.cells.iter().filter(|c| c.status == Status::Measured) {
            let Some(ParamValue::Number(connections)) = cell.params.get(CONNECTIONS) else { continue };
            if PANELS.iter().any(|(_, metric, _)| shown(cell, metric).is_none()) {
                continue;
            }
            let at = out.iter().position(|s| s.label == label).unwrap_or_else(|| {
                out.push(Setting { label: label.clone(), lines: Vec::new() });
                out.len() - 1
            });
            let lines = &mut out[at].lines;
            let line = lines.iter().position(|l| l.contender == cell.contender).unwrap_or_else(|| {
                lines.push(Line { contender: &cell.contender, cells: Vec::new() });
                lines.len() - 1
            });
            lines[line].cells.push((*connections as f64, cell));
        }
    }
    for line in out.iter_mut().flat_map(|s| &mut s.lines) {
        line.cells.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    out
}

/// A metric of a cell as far as a log axis can show it.
fn shown(cell: &Cell, metric: &str) -> Option<Point> {
    let point = view::point(cell.metrics.get(metric)?)?;
    drawable(point.middle)?;
    let interval = point.interval.filter(|i| drawable(i.low).is_some() && drawable(i.high).is_some());
    Some(Point { interval, ..point })
}

fn with_intervals(settings: &[Setting]) -> bool {
    let mut cells = settings.iter().flat_map(|s| &s.lines).flat_map(|l| &l.cells);
    cells.any(|(_, cell)| shown(cell, "rate").is_some_and(|p| p.interval.is_some()))
}

fn panel(
    canvas: &mut Canvas,
    setting: &Setting,
    names: &[&str],
    ((left, right), metric): ((f64, f64), &str),
    top: f64,
) {
    let cells = || setting.lines.iter().flat_map(|l| &l.cells);
    let points = cells().filter_map(|(_, cell)| shown(cell, metric));
    let values = points.flat_map(|p| p.interval.map_or(vec![p.middle], |i| vec![i.low, p.middle, i.high]));
    let bottom = top + PANEL;
    let half = APART * names.len() as f64 / 2.0 + 6.0;
    let across = LogAxis::tight(cells().map(|(x, _)| *x), (left + half, right - half));
    let (Some(across), Some(up)) = (across, LogAxis::over(values, (bottom, top))) else { return };
    let unit = cells().find_map(|(_, c)| Some(c.metrics.get(metric)?.unit.as_str())).unwrap_or("");
    for tick in up.ticks(unit) {
        canvas.line((left, up.at(tick)), (right, up.at(tick)), GRID, 1);
        let label = tick_label(tick, unit);
        let x = left - 8.0 - width_em(&label) * 12.0;
        canvas.text((x, up.at(tick)), &label, 12.0, MUTED, Hold::Left, false);
    }
    let mut ticks: Vec<f64> = cells().map(|(x, _)| *x).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut last = f64::NEG_INFINITY;
    for tick in ticks {
        let x = across.at(tick);
        canvas.line((x, top), (x, bottom), GRID, 1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it came from a count")]
        let label = count(tick as u64);
        let wide = width_em(&label) * 6.0;
        if x - wide > last {
            canvas.text((x, bottom + 12.0), &label, 12.0, MUTED, Hold::Middle, false);
            last = x + wide + 5.0;
        }
    }
    canvas.line((left, bottom), (right, bottom), GRID, 1);
    for line in &setting.lines {
        let place = names.iter().position(|n| *n == line.contender).unwrap_or(0) as f64;
        let aside = (place - (names.len() as f64 - 1.0) / 2.0) * APART;
        let look = look(line.contender);
        let points =
            line.cells.iter().filter_map(|(x, cell)| Some((across.at(*x) + aside, shown(cell, metric)?)));
        let points: Vec<(f64, Point)> = points.collect();
        let middles: Vec<(f64, f64)> = points.iter().map(|(x, p)| (*x, up.at(p.middle))).collect();
        canvas.curve(&middles, look);
        for (x, point) in &points {
            if let Some(i) = point.interval {
                canvas.upright(up.at(i.low), up.at(i.high), *x, look);
            }
        }
        for (x, y) in middles {
            canvas.small_mark(x, y, look);
        }
    }
    canvas.text((f64::midpoint(left, right), bottom + 27.0), CONNECTIONS, 12.0, MUTED, Hold::Middle, false);
}

/// The numbers, for those who cannot see the lines.
fn describe(setting: &Setting, labelled: bool) -> String {
    let value = |cell: &Cell, metric: &str| {
        let point = shown(cell, metric)?;
        let unit = &cell.metrics.get(metric)?.unit;
        Some(match point.interval {
            Some(i) => quantity_interval(point.middle, i.low, i.high, unit),
            None => quantity(point.middle, unit),
        })
    };
    let lines = setting.lines.iter().map(|line| {
        let cells = line.cells.iter().filter_map(|(x, cell)| {
            Some(format!("{x} connections {}, p99 {}", value(cell, "rate")?, value(cell, "p99")?))
        });
        format!("{}: {}.", line.contender, cells.collect::<Vec<_>>().join("; "))
    });
    let lines = lines.collect::<Vec<_>>().join(" ");
    if labelled { format!("{}: {lines}", setting.label) } else { lines }
}
