//! JumpReLU: thresholds learned through a straight-through estimator (Rajamanoharan et al. 2024, arXiv 2407.14435; variants
//! of Anthropic, January 2025, and of Gemma Scope 2).
//!
//! A threshold feels only entries whose pre-activation lies within half a bandwidth of it; these are kept beside those
//! that fire, with code 0.

use candlescope_ops::sparse::{ByLatent, Entries, Keep, squares};

use super::decoder::{back_norms, decoder_norms};
use super::params::Params;
use super::pass::{Batch, Pass};
use super::recipe::Sparsity;
use super::topk::select;

/// The numbers of the recipe, warmed up.
#[derive(Clone, Copy)]
pub(super) struct Jump {
    pub bandwidth: f64,
    pub l0: f64,
    pub sparsity: Sparsity,
    pub pre_act: f64,
    pub to_input: bool,
}

/// One pass.
pub(super) fn pass(batch: &Batch, jump: Jump) -> Pass {
    let threshold = &batch.params.threshold;
    let half = (jump.bandwidth / 2.0) as f32;
    // All that fire, and all that are near enough to be felt.
    let bounds: Vec<f32> = threshold.iter().map(|t| t - half.max(0.0)).collect();
    let near = select(batch, None, Keep::Above(&bounds));
    let fires: Vec<bool> = near
        .values
        .iter()
        .zip(&near.latents)
        .map(|(z, &l)| *z > threshold[l as usize])
        .collect();
    let mut codes = near.clone();
    let silent = codes
        .values
        .iter_mut()
        .zip(&fires)
        .filter(|(_, fires)| !**fires);
    silent.for_each(|(code, _)| *code = 0.0);
    let norms = decoder_norms(&batch.params.w_dec, batch.blocks);
    let mut grads = batch.params.zeros();
    let error = batch.error(&codes, batch.without_latents(), batch.target);
    let squares = squares(&error);
    let (felt, through) = batch.felt(&error, squares);
    let pull = batch.pull();
    let by = ByLatent::new(&codes, batch.d_sae());
    // The gradient of each code, under the error and under a penalty that reads it.
    let mut of_code = batch.back_codes(&codes, pull, &felt);
    let (sparsity, of_step) = penalty(
        batch,
        jump,
        &codes,
        &fires,
        &norms,
        &by,
        &mut of_code,
        &mut grads,
    );
    let mut of_pre = vec![0f32; of_code.len()];
    let width = jump.bandwidth as f32;
    let mut of_threshold = vec![0f32; of_code.len()];
    for (e, &latent) in near.latents.iter().enumerate() {
        let theta = threshold[latent as usize];
        let inside = ((near.values[e] - theta) / width).abs() < 0.5;
        let estimate = if inside {
            theta / width * of_code[e] + of_step[e] / width
        } else {
            0.0
        };
        of_threshold[e] = -estimate;
        of_pre[e] = if fires[e] { of_code[e] } else { 0.0 };
        if jump.to_input {
            of_pre[e] += estimate;
        }
    }
    for (grad, sum) in grads.threshold.iter_mut().zip(by.sums(&of_threshold)) {
        *grad += sum as f32;
    }
    batch.back_decoder(&by, &codes.values, pull, &felt, &mut grads);
    batch.back_encoder(&by, &of_pre, &mut grads);
    batch.back_output(pull, &felt, &mut grads);
    let mut losses = vec![("mse", squares / batch.rows as f64), ("l0", sparsity)];
    losses.extend(through);
    if jump.pre_act > 0.0 && !batch.dead.is_empty() {
        losses.push(("pre_act", pre_act(batch, jump.pre_act, &norms, &mut grads)));
    }
    Pass {
        losses,
        grads,
        codes: codes.filtered(|e| fires[e]),
        squares,
        error,
    }
}

/// The sparsity loss, the gradient of each entry's step, and, for a penalty that reads codes, what it adds to theirs.
#[allow(clippy::too_many_arguments)] // one sum, written where its parts are at hand
fn penalty(
    batch: &Batch,
    jump: Jump,
    codes: &Entries,
    fires: &[bool],
    norms: &[f32],
    by: &ByLatent,
    of_code: &mut [f32],
    grads: &mut Params,
) -> (f64, Vec<f32>) {
    let per_row = jump.l0 / batch.rows as f64;
    let mut of_step = vec![0f32; codes.len()];
    let l0 = |ends: &[usize]| fires[ends[0]..ends[1]].iter().filter(|f| **f).count() as f64;
    let rows = codes.starts.windows(2);
    let loss = match jump.sparsity {
        Sparsity::Step => {
            of_step.fill(per_row as f32);
            per_row * rows.map(l0).sum::<f64>()
        }
        Sparsity::Target(target) => {
            let mut loss = 0.0;
            for ends in rows {
                let beyond = l0(ends) - target;
                loss += per_row * 2.0 / target * beyond * beyond;
                of_step[ends[0]..ends[1]].fill((per_row * 4.0 / target * beyond) as f32);
            }
            loss
        }
        Sparsity::Tanh(scale) => {
            let mut loss = 0.0;
            let mut of_norm = vec![0f32; codes.len()];
            for (e, (&code, &latent)) in codes.values.iter().zip(&codes.latents).enumerate() {
                let (code, norm) = (f64::from(code), f64::from(norms[latent as usize]));
                let reached = (scale * code * norm).tanh();
                let slope = per_row * scale * (1.0 - reached * reached);
                loss += per_row * reached;
                of_code[e] += (slope * norm) as f32;
                of_norm[e] = (slope * code) as f32;
            }
            back_norms(batch, &by.sums(&of_norm), grads);
            loss
        }
    };
    (loss, of_step)
}

/// `mean Σ max(θ - z, 0) · |W_dec|` over dead latents, times its coefficient: pulls them towards firing.
fn pre_act(batch: &Batch, coefficient: f64, norms: &[f32], grads: &mut Params) -> f64 {
    let per_row = coefficient / batch.rows as f64;
    let mut loss = 0.0;
    let mut of_norm = vec![0f64; batch.d_sae()];
    for &latent in batch.dead {
        let latent = latent as usize;
        let weights = &batch.params.w_enc[latent * batch.d_in..][..batch.d_in];
        let (bias, theta) = (batch.params.b_enc[latent], batch.params.threshold[latent]);
        let mut pulled = vec![0f64; batch.d_in];
        let (mut count, mut short) = (0.0, 0.0);
        for row in batch.input.chunks_exact(batch.d_in) {
            let product: f64 = row
                .iter()
                .zip(weights)
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .sum();
            let below = f64::from(theta) - (product + f64::from(bias));
            if below > 0.0 {
                short += below;
                count += 1.0;
                pulled
                    .iter_mut()
                    .zip(row)
                    .for_each(|(sum, x)| *sum += f64::from(*x));
            }
        }
        let pull = per_row * f64::from(norms[latent]);
        loss += pull * short;
        of_norm[latent] = per_row * short;
        grads.threshold[latent] += (pull * count) as f32;
        grads.b_enc[latent] -= (pull * count) as f32;
        let grad = &mut grads.w_enc[latent * batch.d_in..][..batch.d_in];
        grad.iter_mut()
            .zip(&pulled)
            .for_each(|(grad, x)| *grad -= (pull * x) as f32);
    }
    back_norms(batch, &of_norm, grads);
    loss
}
