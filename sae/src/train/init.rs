//! Where training starts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::params::Params;
use super::pass::column_sums;
use super::recipe::{Architecture, Bias, Recipe, Shape};

/// Decoder rows of a random direction and the recipe's length; encoder rows their copies, or directions of their own where
/// what is written is not what is read. Biases 0, but for `b_dec`, which looks at the first targets `[n, d_out]`.
pub(super) fn params(recipe: &Recipe, shape: &Shape, targets: &[f32]) -> Params {
    let (d_sae, d_in, d_out) = (recipe.d_sae, shape.d_in, shape.d_out());
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
    let w_dec = directions(&mut rng, d_sae, d_out, recipe.init_norm);
    let w_enc = if shape.transcoder {
        directions(&mut rng, d_sae, d_in, recipe.init_norm)
    } else {
        w_dec.clone()
    };
    let (threshold, gate) = match recipe.architecture {
        Architecture::JumpRelu { threshold, .. } => (vec![threshold as f32; d_sae], 0),
        Architecture::Gated { .. } => (Vec::new(), d_sae),
        _ => (Vec::new(), 0),
    };
    Params {
        w_enc,
        w_dec,
        b_enc: vec![0.0; d_sae],
        b_dec: match recipe.b_dec {
            Bias::Zero => vec![0.0; d_out],
            Bias::Mean => mean(targets, d_out),
            Bias::GeometricMedian => geometric_median(targets, d_out),
        },
        threshold,
        r_mag: vec![0.0; gate],
        b_mag: vec![0.0; gate],
        w_skip: vec![0.0; if shape.skip { d_out * d_in } else { 0 }],
    }
}

/// Rows of independent uniform numbers, brought to a length.
fn directions(rng: &mut ChaCha8Rng, rows: usize, width: usize, length: f64) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows * width);
    for _ in 0..rows {
        let row: Vec<f64> = (0..width).map(|_| rng.random_range(-1.0..1.0)).collect();
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        let factor = if norm > 0.0 { length / norm } else { 0.0 };
        all.extend(row.iter().map(|x| (x * factor) as f32));
    }
    all
}

pub(super) fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let count = (rows.len() / width).max(1) as f64;
    let sums = column_sums(rows, width);
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// Weiszfeld's iteration, at most 100 rounds, until the sum of distances changes by under 1e-5 of itself.
fn geometric_median(rows: &[f32], width: usize) -> Vec<f32> {
    let mut at: Vec<f64> = mean(rows, width).iter().map(|x| f64::from(*x)).collect();
    let mut before = f64::INFINITY;
    for _ in 0..100 {
        let (mut weights, mut distances) = (0.0, 0.0);
        let mut next = vec![0f64; width];
        for row in rows.chunks_exact(width) {
            let square: f64 = row
                .iter()
                .zip(&at)
                .map(|(x, m)| (f64::from(*x) - m).powi(2))
                .sum();
            let distance = square.sqrt();
            let weight = 1.0 / distance.max(1e-6);
            distances += distance;
            weights += weight;
            next.iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += weight * f64::from(*x));
        }
        if weights == 0.0 {
            break;
        }
        at = next.iter().map(|sum| sum / weights).collect();
        if (before - distances).abs() <= 1e-5 * distances {
            break;
        }
        before = distances;
    }
    at.iter().map(|x| *x as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_geometric_median_shrugs_off_what_the_mean_follows() {
        // Of points on a line it is their median: 2 of 0, 1, 2, 3, 1000.
        let rows = [0.0f32, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 1000.0, 0.0];
        let found = geometric_median(&rows, 2);
        assert!(
            (found[0] - 2.0).abs() < 0.05 && found[1] == 0.0,
            "{found:?}"
        );
        assert!((mean(&rows, 2)[0] - 201.2).abs() < 1e-4);
    }
}
