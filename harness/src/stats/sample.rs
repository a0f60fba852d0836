//! Numbers that can be sorted: at least one, all finite.

/// A sample in ascending order. It cannot be empty and cannot hold NaN or infinity, so nothing that works on
/// one checks again.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Sorts the values; `None` where there is none, or one is not finite.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Option<Sample> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Sample(values))
    }

    /// Ascending.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Least value.
    pub fn minimum(&self) -> f64 {
        self.0[0]
    }

    /// Middle value, or the mean of the two middle ones.
    pub fn median(&self) -> f64 {
        let n = self.0.len();
        f64::midpoint(self.0[(n - 1) / 2], self.0[n / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn nothing_unordered_gets_in() {
        assert_eq!(Sample::new([]), None);
        assert_eq!(Sample::new([1.0, f64::NAN]), None);
        assert_eq!(Sample::new([1.0, f64::INFINITY]), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Sample::new([3.0, 1.0, 2.0]).unwrap().median().to_bits(), 2.0_f64.to_bits());
        assert_eq!(Sample::new([4.0, 1.0, 2.0, 3.0]).unwrap().median().to_bits(), 2.5_f64.to_bits());
    }
}
