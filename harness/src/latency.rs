//! From raw latencies to what is said of them: the percentiles that their number supports, and a histogram that is drawn.
//!
//! A percentile is a worker's, a value that came, and there only where [`BEYOND`] latencies lie beyond it: fewer are an anecdote.
//! What is not supported is absent. The primary of a cell alone is always there: in `smoke`, which has a hundred ticks and estimates nothing,
//! it would be missing, and a measured cell has its number. Histograms are merged over workers, and only for the picture.

use std::collections::BTreeMap;
use switchmark_schema::{Histogram, Latency};

/// Percentiles that are metrics, with the share that was no later. The greatest is an extreme and always there.
pub(crate) const METRICS: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), (GREATEST, 1.0)];

/// Further points of the curve that is drawn.
const CURVE: [(&str, f64); 5] = [("p1", 0.01), ("p10", 0.1), ("p25", 0.25), ("p75", 0.75), ("p90", 0.9)];

const GREATEST: &str = "max";

/// Latencies that must lie beyond a percentile, on its own side.
const BEYOND: usize = 10;

/// The latencies of a worker, in nanoseconds and ascending; at least one.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// `None` where there are none.
    pub(crate) fn new(mut raw_ns: Vec<u64>) -> Option<Latencies> {
        raw_ns.sort_unstable();
        (!raw_ns.is_empty()).then_some(Latencies(raw_ns))
    }

    /// How many of them such a share is, rounded up; one at least.
    fn rank(&self, share: f64) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let rank = (share * self.0.len() as f64).ceil() as usize;
        rank.clamp(1, self.0.len())
    }

    /// The least of them that such a share does not exceed.
    fn quantile(&self, share: f64) -> u64 {
        self.0[self.rank(share) - 1]
    }

    fn supports(&self, share: f64) -> bool {
        let rank = self.rank(share);
        let beyond = if share < 0.5 { rank } else { self.0.len() - rank };
        beyond >= BEYOND
    }

    fn chosen(&self, of: &[(&str, f64)], primary: &str) -> BTreeMap<String, f64> {
        let there =
            |(name, share): &&(&str, f64)| [primary, GREATEST].contains(name) || self.supports(*share);
        of.iter()
            .filter(there)
            .map(|(name, share)| ((*name).to_owned(), self.quantile(*share) as f64))
            .collect()
    }

    /// [`METRICS`] in nanoseconds, as far as they are supported or the cell's `primary`.
    pub(crate) fn metrics(&self, primary: &str) -> BTreeMap<String, f64> {
        self.chosen(&METRICS, primary)
    }

    /// What is drawn of them.
    pub(crate) fn curve(&self, primary: &str, load: &str) -> Latency {
        let mut percentiles = self.metrics(primary);
        percentiles.extend(self.chosen(&CURVE, primary));
        Latency {
            percentiles,
            count: self.0.len() as u64,
            load: load.into(),
            histogram: Some(Histogram::of(&self.0).to_string()),
        }
    }
}

/// The curves of several workers as one: in each point that all have the middle of theirs; the histogram is of all latencies.
pub(crate) fn merged(curves: &[&Latency]) -> Option<Latency> {
    let first = curves.first()?;
    let middle = |name: &String| {
        let values = curves.iter().map(|curve| curve.percentiles.get(name).copied());
        let mut values = values.collect::<Option<Vec<f64>>>()?;
        values.sort_by(f64::total_cmp);
        Some((name.clone(), values[values.len() / 2]))
    };
    let histograms = curves.iter().map(|curve| Histogram::read(curve.histogram.as_ref()?).ok());
    let sum = histograms.collect::<Option<Vec<Histogram>>>().and_then(|all| {
        all.into_iter().reduce(|mut sum, histogram| {
            sum.add(&histogram);
            sum
        })
    });
    Some(Latency {
        percentiles: first.percentiles.keys().filter_map(middle).collect(),
        count: curves.iter().map(|curve| curve.count).sum(),
        load: first.load.clone(),
        histogram: sum.map(|sum| sum.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64) -> Latencies {
        Latencies::new((1..=count).rev().collect()).unwrap()
    }

    fn names(percentiles: &BTreeMap<String, f64>) -> Vec<&str> {
        percentiles.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_percentile_is_a_value_that_came() {
        let found = [0.5, 0.99, 0.999, 1.0, 0.0].map(|share| of(1000).quantile(share));
        assert_eq!(found, [500, 990, 999, 1000, 1]);
        assert_eq!(of(1).quantile(0.99), 1);
        assert!(Latencies::new(Vec::new()).is_none());
    }

    #[test]
    fn a_percentile_has_ten_latencies_beyond_it_or_is_absent() {
        let found = [19, 20, 999, 1000, 9_999, 10_000].map(|count| {
            let metrics = of(count).metrics("rate");
            ["p50", "p99", "p99.9"].map(|name| metrics.contains_key(name))
        });
        let [none, median, tail, all] = [[false; 3], [true, false, false], [true, true, false], [true; 3]];
        assert_eq!(found, [none, median, median, tail, tail, all]);
        let curve = of(100).curve("rate", "open").percentiles;
        assert_eq!(names(&curve), ["max", "p10", "p25", "p50", "p75", "p90"]);
    }

    #[test]
    fn the_primary_and_the_greatest_are_always_there() {
        assert_eq!(names(&of(5).metrics("p99")), ["max", "p99"]);
    }

    #[test]
    fn curves_meet_in_the_middle_of_each_point_that_all_have_and_histograms_add_up() {
        let [few, more, most] = [1000, 3000, 20_000].map(|count| of(count).curve("p99", "open"));
        let merged = merged(&[&few, &most, &more]).unwrap();
        assert_eq!((merged.count, merged.load.as_str()), (24_000, "open"));
        assert_eq!(merged.percentiles.get("p50"), Some(&1500.0));
        assert!(!merged.percentiles.contains_key("p99.9"), "{merged:?}");
        let histogram = Histogram::read(&merged.histogram.unwrap()).unwrap();
        assert_eq!(histogram.count(), 24_000);
        assert_eq!(super::merged(&[]), None);
        let old = Latency { histogram: None, ..few.clone() };
        assert_eq!(super::merged(&[&few, &old]).unwrap().histogram, None);
    }
}
