//! Qwen Scope: `layerN.sae.pt`, one TopK autoencoder of the residual stream after layer N.
//!
//! `W_enc` is `[d_sae, d]` and `W_dec` `[d, d_sae]`, each the transpose of SAELens's. Nothing is taken off what is read. `k`
//! is in the name of the repository only (`SAE-Res-Qwen3-1.7B-Base-W32K-L0_50`).

use std::path::Path;

use super::names::number_after;
use super::{Format, Found, assemble, found, torch, unsupported};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

pub(super) fn read(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    let weights = if path.is_dir() {
        found::only(path, "layer", ".sae.pt")?
    } else {
        path.to_owned()
    };
    let mut tensors = torch::open(&weights)?;
    let mut found = Found::new(Format::QwenScope, "topk", &[&weights]);
    let k = if tensors.has("k") {
        tensors.scalar("k")? as usize
    } else {
        let whole = std::path::absolute(&weights).unwrap_or_else(|_| weights.clone());
        let Some(k) = number_after(&whole.to_string_lossy(), "-L0_") else {
            let why = "k is in the name of the repository only; keep the file in a folder whose name ends in -L0_K, as in \
                       SAE-Res-Qwen3-1.7B-Base-W32K-L0_50";
            return Err(unsupported(&weights, "Qwen Scope without k", why));
        };
        found.note(format!("k = {k}, from the name of the folder"));
        k
    };
    let name = weights.file_name().unwrap_or_default().to_string_lossy();
    let layer = number_after(&name, "layer");
    let parts = Parts {
        encoder: tensors.matrix("W_enc")?,
        decoder: tensors.matrix("W_dec")?.reversed_axes(),
        encoder_bias: tensors.vector("b_enc")?,
        decoder_bias: tensors.vector("b_dec")?,
        centred: false,
        activation: Activation::TopK { k },
        skip: None,
        scaling: Scaling::None,
        about: About {
            reads: layer
                .map(|l| format!("resid_post.{l}"))
                .into_iter()
                .collect(),
            ..About::default()
        },
    };
    tensors.finish()?;
    Ok((assemble(&weights, parts, &mut found)?, found))
}
