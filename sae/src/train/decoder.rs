//! Decoder norms: what latents are compared in units of, and what gradients go through them.

use candlescope_ops::sparse::norms;
use rayon::prelude::*;

use super::params::Params;
use super::pass::Batch;

/// The decoder norm of each latent: its length, or the sum of its lengths at the points that a crosscoder writes.
pub(super) fn decoder_norms(w_dec: &[f32], blocks: &[usize]) -> Vec<f32> {
    let width: usize = blocks.iter().sum();
    if let [_] = blocks {
        return norms(w_dec, width);
    }
    let of_row = |row: &[f32]| {
        let parts = split(row, blocks).map(length);
        parts.sum::<f64>() as f32
    };
    w_dec.par_chunks_exact(width).map(of_row).collect()
}

/// Adds `pull[f] · ∂|W_f|/∂W_f` to the decoder's gradient: each part of a row along itself.
pub(super) fn back_norms(batch: &Batch, pull: &[f64], grads: &mut Params) {
    let rows = grads.w_dec.par_chunks_exact_mut(batch.d_out);
    let weights = batch.params.w_dec.par_chunks_exact(batch.d_out);
    rows.zip(weights).zip(pull).for_each(|((grad, row), pull)| {
        if *pull == 0.0 {
            return;
        }
        let mut at = 0;
        for part in split(row, batch.blocks) {
            let length = length(part);
            if length > 0.0 {
                let pull = (pull / length) as f32;
                let grad = &mut grad[at..at + part.len()];
                grad.iter_mut()
                    .zip(part)
                    .for_each(|(grad, w)| *grad += pull * w);
            }
            at += part.len();
        }
    });
}

/// Takes out of each decoder row's gradient what lies along the row.
pub(super) fn without_parallel(w_dec: &[f32], grads: &mut [f32], width: usize) {
    let rows = grads.par_chunks_exact_mut(width);
    rows.zip(w_dec.par_chunks_exact(width))
        .for_each(|(grad, row)| {
            let square: f64 = row.iter().map(|w| f64::from(*w).powi(2)).sum();
            let along: f64 = row
                .iter()
                .zip(&*grad)
                .map(|(w, g)| f64::from(*w) * f64::from(*g))
                .sum();
            if square > 0.0 {
                let share = (along / square) as f32;
                grad.iter_mut()
                    .zip(row)
                    .for_each(|(grad, w)| *grad -= share * w);
            }
        });
}

/// Rescales each decoder row to length 1; a row of zeros stays.
pub(super) fn to_unit(w_dec: &mut [f32], width: usize) {
    w_dec.par_chunks_exact_mut(width).for_each(|row| {
        let length = length(row);
        if length > 0.0 {
            for w in row {
                *w = (f64::from(*w) / length) as f32;
            }
        }
    });
}

fn length(part: &[f32]) -> f64 {
    part.iter()
        .map(|w| f64::from(*w).powi(2))
        .sum::<f64>()
        .sqrt()
}

fn split<'a>(row: &'a [f32], blocks: &'a [usize]) -> impl Iterator<Item = &'a [f32]> {
    let mut rest = row;
    blocks.iter().map(move |&block| {
        let (part, after) = rest.split_at(block);
        rest = after;
        part
    })
}
