//! The memory bill: a stacked bar per cell, linear and from zero, every component drawn.
//!
//! A population's weight is a sum, so a log axis would lie about its parts. The interval of the whole stands
//! as a whisker beneath the end of the bar, where it does not hide a component.

use super::{Chart, Hold, WIDTH, draw};
use crate::RenderError;
use crate::prose;
use crate::theme::{
    ABSENT, Colour, GRID, INK, KERNEL_STACK, MUTED, PAGE_TABLES, PAPER, SLAB, USER_OTHER, USER_STACK, look,
};
use crate::view::{self, Workload};
use crate::words::{finite, fit, quantity, quantity_interval, scale, width_em};
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

/// Components that can be drawn: finite and not below nothing.
fn parts(cell: &Cell) -> Option<[(&'static str, f64, Colour); 5]> {
    let memory = cell.memory.as_ref().filter(|_| cell.status == Status::Measured)?;
    let parts = components(&memory.per_unit_bytes);
    parts
        .iter()
        .all(|(_, v, _)| (0.0..1e15).contains(v))
        .then_some(parts)
        .filter(|p| p.iter().map(|(_, v, _)| v).sum::<f64>() > 0.0)
}

/// Absent where no cell of the workload was weighed.
pub(super) fn bill(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    const TOP: f64 = 58.0;
    const HEAD: f64 = 26.0;
    const LANE: f64 = 36.0;
    const MOST_BARS: usize = 32;
    let cells = || workload.groups.iter().flat_map(|g| g.cells.iter().copied());
    let unit = "bytes/unit";
    let highest = cells()
        .filter_map(|c| {
            let sum: f64 = parts(c)?.iter().map(|(_, v, _)| v).sum();
            let high = whole(c).and_then(|(_, interval)| interval).map_or(0.0, |i| i.1);
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
    let plot = (142.0, 572.0);
    let s = scale(highest, unit);
    let step = step(highest / s.divisor) * s.divisor;
    let end = (highest / step).ceil() * step;
    let at = |v: f64| plot.0 + (plot.1 - plot.0) * (v / end).clamp(0.0, 1.0);
    let bottom = TOP
        + groups
            .iter()
            .map(|g| HEAD + LANE * g.cells.len() as f64)
            .sum::<f64>()
        + 4.0;
    let description = format!(
        "Stacked bars of bytes per parked unit, linear from zero. {}",
        cells()
            .filter_map(|c| {
                let parts = parts(c)?.map(|(name, v, _)| format!("{name} {}", quantity(v, unit)));
                Some(format!("{}: {}.", c.id, parts.join(", ")))
            })
            .collect::<Vec<_>>()
            .join(" ")
    );
    let name = format!("{}-bill", workload.id);
    draw(
        &name,
        prose::finding(workload),
        &description,
        bottom + 42.0,
        |canvas| {
            let mut x = plot.0;
            canvas.text(
                (0.0, 12.0),
                "Bytes for one parked unit, from zero",
                12.0,
                MUTED,
                Hold::Left,
                false,
            );
            for (label, _, colour) in components(&PerUnitBytes::default()) {
                canvas.rect((x, 29.0), (x + 11.0, 40.0), colour);
                canvas.text((x + 16.0, 34.5), label, 12.0, INK, Hold::Left, false);
                x += 16.0 + width_em(label) * 12.0 + 18.0;
            }
            let mut tick = 0.0;
            while tick <= end * 1.0001 {
                let mut y = TOP;
                for group in &groups {
                    let height = HEAD + LANE * group.cells.len() as f64;
                    canvas.line((at(tick), y + HEAD - 3.0), (at(tick), y + height), GRID, 1);
                    y += height;
                }
                canvas.line((at(tick), bottom), (at(tick), bottom + 4.0), GRID, 1);
                let label = quantity_of_tick(tick / s.divisor, &s.symbol);
                canvas.text(
                    (at(tick), bottom + 14.0),
                    &label,
                    11.5,
                    MUTED,
                    Hold::Middle,
                    false,
                );
                tick += step;
            }
            let mut y = TOP;
            for group in groups {
                canvas.text(
                    (0.0, y + 12.0),
                    &fit(&group.label, 40.0),
                    13.0,
                    INK,
                    Hold::Left,
                    true,
                );
                y += HEAD;
                for cell in &group.cells {
                    let middle = y + LANE / 2.0 - 6.0;
                    let known = parts(cell);
                    let name_colour = if known.is_some() { INK } else { ABSENT };
                    if known.is_some() {
                        canvas.mark(8.0, middle, look(&cell.contender));
                    }
                    canvas.text(
                        (20.0, middle),
                        &fit(&cell.contender, 8.6),
                        13.0,
                        name_colour,
                        Hold::Left,
                        false,
                    );
                    let Some(parts) = known else {
                        let why = match cell.status {
                            Status::Measured => "measured, but not weighed by component".to_owned(),
                            status => format!(
                                "{}: {}",
                                view::status_word(status),
                                cell.reason.as_deref().unwrap_or("no reason given")
                            ),
                        };
                        let why = fit(&why, (WIDTH - plot.0) / 12.0 - 0.5);
                        canvas.text((plot.0 + 4.0, middle), &why, 12.0, ABSENT, Hold::Left, false);
                        y += LANE;
                        continue;
                    };
                    let mut from = 0.0;
                    for (_, v, colour) in parts {
                        let (a, b) = (at(from), at(from + v));
                        if v > 0.0 {
                            // Half a pixel at least: a component that is there is drawn.
                            canvas.rect((a, middle - 10.0), (b.max(a + 0.5), middle + 10.0), colour);
                            let label = quantity(v, unit);
                            if width_em(&label) * 11.0 + 8.0 < b - a {
                                canvas.text(
                                    (f64::midpoint(a, b), middle),
                                    &label,
                                    11.0,
                                    PAPER,
                                    Hold::Middle,
                                    false,
                                );
                            }
                            if a > plot.0 {
                                canvas.line((a, middle - 10.0), (a, middle + 10.0), PAPER, 1);
                            }
                        }
                        from += v;
                    }
                    let mut text = quantity(from, unit);
                    let mut right = at(from);
                    if let Some((middle_value, interval)) = whole(cell) {
                        text = quantity(middle_value, unit);
                        if let Some((low, high)) = interval {
                            canvas.whisker(at(low), at(high), middle + 15.0, look(&cell.contender));
                            text = quantity_interval(middle_value, low, high, unit);
                            right = right.max(at(high));
                        }
                    }
                    canvas.text(
                        (right + 9.0, middle),
                        &fit(&text, 15.0),
                        12.5,
                        INK,
                        Hold::Left,
                        true,
                    );
                    y += LANE;
                }
            }
            canvas.line((0.0, bottom), (WIDTH, bottom), GRID, 1);
            let note = "whisker beneath a bar: interval of the whole";
            canvas.text((plot.0, bottom + 32.0), note, 11.0, MUTED, Hold::Left, false);
        },
    )
    .map(Some)
}

/// The primary metric as far as it is bytes: middle and ends.
fn whole(cell: &Cell) -> Option<(f64, Option<(f64, f64)>)> {
    let metric = cell.primary_metric()?;
    if crate::words::unit_parts(&metric.unit).0 != "bytes" {
        return None;
    }
    let p = view::cell_point(cell)?;
    let fits = |v: f64| (0.0..1e15).contains(&v);
    let middle = finite(p.middle).filter(|v| fits(*v))?;
    Some((
        middle,
        p.interval
            .filter(|i| fits(i.low) && fits(i.high))
            .map(|i| (i.low, i.high)),
    ))
}

/// 1, 2 or 5 times a power of ten, so that there are four to nine ticks.
fn step(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 4.0).max(1e-9).log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| highest / s >= 4.0)
        .unwrap_or(power)
}

fn quantity_of_tick(v: f64, symbol: &str) -> String {
    if v == 0.0 {
        return "0".into();
    }
    let text = if (v - v.round()).abs() < 1e-9 {
        format!("{v:.0}")
    } else {
        crate::words::digits(v)
    };
    format!("{text}\u{a0}{symbol}")
}
