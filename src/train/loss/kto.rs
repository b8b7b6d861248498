//! KTO (Ethayarajh et al. 2024): single completions labelled good or bad, weighed against the divergence from the reference.
//!
//! The divergence `z` is estimated from mismatched pairs of the same micro-batch: each prompt with the completion of the row
//! before it ([`rotated`]). So a micro-batch has at least 2 rows, and its size is part of the loss, as in TRL.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    LossError, Metrics, Scored, beside, error::within, numbers, same_length, stable::sigmoid,
};

const NAME: &str = "kto";

/// Options of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kto {
    /// `β`.
    pub beta: f64,
    /// Weight of good completions. Choose the weights so that `good·n_good / (bad·n_bad)` lies in 1 to 4/3.
    pub desirable_weight: f64,
    /// Weight of bad completions.
    pub undesirable_weight: f64,
}

impl Default for Kto {
    /// `β` 0.1, weights 1.
    fn default() -> Self {
        Self {
            beta: 0.1,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
        }
    }
}

/// A micro-batch: log-probabilities summed over the tokens of each completion.
#[derive(Debug, Clone, Copy)]
pub struct KtoBatch<'a> {
    /// The policy's: `[rows]`, on the tape.
    pub policy: &'a Tensor,
    /// The reference's: `[rows]`.
    pub reference: &'a Tensor,
    /// Whether a completion is good.
    pub labels: &'a [bool],
    /// The policy's, of each prompt with the completion of another row: `[rows]`.
    pub mismatched: &'a Tensor,
    /// The reference's of the same: `[rows]`.
    pub mismatched_reference: &'a Tensor,
}

/// Completions moved one row on, the last one to the first: what each prompt is mismatched with.
///
/// # Errors
/// Fewer than 2: a completion would meet its own prompt.
pub fn rotated<T: Clone>(completions: &[T]) -> Result<Vec<T>, LossError> {
    let n = completions.len();
    within(n >= 2, NAME, "rows of a micro-batch", "2 or more", n)?;
    let mut rotated = completions.to_vec();
    rotated.rotate_right(1);
    Ok(rotated)
}

impl Kto {
    /// `w_good (1 - σ(β(ρ - z)))` of good and `w_bad (1 - σ(β(z - ρ)))` of bad completions with `ρ` the log-ratio to the
    /// reference and `z` the mean of the mismatched log-ratios, at least 0 and off the tape; divided by `count`, the rows of
    /// the whole accumulation window.
    ///
    /// Metrics: `kl` (that is `z`), `rewards/{chosen,rejected}` and `logps/{chosen,rejected}` (means over good and over bad
    /// completions).
    ///
    /// # Errors
    /// Inputs of other lengths, fewer than 2 rows, options outside their range.
    pub fn of(&self, batch: &KtoBatch, count: usize) -> Result<Scored, LossError> {
        let n = batch.labels.len();
        self.check(batch, count)?;
        let log_ratio = (batch.policy - batch.reference.detach())?;
        let z = divergence(batch)?;
        let sign: Vec<f64> = batch
            .labels
            .iter()
            .map(|&good| if good { 1.0 } else { -1.0 })
            .collect();
        let weight: Vec<f64> = (batch.labels.iter())
            .map(|&good| {
                if good {
                    self.desirable_weight
                } else {
                    self.undesirable_weight
                }
            })
            .collect();
        let x = ((&log_ratio - z)? * beside(&sign, &log_ratio)?)?;
        let each = ((1.0 - sigmoid(&(x * self.beta)?)?)? * beside(&weight, &log_ratio)?)?;
        let loss = (each.sum_all()? / count as f64)?;
        let (ratios, logps) = (numbers(&log_ratio)?, numbers(batch.policy)?);
        let of = |values: &[f64], good: bool, factor: f64| -> Vec<f64> {
            let rows = (0..n).filter(|&i| batch.labels[i] == good);
            rows.map(|i| factor * values[i]).collect()
        };
        let mut metrics = Metrics::new();
        metrics.mean("kl", [z]);
        metrics.mean("rewards/chosen", of(&ratios, true, self.beta));
        metrics.mean("rewards/rejected", of(&ratios, false, self.beta));
        metrics.mean("logps/chosen", of(&logps, true, 1.0));
        metrics.mean("logps/rejected", of(&logps, false, 1.0));
        Ok(Scored { loss, metrics })
    }

    fn check(&self, batch: &KtoBatch, count: usize) -> Result<(), LossError> {
        let n = batch.labels.len();
        within(n >= 2, NAME, "rows of a micro-batch", "2 or more", n)?;
        for (what, x) in [
            ("the policy's log-probabilities", batch.policy),
            ("the reference's log-probabilities", batch.reference),
            (
                "the policy's mismatched log-probabilities",
                batch.mismatched,
            ),
            (
                "the reference's mismatched log-probabilities",
                batch.mismatched_reference,
            ),
        ] {
            same_length(what, n, x.elem_count())?;
        }
        within(count >= n, NAME, "count", "all rows of the window", count)?;
        within(self.beta > 0.0, NAME, "beta", "above 0", self.beta)?;
        let weights = [
            ("desirable_weight", self.desirable_weight),
            ("undesirable_weight", self.undesirable_weight),
        ];
        for (option, weight) in weights {
            within(weight > 0.0, NAME, option, "above 0", weight)?;
        }
        Ok(())
    }
}

/// `z`, a plain number: no gradient goes through it.
fn divergence(batch: &KtoBatch) -> Result<f64, LossError> {
    let (policy, reference) = (
        numbers(batch.mismatched)?,
        numbers(batch.mismatched_reference)?,
    );
    let sum: f64 = policy.iter().zip(&reference).map(|(p, r)| p - r).sum();
    Ok((sum / policy.len() as f64).max(0.0))
}
