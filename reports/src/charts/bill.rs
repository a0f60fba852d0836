//! The memory bill: a stacked bar per cell, linear and from zero, every component drawn.
//!
//! A population's weight is a sum, so a log axis would lie about its parts. The interval of the whole stands
//! as a whisker beneath the end of the bar, where it does not hide a component.

use super::{Canvas, Chart, Hold, WIDTH, draw};
use crate::RenderError;
use crate::prose;
use crate::theme::{
    ABSENT, Colour, GRID, INK, KERNEL_STACK, MUTED, PAGE_TABLES, PAPER, SLAB, USER_OTHER, USER_STACK, look,
};
use crate::view::{self, Workload};
use crate::words::{Scale, finite, fit, quantity, quantity_interval, scale, width_em};
use switchmark_schema::{Cell, PerUnitBytes, Status};

/// The components in the order they are stacked.
pub(crate) fn components(bytes: &PerUnitBytes) -> [(&'static str, f64, Colour); 5] {
    [
        ("user stack", bytes.user_stack, USER_STACK),
        ("user other", bytes.user_other, USER_OTHER),
        ("kernel stack", bytes.kernel_stack, KERNEL_STACK),
        ("slab", bytes.slab, SLAB),
        ("page tables", bytes.page_tables, PAGE_TABLES),
    ]
}

type Parts = Vec<(&'static str, f64, Colour)>;

/// What is weighed, and how that is said.
struct Bill {
    /// Part of the chart's name.
    name: &'static str,
    title: fn(&Workload) -> String,
    what: &'static str,
    parts: fn(&Cell) -> Option<Parts>,
    /// The metric whose value and interval stand beside the bar; the primary one if none is named.
    told: Option<&'static str>,
    note: &'static str,
}

const UNITS: Bill = Bill {
    name: "bill",
    title: prose::finding,
    what: "Bytes for one parked unit, from zero",
    parts: |cell| Some(components(&cell.memory.as_ref()?.per_unit_bytes).to_vec()),
    told: None,
    note: "whisker beneath a bar: interval of the whole",
};

const CONNECTIONS: Bill = Bill {
    name: "memory",
    title: prose::connection,
    what: "Bytes for one connection, from zero; at the right the server’s own",
    parts: |cell| {
        let middle = |metric| Some(view::point(cell.metrics.get(metric)?)?.middle);
        let own = ("the server’s own", middle("bytes")?, USER_OTHER);
        Some(vec![own, ("the kernel’s objects, of both ends", middle("kernel_bytes")?, SLAB)])
    },
    told: Some("bytes"),
    note: "whisker beneath a bar: interval of the server’s own",
};

const DEPTH: Bill = Bill {
    name: "kept",
    title: prose::depth,
    what: "Bytes of the depth that are in memory when the unit has ended, from zero",
    parts: |cell| {
        let middle = |metric| Some(view::point(cell.metrics.get(metric)?)?.middle);
        let (kept, trimmed) = (middle("kept")?, middle("trimmed")?);
        let for_now = ("until a pool trims it", (kept - trimmed).max(0.0), USER_OTHER);
        Some(vec![("for good", trimmed, USER_STACK), for_now])
    },
    told: Some("kept"),
    note: "for good: still there when a second has passed with nothing to do",
};

/// What is left of a depth; absent where that was not asked.
pub(super) fn depth(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    DEPTH.draw(workload)
}

/// Absent where no cell of the workload was weighed.
pub(super) fn bill(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    UNITS.draw(workload)
}

/// What a connection weighs; absent where that was not asked.
pub(super) fn connections(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    CONNECTIONS.draw(workload)
}

impl Bill {
    /// Components that can be drawn: finite and not below nothing.
    fn parts(&self, cell: &Cell) -> Option<Parts> {
        let parts = (self.parts)(cell).filter(|_| cell.status == Status::Measured)?;
        let drawable = parts.iter().all(|(_, v, _)| (0.0..1e15).contains(v));
        (drawable && parts.iter().map(|(_, v, _)| v).sum::<f64>() > 0.0).then_some(parts)
    }

    fn draw(&self, workload: &Workload) -> Result<Option<Chart>, RenderError> {
        const TOP: f64 = 58.0;
        const HEAD: f64 = 26.0;
        const LANE: f64 = 36.0;
        const MOST_BARS: usize = 32;
        let cells = || workload.groups.iter().flat_map(|g| g.cells.iter().copied());
        let highest = cells()
            .filter_map(|c| {
                let sum: f64 = self.parts(c)?.iter().map(|(_, v, _)| v).sum();
                let high = self.whole(c).and_then(|(_, interval)| interval).map_or(0.0, |i| i.1);
                Some(sum.max(high))
            })
            .fold(0.0_f64, f64::max);
        if highest == 0.0 {
            return Ok(None);
        }
        let mut groups = Vec::new();
        let mut bars = 0;
        for group in &workload.groups {
            if bars + group.cells.len() <= MOST_BARS {
                bars += group.cells.len();
                groups.push(group);
            }
        }
        let axis = Axis::to(highest);
        let bottom = TOP + groups.iter().map(|g| HEAD + LANE * g.cells.len() as f64).sum::<f64>() + 4.0;
        let description = format!(
            "Stacked bars. {}. {}",
            self.what,
            cells()
                .filter_map(|c| {
                    let parts = self.parts(c)?;
                    let parts = parts.iter().map(|(name, v, _)| format!("{name} {}", quantity(*v, UNIT)));
                    Some(format!("{}: {}.", c.id, parts.collect::<Vec<_>>().join(", ")))
                })
                .collect::<Vec<_>>()
                .join(" ")
        );
        let name = format!("{}-{}", workload.id, self.name);
        draw(&name, (self.title)(workload), &description, bottom + 42.0, |canvas| {
            canvas.note((0.0, 12.0), self.what);
            let mut x = PLOT.0;
            for (label, _, colour) in cells().find_map(|c| self.parts(c)).unwrap_or_default() {
                canvas.rect((x, 29.0), (x + 11.0, 40.0), colour);
                canvas.text((x + 16.0, 34.5), label, 12.0, INK, Hold::Left, false);
                x += 16.0 + width_em(label) * 12.0 + 18.0;
            }
            let mut y = TOP;
            for group in &groups {
                let height = HEAD + LANE * group.cells.len() as f64;
                axis.grid(canvas, (y + HEAD - 3.0, y + height));
                canvas.text((0.0, y + 12.0), &fit(&group.label, 40.0), 13.0, INK, Hold::Left, true);
                for (n, cell) in group.cells.iter().enumerate() {
                    self.bar(canvas, &axis, cell, y + HEAD + LANE * (n as f64 + 0.5) - 6.0);
                }
                y += height;
            }
            canvas.line((0.0, bottom), (WIDTH, bottom), GRID, 1);
            axis.grid(canvas, (bottom, bottom + 4.0));
            axis.labels(canvas, bottom + 14.0);
            canvas.note((PLOT.0, bottom + 32.0), self.note);
        })
        .map(Some)
    }

    /// One cell: its bar with the parts, the whole with its interval; or why there is none.
    fn bar(&self, canvas: &mut Canvas, axis: &Axis, cell: &Cell, y: f64) {
        let name = fit(&cell.contender, 8.6);
        let look = look(&cell.contender);
        let Some(parts) = self.parts(cell) else {
            canvas.text((20.0, y), &name, 13.0, ABSENT, Hold::Left, false);
            let why = match cell.status {
                Status::Measured => "measured, but not weighed by component".to_owned(),
                status => format!(
                    "{}: {}",
                    view::status_word(status),
                    cell.reason.as_deref().unwrap_or("no reason given")
                ),
            };
            canvas.rect((PLOT.0 - 2.0, y - 8.0), (WIDTH, y + 8.0), PAPER);
            let why = fit(&why, (WIDTH - PLOT.0) / 12.0 - 0.5);
            canvas.text((PLOT.0, y), &why, 12.0, ABSENT, Hold::Left, false);
            return;
        };
        canvas.mark(8.0, y, look);
        canvas.text((20.0, y), &name, 13.0, INK, Hold::Left, false);
        let mut from = 0.0;
        for (_, v, colour) in parts.into_iter().filter(|(_, v, _)| *v > 0.0) {
            let (a, b) = (axis.at(from), axis.at(from + v));
            // Half a pixel at least: a component that is there is drawn.
            canvas.rect((a, y - 10.0), (b.max(a + 0.5), y + 10.0), colour);
            let label = quantity(v, UNIT);
            if width_em(&label) * 11.0 + 8.0 < b - a {
                canvas.text((f64::midpoint(a, b), y), &label, 11.0, PAPER, Hold::Middle, false);
            }
            if a > PLOT.0 {
                canvas.line((a, y - 10.0), (a, y + 10.0), PAPER, 1);
            }
            from += v;
        }
        let mut text = quantity(from, UNIT);
        let mut right = axis.at(from);
        if let Some((middle, interval)) = self.whole(cell) {
            text = quantity(middle, UNIT);
            if let Some((low, high)) = interval {
                canvas.whisker(axis.at(low), axis.at(high), y + 15.0, look);
                text = quantity_interval(middle, low, high, UNIT);
                right = right.max(axis.at(high));
            }
        }
        // A paper patch, so that no grid line runs through the figures.
        let text = fit(&text, 11.0);
        canvas.rect((right + 6.0, y - 8.0), (right + 12.0 + width_em(&text) * 13.0, y + 8.0), PAPER);
        canvas.text((right + 9.0, y), &text, 12.5, INK, Hold::Left, true);
    }

    /// The metric beside the bar as far as it is bytes: middle and ends.
    fn whole(&self, cell: &Cell) -> Option<(f64, Option<(f64, f64)>)> {
        let metric = match self.told {
            Some(name) => cell.metrics.get(name)?,
            None => cell.primary_metric()?,
        };
        if crate::words::unit_parts(&metric.unit).0 != "bytes" {
            return None;
        }
        let p = view::point(metric).filter(|_| cell.status == Status::Measured)?;
        let fits = |v: f64| (0.0..1e15).contains(&v);
        let middle = finite(p.middle).filter(|v| fits(*v))?;
        Some((middle, p.interval.filter(|i| fits(i.low) && fits(i.high)).map(|i| (i.low, i.high))))
    }
}

/// Where bars may stand; names are left of it, sums right of the bars.
const PLOT: (f64, f64) = (142.0, 572.0);
const UNIT: &str = "bytes/unit";

/// A linear axis from zero.
struct Axis {
    shown: Scale,
    step: f64,
    end: f64,
}

impl Axis {
    fn to(highest: f64) -> Axis {
        let shown = scale(highest, UNIT);
        let step = step(highest / shown.divisor) * shown.divisor;
        Axis { shown, step, end: (highest / step).ceil() * step }
    }

    fn at(&self, v: f64) -> f64 {
        PLOT.0 + (PLOT.1 - PLOT.0) * (v / self.end).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (step, end) = (self.step, self.end * 1.0001);
        (0..40).map(move |n| f64::from(n) * step).take_while(move |t| *t <= end)
    }

    fn grid(&self, canvas: &mut Canvas, (top, bottom): (f64, f64)) {
        for tick in self.ticks() {
            canvas.line((self.at(tick), top), (self.at(tick), bottom), GRID, 1);
        }
    }

    fn labels(&self, canvas: &mut Canvas, y: f64) {
        for tick in self.ticks() {
            let label = quantity_of_tick(tick / self.shown.divisor, &self.shown.symbol);
            canvas.text((self.at(tick), y), &label, 12.0, MUTED, Hold::Middle, false);
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that there are four to nine ticks.
pub(super) fn step(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 4.0).max(1e-9).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|m| m * power).find(|s| highest / s >= 4.0).unwrap_or(power)
}

fn quantity_of_tick(v: f64, symbol: &str) -> String {
    if v == 0.0 {
        return "0".into();
    }
    let text = if (v - v.round()).abs() < 1e-9 { format!("{v:.0}") } else { crate::words::digits(v) };
    format!("{text}\u{a0}{symbol}")
}
