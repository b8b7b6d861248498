//! Latent against latent: which latents of one dictionary fire on a text in one checkpoint and not in the other.
//!
//! Always: what fires on a single text says what it did to that text, no more; births and deaths over a corpus are
//! `features::compare`.

use std::collections::BTreeMap;

use candle_core::DType;
use ndarray::Array2;

use super::CompareError;
use crate::features::{FeatureError, Splice};
use crate::hooks::Hooks;
use crate::model::{Batch, Decoder, LogitsAt};

/// A latent that only one of them has on this text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latent {
    /// Which.
    pub latent: usize,
    /// Its largest value.
    pub value: f32,
    /// The token of that value.
    pub position: usize,
}

/// What crossed over on a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Crossed {
    /// Fire in the second alone, the strongest first.
    pub gained: Vec<Latent>,
    /// Fire in the first alone, the strongest first.
    pub lost: Vec<Latent>,
    /// Fire in both.
    pub both: usize,
}

/// The text through the dictionary in both checkpoints. The first token is left out: its stream is an outlier of its own in
/// most models, and no text.
///
/// # Errors
/// A pass that does not reach the dictionary's point, a dictionary of another width.
pub fn latents_on(
    first: &Decoder,
    second: &Decoder,
    splice: &Splice,
    ids: &[u32],
) -> Result<Crossed, CompareError> {
    let (before, after) = (fired(first, splice, ids)?, fired(second, splice, ids)?);
    let alone = |own: &BTreeMap<usize, Latent>, other: &BTreeMap<usize, Latent>| {
        let own = own
            .values()
            .filter(|latent| !other.contains_key(&latent.latent));
        let mut alone: Vec<Latent> = own.copied().collect();
        alone.sort_by(|a, b| b.value.total_cmp(&a.value).then(a.latent.cmp(&b.latent)));
        alone
    };
    let both = before.keys().filter(|latent| after.contains_key(latent));
    Ok(Crossed {
        both: both.count(),
        gained: alone(&after, &before),
        lost: alone(&before, &after),
    })
}

fn fired(
    model: &Decoder,
    splice: &Splice,
    ids: &[u32],
) -> Result<BTreeMap<usize, Latent>, CompareError> {
    let at = splice.read();
    let hooks = Hooks::new().capture(at);
    let out = model.forward(&Batch::single(ids)?, &hooks, LogitsAt::None)?;
    let tensor = out.captured.get(&at).ok_or_else(|| FeatureError::Nothing {
        what: format!("the pass did not reach {at}"),
    })?;
    let flat: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let width = flat.len() / ids.len().max(1);
    let rows = Array2::from_shape_vec((ids.len(), width), flat)
        .map_err(|error| FeatureError::Candle(candle_core::Error::wrap(error)))?;
    let codes = splice
        .dictionary()
        .encode(rows.view())
        .map_err(FeatureError::from)?;
    let mut fired: BTreeMap<usize, Latent> = BTreeMap::new();
    for position in 1..ids.len() {
        let (latents, values) = codes.row(position);
        for (latent, value) in latents.iter().zip(values).filter(|(_, v)| **v > 0.0) {
            let (latent, value) = (*latent as usize, *value);
            let known = fired.entry(latent).or_insert(Latent {
                latent,
                value,
                position,
            });
            if value > known.value {
                (known.value, known.position) = (value, position);
            }
        }
    }
    Ok(fired)
}
