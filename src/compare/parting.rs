//! Where two checkpoints' answers part: both answer greedily, and the first token that differs is weighed by both.
//!
//! Always: both stop at the same tokens and lengths, so answers that do not part are equal; the probabilities at the fork are
//! of the same text, the prompt with what both have said.

use super::moment::log_sum_exp;
use super::{CompareError, same_words};
use crate::hooks::Hooks;
use crate::model::generate::{Continue, GenerateOptions, generate};
use crate::model::{Batch, Cancel, Decoder, LogitsAt};
use candle_core::DType;

/// Two answers to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Parting {
    /// Of the first and of the second, a stop token included.
    pub answers: [Vec<u32>; 2],
    /// Where they part; none where they are equal.
    pub fork: Option<Fork>,
}

/// The first token that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Fork {
    /// Its place in the answers.
    pub at: usize,
    /// What the first says there, and what the second.
    pub ids: [u32; 2],
    /// `[model][token]`: the probability that each gives to each of the two.
    pub probabilities: [[f64; 2]; 2],
}

/// Lets both answer greedily, up to `max_new` tokens or one of `stop`.
///
/// # Errors
/// Vocabularies of two sizes, an empty prompt, one that leaves no room in the context, a stop that was asked for.
pub fn parting(
    first: &Decoder,
    second: &Decoder,
    ids: &[u32],
    max_new: usize,
    stop: &[u32],
) -> Result<Parting, CompareError> {
    same_words(first.config(), second.config())?;
    let options = GenerateOptions {
        max_new,
        stop: stop.to_vec(),
        ..GenerateOptions::default()
    };
    let answer = |model: &Decoder| -> Result<Vec<u32>, CompareError> {
        let mut each = generate(model, &[ids], &options, &Hooks::new(), &mut |_, _| {
            Continue::Yes
        })?;
        Cancel::check()?;
        Ok(each.pop().map(|row| row.ids).unwrap_or_default())
    };
    let answers = [answer(first)?, answer(second)?];
    let [a, b] = &answers;
    let at = a.iter().zip(b).position(|(a, b)| a != b);
    let fork = match at {
        None => None,
        Some(at) => {
            let said: Vec<u32> = ids.iter().chain(&a[..at]).copied().collect();
            let tokens = [a[at], b[at]];
            Some(Fork {
                at,
                ids: tokens,
                probabilities: [
                    probabilities(first, &said, tokens)?,
                    probabilities(second, &said, tokens)?,
                ],
            })
        }
    };
    Ok(Parting { answers, fork })
}

fn probabilities(
    model: &Decoder,
    said: &[u32],
    tokens: [u32; 2],
) -> Result<[f64; 2], CompareError> {
    let out = model.forward(&Batch::single(said)?, &Hooks::new(), LogitsAt::Last)?;
    let logits: Vec<f32> = out
        .logits()?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1()?;
    let total = log_sum_exp(&logits);
    Ok(tokens.map(|id| (f64::from(logits[id as usize]) - total).exp()))
}
