//! Supervised fine-tuning: negative log-likelihood of the supervised tokens, and dynamic fine-tuning (arXiv:2508.05629).

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{LossError, Metrics, Scored, error::within, numbers, same_length};

/// Which loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sft {
    /// `-log p`.
    #[default]
    Nll,
    /// `-p · log p` with the factor off the tape: tokens the model finds improbable pull less.
    Dft,
}

/// The loss of supervised tokens with log-probabilities `logps [n]`, divided by `count`: the supervised tokens of the whole
/// accumulation window.
///
/// Metrics: `mean_token_accuracy` from `top1` (whether the token was the likeliest), `entropy` in nats from `entropy [n]`.
///
/// # Errors
/// Nothing supervised, inputs of other lengths, a count below 1.
pub fn sft_loss(
    kind: Sft,
    logps: &Tensor,
    entropy: &Tensor,
    top1: &[bool],
    count: usize,
) -> Result<Scored, LossError> {
    let n = logps.elem_count();
    same_length("supervised tokens", n, top1.len())?;
    same_length("entropies", n, entropy.elem_count())?;
    within(
        count >= n,
        "sft",
        "count",
        "all supervised tokens of the window",
        count,
    )?;
    let weighted = match kind {
        Sft::Nll => logps.clone(),
        Sft::Dft => (logps * logps.detach().exp()?)?,
    };
    let loss = (weighted.sum_all()? * (-1.0 / count as f64))?;
    let mut metrics = Metrics::new();
    metrics.mean("entropy", numbers(entropy)?);
    metrics.mean(
        "mean_token_accuracy",
        top1.iter().map(|&t| f64::from(u8::from(t))),
    );
    Ok(Scored { loss, metrics })
}
