//! Log-probabilities of targets from hidden states, over plain candle, until `candlescope_ops` has its tiled head.
//!
//! Always: f32 in, log-softmax over the whole vocabulary, so that nothing underflows; `[n, vocab]` is in memory at once.

use candle_core::{D, DType, Tensor};

use super::TrainError;

/// What the head says of `n` targets.
pub struct TokenLogprobs {
    /// `[n]`, tracked.
    pub logps: Tensor,
    /// `[n]`, nats, no gradient.
    pub entropy: Tensor,
    /// Whether the target is the likeliest token.
    pub top1: Vec<bool>,
}

/// Log-probabilities of `targets` given `hidden` `[n, d]` and the unembedding `head` `[vocab, d]`.
pub fn token_logprobs(
    hidden: &Tensor,
    head: &Tensor,
    targets: &[u32],
    softcap: Option<f64>,
) -> Result<TokenLogprobs, TrainError> {
    let mut logits = hidden.matmul(&head.t()?)?;
    if let Some(cap) = softcap {
        logits = ((logits / cap)?.tanh()? * cap)?;
    }
    let all = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
    let index = Tensor::new(targets, hidden.device())?;
    let logps = all.gather(&index.unsqueeze(1)?, 1)?.squeeze(1)?;
    let fixed = all.detach();
    let entropy = (fixed.exp()? * &fixed)?.sum(D::Minus1)?.neg()?;
    let likeliest = fixed.argmax(D::Minus1)?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let top1 = likeliest.iter().zip(targets).map(|(a, b)| a == b).collect();
    Ok(TokenLogprobs {
        logps,
        entropy,
        top1,
    })
}
