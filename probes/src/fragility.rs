//! How much noise a probe withstands: σ*, the first noise level at which its accuracy falls under a floor (0.6).
//! Tells apart two probes whose AUROC is saturated (protocol of deepsteer).

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, at_least, both_classes, finite, open_unit, same_length};
use crate::folds::Score;
use crate::random::{normal, stream};
use crate::stats::bootstrap::sd;

/// How the noise is laid out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FragilityOptions {
    /// Noise levels, ascending: standard deviations of the noise added to each feature.
    pub grid: Vec<f64>,
    /// Repetitions with noise of their own.
    pub seeds: usize,
    /// The probe fails where accuracy is under this.
    pub floor: f64,
    /// Scores above this are called positive.
    pub threshold: f64,
    /// Multiply each level with the root mean square of the centred activations, so that checkpoints of different scale compare.
    pub relative: bool,
    /// Seed of the noise.
    pub seed: u64,
}

impl Default for FragilityOptions {
    fn default() -> Self {
        Self {
            grid: vec![0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0],
            seeds: 10,
            floor: 0.6,
            threshold: 0.0,
            relative: false,
            seed: 0,
        }
    }
}

/// Accuracy at one noise level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoisyAccuracy {
    /// The noise level as in the grid.
    pub sigma: f64,
    /// Mean accuracy over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds.
    pub sd: f64,
}

/// Result of [`fragility`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fragility {
    /// Number of items.
    pub n: usize,
    /// Accuracy without noise.
    pub clean: f64,
    /// What a level of 1 means in units of the activations.
    pub unit: f64,
    /// Accuracy at each level of the grid.
    pub levels: Vec<NoisyAccuracy>,
    /// σ* of each seed: the first level under the floor; `None` if none of the grid is.
    pub per_seed: Vec<Option<f64>>,
    /// σ* of the mean accuracy; `None` if the probe withstands the whole grid.
    pub sigma_star: Option<f64>,
}

/// Adds seeded normal noise to activations `[n, d]` and measures the accuracy of `probe` at each level of the grid.
/// A seed keeps its noise pattern over the grid, so a seed's levels differ in size alone.
pub fn fragility<P: Score + Sync>(
    probe: &P,
    x: ArrayView2<f32>,
    labels: &[bool],
    options: &FragilityOptions,
) -> Result<Fragility, ProbeError> {
    same_length("labels", x.nrows(), labels.len())?;
    both_classes(labels, 1)?;
    at_least("noise levels", 1, options.grid.len())?;
    at_least("seeds", 1, options.seeds)?;
    open_unit("accuracy floor", options.floor)?;
    finite("noise grid", &options.grid)?;
    if let Some(w) = options.grid.windows(2).find(|w| w[0] >= w[1]) {
        return Err(ProbeError::Range {
            what: "noise grid",
            value: w[1],
            allowed: "an ascending list",
        });
    }
    let accuracy = |x: ArrayView2<f32>| -> Result<f64, ProbeError> {
        let called = probe.scores(x)?;
        let right = called
            .iter()
            .zip(labels)
            .filter(|&(&s, &l)| (s > options.threshold) == l)
            .count();
        Ok(right as f64 / labels.len() as f64)
    };
    let clean = accuracy(x)?;
    let unit = if options.relative { spread(x) } else { 1.0 };
    let runs = (0..options.seeds)
        .into_par_iter()
        .map(|seed| {
            let mut rng = stream(options.seed, seed);
            let noise = Array2::from_shape_simple_fn(x.raw_dim(), || normal(&mut rng) as f32);
            let at = |&sigma: &f64| accuracy((&x + &(&noise * (sigma * unit) as f32)).view());
            options
                .grid
                .iter()
                .map(at)
                .collect::<Result<Vec<f64>, ProbeError>>()
        })
        .collect::<Result<Vec<Vec<f64>>, ProbeError>>()?;
    let levels: Vec<NoisyAccuracy> = options
        .grid
        .iter()
        .enumerate()
        .map(|(level, &sigma)| {
            let column: Vec<f64> = runs.iter().map(|run| run[level]).collect();
            NoisyAccuracy {
                sigma,
                mean: column.iter().sum::<f64>() / column.len() as f64,
                sd: sd(&column),
            }
        })
        .collect();
    let first_under = |values: &[f64]| {
        values
            .iter()
            .position(|&a| a < options.floor)
            .map(|i| options.grid[i])
    };
    Ok(Fragility {
        n: labels.len(),
        clean,
        unit,
        per_seed: runs.iter().map(|run| first_under(run)).collect(),
        sigma_star: levels
            .iter()
            .find(|l| l.mean < options.floor)
            .map(|l| l.sigma),
        levels,
    })
}

/// Root mean square of the centred activations over items and features.
fn spread(x: ArrayView2<f32>) -> f64 {
    let mean = crate::linalg::means(x);
    let squares: f64 = x
        .indexed_iter()
        .map(|((_, j), &v)| (f64::from(v) - mean[j]).powi(2))
        .sum();
    (squares / x.len() as f64).sqrt()
}
