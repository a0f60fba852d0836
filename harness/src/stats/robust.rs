//! Estimates that a few bad points do not move.

use super::Sample;

/// Slope of y over x: the median of the slopes of all pairs of points. H. Theil (1950), P. K. Sen, *Estimates
/// of the regression coefficient based on Kendall's tau*, JASA 63 (1968). `None` without two distinct x.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    let slopes = points.iter().enumerate().flat_map(|(i, (xa, ya))| {
        let later = &points[i + 1..];
        later.iter().filter(move |(xb, _)| (xb - xa).abs() > 0.0).map(move |(xb, yb)| (yb - ya) / (xb - xa))
    });
    Some(Sample::new(slopes)?.median())
}

/// Where differences are centred: the median of the means of all pairs, each value with itself among them. J. L. Hodges and
/// E. L. Lehmann, *Estimates of location based on rank tests*, Ann. Math. Stat. 34 (1963).
pub fn hodges_lehmann(sample: &Sample) -> f64 {
    let values = sample.values();
    let means = values.iter().enumerate().flat_map(|(i, a)| values[i..].iter().map(move |b| a.midpoint(*b)));
    Sample::new(means).map_or(f64::NAN, |means| means.median())
}

/// Spread that a few bad values do not widen: the median distance from the median, in units of a normal distribution's standard
/// deviation. F. R. Hampel, *The influence curve and its role in robust estimation*, JASA 69 (1974).
pub fn spread(sample: &Sample) -> f64 {
    /// One over the normal quantile of 3/4.
    const NORMAL: f64 = 1.482_602_218_505_602;
    let middle = sample.median();
    let distances = Sample::new(sample.values().iter().map(|value| (value - middle).abs()));
    NORMAL * distances.map_or(f64::NAN, |distances| distances.median())
}

#[cfg(test)]
mod tests {
    use super::theil_sen;

    #[test]
    fn fixed_costs_drop_out_and_one_bad_point_of_four_moves_little() {
        let line = [(2500.0, 1e6 + 2500.0 * 40.0), (5000.0, 1e6 + 5000.0 * 40.0), (1e4, 1e6 + 1e4 * 40.0)];
        assert!((theil_sen(&line).unwrap() - 40.0).abs() < 1e-9);
        assert_eq!(theil_sen(&line[..1]), None);
        assert_eq!(theil_sen(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
