//! TopK: the `k` largest of each row (Gao et al. 2024, arXiv 2406.04093).

use candlescope_ops::sparse::{ByLatent, Entries, Keep, Latents, keep};

use super::auxk::{self, AuxK};
use super::decoder::decoder_norms;
use super::params::Params;
use super::pass::{Batch, Pass};
use super::recipe::TopKOptions;

/// One pass with `k` latents a row.
pub(super) fn pass(batch: &Batch, k: usize, options: TopKOptions) -> Pass {
    let norms = options.by_norm.then(|| norms(batch));
    let codes = select(batch, norms.as_deref(), Keep::Top(k));
    finish(batch, codes, norms.as_deref(), options)
}

pub(super) fn norms(batch: &Batch) -> Vec<f32> {
    decoder_norms(&batch.params.w_dec, batch.blocks)
}

/// The entries that are kept, as codes that the decoder reads: selected in units of the decoder's norm, if so, but not
/// multiplied with it. As what is multiplied for the selection is divided for decoding, the norm has no gradient of its own.
pub(super) fn select(batch: &Batch, norms: Option<&[f32]>, which: Keep) -> Entries {
    let latents = Latents {
        weights: &batch.params.w_enc,
        bias: &batch.params.b_enc,
        scale: norms,
    };
    keep(batch.input, batch.d_in, latents, which)
}

/// Divides selected numbers by the norm they were selected in units of.
pub(super) fn unscale(codes: &mut Entries, norms: Option<&[f32]>) {
    if let Some(norms) = norms {
        for (value, &latent) in codes.values.iter_mut().zip(&codes.latents) {
            *value /= norms[latent as usize].max(f32::MIN_POSITIVE);
        }
    }
}

/// Error, gradients and AuxK of entries that were selected in units of `norms`.
pub(super) fn finish(
    batch: &Batch,
    mut codes: Entries,
    norms: Option<&[f32]>,
    options: TopKOptions,
) -> Pass {
    unscale(&mut codes, norms);
    let mut pass = reconstruct(batch, codes);
    let aux = AuxK {
        coefficient: options.aux,
        norms,
        latents: 0..batch.d_sae() as u32,
    };
    if let Some(loss) = auxk::add(batch, &aux, &pass.error, &mut pass.grads) {
        pass.losses.push(("auxk", loss));
    }
    pass
}

/// The mean squared error of codes that are their own pre-activations, and its gradients.
fn reconstruct(batch: &Batch, codes: Entries) -> Pass {
    let mut grads: Params = batch.params.zeros();
    let error = batch.error(&codes, batch.without_latents(), batch.target);
    let squares = candlescope_ops::sparse::squares(&error);
    let pull = batch.pull();
    let (felt, through) = batch.felt(&error, squares);
    let by = ByLatent::new(&codes, batch.d_sae());
    let pulls = batch.back_codes(&codes, pull, &felt);
    batch.back_decoder(&by, &codes.values, pull, &felt, &mut grads);
    batch.back_encoder(&by, &pulls, &mut grads);
    batch.back_output(pull, &felt, &mut grads);
    let mut losses = vec![("mse", squares / batch.rows as f64)];
    losses.extend(through);
    Pass {
        losses,
        grads,
        codes,
        squares,
        error,
    }
}
