//! A linear probe in the one form that all kinds end in: weights on raw activations and an intercept.
//! [`fit`] makes one of any [`Kind`]; what a kind is lies in its own file.

use ndarray::{Array1, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, same_length};
use crate::folds::Score;
use crate::logistic::LogisticProbe;
use crate::massmean::{MassMean, Whitening};
use crate::shared::SharedFits;
use crate::sparse;

/// What a probe is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// μ⁺ − μ⁻, its midpoint at score 0.
    DifferenceOfMeans,
    /// Σ⁻¹(μ⁺ − μ⁻) with the pooled covariance hardly shrunk (λ = 1e-3), near the pseudo-inverse of Marks and Tegmark.
    MassMean,
    /// L2-penalised logistic regression on standardised features.
    Logistic,
    /// Linear discriminant analysis: the same as mass-mean with Ledoit and Wolf's shrinkage.
    Lda,
    /// Logistic regression on the k features of largest standardised mean difference.
    KSparse(usize),
    /// The direction of contrast-consistent search, which is found on pairs: [`crate::ccs`].
    Ccs,
}

impl Kind {
    /// The kinds by name; `k-sparse` takes its k after a colon.
    pub const NAMES: [&str; 6] = [
        "difference-of-means",
        "mass-mean",
        "logistic",
        "lda",
        "k-sparse:K",
        "ccs",
    ];

    /// By its name; `None` for another.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "difference-of-means" => Self::DifferenceOfMeans,
            "mass-mean" => Self::MassMean,
            "logistic" => Self::Logistic,
            "lda" => Self::Lda,
            "ccs" => Self::Ccs,
            other => {
                let k = other.strip_prefix("k-sparse:")?.parse().ok()?;
                Self::KSparse(k)
            }
        })
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Self::DifferenceOfMeans => "difference-of-means".into(),
            Self::MassMean => "mass-mean".into(),
            Self::Logistic => "logistic".into(),
            Self::Lda => "lda".into(),
            Self::KSparse(k) => format!("k-sparse:{k}"),
            Self::Ccs => "ccs".into(),
        }
    }

    /// Whether it has a penalty C to choose.
    pub fn has_penalty(self) -> bool {
        matches!(self, Self::Logistic | Self::KSparse(_))
    }
}

/// A linear score on raw activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearProbe {
    /// `[d]`.
    pub weights: Vec<f64>,
    /// What is added.
    pub bias: f64,
    /// Mean of each feature over the items it was fitted on, `[d]`.
    pub mean: Vec<f64>,
    /// Standard deviation of each feature over the items it was fitted on (1 for a constant one), `[d]`.
    pub scale: Vec<f64>,
    /// The C that was used, where the kind has one.
    pub c: Option<f64>,
}

impl LinearProbe {
    /// Of a logistic probe.
    pub fn of_logistic(probe: &LogisticProbe) -> Self {
        let weights = probe.raw_weights();
        let moved: f64 = weights.iter().zip(&probe.mean).map(|(w, m)| w * m).sum();
        Self {
            bias: probe.bias - moved,
            weights,
            mean: probe.mean.clone(),
            scale: probe.scale.clone(),
            c: Some(probe.c),
        }
    }

    fn of_mass_mean(probe: MassMean, x: ArrayView2<f32>) -> Self {
        let (mean, scale) = crate::design::moments(x);
        Self {
            weights: probe.theta,
            bias: probe.bias,
            mean: mean.to_vec(),
            scale: scale.to_vec(),
            c: None,
        }
    }

    /// The same probe on activations of another mean and scale, `[d]` each, that are taken to differ from the old ones in
    /// nothing else: a label-free re-alignment to another checkpoint.
    ///
    /// # Errors
    /// Another width.
    pub fn realigned(&self, mean: &[f64], scale: &[f64]) -> Result<Self, ProbeError> {
        same_length("means to align to", self.weights.len(), mean.len())?;
        same_length("scales to align to", self.weights.len(), scale.len())?;
        let ratio = |(w, (old, new)): (&f64, (&f64, &f64))| w * old / new;
        let weights: Vec<f64> = self
            .weights
            .iter()
            .zip(self.scale.iter().zip(scale))
            .map(ratio)
            .collect();
        let dot = |w: &[f64], m: &[f64]| w.iter().zip(m).map(|(a, b)| a * b).sum::<f64>();
        Ok(Self {
            bias: self.bias + dot(&self.weights, &self.mean) - dot(&weights, mean),
            weights,
            mean: mean.to_vec(),
            scale: scale.to_vec(),
            c: self.c,
        })
    }
}

/// Mean and standard deviation of each feature of activations `[n, d]`, as [`LinearProbe::realigned`] takes them.
///
/// # Errors
/// No items, a value that is not finite.
pub fn moments(x: ArrayView2<f32>) -> Result<(Vec<f64>, Vec<f64>), ProbeError> {
    crate::error::at_least("activations", 1, x.nrows())?;
    crate::error::finite_rows("activations", x)?;
    let (mean, scale) = crate::design::moments(x);
    Ok((mean.to_vec(), scale.to_vec()))
}

impl Score for LinearProbe {
    fn width(&self) -> usize {
        self.weights.len()
    }

    fn score(&self, activation: ArrayView1<f32>) -> f64 {
        let products = activation.iter().zip(&self.weights);
        products.map(|(&x, w)| f64::from(x) * w).sum::<f64>() + self.bias
    }
}

/// The activations of one cell, prepared once for all fits of a kind on them.
pub struct Cell<'a> {
    kind: Kind,
    x: ArrayView2<'a, f32>,
    shared: Option<SharedFits>,
}

/// How C is found.
#[derive(Debug, Clone, Copy)]
pub enum ChooseC<'a> {
    /// It is given.
    Fixed(f64),
    /// The best of `grid` over these folds (a number for each item).
    Folds {
        /// Fold of each item.
        folds: &'a [usize],
        /// Values to try.
        grid: &'a [f64],
    },
}

impl<'a> Cell<'a> {
    /// Activations `[n, d]` for probes of this kind.
    ///
    /// # Errors
    /// Too few items, a value that is not finite, a kind that single items cannot be fitted with.
    pub fn new(kind: Kind, x: ArrayView2<'a, f32>) -> Result<Self, ProbeError> {
        let shared = match kind {
            Kind::Logistic => Some(SharedFits::new(x)?),
            Kind::Ccs => return Err(ProbeError::Pairs),
            _ => None,
        };
        Ok(Self { kind, x, shared })
    }

    /// A probe on labels `[n]`. A kind without a penalty ignores `c`.
    ///
    /// # Errors
    /// One class only, a fold with constant labels, a fit that does not converge, a mean difference of length 0.
    pub fn fit(&self, labels: &[bool], c: ChooseC) -> Result<LinearProbe, ProbeError> {
        let whitening = match (self.kind, &self.shared) {
            (Kind::Logistic, Some(shared)) => {
                let probe = match c {
                    ChooseC::Fixed(c) => shared.fit(labels, c)?,
                    ChooseC::Folds { folds, grid } => shared.fit_chosen(labels, folds, grid)?,
                };
                return Ok(LinearProbe::of_logistic(&probe));
            }
            (Kind::KSparse(k), _) => return sparse::fit(self.x, labels, k, c),
            (Kind::MassMean, _) => Whitening::Shrunk(1e-3),
            (Kind::Lda, _) => Whitening::LedoitWolf,
            (Kind::DifferenceOfMeans | Kind::Logistic | Kind::Ccs, _) => Whitening::None,
        };
        let probe = MassMean::fit(self.x, labels, whitening)?;
        Ok(LinearProbe::of_mass_mean(probe, self.x))
    }
}

/// One probe of a kind; see [`Cell`] for many.
///
/// # Errors
/// Those of [`Cell::new`] and [`Cell::fit`].
pub fn fit(
    kind: Kind,
    x: ArrayView2<f32>,
    labels: &[bool],
    c: ChooseC,
) -> Result<LinearProbe, ProbeError> {
    Cell::new(kind, x)?.fit(labels, c)
}

/// Embeds weights `[k]` on chosen features into `[d]`.
pub(crate) fn spread(features: &[usize], weights: &[f64], d: usize) -> Vec<f64> {
    let mut out = Array1::<f64>::zeros(d);
    for (&feature, &weight) in features.iter().zip(weights) {
        out[feature] = weight;
    }
    out.to_vec()
}
