//! What a probe's number has to beat: the same number with shuffled labels, given as a distribution, and the same number
//! on a control task of random labels (Hewitt and Liang 1909.03368). Lexical baselines are in [`crate::lexical`].

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, at_least, finite};
use crate::random::stream;
use crate::stats::bootstrap::{quantile, sd};

/// A statistic beside its distribution under a null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NullDistribution {
    /// Items behind each value.
    pub n: usize,
    /// Number of null draws.
    pub draws: usize,
    /// The value that was measured.
    pub observed: f64,
    /// Mean of the null draws.
    pub mean: f64,
    /// Standard deviation of the null draws.
    pub sd: f64,
    /// Quantiles of the null draws as (probability, value): 0, 0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975, 1.
    pub quantiles: Vec<(f64, f64)>,
    /// (observed − mean)/sd; `None` if the null does not vary.
    pub z: Option<f64>,
    /// P(null ≥ observed) as (1 + draws at least as large) / (1 + draws); never 0 (Phipson and Smyth 2010).
    pub p_upper: f64,
}

impl NullDistribution {
    /// Sets `observed` beside `draws` of the null, each measured on n items.
    pub fn new(n: usize, observed: f64, mut draws: Vec<f64>) -> Result<Self, ProbeError> {
        at_least("null draws", 2, draws.len())?;
        finite("null draws", &draws)?;
        finite("observed statistic", &[observed])?;
        draws.sort_by(f64::total_cmp);
        let count = draws.len();
        let mean = draws.iter().sum::<f64>() / count as f64;
        let spread = sd(&draws);
        let as_large = count - draws.partition_point(|&v| v < observed);
        let levels = [0.0, 0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975, 1.0];
        Ok(Self {
            n,
            draws: count,
            observed,
            mean,
            sd: spread,
            quantiles: levels.iter().map(|&p| (p, quantile(&draws, p))).collect(),
            z: (spread > 0.0).then(|| (observed - mean) / spread),
            p_upper: (1 + as_large) as f64 / (1 + count) as f64,
        })
    }
}

/// Measures `statistic` on the true labels and on `shuffles` random orders of them.
///
/// The statistic should do all that was done with the labels: choosing C, layer or position included, else the null is too easy.
pub fn label_shuffle(
    labels: &[bool],
    shuffles: usize,
    seed: u64,
    statistic: impl Fn(&[bool]) -> Result<f64, ProbeError> + Sync,
) -> Result<NullDistribution, ProbeError> {
    let observed = statistic(labels)?;
    let draws = (0..shuffles)
        .into_par_iter()
        .map(|draw| {
            let mut shuffled = labels.to_vec();
            shuffled.shuffle(&mut stream(seed, draw));
            statistic(&shuffled)
        })
        .collect::<Result<Vec<f64>, ProbeError>>()?;
    NullDistribution::new(labels.len(), observed, draws)
}

/// Control-task labels: each distinct type (word, template, topic) gets one random label, so that all its items share it.
pub fn control_labels<T: Ord>(types: &[T], seed: u64) -> Vec<bool> {
    let mut rng = stream(seed, 0);
    let mut drawn: BTreeMap<&T, bool> = BTreeMap::new();
    for kind in types {
        drawn.entry(kind).or_default();
    }
    // In the order of the types, not of the items, so that the order of the data does not matter.
    for label in drawn.values_mut() {
        *label = rng.random();
    }
    types.iter().map(|kind| drawn[kind]).collect()
}

/// How much better a probe does on its task than on a task that can only be memorised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selectivity {
    /// Number of items.
    pub n: usize,
    /// Number of distinct types.
    pub types: usize,
    /// The score on the task minus the mean score on the control tasks.
    pub selectivity: f64,
    /// The score on the task beside those on the control tasks.
    pub null: NullDistribution,
    /// Whether any type occurs twice. If not, nothing memorised can help on held-out items, the control score is chance by
    /// construction and selectivity says no more than the score itself.
    pub types_repeat: bool,
}

/// Runs `score` (fit and measure on held-out items) on the task's labels and on `controls` random tasks over `types`.
/// A random task in which all types got one label is drawn again.
pub fn selectivity<T: Ord + Sync>(
    labels: &[bool],
    types: &[T],
    controls: usize,
    seed: u64,
    score: impl Fn(&[bool]) -> Result<f64, ProbeError> + Sync,
) -> Result<Selectivity, ProbeError> {
    crate::error::same_length("types", labels.len(), types.len())?;
    let mut distinct: Vec<&T> = types.iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    at_least("distinct types", 2, distinct.len())?;
    let observed = score(labels)?;
    let draws = (0..controls)
        .into_par_iter()
        .map(|control| score(&mixed_control(types, seed, control)))
        .collect::<Result<Vec<f64>, ProbeError>>()?;
    let null = NullDistribution::new(labels.len(), observed, draws)?;
    Ok(Selectivity {
        n: labels.len(),
        types: distinct.len(),
        selectivity: observed - null.mean,
        null,
        types_repeat: distinct.len() < types.len(),
    })
}

fn mixed_control<T: Ord>(types: &[T], seed: u64, control: usize) -> Vec<bool> {
    let mut rng = stream(seed, control);
    loop {
        let labels = control_labels(types, rng.random());
        if labels.iter().any(|&l| l) && labels.iter().any(|&l| !l) {
            return labels;
        }
    }
}
