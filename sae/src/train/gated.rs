//! Gated: a gate decides which latents fire, a magnitude how strongly (Rajamanoharan et al. 2024, arXiv 2404.16014).
//!
//! With `p = w·x`: gate `π = p + b_gate`, magnitude `m = exp(r) p + b_mag`, code `[π > 0] · max(m, 0)`. As the step has no
//! gradient, gates learn from a penalty `l1 · Σ max(π, 0) |W_dec|` and from reconstructing the input on their own.

use candlescope_ops::sparse::{ByLatent, Keep, squares};

use super::decoder::{back_norms, decoder_norms};
use super::pass::{Batch, Pass, back_centring};
use super::topk::select;

/// One pass with the coefficient `l1`. `centred` says whether `b_dec` was taken off the input: the encoder's gradient has
/// another sum here than the gate's bias.
pub(super) fn pass(batch: &Batch, l1: f64, frozen_decoder: bool, centred: bool) -> Pass {
    let params = batch.params;
    let gates = select(batch, None, Keep::Above(&vec![0.0; batch.d_sae()]));
    let product = |e: usize| {
        let latent = gates.latents[e] as usize;
        (latent, gates.values[e] - params.b_enc[latent])
    };
    let mut codes = gates.clone();
    for (e, code) in codes.values.iter_mut().enumerate() {
        let (latent, p) = product(e);
        *code = (p * params.r_mag[latent].exp() + params.b_mag[latent]).max(0.0);
    }
    let norms = decoder_norms(&params.w_dec, batch.blocks);
    let mut grads = params.zeros();
    let (pull, per_row) = (batch.pull(), l1 / batch.rows as f64);
    let by = ByLatent::new(&codes, batch.d_sae());
    let error = batch.error(&codes, batch.without_latents(), batch.target);
    let squares_of = squares(&error);
    let (felt, through) = batch.felt(&error, squares_of);
    let gate_error = batch.error(&gates, batch.without_latents(), batch.target);
    let of_code = batch.back_codes(&codes, pull, &felt);
    let of_gate = batch.back_codes(&gates, pull, &gate_error);
    let count = codes.len();
    let (mut of_product, mut of_bias, mut of_scale) =
        (vec![0f32; count], vec![0f32; count], vec![0f32; count]);
    let mut gate_pulls = of_gate;
    for e in 0..count {
        let (latent, p) = product(e);
        gate_pulls[e] += (per_row * f64::from(norms[latent])) as f32;
        if codes.values[e] > 0.0 {
            let scaled = of_code[e] * params.r_mag[latent].exp();
            of_bias[e] = of_code[e];
            of_scale[e] = scaled * p;
            of_product[e] = scaled;
        }
        of_product[e] += gate_pulls[e];
    }
    batch.back_decoder(&by, &codes.values, pull, &felt, &mut grads);
    let totals = by.sums(&gates.values);
    if !frozen_decoder {
        batch.back_decoder(&by, &gates.values, pull, &gate_error, &mut grads);
        let pull: Vec<f64> = totals.iter().map(|total| per_row * total).collect();
        back_norms(batch, &pull, &mut grads);
    }
    batch.back_output(pull, &felt, &mut grads);
    if !frozen_decoder {
        batch.back_output(pull, &gate_error, &mut grads);
    }
    // The encoder's sums are those of the products; the gate's bias has only what came through the gates.
    batch.back_encoder(&by, &of_product, &mut grads);
    if centred {
        let sums = grads.b_enc.clone();
        back_centring(params, &sums, batch.d_in, &mut grads);
    }
    for (grads, pulls) in [
        (&mut grads.b_enc, &gate_pulls),
        (&mut grads.b_mag, &of_bias),
        (&mut grads.r_mag, &of_scale),
    ] {
        let sums = by.sums(pulls);
        grads
            .iter_mut()
            .zip(sums)
            .for_each(|(grad, sum)| *grad = sum as f32);
    }
    let penalty: f64 = norms
        .iter()
        .zip(&totals)
        .map(|(norm, total)| f64::from(*norm) * total)
        .sum();
    let mut losses = vec![
        ("mse", squares_of / batch.rows as f64),
        ("l1", per_row * penalty),
        ("gate_mse", squares(&gate_error) / batch.rows as f64),
    ];
    losses.extend(through);
    Pass {
        losses,
        grads,
        // Open gates may have no magnitude.
        codes: codes.filtered(|e| codes.values[e] > 0.0),
        squares: squares_of,
        error,
    }
}
