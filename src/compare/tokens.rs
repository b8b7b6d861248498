//! Next token against next token: how far two checkpoints' distributions lie apart after each token of a text.

use candle_core::DType;
use rayon::prelude::*;

use super::moment::{log_sum_exp, ranked};
use super::{CompareError, same_words};
use crate::hooks::Hooks;
use crate::lens::Ranked;
use crate::model::{Batch, Decoder, LogitsAt, ModelError};
use crate::steer;

/// Tokens that are compared at once: their logits are held for both.
pub const MOST_TOKENS: usize = 512;

/// What two checkpoints say after a token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenChange {
    /// The token.
    pub id: u32,
    /// `KL(first ‖ second)`, nats.
    pub kl: f64,
    /// The likeliest next token of each.
    pub top: [Ranked; 2],
}

/// Compares the distributions after every token.
///
/// # Errors
/// Vocabularies of two sizes, a text that is empty or longer than [`MOST_TOKENS`].
pub fn token_changes(
    first: &Decoder,
    second: &Decoder,
    ids: &[u32],
) -> Result<Vec<TokenChange>, CompareError> {
    same_words(first.config(), second.config())?;
    if ids.len() > MOST_TOKENS {
        return Err(CompareError::TooLong {
            found: ids.len(),
            most: MOST_TOKENS,
        });
    }
    let (a, b) = (logits(first, ids)?, logits(second, ids)?);
    let changes = ids.par_iter().zip(a.par_iter().zip(&b));
    changes
        .map(|(id, (p, q))| {
            Ok(TokenChange {
                id: *id,
                kl: if p == q { 0.0 } else { steer::kl(p, q) },
                top: [likeliest(p)?, likeliest(q)?],
            })
        })
        .collect()
}

fn likeliest(logits: &[f32]) -> Result<Ranked, CompareError> {
    let top = ranked(logits, log_sum_exp(logits), 1);
    Ok(top.first().copied().ok_or(ModelError::Empty {
        what: "the model has no vocabulary",
    })?)
}

/// `[tokens][vocab]`
fn logits(model: &Decoder, ids: &[u32]) -> Result<Vec<Vec<f32>>, CompareError> {
    let out = model.forward(&Batch::single(ids)?, &Hooks::new(), LogitsAt::All)?;
    Ok(out.logits()?.squeeze(0)?.to_dtype(DType::F32)?.to_vec2()?)
}
