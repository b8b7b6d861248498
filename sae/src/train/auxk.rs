//! AuxK: dead latents reconstruct what the living ones left over (Gao et al. 2024, appendix A.2).
//!
//! `coefficient · min(dead / k_aux, 1) · mean |ê - e|²` with `k_aux = d_out / 2`, `ê = Σ z W_dec` over the `k_aux` dead
//! latents with the largest pre-activations of each row, whatever their sign, and `e = y - x̂` held fixed; as in SAELens,
//! without the paper's division by the variance of `e`.

use std::ops::Range;

use candlescope_ops::sparse::{ByLatent, Keep, squares};

use super::params::{Params, picked};
use super::pass::Batch;
use super::topk::{select, unscale};

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
    // Among themselves: what is dense among the dead is sparse among all, and plain products are faster there.
    let own = batch.params.of(&dead, batch.d_in, batch.d_out);
    let norms = aux.norms.map(|norms| picked(norms, &dead));
    let among = Batch {
        params: &own,
        dead: &[],
        felt: None,
        ..*batch
    };
    let which = Keep::TopSigned(most.min(dead.len()));
    let mut codes = select(&among, norms.as_deref(), which);
    unscale(&mut codes, norms.as_deref());
    let residual: Vec<f32> = error.iter().map(|e| -e).collect();
    let nothing = vec![0.0; residual.len()];
    let error = among.error(&codes, nothing, &residual);
    let loss = scale * squares(&error) / batch.rows as f64;
    let pull = (scale * 2.0 / batch.rows as f64) as f32;
    let by = ByLatent::new(&codes, dead.len());
    let pulls = among.back_codes(&codes, pull, &error);
    let mut found = own.zeros();
    among.back_decoder(&by, &codes.values, pull, &error, &mut found);
    among.back_encoder(&by, &pulls, &mut found);
    grads.add(&found, &dead, batch.d_in, batch.d_out);
    Some(loss)
}
