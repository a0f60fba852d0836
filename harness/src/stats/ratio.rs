//! Ratios paired by block: drift that two neighbours share cancels.

use super::{Interval, Sample, interval};

/// A block's log ratio of two contenders from their slices, in the order in which these were taken: the median
/// over the disjoint adjacent pairs. `a` and `b` hold one value a slice, `order` whose slice it was (0 or 1).
///
/// In ABBABAAB each adjacent pair holds one of either, so linear drift has opposite signs in AB and BA and
/// cancels; a burst that hits a few pairs does not move their median.
pub fn of_slices(order: &[usize], a: &[f64], b: &[f64]) -> Option<f64> {
    let mut taken = [a.iter(), b.iter()];
    let in_order: Vec<(usize, f64)> =
        order.iter().map(|&who| Some((who, *taken.get_mut(who)?.next()?))).collect::<Option<_>>()?;
    let logs = in_order.chunks_exact(2).filter_map(|pair| match pair {
        [(0, a), (1, b)] | [(1, b), (0, a)] => Some((a / b).ln()),
        _ => None,
    });
    Some(Sample::new(logs)?.median())
}

/// Ratio over blocks: median and interval of the log ratios, back on the plain scale.
pub fn over_blocks(logs: impl IntoIterator<Item = f64>) -> Option<Interval> {
    Some(interval(&Sample::new(logs)?)?.map(f64::exp))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABBABAAB: [usize; 8] = [0, 1, 1, 0, 1, 0, 0, 1];

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn linear_drift_cancels_in_the_balanced_order_and_not_in_a_fixed_one() {
        // The machine slows by 2 % a slice; a and b are the same program.
        let cost = |slice: usize| 100.0 * 1.02_f64.powi(i32::try_from(slice).unwrap());
        let take = |order: &[usize], who: usize| -> Vec<f64> {
            order.iter().enumerate().filter(|(_, w)| **w == who).map(|(i, _)| cost(i)).collect()
        };
        let balanced = of_slices(&ABBABAAB, &take(&ABBABAAB, 0), &take(&ABBABAAB, 1)).unwrap();
        assert!(close(balanced, 0.0), "{balanced}");
        let fixed = [0, 1, 0, 1, 0, 1, 0, 1];
        let biased = of_slices(&fixed, &take(&fixed, 0), &take(&fixed, 1)).unwrap();
        assert!(close(biased, -(1.02_f64.ln())), "a fixed order must show the drift: {biased}");
    }

    #[test]
    fn a_known_factor_comes_back() {
        let logs = (0..6).map(|i| (2.0_f64 + f64::from(i) / 100.0).ln());
        let ratio = over_blocks(logs).unwrap();
        assert!(close(ratio.low, 2.0) && close(ratio.high, 2.05), "{ratio:?}");
        assert!(ratio.low <= ratio.median && ratio.median <= ratio.high);
        assert!(over_blocks([0.0; 5]).is_none(), "five blocks are no ratio");
    }

    #[test]
    fn slices_that_do_not_fit_the_order_are_no_ratio() {
        assert_eq!(of_slices(&ABBABAAB, &[1.0; 3], &[1.0; 4]), None);
        assert_eq!(of_slices(&[0, 0], &[1.0; 2], &[]), None, "no pair");
    }
}
