//! A hand-off taken apart: what its parts come to, and what they leave.
//!
//! The parts were measured each in processes of its own. What is no cell of its own, a difference or the residual, is made here of the
//! blocks that all of them have, block by block, and stands in no document: a number that was derived is never stored as if measured.
//! A block's processes ran in the same minute, so what the machine did to all of them cancels.

use crate::view::{Interval, Point, Workload, point};
use crate::words::drawable;
use std::collections::BTreeMap;
use switchmark_schema::{Cell, Status};

/// One side's hand-off.
#[derive(Debug)]
pub(crate) struct Anatomy {
    pub(crate) contender: &'static str,
    pub(crate) parts: Vec<Part>,
    /// Half of a round trip.
    pub(crate) whole: Point,
    /// The whole less all parts; below zero where they cost less together.
    pub(crate) residual: Point,
    /// The same as a share of the whole.
    pub(crate) share: Point,
}

/// A part of a hand-off.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) value: Point,
    /// What it is made of, from the innermost out: what each rung takes beyond the one inside it, by the middles.
    pub(crate) layers: Vec<(Layer, f64)>,
}

/// What a rung takes beyond the one inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Floor,
    Entry,
    Own,
    Switch,
}

/// How a part is made: the rung inside which the first layer begins, if that is not nothing, then rungs that contain each other.
struct Recipe {
    name: &'static str,
    less: Option<&'static str>,
    rungs: &'static [(&'static str, Layer)],
}

const fn recipe(
    name: &'static str,
    less: Option<&'static str>,
    rungs: &'static [(&'static str, Layer)],
) -> Recipe {
    Recipe { name, less, rungs }
}

const SIDES: [(&str, &[Recipe]); 2] = [
    (
        "thread",
        &[
            recipe(
                "futex_wake",
                None,
                &[("loop", Layer::Floor), ("syscall", Layer::Entry), ("futex_wake", Layer::Own)],
            ),
            recipe(
                "futex_wait",
                None,
                &[("loop", Layer::Floor), ("syscall", Layer::Entry), ("futex_wait", Layer::Own)],
            ),
            recipe("yield less yield_alone", Some("yield_alone"), &[("yield", Layer::Switch)]),
        ],
    ),
    (
        "coroutine",
        &[
            recipe("yield", None, &[("call", Layer::Floor), ("raw", Layer::Switch), ("yield", Layer::Entry)]),
            recipe("park", None, &[("park", Layer::Own)]),
        ],
    ),
];

/// What a layer is called on one of the sides.
pub(crate) fn words(contender: &str, layer: Layer) -> &'static str {
    match (contender, layer) {
        ("thread", Layer::Floor) => "loop",
        ("thread", Layer::Entry) => "system call",
        ("thread", Layer::Own) => "the futex’s own",
        ("thread", Layer::Switch) => "switch",
        (_, Layer::Floor) => "call",
        (_, Layer::Entry) => "run queue",
        (_, Layer::Own) => "permit left and taken",
        (_, Layer::Switch) => "bare switch",
    }
}

/// The sides of which the hand-off and every part has a number.
pub(crate) fn of(workload: &Workload) -> Vec<Anatomy> {
    SIDES.iter().filter_map(|(contender, recipes)| side(workload, contender, recipes)).collect()
}

fn side(workload: &Workload, contender: &'static str, recipes: &[Recipe]) -> Option<Anatomy> {
    let whole = by_block(workload.whole.iter().find(|c| c.contender == contender)?)?;
    let names = recipes.iter().flat_map(|r| r.rungs.iter().map(|(rung, _)| *rung).chain(r.less));
    let rungs = names
        .map(|rung| Some((rung, by_block(workload.rung(rung, contender)?)?)))
        .collect::<Option<BTreeMap<_, _>>>()?;
    let blocks: Vec<u32> =
        whole.keys().copied().filter(|block| rungs.values().all(|r| r.contains_key(block))).collect();
    let part = |recipe: &Recipe, block: u32| {
        let outer = recipe.rungs.last().map_or(0.0, |(rung, _)| rungs[rung][&block]);
        outer - recipe.less.map_or(0.0, |rung| rungs[rung][&block])
    };
    let half = |block: u32| whole[&block] / 2.0;
    let residual = |block: u32| half(block) - recipes.iter().map(|r| part(r, block)).sum::<f64>();
    let over = |value: &dyn Fn(u32) -> f64| estimate(blocks.iter().map(|block| value(*block)).collect());
    let parts = recipes.iter().map(|recipe| {
        let mut inside = recipe.less.map_or(Some(0.0), |rung| Some(over(&|b| rungs[rung][&b])?.middle))?;
        let mut layers = Vec::new();
        for (rung, layer) in recipe.rungs {
            let reached = over(&|b| rungs[rung][&b])?.middle.max(inside);
            layers.push((*layer, reached - inside));
            inside = reached;
        }
        Some(Part { name: recipe.name, value: over(&|b| part(recipe, b))?, layers })
    });
    Some(Anatomy {
        contender,
        parts: parts.collect::<Option<_>>()?,
        whole: over(&half)?,
        residual: over(&residual)?,
        share: over(&|b| residual(b) / half(b))?,
    })
}

/// A cell's processes, by block.
fn by_block(cell: &Cell) -> Option<BTreeMap<u32, f64>> {
    let metric = cell.primary_metric().filter(|m| cell.status == Status::Measured && point(m).is_some())?;
    let values = metric.samples.iter().map(|s| Some((s.block, drawable(s.value).filter(|v| *v < 1e15)?)));
    values.collect::<Option<_>>().filter(|by_block: &BTreeMap<_, _>| !by_block.is_empty())
}

/// Middle and interval of values, by the rule that every cell has: the narrowest symmetric pair of order statistics that encloses the
/// median with at least 95 %, which takes six.
fn estimate(mut values: Vec<f64>) -> Option<Point> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let middle = f64::midpoint(*values.get(n.checked_sub(1)? / 2)?, values[n / 2]);
    // The number of values below the median is binomial: its terms, each from the one before, are summed from one end.
    let mut term = 0.5_f64.powi(i32::try_from(n).ok()?);
    let (mut below, mut interval) = (0.0, None);
    for k in 0..n / 2 {
        below += term;
        term *= (n - k) as f64 / (k + 1) as f64;
        let level = 1.0 - 2.0 * below;
        if level < 0.95 {
            break;
        }
        interval = Some(Interval { low: values[k], high: values[n - 1 - k], level });
    }
    Some(Point { middle, interval })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_that_of_the_cells() {
        for (n, k, level) in [(6, 1, 0.968_75), (9, 2, 0.960_937_5), (12, 3, 0.961_425_781_25)] {
            let point = estimate((1..=n).rev().map(f64::from).collect()).expect("there are some");
            let interval = point.interval.expect("six are enough");
            assert_eq!((interval.low, interval.high), (f64::from(k), f64::from(n + 1 - k)));
            assert!(
                (interval.level - level).abs() < 1e-12
                    && (point.middle * 2.0 - f64::from(n + 1)).abs() < 1e-12
            );
        }
        assert_eq!(estimate(vec![3.0; 5]), Some(Point { middle: 3.0, interval: None }));
        assert_eq!(estimate(Vec::new()), None);
    }
}
