//! The head in candle expressions: differentiable, any float type. The oracle of the tiled way; holds all logits.

use candle_core::{D, DType, Result, Tensor};

use super::{HeadOptions, TokenLogprobs};
use crate::{linear, log_softmax_last_dim};

/// Soft-capped logits `[n, vocab]`.
fn capped(hidden: &Tensor, head: &Tensor, options: HeadOptions) -> Result<Tensor> {
    let logits = linear(hidden, head, None)?;
    match options.softcap {
        Some(cap) => (logits / cap)?.tanh()? * cap,
        None => Ok(logits),
    }
}

/// See [`super::token_logprobs`].
pub(super) fn token_logprobs(
    hidden: &Tensor,
    head: &Tensor,
    targets: &[u32],
    options: HeadOptions,
) -> Result<TokenLogprobs> {
    let capped = capped(hidden, head, options)?;
    let logps = log_softmax_last_dim(&(&capped / options.temperature)?)?;
    let at = Tensor::from_slice(targets, (targets.len(), 1), hidden.device())?;
    let fixed = logps.detach();
    let best: Vec<f64> = fixed.max(D::Minus1)?.to_dtype(DType::F64)?.to_vec1()?;
    let logps = logps.gather(&at, 1)?.squeeze(1)?;
    let found: Vec<f64> = logps.detach().to_dtype(DType::F64)?.to_vec1()?;
    Ok(TokenLogprobs {
        logps,
        entropy: fixed.exp()?.mul(&fixed)?.sum(D::Minus1)?.neg()?,
        top1: found.iter().zip(&best).map(|(a, b)| a >= b).collect(),
        mean_logit: capped.detach().mean(D::Minus1)?,
    })
}

/// See [`super::token_kl`].
pub(super) fn token_kl(
    hidden: [&Tensor; 2],
    head: [&Tensor; 2],
    options: HeadOptions,
) -> Result<Tensor> {
    let logps = |i: usize| {
        let capped = capped(&hidden[i].detach(), &head[i].detach(), options)?;
        log_softmax_last_dim(&(capped / options.temperature)?)
    };
    let (p, q) = (logps(0)?, logps(1)?);
    p.exp()?.mul(&(&p - &q)?)?.sum(D::Minus1)
}
