//! More than two classes: multinomial logistic regression with an L2 penalty, and one-against-rest AUROCs of its scores.
//!
//! Minimises −Σ ln p(class) + Σ‖w_k‖²/(2C) with free intercepts, C as in scikit-learn, on standardised features, in the
//! reduced coordinates of [`crate::design`] where n < d. Intercepts sum to 0, as nothing else fixes their level.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::descent::minimise;
use crate::design::Design;
use crate::error::{ProbeError, at_least, finite_rows, same_length};
use crate::logistic::checked_c;
use crate::roc::{Auroc, auroc};

/// A fitted multi-class probe.
// The unsafe code is in ndarray's macro for slices.
#[allow(clippy::unsafe_derive_deserialize)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SoftmaxProbe {
    /// Items it was fitted on.
    pub n: usize,
    /// Weights on raw activations, `[class][d]`.
    pub weights: Vec<Vec<f64>>,
    /// Intercepts, `[class]`.
    pub bias: Vec<f64>,
    /// The C that was used.
    pub c: f64,
    /// Length of the loss gradient divided by n at the answer.
    pub gradient: f64,
}

impl SoftmaxProbe {
    /// Fits on activations `[n, d]` and classes `[n]` in `0..classes`.
    ///
    /// # Errors
    /// Fewer than two classes, one without items, a value that is not finite, a fit that does not converge.
    pub fn fit(
        x: ArrayView2<f32>,
        labels: &[usize],
        classes: usize,
        c: f64,
    ) -> Result<Self, ProbeError> {
        same_length("labels", x.nrows(), labels.len())?;
        at_least("classes", 2, classes)?;
        checked_c(c)?;
        for class in 0..classes {
            let items = labels.iter().filter(|&&l| l == class).count();
            at_least("items of each class", 1, items)?;
        }
        if let Some(&high) = labels.iter().find(|&&l| l >= classes) {
            return Err(ProbeError::Range {
                what: "class",
                value: high as f64,
                allowed: "0 to the number of classes",
            });
        }
        let design = Design::new(x, true)?;
        let loss = Loss {
            z: &design.coordinates,
            labels,
            classes,
            c,
        };
        let start = Array1::zeros(classes * (design.coordinates.ncols() + 1));
        let what = "multinomial logistic regression";
        let found = minimise(what, labels.len(), start, &|at| loss.at(at))?;
        let at = found.at;
        let r = design.coordinates.ncols();
        let mut weights = Vec::with_capacity(classes);
        let mut bias = Vec::with_capacity(classes);
        for k in 0..classes {
            let standard = design.weights(at.slice(ndarray::s![k * (r + 1)..k * (r + 1) + r]));
            let raw = &standard / &design.scale;
            bias.push(at[k * (r + 1) + r] - raw.dot(&design.mean));
            weights.push(raw.to_vec());
        }
        let level = bias.iter().sum::<f64>() / classes as f64;
        for b in &mut bias {
            *b -= level;
        }
        Ok(Self {
            n: labels.len(),
            weights,
            bias,
            c,
            gradient: found.gradient,
        })
    }

    /// Logits `[n][class]` of activations `[n, d]`.
    ///
    /// # Errors
    /// Another width, a value that is not finite.
    pub fn logits(&self, x: ArrayView2<f32>) -> Result<Vec<Vec<f64>>, ProbeError> {
        let width = self.weights.first().map_or(0, Vec::len);
        same_length("activation width", width, x.ncols())?;
        finite_rows("activations to score", x)?;
        let score = |row: &ndarray::ArrayView1<f32>, k: usize| {
            let products = row.iter().zip(&self.weights[k]);
            products.map(|(&x, w)| f64::from(x) * w).sum::<f64>() + self.bias[k]
        };
        let of = |row| (0..self.bias.len()).map(|k| score(&row, k)).collect();
        Ok(x.outer_iter().map(of).collect())
    }
}

/// Each class against the rest by its own logit, and the plain mean of those areas.
///
/// # Errors
/// Lengths that differ, a class without items, a logit that is not finite.
pub fn macro_auroc(
    logits: &[Vec<f64>],
    labels: &[usize],
    level: f64,
) -> Result<(f64, Vec<Auroc>), ProbeError> {
    same_length("labels", logits.len(), labels.len())?;
    let classes = logits.first().map_or(0, Vec::len);
    at_least("classes", 2, classes)?;
    let one = |k: usize| {
        let scores: Vec<f64> = logits.iter().map(|l| l[k]).collect();
        let truth: Vec<bool> = labels.iter().map(|&l| l == k).collect();
        auroc(&scores, &truth, level)
    };
    let areas = (0..classes).map(one).collect::<Result<Vec<_>, _>>()?;
    let mean = areas.iter().map(|a| a.value).sum::<f64>() / classes as f64;
    Ok((mean, areas))
}

struct Loss<'a> {
    z: &'a Array2<f64>,
    labels: &'a [usize],
    classes: usize,
    c: f64,
}

impl Loss<'_> {
    /// Loss and gradient at parameters `[class · (r + 1)]`, the intercept last in each class.
    fn at(&self, params: &Array1<f64>) -> (f64, Array1<f64>) {
        let r = self.z.ncols();
        let w = Array2::from_shape_fn((self.classes, r), |(k, j)| params[k * (r + 1) + j]);
        let b = Array1::from_shape_fn(self.classes, |k| params[k * (r + 1) + r]);
        let mut pull = self.z.dot(&w.t()) + &b;
        let mut loss = 0.5 / self.c * w.iter().map(|v| v * v).sum::<f64>();
        for (mut row, &label) in pull.outer_iter_mut().zip(self.labels) {
            let top = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let own = row[label];
            row.mapv_inplace(|v| (v - top).exp());
            let sum = row.sum();
            loss += sum.ln() + top - own;
            row /= sum;
            row[label] -= 1.0;
        }
        let weights = pull.t().dot(self.z) + &w / self.c;
        let intercepts = pull.sum_axis(Axis(0));
        let gradient = Array1::from_shape_fn(params.len(), |i| {
            let (k, j) = (i / (r + 1), i % (r + 1));
            if j < r {
                weights[[k, j]]
            } else {
                intercepts[k]
            }
        });
        (loss, gradient)
    }
}
