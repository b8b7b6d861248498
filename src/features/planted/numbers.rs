//! The numbers of the benchmark, by name, and their means over repeats with intervals.

use candlescope_probes::stats::special::t_quantile;
use candlescope_sae::synthetic::Score;
use serde::Serialize;

/// A number that a dictionary is scored by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Latents that fire.
    L0,
    /// Features that fired.
    TrueL0,
    /// Fraction of variance unexplained.
    Fvu,
    /// Latents that never fired.
    Dead,
    /// Mean cosine of the one-to-one pairs.
    Mcc,
    /// Mean over features of the best cosine.
    Mmcs,
    /// Mean over latents of the best cosine.
    Real,
    /// Share of the features that are found.
    Found,
    /// Features that are some latent's best one, over latents.
    Unique,
    /// Latents that stand for a feature another has better.
    Duplicates,
    /// Of each feature's matched latent.
    Precision,
    /// Of each feature's matched latent.
    Recall,
    /// Of each feature's matched latent.
    F1,
    /// Parents that a child's latent absorbs.
    Absorption,
}

impl Number {
    /// All, in the order of tables.
    pub const ALL: [Self; 14] = [
        Self::L0,
        Self::TrueL0,
        Self::Fvu,
        Self::Dead,
        Self::Mcc,
        Self::Mmcs,
        Self::Real,
        Self::Found,
        Self::Unique,
        Self::Duplicates,
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::Absorption,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::L0 => "l0",
            Self::TrueL0 => "true_l0",
            Self::Fvu => "fvu",
            Self::Dead => "dead",
            Self::Mcc => "mcc",
            Self::Mmcs => "mmcs",
            Self::Real => "mmcs_of_latents",
            Self::Found => "found",
            Self::Unique => "uniqueness",
            Self::Duplicates => "duplicates",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::Absorption => "absorption",
        }
    }

    /// Its definition.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::L0 => "latents that are not 0, mean over held rows",
            Self::TrueL0 => "features that fired, mean over held rows",
            Self::Fvu => "Σ|x−x̂|² / Σ|x−mean|² over held rows",
            Self::Dead => "share of the latents that fired in no held row",
            Self::Mcc => {
                "mean cosine of features and latents, paired one to one by the largest sum"
            }
            Self::Mmcs => "mean over features of the best latent's cosine",
            Self::Real => "mean over latents of the best feature's cosine",
            Self::Found => "share of the features whose best latent reaches the limit",
            Self::Unique => "features that are some latent's best one, over latents",
            Self::Duplicates => "share of the latents that reach the limit where another is better",
            Self::Precision => {
                "of the paired latent's firings, those with its feature; mean over features"
            }
            Self::Recall => {
                "of a feature's firings, those with its paired latent; mean over features"
            }
            Self::F1 => "their harmonic mean, mean over features",
            Self::Absorption => {
                "of rows with parent and child, those where the child's latent speaks and the parent's does not"
            }
        }
    }

    /// Of one dictionary.
    pub fn of(self, score: &Score) -> Option<f64> {
        let (quality, recovery) = (&score.quality, &score.recovery);
        let by_feature = |at: usize| score.by_feature.map(|means| means[at]);
        match self {
            Self::L0 => quality.l0,
            Self::TrueL0 => Some(score.true_l0),
            Self::Fvu => quality.fvu.pooled,
            Self::Dead => Some(quality.latents.dead),
            Self::Mcc => Some(recovery.matched),
            Self::Mmcs => Some(recovery.best_of_features),
            Self::Real => Some(recovery.best_of_latents),
            Self::Found => Some(recovery.found),
            Self::Unique => Some(recovery.uniqueness),
            Self::Duplicates => Some(recovery.duplicates),
            Self::Precision => by_feature(0),
            Self::Recall => by_feature(1),
            Self::F1 => by_feature(2),
            Self::Absorption => score.absorption.and_then(|absorption| absorption.rate()),
        }
    }
}

/// A number over repeats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Repeats that have it.
    pub n: usize,
    /// Their mean.
    pub mean: Option<f64>,
    /// The ends of Student's 95 % interval of the mean over repeats; from two repeats on.
    pub interval: Option<[f64; 2]>,
}

impl Summary {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len();
        if n == 0 {
            return Self {
                n,
                mean: None,
                interval: None,
            };
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let interval = (n > 1).then(|| {
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            let df = (n - 1) as f64;
            let reach = t_quantile(0.975, df) * (squares / df / n as f64).sqrt();
            [mean - reach, mean + reach]
        });
        Self {
            n,
            mean: Some(mean),
            interval,
        }
    }
}
