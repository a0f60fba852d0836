//! Distribution-free interval of a median: a symmetric pair of order statistics.
//!
//! Whatever the distribution, the number of n independent values below its median is binomial(n, 1/2). So the
//! k-th least and the k-th greatest enclose the median with probability 1 - 2 P(B < k). See H. A. David and
//! H. N. Nagaraja, *Order Statistics*, 3rd ed., section 7.1.

use super::Sample;

/// A median between two order statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Sample median.
    pub median: f64,
    /// Lower order statistic.
    pub low: f64,
    /// Upper order statistic.
    pub high: f64,
    /// True level of this pair.
    pub level: f64,
}

impl Interval {
    /// Half the width, as a share of the median.
    pub fn relative_half_width(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.median.abs()
    }

    /// The same interval on another scale; `f` must be increasing.
    #[must_use]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { median: f(self.median), low: f(self.low), high: f(self.high), level: self.level }
    }
}

/// Least level that is called an interval.
const LEVEL: f64 = 0.95;

/// The narrowest symmetric pair of order statistics whose level is at least 95 %; `None` under six values,
/// where even (least, greatest) falls short.
pub fn interval(sample: &Sample) -> Option<Interval> {
    let values = sample.values();
    let n = values.len();
    // k counts from the ends, from 1. The level falls as k grows, so the last that suffices is the narrowest.
    let (k, level) = (1..=n.div_ceil(2)).map(|k| (k, level(n, k))).take_while(|(_, l)| *l >= LEVEL).last()?;
    Some(Interval { median: sample.median(), low: values[k - 1], high: values[n - k], level })
}

/// From the least to the greatest: the widest pair, and its level.
pub fn range(sample: &Sample) -> Interval {
    let values = sample.values();
    let (low, high) = (sample.minimum(), values[values.len() - 1]);
    Interval { median: sample.median(), low, high, level: level(values.len(), 1) }
}

/// Level of the pair (k-th least, k-th greatest) of n values: 1 - 2 P(binomial(n, 1/2) < k).
pub fn level(n: usize, k: usize) -> f64 {
    // P(B = 0) = 2^-n, then each term from the one before.
    let mut term = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut below = 0.0;
    for i in 0..k {
        below += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    1.0 - 2.0 * below
}

/// The fewest heads, and as few tails, in n throws that a fair coin stays at or above with at least this probability.
pub fn fewest_of_a_coin(n: usize, at: f64) -> usize {
    (1..=n.div_ceil(2)).take_while(|&k| level(n, k) >= at).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of the looks in exact integer arithmetic: 1 - 2 * sum of comb(n, i) for i < k, over 2^n.
    const REFERENCE: [(usize, usize, f64); 6] = [
        (6, 1, 0.968_75),
        (9, 2, 0.960_937_5),
        (12, 3, 0.961_425_781_25),
        (20, 6, 0.958_610_534_667_968_8),
        (40, 14, 0.961_522_691_715_799_7),
        (12, 1, 0.999_511_718_75),
    ];

    #[test]
    fn the_levels_agree_with_a_reference_implementation() {
        for (n, k, expected) in REFERENCE {
            assert!((level(n, k) - expected).abs() < 1e-12, "n {n}, k {k}: {}", level(n, k));
        }
    }

    #[test]
    fn each_look_uses_the_narrowest_pair_that_reaches_95_percent() {
        for (n, k) in [(6, 1), (9, 2), (12, 3), (20, 6), (40, 14)] {
            let sample = Sample::new((1..=n).map(f64::from)).unwrap();
            let found = interval(&sample).unwrap();
            assert_eq!(
                (found.low.round(), found.high.round()),
                (f64::from(k), f64::from(n + 1 - k)),
                "n {n}"
            );
            assert!(found.level >= 0.95);
        }
    }

    #[test]
    fn five_values_are_no_interval() {
        assert_eq!(interval(&Sample::new((1..=5).map(f64::from)).unwrap()), None);
    }
}
