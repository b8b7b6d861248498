//! Numbers over many rows: quantiles, and shares with their interval.

use serde::Serialize;

/// Numbers of one kind, over `n` rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Smallest, 5 %, 25 %, median, 75 %, 95 %, largest: the value at that rank, none in between.
    pub at: [i64; 7],
}

impl Quantiles {
    pub(super) fn of(mut values: Vec<i64>) -> Option<Self> {
        values.sort_unstable();
        let last = values.len().checked_sub(1)?;
        let at = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
            .map(|q| values[(q * last as f64).round() as usize]);
        let mean = values.iter().map(|&v| v as f64).sum::<f64>() / values.len() as f64;
        Some(Self {
            n: values.len(),
            mean,
            at,
        })
    }
}

/// A share of `n` rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// Rows that have it.
    pub count: usize,
    /// Rows asked.
    pub n: usize,
    /// 95 % interval of the share, after Wilson.
    pub interval: [f64; 2],
}

impl Share {
    /// `count` of `n`; none of nothing.
    pub fn of(count: usize, n: usize) -> Option<Self> {
        if n == 0 {
            return None;
        }
        let (z, rows) = (1.959_963_984_540_054_f64, n as f64);
        let p = count as f64 / rows;
        let centre = (p + z * z / (2.0 * rows)) / (1.0 + z * z / rows);
        let half =
            z / (1.0 + z * z / rows) * (p * (1.0 - p) / rows + z * z / (4.0 * rows * rows)).sqrt();
        let interval = [(centre - half).max(0.0), (centre + half).min(1.0)];
        Some(Self { count, n, interval })
    }

    /// Between 0 and 1.
    pub fn value(&self) -> f64 {
        self.count as f64 / self.n as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The interval is that of statsmodels' `proportion_confint(9, 12, method="wilson")`, worked out again by hand.
    #[test]
    fn shares_and_quantiles_are_those_of_the_books() {
        let share = Share::of(9, 12).unwrap();
        assert!((share.interval[0] - 0.467_694).abs() < 1e-6, "{share:?}");
        assert!((share.interval[1] - 0.911_058).abs() < 1e-6, "{share:?}");
        assert_eq!(share.value(), 0.75);
        assert!(Share::of(0, 0).is_none() && Quantiles::of(Vec::new()).is_none());
        let quantiles = Quantiles::of((0..=100).rev().collect()).unwrap();
        assert_eq!(quantiles.at, [0, 5, 25, 50, 75, 95, 100]);
        assert_eq!((quantiles.n, quantiles.mean), (101, 50.0));
        assert_eq!(Quantiles::of(vec![-3]).unwrap().at, [-3; 7]);
    }
}
