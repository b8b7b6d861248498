//! How far the decoder rows of a dictionary turned when it was trained on.
//!
//! A refit on another model's activations also sees other data; the same refit on the old model with that data says how much
//! of the turn is the data's. What is left is the model's (stage-wise model diffing, Bricken et al. 2024).

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use super::dot;
use crate::dictionary::shape;
use crate::{Dictionary, SaeError};

/// A latent's turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    /// Which.
    pub latent: usize,
    /// `1 − cos` between the dictionary and its refit on the new model.
    pub model: f64,
    /// The same for the refit on the old model with the new data.
    pub data: f64,
    /// `model − data`.
    pub excess: f64,
}

/// `1 − cos` of each decoder row before and after; none where a row is 0.
///
/// # Errors
/// Decoders of different shapes.
pub fn rotations(before: &Dictionary, after: &Dictionary) -> Result<Vec<Option<f64>>, SaeError> {
    let [old, new] = [before, after].map(|dictionary| &dictionary.parts().decoder);
    shape("decoders to compare", old.shape(), new.shape())?;
    let rows = old.outer_iter().zip(new.outer_iter());
    Ok(rows.map(|(a, b)| turned(a, b)).collect())
}

/// `1 − cos` of two rows.
fn turned<'a>(a: ArrayView1<'a, f32>, b: ArrayView1<'a, f32>) -> Option<f64> {
    let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
    (norms > 0.0).then(|| 1.0 - (dot(a, b) / norms).clamp(-1.0, 1.0))
}

/// The turns of all latents whose rows are not 0, that with the largest excess first.
///
/// # Errors
/// Decoders of different shapes.
pub fn stage_wise(
    before: &Dictionary,
    on_new_model: &Dictionary,
    on_new_data: &Dictionary,
) -> Result<Vec<Rotation>, SaeError> {
    let [model, data] = [on_new_model, on_new_data].map(|after| rotations(before, after));
    let pairs = model?.into_iter().zip(data?).enumerate();
    let mut all: Vec<Rotation> = pairs
        .filter_map(|(latent, (model, data))| {
            let (model, data) = (model?, data?);
            let excess = model - data;
            Some(Rotation {
                latent,
                model,
                data,
                excess,
            })
        })
        .collect();
    all.sort_by(|a, b| b.excess.total_cmp(&a.excess));
    Ok(all)
}
