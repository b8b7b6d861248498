//! ReLU with an L1 penalty (Bricken et al. 2023); by default codes count in units of their decoder norm (Conerly et al. 2024).

use candlescope_ops::sparse::{ByLatent, Keep, squares};
use rayon::prelude::*;

use super::decoder::{back_norms, decoder_norms};
use super::pass::{Batch, Pass};
use super::topk::select;

/// One pass with the coefficient `l1`.
pub(super) fn pass(batch: &Batch, l1: f64, by_norm: bool) -> Pass {
    let codes = select(batch, None, Keep::Above(&vec![0.0; batch.d_sae()]));
    let norms = by_norm.then(|| decoder_norms(&batch.params.w_dec, batch.blocks));
    let weight = |latent: u32| norms.as_ref().map_or(1.0, |norms| norms[latent as usize]);
    let mut grads = batch.params.zeros();
    let error = batch.error(&codes, batch.without_latents(), batch.target);
    let squares = squares(&error);
    let (felt, through) = batch.felt(&error, squares);
    let (pull, per_row) = (batch.pull(), l1 / batch.rows as f64);
    let by = ByLatent::new(&codes, batch.d_sae());
    let mut pulls = batch.back_codes(&codes, pull, &felt);
    let penalised = pulls.par_iter_mut().zip(&codes.latents);
    penalised.for_each(|(pull, &latent)| *pull += (per_row * f64::from(weight(latent))) as f32);
    let totals = by.sums(&codes.values);
    batch.back_decoder(&by, &codes.values, pull, &felt, &mut grads);
    if by_norm {
        let pull: Vec<f64> = totals.iter().map(|total| per_row * total).collect();
        back_norms(batch, &pull, &mut grads);
    }
    batch.back_encoder(&by, &pulls, &mut grads);
    batch.back_output(pull, &felt, &mut grads);
    let penalty: f64 = (0..)
        .zip(&totals)
        .map(|(l, total)| total * f64::from(weight(l)))
        .sum();
    let mut losses = vec![
        ("mse", squares / batch.rows as f64),
        ("l1", per_row * penalty),
    ];
    losses.extend(through);
    Pass {
        losses,
        grads,
        codes,
        squares,
        error,
    }
}
