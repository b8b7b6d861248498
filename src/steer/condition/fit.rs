//! Fitting a condition: a direction for each layer, a threshold for each, and the layer where they tell best.
//!
//! Always: threshold and layer are chosen on scores of training prompts that did not make the direction they are scored by
//! (four folds); the direction that is kept is made of all of them. What it is worth is told on other prompts ([`errors`]).

use candlescope_probes::folds::stratified_folds;
use candlescope_probes::roc::auroc_value;
use candlescope_probes::stats::interval::Proportion;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::Serialize;

use super::{Condition, Method, Score, Side};
use crate::steer::SteerError;

/// Parts of the training prompts, each scored by a direction of the others.
const FOLDS: usize = 4;

/// How a condition is fitted.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConditionOptions {
    /// How the direction is made.
    pub method: Method,
    /// How states are scored.
    pub score: Score,
    /// Seed of the folds.
    pub seed: u64,
}

/// A layer's best threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerFit {
    /// The block at whose input states were read.
    pub layer: usize,
    /// The threshold, in the middle of the gap between two scores.
    pub threshold: f64,
    /// Which side fires.
    pub side: Side,
    /// F1 of training prompts out of fold.
    pub f1: f64,
    /// AUROC of the same scores.
    pub auroc: f64,
    /// Width of the gap around the threshold over the standard deviation of all scores: of layers with the same F1 the one with
    /// the widest is taken.
    pub margin: f64,
}

/// A fitted condition with every layer that was tried.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The condition; fingerprint and prompts' hash are the caller's to fill in.
    pub condition: Condition,
    /// Each layer, in the order given.
    pub layers: Vec<LayerFit>,
}

/// Fits on mean states `[prompt, d_model]` of prompts that meet the condition and prompts that do not, one pair of matrices for
/// each of `layers`.
///
/// # Errors
/// Fewer than eight prompts of a class, pairs of unequal number for [`Method::PairwisePca`], equal classes at every layer.
pub fn fit(
    layers: &[usize],
    positive: &[Array2<f32>],
    negative: &[Array2<f32>],
    options: &ConditionOptions,
) -> Result<Fitted, SteerError> {
    let count = |states: &[Array2<f32>]| states.first().map_or(0, Array2::nrows);
    let n = (count(positive), count(negative));
    for (what, found) in [
        ("training prompts that meet the condition", n.0),
        ("training prompts that do not meet the condition", n.1),
    ] {
        if found < 2 * FOLDS {
            return Err(SteerError::TooFew {
                what,
                needed: 2 * FOLDS,
                found,
            });
        }
    }
    if options.method == Method::PairwisePca && n.0 != n.1 {
        return Err(SteerError::Pairs {
            positive: n.0,
            negative: n.1,
        });
    }
    let mut tried: Vec<(LayerFit, usize)> = Vec::new();
    for (i, &layer) in layers.iter().enumerate() {
        let Some(scores) = out_of_fold(positive[i].view(), negative[i].view(), options)? else {
            continue;
        };
        tried.push((best(layer, &scores, n)?, i));
    }
    let better = |a: &LayerFit, b: &LayerFit| (a.f1, a.margin) > (b.f1, b.margin);
    let mut chosen: Option<&(LayerFit, usize)> = None;
    for candidate in &tried {
        if chosen.is_none_or(|other| better(&candidate.0, &other.0)) {
            chosen = Some(candidate);
        }
    }
    let found = chosen.and_then(|(fit, i)| {
        let (positive, negative) = (positive[*i].view(), negative[*i].view());
        Some((
            fit,
            direction(positive, negative, options.method)?,
            positive,
            negative,
        ))
    });
    let Some((fit, direction, positive, negative)) = found else {
        return Err(SteerError::TooFew {
            what: "layers at which the two classes differ",
            needed: 1,
            found: 0,
        });
    };
    let condition = Condition {
        direction,
        centre: centre(positive, negative),
        layer: fit.layer,
        score: options.score,
        method: options.method,
        threshold: fit.threshold,
        side: fit.side,
        f1: fit.f1,
        n_train: n,
        prompts: String::new(),
        fingerprint: None,
    };
    Ok(Fitted {
        condition,
        layers: tried.into_iter().map(|(fit, _)| fit).collect(),
    })
}

/// Scores of the positives and then the negatives; none where a fold has equal classes.
fn out_of_fold<'a>(
    positive: ArrayView2<'a, f32>,
    negative: ArrayView2<'a, f32>,
    options: &ConditionOptions,
) -> Result<Option<Vec<f64>>, SteerError> {
    let n = (positive.nrows(), negative.nrows());
    let folds = match options.method {
        // Pairs stay together.
        Method::PairwisePca => (0..2 * n.0).map(|i| (i % n.0) % FOLDS).collect(),
        Method::Difference => {
            let labels: Vec<bool> = (0..n.0 + n.1).map(|i| i < n.0).collect();
            stratified_folds(&labels, FOLDS, options.seed)?
        }
    };
    let mut scores = vec![0.0; n.0 + n.1];
    for fold in 0..FOLDS {
        let part = |from: usize, count: usize, inside: bool| -> Vec<usize> {
            let rows = 0..count;
            rows.filter(|i| (folds[from + i] == fold) == inside)
                .collect()
        };
        let others = (
            positive.select(Axis(0), &part(0, n.0, false)),
            negative.select(Axis(0), &part(n.0, n.1, false)),
        );
        let Some(direction) = direction(others.0.view(), others.1.view(), options.method) else {
            return Ok(None);
        };
        let centre = centre(others.0.view(), others.1.view());
        for (from, states) in [(0, positive), (n.0, negative)] {
            for i in part(from, states.nrows(), true) {
                let state = states.row(i).to_vec();
                scores[from + i] = options.score.of(&state, &direction, &centre);
            }
        }
    }
    Ok(Some(scores))
}

fn mean(states: ArrayView2<f32>) -> Array1<f64> {
    let mut sum = Array1::<f64>::zeros(states.ncols());
    for row in states.rows() {
        sum.zip_mut_with(&row, |sum, &x| *sum += f64::from(x));
    }
    sum / states.nrows().max(1) as f64
}

fn centre(positive: ArrayView2<f32>, negative: ArrayView2<f32>) -> Vec<f32> {
    let middle = (mean(positive) + mean(negative)) / 2.0;
    middle.iter().map(|&x| x as f32).collect()
}

/// The direction at length 1, towards the positives; none where the classes are equal.
fn direction(
    positive: ArrayView2<f32>,
    negative: ArrayView2<f32>,
    method: Method,
) -> Option<Vec<f32>> {
    let difference = mean(positive) - mean(negative);
    let found = match method {
        Method::Difference => difference,
        Method::PairwisePca => {
            let first = first_component(positive, negative);
            let towards = first.dot(&difference);
            if towards < 0.0 { -first } else { first }
        }
    };
    let length = found.dot(&found).sqrt();
    let unit: Vec<f32> = found.iter().map(|x| (x / length) as f32).collect();
    (length > 0.0 && unit.iter().all(|x| x.is_finite())).then_some(unit)
}

/// The first right singular vector of the differences of pairs, `[d_model]`: of ±δ/2 without centring, which leaves the
/// mean difference in. By power iteration on the pairs' Gram matrix.
fn first_component(positive: ArrayView2<f32>, negative: ArrayView2<f32>) -> Array1<f64> {
    let delta = positive.mapv(f64::from) - negative.mapv(f64::from);
    let gram = delta.dot(&delta.t());
    let mut weights = Array1::from_shape_fn(gram.nrows(), |i| 1.0 + 1e-3 * i as f64);
    for _ in 0..1000 {
        let next = gram.dot(&weights);
        let length = next.dot(&next).sqrt();
        if length == 0.0 {
            break;
        }
        let next = next / length;
        let moved = (&next - &weights).mapv(f64::abs).sum();
        weights = next;
        if moved < 1e-12 {
            break;
        }
    }
    delta.t().dot(&weights)
}

/// The threshold and side of the highest F1; of equals the widest gap.
fn best(layer: usize, scores: &[f64], n: (usize, usize)) -> Result<LayerFit, SteerError> {
    let mut sorted: Vec<(f64, bool)> = scores
        .iter()
        .enumerate()
        .map(|(i, &s)| (s, i < n.0))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let spread = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / scores.len() as f64;
    let spread = spread.sqrt().max(f64::MIN_POSITIVE);
    let labels: Vec<bool> = (0..scores.len()).map(|i| i < n.0).collect();
    let auroc = auroc_value(scores, &labels)?;
    let mut found: Option<LayerFit> = None;
    let mut positives_below = 0;
    for (i, pair) in sorted.windows(2).enumerate() {
        positives_below += usize::from(pair[0].1);
        let gap = pair[1].0 - pair[0].0;
        if gap <= 0.0 {
            continue;
        }
        let below = i + 1;
        for side in [Side::Above, Side::Below] {
            let (hits, fired) = match side {
                Side::Above => (n.0 - positives_below, scores.len() - below),
                Side::Below => (positives_below, below),
            };
            let fit = LayerFit {
                layer,
                threshold: 0.5 * (pair[0].0 + pair[1].0),
                side,
                f1: 2.0 * hits as f64 / (fired + n.0) as f64,
                auroc,
                margin: gap / spread,
            };
            let better = |other: &LayerFit| (fit.f1, fit.margin) > (other.f1, other.margin);
            if found.as_ref().is_none_or(better) {
                found = Some(fit);
            }
        }
    }
    found.ok_or(SteerError::TooFew {
        what: "different scores of training prompts",
        needed: 2,
        found: 1,
    })
}

/// How often a condition errs on prompts it was not made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Errors {
    /// Prompts that meet it and did not fire it.
    pub missed: Proportion,
    /// Prompts that do not meet it and fired it.
    pub false_fires: Proportion,
    /// F1 of both together.
    pub f1: f64,
    /// AUROC of the scores, in the direction of the firing side.
    pub auroc: f64,
}

/// The errors on scores of held-out prompts, with 95 % Wilson intervals.
///
/// # Errors
/// An empty class, a score that is not finite.
pub fn errors(
    condition: &Condition,
    positive: &[f64],
    negative: &[f64],
) -> Result<Errors, SteerError> {
    let fires = |scores: &[f64]| scores.iter().filter(|&&s| condition.fires(s)).count() as u64;
    let (hits, wrong) = (fires(positive), fires(negative));
    let n = (positive.len() as u64, negative.len() as u64);
    let mut labels = vec![true; positive.len()];
    labels.resize(positive.len() + negative.len(), false);
    let sign = match condition.side {
        Side::Above => 1.0,
        Side::Below => -1.0,
    };
    let scores: Vec<f64> = positive.iter().chain(negative).map(|s| sign * s).collect();
    Ok(Errors {
        missed: Proportion::wilson(n.0 - hits, n.0, 0.95)?,
        false_fires: Proportion::wilson(wrong, n.1, 0.95)?,
        f1: 2.0 * hits as f64 / (hits + wrong + n.0).max(1) as f64,
        auroc: auroc_value(&scores, &labels)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    #[test]
    fn a_threshold_by_hand() {
        // Positives 3 4 9, negatives 1 2 3.5: above 2.5 fires 3 hits and 1 miss, F1 = 6/7.
        let fit = best(5, &[3.0, 4.0, 9.0, 1.0, 2.0, 3.5], (3, 3)).unwrap();
        assert_eq!((fit.layer, fit.side), (5, Side::Above));
        assert!((fit.threshold - 2.5).abs() < 1e-12 && (fit.f1 - 6.0 / 7.0).abs() < 1e-12);
        assert!((fit.auroc - 8.0 / 9.0).abs() < 1e-12);
        let fit = best(5, &[-3.0, -4.0, 1.0, 2.0], (2, 2)).unwrap();
        assert_eq!(fit.side, Side::Below);
        assert!((fit.f1 - 1.0).abs() < 1e-12 && (fit.threshold + 1.0).abs() < 1e-12);
    }

    #[test]
    fn uncentred_pairs_keep_the_mean_difference() {
        // δ = (2, 0.1), (2, -0.1), (2, 0): all along the first axis, where a centred PCA would see the second only.
        let positive = array![[2f32, 0.1], [3.0, -0.1], [2.5, 0.0]];
        let negative = array![[0f32, 0.0], [1.0, 0.0], [0.5, 0.0]];
        let unit = direction(positive.view(), negative.view(), Method::PairwisePca).unwrap();
        assert!(
            (unit[0] - 1.0).abs() < 1e-6 && unit[1].abs() < 1e-3,
            "{unit:?}"
        );
        let unit = direction(negative.view(), positive.view(), Method::PairwisePca).unwrap();
        assert!((unit[0] + 1.0).abs() < 1e-6, "{unit:?}");
        assert!(direction(positive.view(), positive.view(), Method::Difference).is_none());
    }
}
