//! From scores to probabilities on held-out items, and how far a probability is off.
//! Platt's sigmoid is for few items, the isotonic step function for many; both are monotone, so no AUROC changes.

use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, at_least, both_classes, finite, same_length};
use crate::stats::interval::{Interval, wilson};

/// P(positive | s) = 1/(1 + exp(−(a·s + b))).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// Held-out items behind it.
    pub n: usize,
    /// Slope, never negative: a score that ranks the wrong way is given the same probability everywhere.
    pub a: f64,
    /// Intercept.
    pub b: f64,
}

impl Platt {
    /// Maximum likelihood on Platt's smoothed targets, (n⁺ + 1)/(n⁺ + 2) and 1/(n⁻ + 2), which keep separable scores finite
    /// (Platt 1999; Newton with halved steps as in Lin, Lin and Weng 2007).
    ///
    /// # Errors
    /// Lengths that differ, one class, a score that is not finite.
    pub fn fit(scores: &[f64], labels: &[bool]) -> Result<Self, ProbeError> {
        same_length("labels", scores.len(), labels.len())?;
        finite("scores", scores)?;
        let (n_pos, n_neg) = both_classes(labels, 1)?;
        let (high, low) = (
            (n_pos as f64 + 1.0) / (n_pos as f64 + 2.0),
            1.0 / (n_neg as f64 + 2.0),
        );
        let target = |label: bool| if label { high } else { low };
        // Scores in units of their spread, so that the steps are of one size whatever the probe's scale.
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let var = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / scores.len() as f64;
        let unit = if var > 0.0 { var.sqrt() } else { 1.0 };
        let z: Vec<f64> = scores.iter().map(|s| (s - mean) / unit).collect();
        let loss = |a: f64, b: f64| -> f64 {
            z.iter()
                .zip(labels)
                .map(|(z, &l)| {
                    let f = a * z + b;
                    f.max(0.0) - target(l) * f + (-f.abs()).exp().ln_1p()
                })
                .sum()
        };
        let (mut a, mut b) = (0.0, ((n_pos as f64 + 1.0) / (n_neg as f64 + 1.0)).ln());
        for _ in 0..100 {
            let mut g = [0.0; 2];
            let mut h = [1e-12, 0.0, 1e-12];
            for (z, &l) in z.iter().zip(labels) {
                let p = 1.0 / (1.0 + (-(a * z + b)).exp());
                let (d1, d2) = (p - target(l), p * (1.0 - p));
                g[0] += z * d1;
                g[1] += d1;
                h[0] += z * z * d2;
                h[1] += z * d2;
                h[2] += d2;
            }
            if g[0].abs().max(g[1].abs()) < 1e-10 {
                break;
            }
            let det = h[0] * h[2] - h[1] * h[1];
            let (da, db) = (
                (h[2] * g[0] - h[1] * g[1]) / det,
                (h[0] * g[1] - h[1] * g[0]) / det,
            );
            let here = loss(a, b);
            let mut t = 1.0;
            while loss(a - t * da, b - t * db) > here && t > 1e-10 {
                t *= 0.5;
            }
            if t <= 1e-10 {
                break;
            }
            a -= t * da;
            b -= t * db;
        }
        if a < 0.0 {
            let share = labels.iter().map(|&l| target(l)).sum::<f64>() / labels.len() as f64;
            (a, b) = (0.0, (share / (1.0 - share)).ln());
        }
        Ok(Self {
            n: scores.len(),
            a: a / unit,
            b: b - a * mean / unit,
        })
    }

    /// The probability of the positive class.
    pub fn probability(&self, score: f64) -> f64 {
        1.0 / (1.0 + (-(self.a * score + self.b)).exp())
    }
}

/// A non-decreasing step function with straight lines between, from pooling adjacent violators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Held-out items behind it.
    pub n: usize,
    /// Scores at which it is known, ascending.
    pub scores: Vec<f64>,
    /// Probabilities there, non-decreasing.
    pub probabilities: Vec<f64>,
}

impl Isotonic {
    /// The non-decreasing function of least squared error (pool adjacent violators; equal scores are pooled first).
    ///
    /// # Errors
    /// Lengths that differ, no items, a score that is not finite.
    pub fn fit(scores: &[f64], labels: &[bool]) -> Result<Self, ProbeError> {
        same_length("labels", scores.len(), labels.len())?;
        at_least("items to calibrate on", 1, scores.len())?;
        finite("scores", scores)?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&i, &j| scores[i].total_cmp(&scores[j]));
        // (lowest score, highest score, sum, count) of each block.
        let mut blocks: Vec<(f64, f64, f64, f64)> = Vec::new();
        for i in order {
            let (s, y) = (scores[i], f64::from(u8::from(labels[i])));
            match blocks.last_mut() {
                Some(last) if last.0 == s && last.1 == s => {
                    last.2 += y;
                    last.3 += 1.0;
                }
                _ => blocks.push((s, s, y, 1.0)),
            }
        }
        let mut pooled: Vec<(f64, f64, f64, f64)> = Vec::new();
        for block in blocks {
            pooled.push(block);
            while let [.., one, two] = pooled.as_slice()
                && one.2 / one.3 >= two.2 / two.3
            {
                let joined = (one.0, two.1, one.2 + two.2, one.3 + two.3);
                pooled.truncate(pooled.len() - 2);
                pooled.push(joined);
            }
        }
        let (mut at, mut probabilities) = (Vec::new(), Vec::new());
        for (low, high, sum, count) in pooled {
            for score in [low, high] {
                if at.last() != Some(&score) {
                    at.push(score);
                    probabilities.push(sum / count);
                }
            }
        }
        Ok(Self {
            n: scores.len(),
            scores: at,
            probabilities,
        })
    }

    /// The probability of the positive class; that of the nearest known score outside the range.
    pub fn probability(&self, score: f64) -> f64 {
        let next = self.scores.partition_point(|&s| s < score);
        let (Some(&last), Some(&first)) = (self.probabilities.last(), self.probabilities.first())
        else {
            return 0.5;
        };
        match (next.checked_sub(1), self.scores.get(next)) {
            (None, _) => first,
            (_, None) => last,
            (Some(before), Some(&s1)) => {
                let (s0, p0) = (self.scores[before], self.probabilities[before]);
                p0 + (self.probabilities[next] - p0) * (score - s0) / (s1 - s0)
            }
        }
    }
}

/// How far probabilities are from frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Number of items.
    pub n: usize,
    /// Bins of equal numbers of items.
    pub bins: usize,
    /// Expected calibration error: the mean over bins, weighted by items, of |mean probability − share of positives|.
    pub ece: f64,
    /// Mean squared error of the probabilities.
    pub brier: f64,
}

/// ECE with bins of equal numbers of items (at most `bins`), and the Brier score.
///
/// # Errors
/// Lengths that differ, no items or bins, a value that is not finite.
pub fn calibration(
    probabilities: &[f64],
    labels: &[bool],
    bins: usize,
) -> Result<Calibration, ProbeError> {
    same_length("labels", probabilities.len(), labels.len())?;
    at_least("items", 1, labels.len())?;
    at_least("bins", 1, bins)?;
    finite("probabilities", probabilities)?;
    let n = labels.len();
    let bins = bins.min(n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| probabilities[i].total_cmp(&probabilities[j]));
    let truth = |i: usize| f64::from(u8::from(labels[i]));
    let gap = |bin: usize| -> f64 {
        let items = &order[bin * n / bins..(bin + 1) * n / bins];
        let gaps = items.iter().map(|&i| probabilities[i] - truth(i));
        gaps.sum::<f64>().abs()
    };
    let squares = (0..n).map(|i| (probabilities[i] - truth(i)).powi(2));
    Ok(Calibration {
        n,
        bins,
        ece: (0..bins).map(gap).sum::<f64>() / n as f64,
        brier: squares.sum::<f64>() / n as f64,
    })
}

/// Balanced accuracy of "score > threshold".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BalancedAccuracy {
    /// Number of items.
    pub n: usize,
    /// Mean of the two classes' accuracies.
    pub value: f64,
    /// From the two Wilson intervals by squares and sums (MOVER; Newcombe 1998, method 10, halved).
    pub interval: Interval,
}

/// Mean of recall and specificity at a threshold, with its interval.
///
/// # Errors
/// Lengths that differ, one class, a score that is not finite.
pub fn balanced_accuracy(
    scores: &[f64],
    labels: &[bool],
    threshold: f64,
    level: f64,
) -> Result<BalancedAccuracy, ProbeError> {
    same_length("labels", scores.len(), labels.len())?;
    finite("scores", scores)?;
    let (n_pos, n_neg) = both_classes(labels, 1)?;
    let right = |class: bool| {
        let items = scores.iter().zip(labels);
        items
            .filter(|&(&s, &l)| l == class && (s > threshold) == class)
            .count() as u64
    };
    let side = |right: u64, n: usize| -> Result<(f64, Interval), ProbeError> {
        Ok((right as f64 / n as f64, wilson(right, n as u64, level)?))
    };
    let (sensitivity, a) = side(right(true), n_pos)?;
    let (specificity, b) = side(right(false), n_neg)?;
    let value = 0.5 * (sensitivity + specificity);
    let below = (sensitivity - a.low).hypot(specificity - b.low);
    let above = (a.high - sensitivity).hypot(b.high - specificity);
    Ok(BalancedAccuracy {
        n: labels.len(),
        value,
        interval: Interval {
            low: value - 0.5 * below,
            high: value + 0.5 * above,
            level,
        },
    })
}
