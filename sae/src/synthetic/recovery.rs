//! Which planted features a decoder found, by direction: each feature's best latent, each latent's best feature, and the best
//! pairing of both.

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::matching::{Matched, Matching, pairs};
use crate::SaeError;
use crate::dictionary::{finite, shape};

/// How directions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecoveryOptions {
    /// From this cosine on a feature counts as found.
    pub found_at: f32,
    /// Whether a latent that points the other way counts as much. SAELens says yes; codes that are never negative say no.
    pub absolute: bool,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self {
            found_at: 0.9,
            absolute: false,
        }
    }
}

/// How well directions were found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Features planted.
    pub features: usize,
    /// Latents that were compared: those that fired.
    pub latents: usize,
    /// Mean over features of the best latent's cosine: was everything found? (MMCS, Sharkey et al. 2022.)
    pub best_of_features: f64,
    /// Mean over latents of the best feature's cosine: is everything that was found real?
    pub best_of_latents: f64,
    /// Mean cosine of the one-to-one pairs; with `absolute` and all latents alive the MCC of arXiv 2505.20254.
    pub matched: f64,
    /// How the pairs were made.
    pub matching: Matching,
    /// Share of the features of which the best latent reaches `found_at`.
    pub found: f64,
    /// Features that are some latent's best one, over latents: SAELens's uniqueness.
    pub uniqueness: f64,
    /// Share of the latents that reach `found_at` with a feature which another latent has better: duplicates.
    pub duplicates: f64,
    /// The pairs, by feature.
    pub pairs: Vec<Matched>,
    /// Each latent's best feature, by latent.
    pub best_features: Vec<Matched>,
    /// How directions were compared.
    pub options: RecoveryOptions,
}

impl Recovery {
    /// Compares a decoder `[d_sae, d]` with features `[features, d]`. Only latents that are `alive` take part. Holds the
    /// cosines of all pairs at once.
    ///
    /// # Errors
    /// Widths that differ, values that are not finite, no feature or no latent.
    pub fn of(
        decoder: ArrayView2<f32>,
        features: ArrayView2<f32>,
        alive: &[bool],
        options: RecoveryOptions,
    ) -> Result<Self, SaeError> {
        shape("decoder", &[alive.len(), features.ncols()], decoder.shape())?;
        finite("decoder", decoder)?;
        finite("features", features)?;
        let latents: Vec<usize> = (0..alive.len()).filter(|&l| alive[l]).collect();
        for (what, found) in [
            ("features to recover", features.nrows()),
            ("latents that fired", latents.len()),
        ] {
            if found == 0 {
                return Err(SaeError::Range {
                    what,
                    found: "0".into(),
                    allowed: "1 or more".into(),
                });
            }
        }
        let cosines = cosines(
            decoder.select(Axis(0), &latents),
            features,
            options.absolute,
        );
        let best_features: Vec<Matched> = best_by_column(&cosines, &latents);
        let best_of_features: Vec<f32> = cosines
            .outer_iter()
            .map(|row| largest(&row.to_vec()))
            .collect();
        let (matching, mut pairs) = pairs(cosines.view());
        for pair in &mut pairs {
            pair.latent = latents[pair.latent];
        }
        let found = best_of_features
            .iter()
            .filter(|&&c| c >= options.found_at)
            .count();
        let (used, duplicates) = shared(&best_features, features.nrows(), options.found_at);
        let mean = |values: &mut dyn Iterator<Item = f32>, n: usize| {
            values.map(f64::from).sum::<f64>() / n as f64
        };
        Ok(Self {
            features: features.nrows(),
            latents: latents.len(),
            best_of_features: mean(&mut best_of_features.iter().copied(), features.nrows()),
            best_of_latents: mean(&mut best_features.iter().map(|b| b.cosine), latents.len()),
            matched: mean(&mut pairs.iter().map(|p| p.cosine), pairs.len()),
            matching,
            found: found as f64 / features.nrows() as f64,
            uniqueness: used as f64 / latents.len() as f64,
            duplicates: duplicates as f64 / latents.len() as f64,
            pairs,
            best_features,
            options,
        })
    }
}

/// `[features, latents]`; a row of zeros has cosine 0 with everything.
fn cosines(mut decoder: Array2<f32>, features: ArrayView2<f32>, absolute: bool) -> Array2<f32> {
    let mut features = features.to_owned();
    for rows in [&mut decoder, &mut features] {
        for mut row in rows.outer_iter_mut() {
            let norm = row.dot(&row).sqrt();
            row /= if norm > 0.0 { norm } else { 1.0 };
        }
    }
    let mut cosines = features.dot(&decoder.t());
    if absolute {
        cosines.mapv_inplace(f32::abs);
    }
    cosines
}

fn largest(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

fn best_by_column(cosines: &Array2<f32>, latents: &[usize]) -> Vec<Matched> {
    let mut best: Vec<Matched> = latents
        .iter()
        .map(|&latent| Matched {
            feature: 0,
            latent,
            cosine: f32::NEG_INFINITY,
        })
        .collect();
    for (feature, row) in cosines.outer_iter().enumerate() {
        for (best, &cosine) in best.iter_mut().zip(row) {
            if cosine > best.cosine {
                (best.feature, best.cosine) = (feature, cosine);
            }
        }
    }
    best
}

/// Features that are some latent's best, and latents that come second at a feature which they have found.
fn shared(best: &[Matched], features: usize, found_at: f32) -> (usize, usize) {
    let mut taken = vec![0_usize; features];
    let mut close = vec![0_usize; features];
    for latent in best {
        taken[latent.feature] += 1;
        close[latent.feature] += usize::from(latent.cosine >= found_at);
    }
    let used = taken.iter().filter(|&&n| n > 0).count();
    (used, close.iter().map(|n| n.saturating_sub(1)).sum())
}
