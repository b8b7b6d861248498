//! An attention-pooled probe: a learned query weighs the tokens of an item, and a linear head reads their weighted mean.
//!
//! Token t of an item has features z_t (standardised over all tokens): a = softmax(q·z), pooled Σ a_t z_t, logit w·pooled + b.
//! Minimises Σ ln(1 + exp(−y·logit)) + (‖w‖² + ‖q‖²)/(2C), b free, C as in [`crate::logistic`]. Not convex: it starts at q = 0,
//! w = 0, which is the mean over tokens, so what it finds is no worse than it was there and the same each time. An item of one
//! token has nothing to choose: then it is the logistic probe (a test says so).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

use crate::descent::{Found, minimise};
use crate::design::moments;
use crate::error::{ProbeError, at_least, both_classes, finite_rows, same_length};
use crate::linalg::{norm, standardised};
use crate::logistic::checked_c;
use crate::random::{normal, stream};
use crate::roc::auroc_value;

/// Tokens of items, one after another.
#[derive(Debug, Clone, Copy)]
pub struct Spans<'a> {
    tokens: ArrayView2<'a, f32>,
    lengths: &'a [usize],
}

impl<'a> Spans<'a> {
    /// Activations `[token, d]` and how many tokens each item has, `[n]`.
    ///
    /// # Errors
    /// Lengths that do not add up to the tokens, an item without tokens, a value that is not finite.
    pub fn new(tokens: ArrayView2<'a, f32>, lengths: &'a [usize]) -> Result<Self, ProbeError> {
        same_length("tokens of all items", lengths.iter().sum(), tokens.nrows())?;
        let shortest = lengths.iter().copied().min().unwrap_or(0);
        at_least("tokens of each item", 1, shortest)?;
        at_least("features", 1, tokens.ncols())?;
        finite_rows("activations", tokens)?;
        Ok(Self { tokens, lengths })
    }

    /// Number of items.
    pub fn n(&self) -> usize {
        self.lengths.len()
    }

    /// The range of rows of each item.
    fn ranges(&self) -> Vec<(usize, usize)> {
        let mut start = 0;
        let range = |&length: &usize| {
            start += length;
            (start - length, start)
        };
        self.lengths.iter().map(range).collect()
    }
}

/// A fitted attention-pooled probe, on raw activations.
// The unsafe code is in ndarray's macro for slices.
#[allow(clippy::unsafe_derive_deserialize)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PooledProbe {
    /// Items it was fitted on.
    pub n: usize,
    /// What tokens are weighed by, `[d]`.
    pub query: Vec<f64>,
    /// Weights on the pooled activation, `[d]`.
    pub weights: Vec<f64>,
    /// Intercept.
    pub bias: f64,
    /// The C that was used.
    pub c: f64,
    /// The loss at the answer.
    pub loss: f64,
    /// Length of the loss gradient divided by n at the answer.
    pub gradient: f64,
}

/// Queries that a fit begins with besides 0, the plain mean: the loss is not convex, and from 0 it goes to the nearest
/// minimum, which is one near the mean.
const STARTS: usize = 8;
/// Their length: long enough for a standardised token to stand out of its span.
const LENGTH: f64 = 2.0;

/// Where fits begin: query, weights and bias.
fn starts(d: usize) -> impl Iterator<Item = Array1<f64>> {
    (0..=STARTS).map(move |number| {
        let mut start = Array1::zeros(2 * d + 1);
        if number > 0 {
            let mut rng = stream(0, number);
            let mut query = start.slice_mut(s![..d]);
            query.mapv_inplace(|_| normal(&mut rng));
            let length = norm(query.view()).max(f64::MIN_POSITIVE);
            query *= LENGTH / length;
        }
        start
    })
}

impl PooledProbe {
    /// Fits on items and labels `[n]` at this C.
    ///
    /// # Errors
    /// Labels of another length or one class, a C that is not positive, a fit that does not converge.
    pub fn fit(spans: Spans, labels: &[bool], c: f64) -> Result<Self, ProbeError> {
        same_length("labels", spans.n(), labels.len())?;
        both_classes(labels, 1)?;
        checked_c(c)?;
        let (mean, scale) = moments(spans.tokens);
        let z = standardised(spans.tokens, &mean, &scale);
        let loss = Loss {
            z: &z,
            ranges: &spans.ranges(),
            labels,
            c,
        };
        let d = z.ncols();
        let mut found: Option<Found> = None;
        for start in starts(d) {
            let there = minimise("attention-pooled probe", spans.n(), start, &|at| {
                loss.at(at)
            })?;
            if found.as_ref().is_none_or(|best| there.value < best.value) {
                found = Some(there);
            }
        }
        let Some(found) = found else {
            return Err(ProbeError::Numerical {
                what: "attention-pooled probe",
                reason: "no start".into(),
            });
        };
        // A shift that all tokens have in common does not change the softmax.
        let query = &found.at.slice(s![..d]) / &scale;
        let weights = &found.at.slice(s![d..2 * d]) / &scale;
        Ok(Self {
            n: labels.len(),
            bias: found.at[2 * d] - weights.dot(&mean),
            query: query.to_vec(),
            weights: weights.to_vec(),
            c,
            loss: found.value,
            gradient: found.gradient,
        })
    }

    /// The probe at the C with the best mean AUROC over the folds (a fold number for each item; ties go to the strongest
    /// penalty), fitted on all items.
    ///
    /// # Errors
    /// Those of [`Self::fit`], an empty grid, fewer than two folds.
    pub fn fit_chosen(
        spans: Spans,
        labels: &[bool],
        folds: &[usize],
        grid: &[f64],
    ) -> Result<Self, ProbeError> {
        same_length("labels", spans.n(), labels.len())?;
        same_length("fold ids", spans.n(), folds.len())?;
        at_least("values of C", 1, grid.len())?;
        let k = folds.iter().max().map_or(0, |last| last + 1);
        at_least("folds", 2, k)?;
        let mut ascending = grid.to_vec();
        ascending.sort_by(f64::total_cmp);
        let mut best = (f64::NEG_INFINITY, ascending[0]);
        for &c in &ascending {
            let mut sum = 0.0;
            for fold in 0..k {
                let (held, train): (Vec<usize>, Vec<usize>) =
                    (0..spans.n()).partition(|&i| folds[i] == fold);
                let of = |items: &[usize]| items.iter().map(|&i| labels[i]).collect::<Vec<bool>>();
                let (x, lengths) = select(spans, &train);
                let probe = Self::fit(Spans::new(x.view(), &lengths)?, &of(&train), c)?;
                let (x, lengths) = select(spans, &held);
                let scores = probe.scores(Spans::new(x.view(), &lengths)?)?;
                sum += auroc_value(&scores, &of(&held))?;
            }
            if sum > best.0 + 1e-12 {
                best = (sum, c);
            }
        }
        Self::fit(spans, labels, best.1)
    }

    /// Logits of items, `[n]`.
    ///
    /// # Errors
    /// Another width.
    pub fn scores(&self, spans: Spans) -> Result<Vec<f64>, ProbeError> {
        same_length("activation width", self.weights.len(), spans.tokens.ncols())?;
        let score = |(from, to): (usize, usize)| {
            let tokens = spans.tokens.slice(s![from..to, ..]);
            let values = tokens.outer_iter().map(|token| dot(token, &self.weights));
            let shares = self.attention(tokens);
            shares.iter().zip(values).map(|(a, v)| a * v).sum::<f64>() + self.bias
        };
        Ok(spans.ranges().into_iter().map(score).collect())
    }

    /// The shares of an item's tokens `[token, d]` in what is read; they sum to 1.
    pub fn attention(&self, tokens: ArrayView2<f32>) -> Vec<f64> {
        let pulls = tokens.outer_iter().map(|token| dot(token, &self.query));
        softmax(pulls.collect()).to_vec()
    }
}

/// Items by number.
fn select(spans: Spans, items: &[usize]) -> (Array2<f32>, Vec<usize>) {
    let ranges = spans.ranges();
    let rows: Vec<usize> = items
        .iter()
        .flat_map(|&i| ranges[i].0..ranges[i].1)
        .collect();
    let lengths = items.iter().map(|&i| spans.lengths[i]).collect();
    (spans.tokens.select(Axis(0), &rows), lengths)
}

fn dot(token: ArrayView1<f32>, weights: &[f64]) -> f64 {
    let products = token.iter().zip(weights);
    products.map(|(&x, w)| f64::from(x) * w).sum()
}

fn softmax(pulls: Array1<f64>) -> Array1<f64> {
    let top = pulls.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let shares = pulls.mapv(|v| (v - top).exp());
    let sum = shares.sum();
    shares / sum
}

struct Loss<'a> {
    /// Standardised tokens, `[token, d]`.
    z: &'a Array2<f64>,
    ranges: &'a [(usize, usize)],
    labels: &'a [bool],
    c: f64,
}

impl Loss<'_> {
    /// Loss and gradient at parameters `[2d + 1]`: query, weights, intercept.
    fn at(&self, params: &Array1<f64>) -> (f64, Array1<f64>) {
        let d = self.z.ncols();
        let (query, weights) = (params.slice(s![..d]), params.slice(s![d..2 * d]));
        let (pulls, values) = (self.z.dot(&query), self.z.dot(&weights));
        let penalised = params.slice(s![..2 * d]);
        let mut loss = 0.5 / self.c * penalised.dot(&penalised);
        // What each token adds to the gradients of query and weights, as a multiple of itself.
        let mut of_query = Array1::<f64>::zeros(self.z.nrows());
        let mut of_weights = Array1::<f64>::zeros(self.z.nrows());
        let mut of_bias = 0.0;
        for (&(from, to), &label) in self.ranges.iter().zip(self.labels) {
            let shares = softmax(pulls.slice(s![from..to]).to_owned());
            let values = values.slice(s![from..to]);
            let read = shares.dot(&values);
            let logit = read + params[2 * d];
            let margin = if label { logit } else { -logit };
            loss += (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
            let pull = 1.0 / (1.0 + (-logit).exp()) - f64::from(u8::from(label));
            of_bias += pull;
            for (t, (share, value)) in shares.iter().zip(values).enumerate() {
                of_weights[from + t] = pull * share;
                // d logit / d (q·z_t) = a_t (v_t − Σ a v)
                of_query[from + t] = pull * share * (value - read);
            }
        }
        let mut gradient = Array1::zeros(2 * d + 1);
        let part = self.z.t().dot(&of_query) + &query / self.c;
        gradient.slice_mut(s![..d]).assign(&part);
        let part = self.z.t().dot(&of_weights) + &weights / self.c;
        gradient.slice_mut(s![d..2 * d]).assign(&part);
        gradient[2 * d] = of_bias;
        (loss, gradient)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::{normal, stream};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let mut rng = stream(3, 0);
        let z = Array2::from_shape_simple_fn((11, 3), || normal(&mut rng));
        let loss = Loss {
            z: &z,
            ranges: &[(0, 1), (1, 5), (5, 7), (7, 11)],
            labels: &[true, false, true, true],
            c: 0.7,
        };
        let at = Array1::from_shape_simple_fn(7, || normal(&mut rng));
        let (_, gradient) = loss.at(&at);
        for i in 0..7 {
            let h = 1e-6;
            let moved = |by: f64| {
                let mut at = at.clone();
                at[i] += by;
                loss.at(&at).0
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            assert!(
                (slope - gradient[i]).abs() < 1e-8,
                "{i}: {slope} {}",
                gradient[i]
            );
        }
    }
}
