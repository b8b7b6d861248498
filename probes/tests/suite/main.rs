//! Golden values and properties of the whole crate, one module for each subject.
//! Golden values come from scipy 1.17.1, scikit-learn 1.9.1 and statsmodels 0.15.0, run once, or from the papers named.
// One published measurement is 3.14 and is not π.
#![allow(clippy::unwrap_used, clippy::approx_constant, missing_docs)]

mod controls;
mod directions;
mod intervals;
mod kinds;
mod paired;
mod pooled;
mod probes;
mod resampling;
mod roc;
mod shared;

use ndarray::Array2;

/// Whether two numbers agree to a relative (and, near 0, absolute) tolerance.
pub fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs().max(1.0)
}

/// The `[n, d]` numbers in (−1, 1) that the Python side of the golden values was given too.
pub fn congruential(n: usize, d: usize) -> Array2<f32> {
    let mut state: u64 = 12345;
    Array2::from_shape_simple_fn((n, d), || {
        state = (1_103_515_245 * state + 12345) % (1 << 31);
        (state as f64 / f64::from(1_u32 << 30) - 1.0) as f32
    })
}

/// Labels of [`congruential`] data: x₀ + x₁/2 + 3x₂/10 > 0, every seventh flipped.
pub fn noisy_labels(x: &Array2<f32>) -> Vec<bool> {
    let label = |(i, row): (usize, ndarray::ArrayView1<f32>)| {
        let score = f64::from(row[0]) + 0.5 * f64::from(row[1]) + 0.3 * f64::from(row[2]);
        (score > 0.0) != (i % 7 == 0)
    };
    x.outer_iter().enumerate().map(label).collect()
}

/// Seeded standard normal numbers `[n, d]`, by summing twelve uniform ones.
pub fn gaussian(n: usize, d: usize, seed: u64) -> Array2<f32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((n, d), || {
        ((0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0) as f32
    })
}

/// [`gaussian`] data with every second item positive and moved by `shift` along the first axis.
pub fn two_classes(n: usize, d: usize, shift: f32, seed: u64) -> (Array2<f32>, Vec<bool>) {
    let mut x = gaussian(n, d, seed);
    let labels: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
    for (mut row, &label) in x.outer_iter_mut().zip(&labels) {
        row[0] += if label { shift } else { 0.0 };
    }
    (x, labels)
}
