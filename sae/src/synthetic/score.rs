//! The whole benchmark for one dictionary: its quality on planted rows, and what it found of what was planted.

use serde::{Deserialize, Serialize};

use super::{Absorption, Counts, Firing, Planted, Recovery, RecoveryOptions};
use crate::dictionary::shape;
use crate::measure::{Measure, Quality};
use crate::{Codes, Dictionary, SaeError};

/// On what a dictionary is scored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreOptions {
    /// The first batch; choose numbers that training did not see.
    pub first: u64,
    /// How many batches.
    pub batches: u64,
    /// Rows of each.
    pub rows: usize,
    /// How directions are compared.
    pub recovery: RecoveryOptions,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            first: 1 << 40,
            batches: 25,
            rows: 4096,
            recovery: RecoveryOptions::default(),
        }
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// How well rows are rebuilt.
    pub quality: Quality,
    /// Features that fired, mean over rows.
    pub true_l0: f64,
    /// What was found, by direction.
    pub recovery: Recovery,
    /// Means over features of precision, recall and F1 of the matched latent's firing; features that never fired are left out.
    pub by_feature: Option<[f64; 3]>,
    /// Means over latents that fired, each against its best feature: as SAELens classifies.
    pub by_latent: Option<[f64; 3]>,
    /// Of each matched pair, in the order of `recovery.pairs`.
    pub counts: Vec<Counts>,
    /// Parents whose latent a child's takes over; `None` without trees.
    pub absorption: Option<Absorption>,
}

/// Scores a dictionary on planted rows. Codes of all rows are held at once.
///
/// # Errors
/// A dictionary of another width, no rows, a dictionary of which nothing fires.
pub fn score(
    planted: &Planted,
    dictionary: &Dictionary,
    options: &ScoreOptions,
) -> Result<Score, SaeError> {
    let d = planted.directions().ncols();
    shape(
        "the dictionary's width",
        &[d, d],
        &[dictionary.d_in(), dictionary.d_out()],
    )?;
    let mut measure = Measure::of(dictionary);
    let mut seen: Vec<(Codes, Codes)> = Vec::new();
    for batch in 0..options.batches {
        let (rows, truth) = planted.batch(options.first.wrapping_add(batch), options.rows);
        let (codes, _) = measure.run(dictionary, rows.view(), rows.view())?;
        seen.push((truth, codes));
    }
    let alive: Vec<bool> = measure.density().fired().iter().map(|&n| n > 0).collect();
    let decoder = dictionary.parts().decoder.view();
    let recovery = Recovery::of(
        decoder,
        planted.directions().view(),
        &alive,
        options.recovery,
    )?;
    let pairs =
        |list: &[super::Matched]| Firing::new(list.iter().map(|p| [p.feature, p.latent]).collect());
    let mut by_feature = pairs(&recovery.pairs);
    let mut by_latent = pairs(&recovery.best_features);
    let mut absorption = planted.spec().trees.map(|_| Absorption::default());
    let mut latents = vec![None; planted.parents().len()];
    recovery
        .pairs
        .iter()
        .for_each(|pair| latents[pair.feature] = Some(pair.latent));
    let (mut fired, mut rows) = (0, 0);
    for (truth, codes) in &seen {
        fired += truth.latents.len();
        rows += truth.rows();
        by_feature.add(truth, codes)?;
        by_latent.add(truth, codes)?;
        if let Some(absorption) = &mut absorption {
            absorption.add(truth, codes, planted.parents(), &latents)?;
        }
    }
    Ok(Score {
        quality: measure.quality(),
        true_l0: fired as f64 / rows.max(1) as f64,
        by_feature: of_fired(&by_feature),
        by_latent: by_latent.means(),
        counts: by_feature.counts().to_vec(),
        recovery,
        absorption,
    })
}

/// Means over the pairs of which the feature fired.
fn of_fired(firing: &Firing) -> Option<[f64; 3]> {
    let fired = firing
        .counts()
        .iter()
        .filter(|c| c.both + c.feature_only > 0);
    let (mut sums, mut n) = ([0.0; 3], 0.0);
    for counts in fired {
        n += 1.0;
        let values = [counts.precision(), counts.recall(), counts.f1()];
        sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
    }
    (n > 0.0).then(|| sums.map(|sum| sum / n))
}
