//! What a probe is worth on rows it has not seen.

use candlescope_probes::calibration::{BalancedAccuracy, Platt, balanced_accuracy, calibration};
use candlescope_probes::roc::{RecallAtFpr, at_threshold, recall_at_fpr};
use candlescope_probes::{Auroc, Calibration, ProbeError, Proportion, auroc};
use serde::{Deserialize, Serialize};

/// Bins of the calibration error.
const BINS: usize = 10;

/// A threshold that was set on other rows, and what it does on these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// An item is called positive above it.
    pub threshold: f64,
    /// False-positive rate, with its exact interval.
    pub false_positives: Proportion,
    /// Recall, with its exact interval.
    pub recall: Proportion,
}

/// The metrics of one probe on held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Area under the ROC curve with DeLong's interval.
    pub auroc: Auroc,
    /// Mean of recall and specificity at score 0.
    pub balanced_accuracy: BalancedAccuracy,
    /// Recall at the false-positive rate, the threshold taken on these rows' negatives.
    pub recall_at_fpr: RecallAtFpr,
    /// The same at the threshold that was frozen before.
    pub frozen: Option<Threshold>,
    /// Calibration of the frozen sigmoid.
    pub calibration: Option<Calibration>,
}

/// How far probabilities of scores `[n]` are off.
///
/// # Errors
/// Lengths that differ, no items, a probability that is not finite.
pub fn calibrated(
    scores: &[f64],
    labels: &[bool],
    probability: &dyn Fn(f64) -> f64,
) -> Result<Calibration, ProbeError> {
    let p: Vec<f64> = scores.iter().map(|&s| probability(s)).collect();
    calibration(&p, labels, BINS)
}

/// Measures scores `[n]` against labels `[n]`; `frozen` is a threshold, `platt` a sigmoid, both from other rows.
///
/// # Errors
/// One class only, lengths that differ, a score that is not finite.
pub fn judge(
    scores: &[f64],
    labels: &[bool],
    frozen: Option<f64>,
    platt: Option<&Platt>,
    fpr: f64,
    level: f64,
) -> Result<HeldOut, ProbeError> {
    let frozen = frozen.map(|threshold| {
        at_threshold(scores, labels, threshold, level).map(|(false_positives, recall)| Threshold {
            threshold,
            false_positives,
            recall,
        })
    });
    let calibrated =
        platt.map(|platt| calibrated(scores, labels, &|score| platt.probability(score)));
    Ok(HeldOut {
        auroc: auroc(scores, labels, level)?,
        balanced_accuracy: balanced_accuracy(scores, labels, 0.0, level)?,
        recall_at_fpr: recall_at_fpr(scores, labels, fpr, level)?,
        frozen: frozen.transpose()?,
        calibration: calibrated.transpose()?,
    })
}
