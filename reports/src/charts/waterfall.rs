//! A hand-off as a waterfall: each part begins where the one before it ended, and what they leave up to the whole is drawn as what it is.
//!
//! One panel a side, each on an axis of its own, linear and from zero: the sides differ by a hundred times, and a log axis would lie about
//! a sum. That the axes differ is said above them. The interval of a part stands as a whisker beneath the end of its bar.

use super::bill::step;
use super::{CAP, Canvas, Chart, Hold, WIDTH, draw};
use crate::RenderError;
use crate::anatomy::{self, Anatomy, Layer, Part};
use crate::prose;
use crate::theme::{Colour, ENTRY, FLOOR, GRID, INK, MUTED, OWN, PAPER, SWITCH, look};
use crate::view::{Point, Workload};
use crate::words::{digits, percent, quantity, quantity_interval, range, scale, width_em};

/// Where bars may stand; names are left of it, values and shares right.
const PLOT: (f64, f64) = (166.0, 506.0);
const VALUES: f64 = 520.0;
const SHARES: f64 = 668.0;
const HEAD: f64 = 52.0;
const LANE: f64 = 31.0;
const FOOT: f64 = 32.0;
const TOP: f64 = 26.0;
const UNIT: &str = "ns";

/// Absent where neither side's parts are all there.
pub(super) fn waterfall(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    let sides = anatomy::of(workload);
    if sides.is_empty() {
        return Ok(None);
    }
    let heights: Vec<f64> = sides.iter().map(height).collect();
    let bottom = TOP + heights.iter().sum::<f64>();
    let description = format!(
        "Waterfall of a hand-off, in ns, each side on an axis of its own. {}",
        sides.iter().map(describe).collect::<Vec<_>>().join(" ")
    );
    let name = format!("{}-waterfall", workload.id);
    draw(&name, prose::finding(workload), &description, bottom + 22.0, |canvas| {
        let note = if sides.len() > 1 {
            "The axes differ: from zero, linear, each side’s own"
        } else {
            "From zero, linear"
        };
        canvas.note((0.0, 12.0), note);
        canvas.note((VALUES, 12.0), "median (interval)");
        canvas.note((SHARES, 12.0), "of it");
        let mut top = TOP;
        for (side, height) in sides.iter().zip(&heights) {
            panel(canvas, side, top);
            top += height;
        }
        let note = if sides.iter().any(|s| s.whole.interval.is_some()) {
            "whisker beneath a bar: interval of the part · hatched: what no part explains"
        } else {
            "no intervals: fewer than six processes · hatched: what no part explains"
        };
        canvas.note((PLOT.0, bottom + 6.0), note);
    })
    .map(Some)
}

fn height(side: &Anatomy) -> f64 {
    HEAD + LANE * (side.parts.len() + 2) as f64 + FOOT
}

fn colour(layer: Layer) -> Colour {
    match layer {
        Layer::Floor => FLOOR,
        Layer::Entry => ENTRY,
        Layer::Own => OWN,
        Layer::Switch => SWITCH,
    }
}

/// From nothing to the greatest end of a bar or of its interval.
struct Axis {
    step: f64,
    end: f64,
}

impl Axis {
    fn of(side: &Anatomy) -> Axis {
        let high = |p: &Point| p.interval.map_or(p.middle, |i| i.high);
        let mut sum = 0.0;
        let mut highest = high(&side.whole);
        for part in &side.parts {
            highest = highest.max(sum + high(&part.value));
            sum += part.value.middle;
        }
        let step = step(highest.max(1e-6));
        Axis { step, end: (highest / step).ceil() * step }
    }

    fn at(&self, v: f64) -> f64 {
        PLOT.0 + (PLOT.1 - PLOT.0) * (v / self.end).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (step, end) = (self.step, self.end * 1.0001);
        (0..40).map(move |n| f64::from(n) * step).take_while(move |t| *t <= end)
    }
}

fn panel(canvas: &mut Canvas, side: &Anatomy, top: f64) {
    let axis = Axis::of(side);
    canvas.line((0.0, top), (WIDTH, top), GRID, 1);
    canvas.mark(8.0, top + 18.0, look(side.contender));
    let title = format!("A {}’s hand-off", side.contender);
    canvas.text((20.0, top + 18.0), &title, 13.5, INK, Hold::Left, true);
    let mut x = PLOT.0;
    let mut told = Vec::new();
    for layer in side.parts.iter().flat_map(|p| &p.layers).map(|(layer, _)| *layer) {
        if told.contains(&layer) {
            continue;
        }
        told.push(layer);
        let words = anatomy::words(side.contender, layer);
        canvas.rect((x, top + 34.0), (x + 11.0, top + 45.0), colour(layer));
        canvas.text((x + 16.0, top + 39.5), words, 12.0, INK, Hold::Left, false);
        x += 16.0 + width_em(words) * 12.0 + 16.0;
    }
    let (first, last) = (top + HEAD, top + height(side) - FOOT);
    for tick in axis.ticks() {
        canvas.line((axis.at(tick), first), (axis.at(tick), last + 4.0), GRID, 1);
        let s = scale(axis.end, UNIT);
        let label =
            if tick == 0.0 { "0".into() } else { format!("{}\u{a0}{}", plain(tick / s.divisor), s.symbol) };
        canvas.text((axis.at(tick), last + 14.0), &label, 12.0, MUTED, Hold::Middle, false);
    }
    let lane = |n: usize| first + LANE * (n as f64 + 0.5) - 3.0;
    let mut from = 0.0;
    for (n, part) in side.parts.iter().enumerate() {
        bar(canvas, &axis, part, from, lane(n));
        let to = from + part.value.middle;
        values(canvas, part.name, &part.value, part.value.middle / side.whole.middle, lane(n), false);
        whisker(canvas, &axis, from, &part.value, lane(n), look(side.contender).colour);
        from = to;
        canvas.line((axis.at(from), lane(n) + 10.0), (axis.at(from), lane(n + 1) - 10.0), MUTED, 1);
    }
    let (rest, whole) = (lane(side.parts.len()), lane(side.parts.len() + 1));
    let (a, b) = (axis.at(from.min(side.whole.middle)), axis.at(from.max(side.whole.middle)));
    hatched(canvas, (a, rest - 10.0), (b, rest + 10.0));
    values(canvas, "residual", &side.residual, side.share.middle, rest, false);
    whisker(canvas, &axis, from, &side.residual, rest, MUTED);
    canvas.line(
        (axis.at(side.whole.middle), rest + 10.0),
        (axis.at(side.whole.middle), whole - 10.0),
        MUTED,
        1,
    );
    let colour = look(side.contender).colour;
    canvas.rect((PLOT.0, whole - 10.0), (axis.at(side.whole.middle), whole + 10.0), colour);
    values(canvas, "hand-off", &side.whole, 1.0, whole, true);
    whisker(canvas, &axis, 0.0, &side.whole, whole, colour);
}

/// A part from where the last one ended, its layers from the innermost out.
fn bar(canvas: &mut Canvas, axis: &Axis, part: &Part, from: f64, y: f64) {
    let mut inside = from;
    for (layer, size) in &part.layers {
        let (a, b) = (axis.at(inside), axis.at(inside + size));
        // Half a pixel at least: a layer that is there is drawn.
        canvas.rect((a, y - 10.0), (b.max(a + 0.5), y + 10.0), colour(*layer));
        let label = quantity(*size, UNIT);
        if width_em(&label) * 11.0 + 8.0 < b - a {
            canvas.text((f64::midpoint(a, b), y), &label, 11.0, PAPER, Hold::Middle, false);
        }
        if a > axis.at(from) {
            canvas.line((a, y - 10.0), (a, y + 10.0), PAPER, 1);
        }
        inside += size;
    }
}

/// Name, value and share of a row.
fn values(canvas: &mut Canvas, name: &str, value: &Point, share: f64, y: f64, bold: bool) {
    canvas.text((20.0, y), name, 13.0, INK, Hold::Left, bold);
    canvas.text((VALUES, y), &told(value), 12.5, INK, Hold::Left, bold);
    canvas.text((SHARES, y), &percent(share), 12.5, INK, Hold::Left, bold);
}

pub(crate) fn told(value: &Point) -> String {
    match value.interval {
        Some(i) => quantity_interval(value.middle, i.low, i.high, UNIT),
        None => quantity(value.middle, UNIT),
    }
}

/// The interval of what begins at `from`, beneath the end of its bar.
fn whisker(canvas: &mut Canvas, axis: &Axis, from: f64, value: &Point, y: f64, colour: Colour) {
    let Some(i) = value.interval else { return };
    let (low, high) = (axis.at(from + i.low), axis.at(from + i.high));
    canvas.line((low, y + 14.0), (high, y + 14.0), colour, CAP - 1);
    for x in [low, high] {
        canvas.line((x, y + 11.5), (x, y + 16.5), colour, CAP);
    }
}

/// Outlined and crossed by slanting lines: nothing that was measured.
fn hatched(canvas: &mut Canvas, (left, top): (f64, f64), (right, bottom): (f64, f64)) {
    const APART: f64 = 7.0;
    let high = bottom - top;
    let mut x = left - high + APART;
    while x < right {
        // From the lower edge up to the right, as far as it lies inside.
        let (from, to) = (x.max(left), (x + high).min(right));
        canvas.line((from, bottom - (from - x)), (to, bottom - (to - x)), MUTED, 1);
        x += APART;
    }
    for (a, b) in [
        ((left, top), (right, top)),
        ((left, bottom), (right, bottom)),
        ((left, top), (left, bottom)),
        ((right, top), (right, bottom)),
    ] {
        canvas.line(a, b, MUTED, 2);
    }
}

/// A tick without digits that it does not need.
fn plain(v: f64) -> String {
    if (v - v.round()).abs() < 1e-9 { format!("{v:.0}") } else { super::dots::tick_digits(v) }
}

fn describe(side: &Anatomy) -> String {
    let parts = side.parts.iter().map(|p| format!("{} {}", p.name, told(&p.value)));
    let share = side.share.interval.map_or_else(String::new, |i| {
        format!(", {} % of it ({})", digits(side.share.middle * 100.0), range(i.low * 100.0, i.high * 100.0))
    });
    format!(
        "{}: {}; residual {}{share}; hand-off {}.",
        side.contender,
        parts.collect::<Vec<_>>().join(", "),
        told(&side.residual),
        told(&side.whole)
    )
}
