//! Seeded random numbers. Each draw of a Monte-Carlo procedure has a ChaCha stream of its own, numbered by the draw,
//! so a result never depends on how many threads shared the work.

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// The generator of draw number `draw` under `seed`.
pub(crate) fn stream(seed: u64, draw: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(draw as u64);
    rng
}

/// One standard normal number (Box-Muller; one of the pair is dropped so that calls stay independent of each other).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// One Gamma(shape, 1) number (Marsaglia and Tsang 2000; shapes under 1 by the power trick).
fn gamma(rng: &mut ChaCha8Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - rng.random::<f64>()).powf(1.0 / shape);
        return gamma(rng, shape + 1.0) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - rng.random::<f64>();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// One Beta(a, b) number.
pub(crate) fn beta(rng: &mut ChaCha8Rng, a: f64, b: f64) -> f64 {
    let x = gamma(rng, a);
    x / (x + gamma(rng, b))
}

/// A random order of `0..n`.
pub(crate) fn order(rng: &mut ChaCha8Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    order
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_match_the_distributions() {
        let mut rng = stream(7, 0);
        let n = 40_000;
        let normals: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        let mean = normals.iter().sum::<f64>() / n as f64;
        let second = normals.iter().map(|v| v * v).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.02 && (second - 1.0).abs() < 0.03);
        // Beta(2.5, 7.5): mean 0.25, variance 0.25·0.75/11. Beta(0.5, 0.5): mean 0.5, variance 1/8.
        for (a, b, expected, variance) in [(2.5, 7.5, 0.25, 0.1875 / 11.0), (0.5, 0.5, 0.5, 0.125)]
        {
            let draws: Vec<f64> = (0..n).map(|_| beta(&mut rng, a, b)).collect();
            let mean = draws.iter().sum::<f64>() / n as f64;
            let var = draws.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            assert!((mean - expected).abs() < 0.006, "{mean}");
            assert!((var / variance - 1.0).abs() < 0.05, "{var}");
        }
    }

    #[test]
    fn streams_differ_and_repeat() {
        let a = order(&mut stream(1, 0), 50);
        assert_eq!(a, order(&mut stream(1, 0), 50));
        assert_ne!(a, order(&mut stream(1, 1), 50));
        assert_ne!(a, order(&mut stream(2, 0), 50));
    }
}
