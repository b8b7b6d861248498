//! The language-model head, tile by tile: log-probabilities of given tokens, entropies, and the divergence of two models,
//! without ever holding the logits of the batch. At 49,152 tokens of vocabulary those of 1,024 positions are 200 MB, and
//! their gradients as much again.
//!
//! What always holds: a tile is [`ROWS`] positions by [`VOCAB`] tokens, whatever the machine; its logits are those of
//! [`crate::linear`]; sums over the vocabulary are carried in f64. The plain way, oracle of the other, is in `plain`.

mod backward;
mod forward;
mod kl;
mod plain;

use candle_core::{DType, Result, Tensor, bail};

use crate::grad::{record, tracks};
use crate::linear;
use crate::linear::linear_again;
use crate::view::{f32_on_cpu, refuse_empty};

pub use kl::token_kl;

/// Positions of a tile.
const ROWS: usize = 512;
/// Tokens of a tile: with [`ROWS`] positions 8 MiB of logits.
const VOCAB: usize = 4096;

/// How logits are made into probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadOptions {
    /// Logits are divided by it, after the soft-cap.
    pub temperature: f64,
    /// `c · tanh(logit / c)` (Gemma 2).
    pub softcap: Option<f64>,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            softcap: None,
        }
    }
}

/// What [`token_logprobs`] gives for each of `n` positions.
#[derive(Clone, Debug)]
pub struct TokenLogprobs {
    /// Log-probability of the target, nats, `[n]`; on the tape if `hidden` or `head` is.
    pub logps: Tensor,
    /// Entropy of the distribution, nats, `[n]`; no gradient.
    pub entropy: Tensor,
    /// Whether no token is more probable than the target.
    pub top1: Vec<bool>,
    /// Mean logit over the vocabulary, after the soft-cap and before the temperature, `[n]`; no gradient.
    pub mean_logit: Tensor,
}

/// Log-probabilities of `targets [n]` under `softmax(softcap(hidden · headᵀ) / temperature)`, with `hidden [n, d]` and
/// `head [vocab, d]`. The logits are computed again in the backward; a head that does not track costs none there.
///
/// # Errors
/// Shapes that do not go together, a target outside the vocabulary, a temperature or soft-cap that is not positive.
pub fn token_logprobs(
    hidden: &Tensor,
    head: &Tensor,
    targets: &[u32],
    options: HeadOptions,
) -> Result<TokenLogprobs> {
    const OP: &str = "token_logprobs";
    check(OP, hidden, head, options)?;
    let (count, vocab) = (hidden.dim(0)?, head.dim(0)?);
    if targets.len() != count {
        bail!("{OP}: {} targets for {count} positions", targets.len());
    }
    if let Some(target) = targets.iter().find(|&&t| t as usize >= vocab) {
        bail!("{OP}: target {target} is not in a vocabulary of {vocab}");
    }
    let frozen_on_cpu = head.device().is_cpu() && !tracks(head);
    let served = f32_on_cpu(&[hidden])
        && (f32_on_cpu(&[head]) || (frozen_on_cpu && head.dtype() == DType::BF16));
    if !served {
        return plain::token_logprobs(hidden, head, targets, options);
    }
    let scan = forward::scan(hidden, head, targets, options)?;
    let tensor = |values: Vec<f32>| Tensor::from_vec(values, count, hidden.device());
    let logps = if tracks(hidden) || tracks(head) {
        let back = backward::Back {
            targets: targets.to_vec(),
            log_sums: scan.log_sums,
            options,
        };
        record(&[hidden, head], count, scan.logps, back)?
    } else {
        tensor(scan.logps)?
    };
    Ok(TokenLogprobs {
        logps,
        entropy: tensor(scan.entropy)?,
        top1: scan.top1,
        mean_logit: tensor(scan.mean_logit)?,
    })
}

fn check(op: &str, hidden: &Tensor, head: &Tensor, options: HeadOptions) -> Result<()> {
    refuse_empty(op, "hidden", hidden)?;
    refuse_empty(op, "head", head)?;
    let ((_, width), (vocab, inputs)) = (hidden.dims2()?, head.dims2()?);
    if width != inputs {
        bail!(
            "{op}: hidden has {width} channels, a head of shape [{vocab}, {inputs}] reads {inputs}"
        );
    }
    let positive = |x: f64| x > 0.0 && x.is_finite();
    if !positive(options.temperature) {
        bail!(
            "{op}: temperature is {}, expected a positive number",
            options.temperature
        );
    }
    if options.softcap.is_some_and(|cap| !positive(cap)) {
        bail!(
            "{op}: softcap is {:?}, expected a positive number",
            options.softcap
        );
    }
    Ok(())
}

/// The tiles of `[count, vocab]`: all positions of a band of rows before the next, `(first row, rows, first token, tokens)`.
fn tiles(count: usize, vocab: usize) -> impl Iterator<Item = Tile> {
    (0..count).step_by(ROWS).flat_map(move |row| {
        (0..vocab).step_by(VOCAB).map(move |token| {
            let (rows, tokens) = (ROWS.min(count - row), VOCAB.min(vocab - token));
            (row, rows, token, tokens)
        })
    })
}

/// Positions, tokens, as [`tiles`] gives them.
type Tile = (usize, usize, usize, usize);

/// Raw logits of one tile, `[rows, tokens]`.
fn logits(hidden: &Tensor, head: &Tensor, tile: Tile) -> Result<Tensor> {
    let (hidden, head) = operands(hidden, head, tile)?;
    linear(&hidden, &head, None)
}

/// The same in a backward.
fn logits_again(hidden: &Tensor, head: &Tensor, tile: Tile) -> Result<Tensor> {
    let (hidden, head) = operands(hidden, head, tile)?;
    linear_again(&hidden, &head)
}

fn operands(hidden: &Tensor, head: &Tensor, tile: Tile) -> Result<(Tensor, Tensor)> {
    let (row, rows, token, tokens) = tile;
    let hidden = hidden.narrow(0, row, rows)?.detach();
    Ok((hidden, head.narrow(0, token, tokens)?.detach()))
}
