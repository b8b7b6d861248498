//! AuxK: dead latents reconstruct what the living ones left over (Gao et al. 2024, appendix A.2).
//!
//! `coefficient · min(dead / k_aux, 1) · mean |ê - e|²` with `k_aux = d_out / 2`, `ê = Σ z W_dec` over the `k_aux` dead
//! latents with the largest pre-activations of each row, whatever their sign, and `e = y - x̂` held fixed; as in SAELens,
//! without the paper's division by the variance of `e`.

use std::ops::Range;

use candlescope_ops::sparse::{ByLatent, Entries, Keep, Latents, keep, squares};

use super::params::Params;
use super::pass::Batch;
use super::topk::unscale;

/// Which latents take part, and how strongly.
pub(super) struct AuxK<'a> {
    pub coefficient: f64,
    /// Decoder norms, where latents are compared in units of them.
    pub norms: Option<&'a [f32]>,
    /// Of these latents the dead ones.
    pub latents: Range<u32>,
}

/// Adds the gradients and gives the loss; `None` where no latent is dead. `error` is `x̂ - y` of the others.
pub(super) fn add(batch: &Batch, aux: &AuxK, error: &[f32], grads: &mut Params) -> Option<f64> {
    let part = |l: &&u32| aux.latents.contains(*l);
    let dead: Vec<u32> = batch.dead.iter().filter(part).copied().collect();
    if dead.is_empty() || aux.coefficient == 0.0 {
        return None;
    }
    let most = (batch.d_out / 2).max(1);
    let scale = aux.coefficient * (dead.len() as f64 / most as f64).min(1.0);
    let codes = select(batch, &dead, aux.norms, most.min(dead.len()));
    let residual: Vec<f32> = error.iter().map(|e| -e).collect();
    let nothing = vec![0.0; residual.len()];
    let error = batch.error(&codes, nothing, &residual);
    let loss = scale * squares(&error) / batch.rows as f64;
    let pull = (scale * 2.0 / batch.rows as f64) as f32;
    let by = ByLatent::new(&codes, batch.d_sae());
    let pulls = batch.back_codes(&codes, pull, &error);
    batch.back_decoder(&by, &codes.values, pull, &error, grads);
    batch.back_encoder(&by, &pulls, grads);
    Some(loss)
}

/// The largest pre-activations of dead latents, divided by what they are compared in units of.
fn select(batch: &Batch, dead: &[u32], norms: Option<&[f32]>, k: usize) -> Entries {
    let rows = |of: &[f32]| -> Vec<f32> {
        let row = |&l: &u32| &of[l as usize * batch.d_in..][..batch.d_in];
        dead.iter().flat_map(row).copied().collect()
    };
    let numbers = |of: &[f32]| -> Vec<f32> { dead.iter().map(|&l| of[l as usize]).collect() };
    let (weights, bias) = (rows(&batch.params.w_enc), numbers(&batch.params.b_enc));
    let scale = norms.map(numbers);
    let latents = Latents {
        weights: &weights,
        bias: &bias,
        scale: scale.as_deref(),
    };
    let mut codes = keep(batch.input, batch.d_in, latents, Keep::TopSigned(k));
    for latent in &mut codes.latents {
        *latent = dead[*latent as usize];
    }
    unscale(&mut codes, norms);
    codes
}
