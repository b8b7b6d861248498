//! Dead latents that start anew from rows that are badly reconstructed (Bricken et al. 2023, Towards Monosemanticity).
//!
//! As dictionary_learning has it: rows are drawn by their squared error without repetition, a latent's decoder row becomes
//! the direction of its row (centred, as the encoder sees it), its encoder row that direction at a fifth of the mean length
//! of the living ones, its bias 0, and its moments are forgotten.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::params::Params;
use super::trainer::Trainer;

/// Length of a new encoder row, in those of the living.
const SHARE: f64 = 0.2;

/// One of the matrices.
type Matrix = fn(&mut Params) -> &mut Vec<f32>;

/// Gives the latents `dead` new weights; `input` `[n, d_in]` and `target` `[n, d_out]` are the rows of the last batch, as
/// the encoder and the decoder see them, `error` `[n, d_out]` their errors. Returns how many there was a row for.
pub(super) fn resample(
    trainer: &mut Trainer,
    dead: &[u32],
    input: &[f32],
    target: &[f32],
    error: &[f32],
) -> usize {
    let (d_in, d_out) = (trainer.shape.d_in, trainer.shape.d_out());
    let square = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let mut weights: Vec<f64> = error.chunks_exact(d_out).map(square).collect();
    let living = living_length(trainer, dead);
    let mut rng = ChaCha8Rng::seed_from_u64(trainer.recipe.seed);
    rng.set_stream(trainer.step);
    let mut done = 0;
    for &latent in dead {
        let latent = latent as usize;
        let Some(row) = draw(&mut rng, &mut weights) else {
            break;
        };
        let read: Matrix = |params| &mut params.w_enc;
        let written: Matrix = |params| &mut params.w_dec;
        let (input, target) = (
            &input[row * d_in..][..d_in],
            &target[row * d_out..][..d_out],
        );
        for (matrix, from, length) in [
            (read, input, SHARE * living),
            (written, target, trainer.recipe.init_norm),
        ] {
            let norm = square(from).sqrt();
            if norm == 0.0 {
                continue;
            }
            let at = latent * from.len()..(latent + 1) * from.len();
            let row = &mut matrix(&mut trainer.params)[at.clone()];
            for (w, x) in row.iter_mut().zip(from) {
                *w = (f64::from(*x) / norm * length) as f32;
            }
            for moments in &mut trainer.moments {
                matrix(moments)[at.clone()].fill(0.0);
            }
        }
        trainer.params.b_enc[latent] = 0.0;
        for moments in &mut trainer.moments {
            moments.b_enc[latent] = 0.0;
        }
        trainer.silent[latent] = 0;
        done += 1;
    }
    done
}

/// Mean length of the living latents' encoder rows.
fn living_length(trainer: &Trainer, dead: &[u32]) -> f64 {
    let norms = candlescope_ops::sparse::norms(&trainer.params.w_enc, trainer.shape.d_in);
    let living = (0..)
        .zip(&norms)
        .filter(|(l, _)| dead.binary_search(l).is_err());
    let (mut sum, mut count) = (0.0, 0);
    for (_, norm) in living {
        sum += f64::from(*norm);
        count += 1;
    }
    if count == 0 {
        1.0
    } else {
        sum / f64::from(count)
    }
}

/// A row by its weight, which becomes 0; none where all are.
fn draw(rng: &mut ChaCha8Rng, weights: &mut [f64]) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    if !(total.is_finite() && total > 0.0) {
        return None;
    }
    let mut at = rng.random::<f64>() * total;
    let mut chosen = None;
    for (row, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        chosen = Some(row);
        at -= weight;
        if at < 0.0 {
            break;
        }
    }
    weights[chosen?] = 0.0;
    chosen
}
