//! The true rate behind an imperfect detector: the Rogan-Gladen correction, with the uncertainty of the detector's own
//! sensitivity and specificity carried into the interval instead of being taken as exact.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::bootstrap::{BootstrapOptions, quantile};
use super::interval::{Interval, Proportion};
use crate::error::{ProbeError, at_least, open_unit};
use crate::random::{beta, stream};

/// A rate corrected for the detector's errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prevalence {
    /// Items the detector judged.
    pub n: u64,
    /// The rate the detector reported.
    pub observed: Proportion,
    /// Share of true positives it finds, on its own validation items.
    pub sensitivity: Proportion,
    /// Share of true negatives it passes, on its own validation items.
    pub specificity: Proportion,
    /// (p + Sp − 1)/(Se + Sp − 1) before clipping; outside [0, 1] if the validation items do not fit the data.
    pub unclipped: f64,
    /// The corrected rate, clipped to [0, 1].
    pub rate: f64,
    /// Percentile interval over draws of all three rates, clipped to [0, 1].
    pub interval: Interval,
    /// Share of draws in which the detector was no better than chance (Se + Sp ≤ 1) and any rate would fit; such draws
    /// count as 0 and 1 in halves, so they widen the interval.
    pub uninformative: f64,
}

/// Corrects `observed` = (positives, n) for a detector validated with `sensitivity` = (found, true positives) and
/// `specificity` = (passed, true negatives): p = (p_obs + Sp − 1)/(Se + Sp − 1) (Rogan and Gladen 1978).
///
/// The interval draws each of the three rates from its Jeffreys posterior Beta(k + ½, n − k + ½), a parametric
/// bootstrap in which 0 of n does not pretend to be certain. Refuses a detector that is no better than chance.
pub fn rogan_gladen(
    observed: (u64, u64),
    sensitivity: (u64, u64),
    specificity: (u64, u64),
    options: &BootstrapOptions,
) -> Result<Prevalence, ProbeError> {
    open_unit("confidence level", options.level)?;
    at_least("bootstrap resamples", 100, options.resamples)?;
    let parts = [observed, sensitivity, specificity];
    let [observed, sensitivity, specificity] =
        parts.map(|(k, n)| Proportion::wilson(k, n, options.level));
    let (observed, sensitivity, specificity) = (observed?, sensitivity?, specificity?);
    let youden = sensitivity.rate + specificity.rate - 1.0;
    if youden <= 0.0 {
        return Err(ProbeError::Range {
            what: "sensitivity + specificity of the detector",
            value: youden + 1.0,
            allowed: "(1, 2]; this detector is no better than chance",
        });
    }
    let corrected: Vec<Option<f64>> = (0..options.resamples)
        .into_par_iter()
        .map(|draw| {
            let mut rng = stream(options.seed, draw);
            let [p, se, sp] =
                parts.map(|(k, n)| beta(&mut rng, k as f64 + 0.5, (n - k) as f64 + 0.5));
            (se + sp > 1.0).then(|| ((p + sp - 1.0) / (se + sp - 1.0)).clamp(0.0, 1.0))
        })
        .collect();
    let lost = corrected.iter().filter(|v| v.is_none()).count();
    let mut draws: Vec<f64> = corrected.into_iter().flatten().collect();
    draws.extend((0..lost).map(|i| (i % 2) as f64));
    draws.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - options.level);
    let unclipped = (observed.rate + specificity.rate - 1.0) / youden;
    Ok(Prevalence {
        n: observed.n,
        observed,
        sensitivity,
        specificity,
        unclipped,
        rate: unclipped.clamp(0.0, 1.0),
        interval: Interval {
            low: quantile(&draws, tail),
            high: quantile(&draws, 1.0 - tail),
            level: options.level,
        },
        uninformative: lost as f64 / options.resamples as f64,
    })
}
