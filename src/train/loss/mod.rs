//! Losses as pure functions: log-probabilities, scores and advantages in; a loss tensor and named metrics out. No model, no I/O.
//!
//! Always: inputs hold real tokens only (padding never gets here), so every mean is masked by construction; a loss is divided
//! by a count that the caller gives, that of the whole accumulation window, so that micro-batches add up to the batch; an
//! option that a loss would ignore is refused. Metrics carry TRL's names.
//!
//! `sft.rs`, `reward.rs`, `preference.rs` with `kinds.rs`, `kto.rs`, `ppo.rs` with `advantage.rs` and `controller.rs`, `rloo.rs`;
//! `calibration.rs` and `agreement.rs` report on reward models, `interval.rs` says how sure they are, `stable.rs` has the functions that must not overflow.

pub mod advantage;
pub mod agreement;
pub mod calibration;
pub mod controller;
mod error;
pub mod interval;
mod kinds;
mod kto;
mod metrics;
mod ppo;
mod preference;
mod reward;
mod rloo;
mod sft;
pub mod stable;

pub use error::LossError;
pub use kinds::{Kind, Options};
pub use kto::{Kto, KtoBatch, rotated};
pub use metrics::{Metric, Metrics};
pub use ppo::{
    Clip, PolicyBatch, RolloutRow, ValueBatch, policy_loss, rollout_metrics, value_loss,
};
pub use preference::{Pairs, Preference};
pub use reward::{Ensemble, LengthRule, RewardLoss};
pub use rloo::{leave_one_out, rloo_loss};
pub use sft::{Sft, sft_loss};

use candle_core::{DType, Tensor};

/// A loss with what is logged beside it.
#[derive(Debug)]
pub struct Scored {
    /// A scalar, on the tape.
    pub loss: Tensor,
    /// By TRL's names.
    pub metrics: Metrics,
}

/// Numbers of a tensor `[n]` in f64, off the tape.
fn numbers(x: &Tensor) -> Result<Vec<f64>, LossError> {
    Ok(x.detach()
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?)
}

/// A tensor `[n]` beside `like`, in its type.
fn beside(values: &[f64], like: &Tensor) -> Result<Tensor, LossError> {
    Ok(Tensor::from_slice(values, values.len(), like.device())?.to_dtype(like.dtype())?)
}

/// Refuses inputs that do not pair up.
fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), LossError> {
    if expected == found && expected > 0 {
        return Ok(());
    }
    Err(LossError::Count {
        what,
        expected,
        found,
    })
}

/// Sums of consecutive runs of `values [n]`: run `i` has `lengths[i]` entries and may be empty. `[lengths.len()]`,
/// differentiable: per-token log-probabilities to log-probabilities of completions.
///
/// # Errors
/// Lengths that do not add up to `n`.
pub fn sum_runs(values: &Tensor, lengths: &[usize]) -> Result<Tensor, LossError> {
    same_length(
        "tokens of the runs",
        values.elem_count(),
        lengths.iter().sum(),
    )?;
    let mut parts = Vec::with_capacity(lengths.len());
    let mut start = 0;
    for &len in lengths {
        parts.push(if len == 0 {
            Tensor::zeros((), values.dtype(), values.device())?
        } else {
            values.narrow(0, start, len)?.sum_all()?
        });
        start += len;
    }
    Ok(Tensor::stack(&parts, 0)?)
}
