//! Contrast-consistent search (Burns et al. 2212.03827): a direction from pairs of a statement and its negation, without
//! labels. p = σ(w·x + b) should be 1 − p on the other side and not sit at one half: the loss of a pair is
//! (p⁺ − (1 − p⁻))² + min(p⁺, p⁻)². Each side is centred and scaled by itself, so that "yes" and "no" as words cancel.
//!
//! Not convex: several seeded starts, the least loss wins. Its sign is arbitrary until labels set it.

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::design::moments;
use crate::error::{ProbeError, at_least, finite_rows, same_length};
use crate::linalg::standardised;
use crate::linear::LinearProbe;
use crate::random::{normal, stream};

/// How the search runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CcsOptions {
    /// Random starts.
    pub starts: usize,
    /// Steps of Adam from each.
    pub steps: usize,
    /// Learning rate.
    pub rate: f64,
    /// Seed of the starts.
    pub seed: u64,
}

impl Default for CcsOptions {
    fn default() -> Self {
        Self {
            starts: 10,
            steps: 1000,
            rate: 1e-2,
            seed: 0,
        }
    }
}

/// A direction found without labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ccs {
    /// Pairs it was found on.
    pub n: usize,
    /// Weights on standardised features, `[d]`.
    pub weights: Vec<f64>,
    /// Intercept.
    pub bias: f64,
    /// Mean and scale of each side's features, first and second.
    pub sides: [(Vec<f64>, Vec<f64>); 2],
    /// Mean loss of a pair.
    pub loss: f64,
    /// The losses of all starts, in order.
    pub losses: Vec<f64>,
}

impl Ccs {
    /// Searches on activations of both sides of pairs, `[n, d]` each, row by row of one pair.
    ///
    /// # Errors
    /// Unlike shapes, fewer than two pairs, a value that is not finite.
    pub fn fit(
        first: ArrayView2<f32>,
        second: ArrayView2<f32>,
        options: &CcsOptions,
    ) -> Result<Self, ProbeError> {
        same_length("second sides of pairs", first.nrows(), second.nrows())?;
        same_length("width of second sides", first.ncols(), second.ncols())?;
        at_least("pairs", 2, first.nrows())?;
        at_least("features", 1, first.ncols())?;
        at_least("starts", 1, options.starts)?;
        let side = |x: ArrayView2<f32>| -> Result<_, ProbeError> {
            finite_rows("activations of pairs", x)?;
            let (mean, scale) = moments(x);
            Ok((standardised(x, &mean, &scale), mean, scale))
        };
        let (one, two) = (side(first)?, side(second)?);
        let found: Vec<(Array1<f64>, f64)> = (0..options.starts)
            .map(|start| search(&one.0, &two.0, options, start))
            .collect();
        let losses: Vec<f64> = found.iter().map(|f| f.1).collect();
        let best = (0..found.len()).fold(0, |b, i| if losses[i] < losses[b] { i } else { b });
        let d = first.ncols();
        let params = &found[best].0;
        Ok(Self {
            n: first.nrows(),
            weights: params.iter().take(d).copied().collect(),
            bias: params[d],
            sides: [
                (one.1.to_vec(), one.2.to_vec()),
                (two.1.to_vec(), two.2.to_vec()),
            ],
            loss: losses[best],
            losses,
        })
    }

    /// How true the first side of each pair is, (p⁺ + 1 − p⁻)/2, `[n]`; or how false, until [`Self::oriented`].
    ///
    /// # Errors
    /// Another width, unlike numbers of rows, a value that is not finite.
    pub fn scores(
        &self,
        first: ArrayView2<f32>,
        second: ArrayView2<f32>,
    ) -> Result<Vec<f64>, ProbeError> {
        same_length("second sides of pairs", first.nrows(), second.nrows())?;
        let side = |x: ArrayView2<f32>, (mean, scale): &(Vec<f64>, Vec<f64>)| {
            same_length("activation width", self.weights.len(), x.ncols())?;
            finite_rows("activations to score", x)?;
            let p = |row: ndarray::ArrayView1<f32>| {
                let mut logit = self.bias;
                for (j, &v) in row.iter().enumerate() {
                    logit += (f64::from(v) - mean[j]) / scale[j] * self.weights[j];
                }
                sigmoid(logit)
            };
            Ok::<Vec<f64>, ProbeError>(x.outer_iter().map(p).collect())
        };
        let (p, q) = (side(first, &self.sides[0])?, side(second, &self.sides[1])?);
        Ok(p.iter().zip(&q).map(|(p, q)| 0.5 * (p + 1.0 - q)).collect())
    }

    /// The same with the sign that gives labelled pairs (true: the first side holds) the higher scores.
    ///
    /// # Errors
    /// Those of [`Self::scores`]; one class only.
    pub fn oriented(
        mut self,
        first: ArrayView2<f32>,
        second: ArrayView2<f32>,
        labels: &[bool],
    ) -> Result<Self, ProbeError> {
        let scores = self.scores(first, second)?;
        if crate::roc::auroc_value(&scores, labels)? < 0.5 {
            self.weights.iter_mut().for_each(|w| *w = -*w);
            self.bias = -self.bias;
        }
        Ok(self)
    }
}

impl Ccs {
    /// The direction as a probe of single items, whose features are brought to the mean and scale of all the items given,
    /// `[n, d]`: what a side adds as such is left in.
    ///
    /// # Errors
    /// Another width, no items, a value that is not finite.
    pub fn of_items(&self, items: ArrayView2<f32>) -> Result<LinearProbe, ProbeError> {
        same_length("activation width", self.weights.len(), items.ncols())?;
        let (mean, scale) = crate::linear::moments(items)?;
        let weights: Vec<f64> = self
            .weights
            .iter()
            .zip(&scale)
            .map(|(w, s)| w / s)
            .collect();
        let moved: f64 = weights.iter().zip(&mean).map(|(w, m)| w * m).sum();
        Ok(LinearProbe {
            bias: self.bias - moved,
            weights,
            mean,
            scale,
            c: None,
        })
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One start: the parameters `[d + 1]` and the mean loss there.
fn search(
    one: &Array2<f64>,
    two: &Array2<f64>,
    options: &CcsOptions,
    start: usize,
) -> (Array1<f64>, f64) {
    let d = one.ncols();
    let mut rng = stream(options.seed, start);
    let size = 1.0 / (d as f64).sqrt();
    let mut at =
        Array1::from_shape_fn(d + 1, |j| if j < d { size * normal(&mut rng) } else { 0.0 });
    let (mut first, mut second) = (Array1::<f64>::zeros(d + 1), Array1::<f64>::zeros(d + 1));
    for step in 1..=options.steps {
        let (_, slope) = loss(one, two, &at);
        first = first * 0.9 + &slope * 0.1;
        second = second * 0.999 + &slope * &slope * 0.001;
        let (c1, c2) = (
            1.0 - 0.9f64.powi(step as i32),
            1.0 - 0.999f64.powi(step as i32),
        );
        for j in 0..=d {
            at[j] -= options.rate * (first[j] / c1) / ((second[j] / c2).sqrt() + 1e-8);
        }
    }
    let (value, _) = loss(one, two, &at);
    (at, value)
}

/// Mean loss of the pairs and its gradient `[d + 1]`.
fn loss(one: &Array2<f64>, two: &Array2<f64>, at: &Array1<f64>) -> (f64, Array1<f64>) {
    let (n, d) = one.dim();
    let w = at.slice(ndarray::s![..d]);
    let p = (one.dot(&w) + at[d]).mapv(sigmoid);
    let q = (two.dot(&w) + at[d]).mapv(sigmoid);
    let mut value = 0.0;
    let (mut dp, mut dq) = (Array1::<f64>::zeros(n), Array1::<f64>::zeros(n));
    for i in 0..n {
        let odd = p[i] + q[i] - 1.0;
        let low = p[i].min(q[i]);
        value += odd * odd + low * low;
        let (mut a, mut b) = (2.0 * odd, 2.0 * odd);
        if p[i] <= q[i] {
            a += 2.0 * low;
        } else {
            b += 2.0 * low;
        }
        dp[i] = a * p[i] * (1.0 - p[i]) / n as f64;
        dq[i] = b * q[i] * (1.0 - q[i]) / n as f64;
    }
    let mut slope = Array1::zeros(d + 1);
    slope
        .slice_mut(ndarray::s![..d])
        .assign(&(one.t().dot(&dp) + two.t().dot(&dq)));
    slope[d] = dp.sum() + dq.sum();
    (value / n as f64, slope)
}
