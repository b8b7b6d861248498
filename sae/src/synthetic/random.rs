//! Random numbers by address: every row of every batch has a stream of its own, so rows can be drawn in any order.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The stream of a row. A row has 2³² words, a batch 2³⁶ rows.
pub(super) fn of_row(seed: u64, batch: u64, row: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 plants the features.
    rng.set_stream(batch.wrapping_add(1));
    rng.set_word_pos((row as u128) << 32);
    rng
}

/// Two independent standard normal numbers (Box and Muller 1958).
pub(super) fn normals(rng: &mut ChaCha8Rng) -> [f64; 2] {
    // In (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
    [radius * cos, radius * sin]
}

/// Fills with independent normal numbers of mean 0.
pub(super) fn fill_normal(rng: &mut ChaCha8Rng, deviation: f32, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        for (x, z) in pair.iter_mut().zip(normals(rng)) {
            *x = z as f32 * deviation;
        }
    }
}

/// `Φ(z)`, the share of standard normal numbers below `z`: the series about 0, the continued fraction in the tails
/// (Abramowitz and Stegun 26.2.11 and 26.2.14).
pub(super) fn normal_cdf(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    if z.abs() < 3.0 {
        let (mut term, mut sum) = (z, z);
        for k in 1..200 {
            term *= z * z / f64::from(2 * k + 1);
            sum += term;
            if term.abs() < 1e-17 * sum.abs() {
                break;
            }
        }
        return 0.5 + density * sum;
    }
    let mut tail = z.abs();
    for k in (1..=60).rev() {
        tail = z.abs() + f64::from(k) / tail;
    }
    let tail = density / tail;
    if z > 0.0 { 1.0 - tail } else { tail }
}
