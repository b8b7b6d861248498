//! How well a score separates two classes: AUROC with DeLong's variance and an interval that survives AUROC 1,
//! DeLong's test for two scores, and recall at a false-positive rate that must hold.

use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, both_classes, finite, open_unit, same_length};
use crate::stats::interval::{Interval, Proportion, two_sided_z};
use crate::stats::ranks::midranks;
use crate::stats::special::{bisect, normal_cdf};

/// How the interval of an AUROC was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AurocInterval {
    /// logit(A) ± z·SE/(A(1−A)) with DeLong's SE, taken back to (0, 1).
    DelongLogit,
    /// DeLong's variance is 0 or a class has one item: a score interval on Hanley and McNeil's variance (Newcombe 2006, method 5).
    NewcombeScore,
}

/// An area under the ROC curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Auroc {
    /// Number of items.
    pub n: usize,
    /// Items labelled true.
    pub n_pos: usize,
    /// Items labelled false.
    pub n_neg: usize,
    /// P(score of a positive > score of a negative), ties counting half.
    pub value: f64,
    /// DeLong's variance of `value`; 0 for perfect separation, which is why `interval` does not rest on it there.
    pub variance: f64,
    /// Interval of `value`.
    pub interval: Interval,
    /// How the interval was made.
    pub interval_method: AurocInterval,
}

/// The bare area, P(s⁺ > s⁻) + ½P(s⁺ = s⁻), from midranks. `scores` and `labels` have shape `[n]`.
pub fn auroc_value(scores: &[f64], labels: &[bool]) -> Result<f64, ProbeError> {
    same_length("labels", scores.len(), labels.len())?;
    finite("scores", scores)?;
    let (n_pos, n_neg) = both_classes(labels, 1)?;
    let ranks = midranks(scores);
    let sum: f64 = ranks
        .iter()
        .zip(labels)
        .filter(|&(_, &l)| l)
        .map(|(r, _)| r)
        .sum();
    let (m, n) = (n_pos as f64, n_neg as f64);
    Ok((sum - 0.5 * m * (m + 1.0)) / (m * n))
}

/// AUROC with its uncertainty (DeLong, DeLong and Clarke-Pearson 1988, by the rank form of Sun and Xu 2014).
pub fn auroc(scores: &[f64], labels: &[bool], level: f64) -> Result<Auroc, ProbeError> {
    open_unit("confidence level", level)?;
    let parts = Placements::of(scores, labels)?;
    let (m, n) = (parts.positive.len(), parts.negative.len());
    let value = parts.area();
    let variance = parts.covariance(&parts);
    let usable = m > 1 && n > 1 && variance > 1e-14;
    let interval = if usable {
        logit_interval(value, variance, level)
    } else {
        score_interval(value, m as f64, n as f64, level)
    };
    Ok(Auroc {
        n: m + n,
        n_pos: m,
        n_neg: n,
        value,
        variance,
        interval,
        interval_method: if usable {
            AurocInterval::DelongLogit
        } else {
            AurocInterval::NewcombeScore
        },
    })
}

/// The share of the other class that each item beats (DeLong's structural components).
struct Placements {
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Placements {
    fn of(scores: &[f64], labels: &[bool]) -> Result<Self, ProbeError> {
        same_length("labels", scores.len(), labels.len())?;
        finite("scores", scores)?;
        let (n_pos, n_neg) = both_classes(labels, 1)?;
        let all = midranks(scores);
        let side = |wanted: bool, others: usize| -> Vec<f64> {
            let own: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == wanted).collect();
            let among: Vec<f64> = own.iter().map(|&i| scores[i]).collect();
            let ranks = midranks(&among);
            own.iter()
                .zip(ranks)
                .map(|(&i, rank)| (all[i] - rank) / others as f64)
                .collect()
        };
        let positive = side(true, n_neg);
        let negative = side(false, n_pos).into_iter().map(|v| 1.0 - v).collect();
        Ok(Self { positive, negative })
    }

    fn area(&self) -> f64 {
        self.positive.iter().sum::<f64>() / self.positive.len() as f64
    }

    /// Covariance of two areas over the same items; the variance if both are the same. 0 for the part of a class with one item.
    fn covariance(&self, other: &Self) -> f64 {
        let part = |a: &[f64], b: &[f64]| {
            let n = a.len() as f64;
            if a.len() < 2 {
                return 0.0;
            }
            let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
            a.iter()
                .zip(b)
                .map(|(x, y)| (x - mean_a) * (y - mean_b))
                .sum::<f64>()
                / (n - 1.0)
                / n
        };
        part(&self.positive, &other.positive) + part(&self.negative, &other.negative)
    }
}

fn logit_interval(value: f64, variance: f64, level: f64) -> Interval {
    let reach = two_sided_z(level) * variance.sqrt() / (value * (1.0 - value));
    let logit = (value / (1.0 - value)).ln();
    let back = |x: f64| 1.0 / (1.0 + (-x).exp());
    Interval {
        low: back(logit - reach),
        high: back(logit + reach),
        level,
    }
}

/// All θ with |A − θ| ≤ z·√V(θ), V(θ) = θ(1−θ)(2N − 1 − (3N−3)/((2−θ)(1+θ)))/(mn), N = (m+n)/2.
fn score_interval(value: f64, m: f64, n: f64, level: f64) -> Interval {
    let z = two_sided_z(level);
    let half = 0.5 * (m + n);
    let reach = |theta: f64| {
        let shape = 2.0 * half - 1.0 - (3.0 * half - 3.0) / ((2.0 - theta) * (1.0 + theta));
        z * (theta * (1.0 - theta) * shape / (m * n)).max(0.0).sqrt()
    };
    Interval {
        low: if value <= 0.0 {
            0.0
        } else {
            bisect(0.0, value, |t| t + reach(t) - value)
        },
        high: if value >= 1.0 {
            1.0
        } else {
            bisect(value, 1.0, |t| t - reach(t) - value)
        },
        level,
    }
}

/// Difference of two AUROCs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AurocDifference {
    /// Number of items (both sets together if unpaired).
    pub n: usize,
    /// The area compared with.
    pub first: f64,
    /// The area compared.
    pub second: f64,
    /// second − first.
    pub difference: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
    /// Normal interval of the difference, cut to [−1, 1]. Of width 0 if the standard error is 0: see `determined`.
    pub interval: Interval,
    /// Two-sided p-value; 1 if the areas are equal.
    pub p_value: f64,
    /// False if the standard error is 0 (both separate perfectly, or both rank alike), where the interval says nothing.
    pub determined: bool,
}

/// DeLong's test of two scores on the same items: does `second` rank better than `first`?
pub fn delong_paired(
    first: &[f64],
    second: &[f64],
    labels: &[bool],
    level: f64,
) -> Result<AurocDifference, ProbeError> {
    open_unit("confidence level", level)?;
    let one = Placements::of(first, labels)?;
    let two = Placements::of(second, labels)?;
    both_classes(labels, 2)?;
    let variance = one.covariance(&one) + two.covariance(&two) - 2.0 * one.covariance(&two);
    Ok(difference(
        labels.len(),
        one.area(),
        two.area(),
        variance,
        level,
    ))
}

/// DeLong's test of two AUROCs on different items.
pub fn delong_unpaired(
    first: &Auroc,
    second: &Auroc,
    level: f64,
) -> Result<AurocDifference, ProbeError> {
    open_unit("confidence level", level)?;
    let variance = first.variance + second.variance;
    Ok(difference(
        first.n + second.n,
        first.value,
        second.value,
        variance,
        level,
    ))
}

fn difference(n: usize, first: f64, second: f64, variance: f64, level: f64) -> AurocDifference {
    let determined = variance > 1e-14;
    let standard_error = if determined { variance.sqrt() } else { 0.0 };
    let difference = second - first;
    let reach = two_sided_z(level) * standard_error;
    let p_value = match (determined, difference == 0.0) {
        (true, _) => 2.0 * normal_cdf(-difference.abs() / standard_error),
        (false, true) => 1.0,
        (false, false) => 0.0,
    };
    AurocDifference {
        n,
        first,
        second,
        difference,
        standard_error,
        interval: Interval {
            low: (difference - reach).max(-1.0),
            high: (difference + reach).min(1.0),
            level,
        },
        p_value,
        determined,
    }
}

/// Recall at a bounded false-positive rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RecallAtFpr {
    /// Number of items.
    pub n: usize,
    /// The false-positive rate asked for.
    pub target: f64,
    /// An item is called positive if its score is above this.
    pub threshold: f64,
    /// False-positive rate at the threshold, with its exact interval.
    pub false_positives: Proportion,
    /// Recall at the threshold, with its exact interval. The threshold is taken as given.
    pub recall: Proportion,
    /// Whether the negatives are enough to tell the target from 0 (n⁻ ≥ 1/target).
    pub resolved: bool,
}

/// Recall at the lowest threshold whose false-positive rate on these negatives is at most `target` (ties on the threshold are not called).
pub fn recall_at_fpr(
    scores: &[f64],
    labels: &[bool],
    target: f64,
    level: f64,
) -> Result<RecallAtFpr, ProbeError> {
    same_length("labels", scores.len(), labels.len())?;
    finite("scores", scores)?;
    open_unit("target false-positive rate", target)?;
    let (_, n_neg) = both_classes(labels, 1)?;
    let mut negatives: Vec<f64> = (0..labels.len())
        .filter(|&i| !labels[i])
        .map(|i| scores[i])
        .collect();
    negatives.sort_by(|a, b| b.total_cmp(a));
    // The slack keeps 0.01 · 100 from being rounded down to 0.
    let allowed = ((target * n_neg as f64 + 1e-9).floor() as usize).min(n_neg - 1);
    let threshold = negatives[allowed];
    at_threshold(scores, labels, threshold, level).map(|(false_positives, recall)| RecallAtFpr {
        n: labels.len(),
        target,
        threshold,
        false_positives,
        recall,
        resolved: n_neg as f64 * target >= 1.0 - 1e-9,
    })
}

/// False-positive rate and recall of "score > threshold", with exact intervals: what a frozen threshold does on new items.
pub fn at_threshold(
    scores: &[f64],
    labels: &[bool],
    threshold: f64,
    level: f64,
) -> Result<(Proportion, Proportion), ProbeError> {
    same_length("labels", scores.len(), labels.len())?;
    finite("scores", scores)?;
    let (n_pos, n_neg) = both_classes(labels, 1)?;
    let called = |side: bool| {
        let items = scores.iter().zip(labels);
        items.filter(|&(&s, &l)| l == side && s > threshold).count() as u64
    };
    Ok((
        Proportion::exact(called(false), n_neg as u64, level)?,
        Proportion::exact(called(true), n_pos as u64, level)?,
    ))
}
