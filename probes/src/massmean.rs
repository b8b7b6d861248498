//! The mass-mean probe (Marks and Tegmark 2310.06824): θ = μ⁺ − μ⁻, as it is or whitened by the shrunk pooled
//! within-class covariance, which makes it linear discriminant analysis. Closed form, so it cannot overfit by optimisation.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, both_classes, finite_rows, same_length};
use crate::folds::Score;
use crate::linalg::{means, norm, rows_of, solve_spd};

/// What the mean difference is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whitening {
    /// Nothing: θ = μ⁺ − μ⁻.
    None,
    /// ((1−λ)Σ + λ·tr(Σ)/d·I)⁻¹ with this λ in (0, 1].
    Shrunk(f64),
    /// The same with Ledoit and Wolf's λ (2004), estimated from the data.
    LedoitWolf,
}

/// A fitted mass-mean probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MassMean {
    /// Items it was fitted on.
    pub n: usize,
    /// Items labelled true.
    pub n_pos: usize,
    /// Items labelled false.
    pub n_neg: usize,
    /// The weights `[d]` on raw activations.
    pub theta: Vec<f64>,
    /// The offset that puts the midpoint of the two class means at score 0.
    pub bias: f64,
    /// The λ that was used; `None` without whitening.
    pub shrinkage: Option<f64>,
}

impl MassMean {
    /// Fits the probe on activations `[n, d]` and labels `[n]`.
    pub fn fit(
        x: ArrayView2<f32>,
        labels: &[bool],
        whitening: Whitening,
    ) -> Result<Self, ProbeError> {
        same_length("labels", x.nrows(), labels.len())?;
        finite_rows("activations", x)?;
        let (n_pos, n_neg) = both_classes(labels, 1)?;
        let positive = rows_of(x, labels, true);
        let negative = rows_of(x, labels, false);
        let (mean_pos, mean_neg) = (means(positive.view()), means(negative.view()));
        let difference = &mean_pos - &mean_neg;
        let length = norm(difference.view());
        if length < 1e-12 {
            return Err(ProbeError::NoDirection {
                what: "difference of class means",
                norm: length,
            });
        }
        let lambda = |residuals: &Array2<f64>| match whitening {
            Whitening::None => Ok(None),
            Whitening::LedoitWolf => ledoit_wolf(residuals).map(Some),
            Whitening::Shrunk(lambda) if lambda > 0.0 && lambda <= 1.0 => Ok(Some(lambda)),
            Whitening::Shrunk(value) => Err(ProbeError::Range {
                what: "shrinkage",
                value,
                allowed: "(0, 1]",
            }),
        };
        let residuals = Array2::from_shape_fn(x.raw_dim(), |(i, j)| {
            let mean = if labels[i] { &mean_pos } else { &mean_neg };
            f64::from(x[[i, j]]) - mean[j]
        });
        let shrinkage = lambda(&residuals)?;
        let theta = match shrinkage {
            None => difference,
            Some(lambda) => whiten(&residuals, lambda, &difference)?,
        };
        let bias = -0.5 * theta.dot(&(&mean_pos + &mean_neg));
        Ok(Self {
            n: labels.len(),
            n_pos,
            n_neg,
            theta: theta.to_vec(),
            bias,
            shrinkage,
        })
    }
}

impl Score for MassMean {
    fn width(&self) -> usize {
        self.theta.len()
    }

    fn score(&self, activation: ArrayView1<f32>) -> f64 {
        activation
            .iter()
            .zip(&self.theta)
            .map(|(&x, w)| f64::from(x) * w)
            .sum::<f64>()
            + self.bias
    }
}

/// The mean variance tr(Σ)/d of residuals `[n, d]`, Σ = RᵀR/n; refused if it is 0.
fn mean_variance(residuals: &Array2<f64>) -> Result<f64, ProbeError> {
    let (n, d) = residuals.dim();
    let value = residuals.iter().map(|v| v * v).sum::<f64>() / (n * d) as f64;
    if value > 0.0 {
        return Ok(value);
    }
    Err(ProbeError::Numerical {
        what: "whitening",
        reason: "activations do not vary within the classes; use the plain mass-mean probe"
            .to_owned(),
    })
}

/// Ledoit and Wolf's shrinkage towards tr(Σ)/d·I for rows that are already centred, through the smaller of RᵀR and RRᵀ.
fn ledoit_wolf(residuals: &Array2<f64>) -> Result<f64, ProbeError> {
    let (n, d) = residuals.dim();
    let mu = mean_variance(residuals)?;
    let gram = if n < d {
        residuals.dot(&residuals.t())
    } else {
        residuals.t().dot(residuals)
    };
    let sum_sq = gram.iter().map(|v| v * v).sum::<f64>() / (n * n) as f64;
    let fourth: f64 = residuals
        .rows()
        .into_iter()
        .map(|r| r.dot(&r).powi(2))
        .sum::<f64>()
        / n as f64;
    // δ² = ‖Σ − μI‖²/d is the spread of the eigenvalues, β² = the part of it that is sampling noise.
    let delta = (sum_sq - d as f64 * mu * mu) / d as f64;
    let beta = (fourth - sum_sq) / (n * d) as f64;
    if delta <= 0.0 {
        return Ok(1.0);
    }
    // λ = 0 would leave a singular matrix where n < d.
    Ok((beta.min(delta) / delta).clamp(1e-6, 1.0))
}

/// ((1−λ)Σ + λμI)⁻¹·v. With n < d by Woodbury's identity in n dimensions, else directly.
fn whiten(
    residuals: &Array2<f64>,
    lambda: f64,
    v: &Array1<f64>,
) -> Result<Array1<f64>, ProbeError> {
    let (n, d) = residuals.dim();
    let ridge = lambda * mean_variance(residuals)?;
    let weight = (1.0 - lambda) / n as f64;
    if n >= d {
        let mut sigma = residuals.t().dot(residuals) * weight;
        sigma.diag_mut().mapv_inplace(|x| x + ridge);
        return solve_spd(sigma, v.clone(), "whitening");
    }
    // (ρI + wRᵀR)⁻¹v = (v − Rᵀ(ρ/w·I + RRᵀ)⁻¹Rv)/ρ, written without dividing by w, which may be 0.
    let mut inner = residuals.dot(&residuals.t()) * weight;
    inner.diag_mut().mapv_inplace(|x| x + ridge);
    let solved = solve_spd(inner, residuals.dot(v) * weight, "whitening")?;
    Ok((v - &residuals.t().dot(&solved)) / ridge)
}
