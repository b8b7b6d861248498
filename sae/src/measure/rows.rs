//! What is summed row by row: errors, norms and products of what should have come out and what did.

use ndarray::{ArrayView2, Axis};

use super::by_chunks;

/// Sums over rows `x` (target) and `x̂` (output).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RowSums {
    /// `Σ |x − x̂|²`.
    pub error: f64,
    /// `Σ |x̂|²`.
    pub output_square: f64,
    /// `Σ x·x̂`.
    pub product: f64,
    /// `Σ |x̂|/|x|` over rows with `x ≠ 0`.
    pub ratio: f64,
    /// `Σ cos(x, x̂)` over rows with `x ≠ 0`; a row of zeros that came out points nowhere and counts 0.
    pub cosine: f64,
    /// Rows with `x ≠ 0`.
    pub with_norm: u64,
}

impl RowSums {
    pub fn of(target: ArrayView2<f32>, output: ArrayView2<f32>) -> Self {
        let chunk = |cut| {
            Self::of_chunk(
                target.slice_axis(Axis(0), cut),
                output.slice_axis(Axis(0), cut),
            )
        };
        let mut all = Self::default();
        let parts = by_chunks(target.nrows(), chunk);
        for part in &parts {
            all.merge(part);
        }
        all
    }

    fn of_chunk(target: ArrayView2<f32>, output: ArrayView2<f32>) -> Self {
        let mut sums = Self::default();
        for (x, y) in target.outer_iter().zip(output.outer_iter()) {
            let [mut error, mut xx, mut yy, mut xy] = [0.0_f64; 4];
            for (&x, &y) in x.iter().zip(y) {
                let (x, y) = (f64::from(x), f64::from(y));
                error += (x - y) * (x - y);
                xx += x * x;
                yy += y * y;
                xy += x * y;
            }
            sums.error += error;
            sums.output_square += yy;
            sums.product += xy;
            if xx > 0.0 {
                sums.with_norm += 1;
                sums.ratio += (yy / xx).sqrt();
                if yy > 0.0 {
                    sums.cosine += xy / (xx.sqrt() * yy.sqrt());
                }
            }
        }
        sums
    }

    pub fn merge(&mut self, other: &Self) {
        self.error += other.error;
        self.output_square += other.output_square;
        self.product += other.product;
        self.ratio += other.ratio;
        self.cosine += other.cosine;
        self.with_norm += other.with_norm;
    }
}
