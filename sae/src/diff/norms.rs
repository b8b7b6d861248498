//! How a latent's decoder is divided between two models.

use serde::{Deserialize, Serialize};

use super::{dot, sides};
use crate::{Dictionary, SaeError};

/// Bins of [`relative_histogram`], over 0 to 1.
pub const RELATIVE_BINS: usize = 20;

/// Which model a latent writes to, by its relative decoder norm. The edges are those of Minder et al. 2025.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// To the first alone: 0 to 0.1.
    OnlyFirst,
    /// To both: 0.4 to 0.6.
    Shared,
    /// To the second alone: 0.9 to 1.
    OnlySecond,
    /// To both, to one of them much more.
    Between,
    /// To neither: both rows are 0.
    Neither,
}

impl Class {
    /// Of a relative norm.
    pub fn of(relative: Option<f64>) -> Self {
        match relative {
            None => Self::Neither,
            Some(r) if r <= 0.1 => Self::OnlyFirst,
            Some(r) if r >= 0.9 => Self::OnlySecond,
            Some(r) if (0.4..=0.6).contains(&r) => Self::Shared,
            Some(_) => Self::Between,
        }
    }
}

/// A latent's two decoder rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderPair {
    /// Which.
    pub latent: usize,
    /// Their norms.
    pub norms: [f64; 2],
    /// `½ ((‖d₂‖ − ‖d₁‖) / max(‖d₁‖, ‖d₂‖) + 1)`: 0 is the first model's alone, ½ both models', 1 the second's alone.
    pub relative: Option<f64>,
    /// Their cosine; none where one is 0 or the models have different widths.
    pub cosine: Option<f64>,
    /// What that makes it.
    pub class: Class,
}

/// All latents of a crosscoder between two of its models, in order. `blocks` are the widths of what it writes.
///
/// # Errors
/// Blocks that are not those of the dictionary, models that it lacks.
pub fn decoder_pairs(
    dictionary: &Dictionary,
    blocks: &[usize],
    pair: [usize; 2],
) -> Result<Vec<DecoderPair>, SaeError> {
    let [first, second] = sides(dictionary, blocks, pair)?;
    let rows = dictionary.parts().decoder.outer_iter().enumerate();
    let one = |(latent, row): (usize, ndarray::ArrayView1<f32>)| {
        let [a, b] = [&first, &second].map(|of| row.slice(ndarray::s![of.clone()]));
        let norms = [dot(a, a).sqrt(), dot(b, b).sqrt()];
        let largest = norms[0].max(norms[1]);
        let relative = (largest > 0.0).then(|| 0.5 * ((norms[1] - norms[0]) / largest + 1.0));
        let comparable = first.len() == second.len() && norms[0].min(norms[1]) > 0.0;
        DecoderPair {
            latent,
            norms,
            relative,
            cosine: comparable.then(|| (dot(a, b) / (norms[0] * norms[1])).clamp(-1.0, 1.0)),
            class: Class::of(relative),
        }
    };
    Ok(rows.map(one).collect())
}

/// How many latents have their relative norm in each twentieth of 0 to 1; the last bin holds 1.
pub fn relative_histogram(pairs: &[DecoderPair]) -> [u64; RELATIVE_BINS] {
    let mut counts = [0; RELATIVE_BINS];
    for relative in pairs.iter().filter_map(|pair| pair.relative) {
        let bin = (relative * RELATIVE_BINS as f64) as usize;
        counts[bin.min(RELATIVE_BINS - 1)] += 1;
    }
    counts
}
