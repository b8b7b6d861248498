//! What latents write: the logits that their decoder rows move directly, and the latents with the most similar rows.
//!
//! Logit effects are those of the direct path: the decoder row through the linear part of the final norm (its gain, and
//! the centring of a LayerNorm) and the unembedding, `W_U (g ∘ d)`. The norm's scale is left out, as it depends on the rest
//! of the stream, and so are the layers between: signs and order mean something, units do not.

use candle_core::{DType, Device, Tensor};
use ndarray::Axis;
use serde::{Deserialize, Serialize};

use super::growing::{Bins, between};
use crate::config::NormKind;
use crate::features::{FeatureError, Splice};
use crate::hooks::{HookPoint, Point};
use crate::model::Checkpoint;

/// Latents in work at a time.
const CHUNK: usize = 32;
/// Bins of the histogram of logits.
const BINS: usize = 50;

/// A token with what the latent adds to its logit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenValue {
    /// Which.
    pub id: u32,
    /// As text.
    pub token: String,
    /// For an activation of 1, before the final norm's scale.
    pub value: f32,
}

/// What a latent does to logits by the direct path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogitEffects {
    /// Raised most, falling.
    pub positive: Vec<TokenValue>,
    /// Lowered most, rising.
    pub negative: Vec<TokenValue>,
    /// Of all tokens.
    pub histogram: Bins,
}

/// A latent that writes something similar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Which.
    pub index: usize,
    /// Cosine of the two decoder rows.
    pub cosine: f32,
}

/// The effects of some latents on logits, `most` tokens on either side; `None` where what is written is not added to the
/// residual stream as it is.
///
/// # Errors
/// A latent that the dictionary lacks; tensor arithmetic.
pub fn logit_effects(
    model: &Checkpoint,
    splice: &Splice,
    latents: &[usize],
    most: usize,
) -> Result<Option<Vec<LogitEffects>>, FeatureError> {
    if !in_stream(model, splice.write()) {
        return Ok(None);
    }
    let weights = model.decoder.weights();
    let gain: Vec<f32> = weights.final_norm.gain.to_dtype(DType::F32)?.to_vec1()?;
    let centred = model.config().norm == NormKind::Layer;
    let dictionary = splice.dictionary();
    if let Some(latent) = latents.iter().find(|l| **l >= dictionary.d_sae()) {
        return Err(dictionary.no_latent(*latent).into());
    }
    let decoder = &dictionary.parts().decoder;
    let mut effects = Vec::with_capacity(latents.len());
    for chunk in latents.chunks(CHUNK) {
        let mut rows = Vec::with_capacity(chunk.len() * gain.len());
        for &latent in chunk {
            let row = decoder.row(latent);
            let middle = if centred {
                row.mean().unwrap_or(0.0)
            } else {
                0.0
            };
            rows.extend(row.iter().zip(&gain).map(|(x, g)| (x - middle) * g));
        }
        let rows = Tensor::from_vec(rows, (chunk.len(), gain.len()), &Device::Cpu)?;
        let logits = candlescope_ops::linear(&rows, &weights.head, None)?;
        for logits in logits.to_dtype(DType::F32)?.to_vec2::<f32>()? {
            effects.push(ends(&logits, most, model));
        }
    }
    Ok(Some(effects))
}

/// Whether what a point holds is a term of the residual stream or the stream itself.
fn in_stream(model: &Checkpoint, at: HookPoint) -> bool {
    let layer = model.decoder.weights().layers.get(at.layer);
    match at.point {
        Point::Embed
        | Point::PosEmbed
        | Point::ResidPre
        | Point::ResidMid
        | Point::ResidPost
        | Point::AttnContrib
        | Point::MlpContrib => true,
        // A post-norm would come between.
        Point::AttnOut => layer.is_some_and(|l| l.attn_post_norm.is_none()),
        Point::MlpOut => layer.is_some_and(|l| l.mlp_post_norm.is_none()),
        _ => false,
    }
}

fn ends(logits: &[f32], most: usize, model: &Checkpoint) -> LogitEffects {
    let side = |sign: f32| {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let key = |id: &u32| sign * logits[*id as usize];
        let most = most.min(order.len());
        let by = |a: &u32, b: &u32| key(b).total_cmp(&key(a)).then(a.cmp(b));
        if most < order.len() {
            order.select_nth_unstable_by(most, by);
        }
        order.truncate(most);
        order.sort_by(by);
        let token = |id: u32| TokenValue {
            id,
            token: model.tokenizer.token(id),
            value: logits[id as usize],
        };
        order.into_iter().map(token).collect()
    };
    LogitEffects {
        positive: side(1.0),
        negative: side(-1.0),
        histogram: between(logits, BINS),
    }
}

/// For each of some latents of the dictionary, the `most` others with the most similar decoder rows.
pub fn neighbours(splice: &Splice, latents: &[usize], most: usize) -> Vec<Vec<Neighbour>> {
    let decoder = &splice.dictionary().parts().decoder;
    let norms: Vec<f32> = decoder.outer_iter().map(|r| r.dot(&r).sqrt()).collect();
    let mut all = Vec::with_capacity(latents.len());
    for chunk in latents.chunks(CHUNK) {
        let products = decoder.select(Axis(0), chunk).dot(&decoder.t());
        for (&own, products) in chunk.iter().zip(products.outer_iter()) {
            let cosine = |(index, product): (usize, &f32)| {
                let norm = norms[own] * norms[index];
                let cosine = if norm > 0.0 { product / norm } else { 0.0 };
                Neighbour { index, cosine }
            };
            let mut of_own: Vec<Neighbour> = products
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != own)
                .map(cosine)
                .collect();
            of_own.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.index.cmp(&b.index)));
            of_own.truncate(most);
            all.push(of_own);
        }
    }
    all
}
