//! How likely given answers are: the log-probability of a text after a prompt, token by token.

use candle_core::{DType, Device, Tensor};
use candlescope_ops as ops;

use super::{Options, SteerError};
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::{Batch, Decoder, LogitsAt};

/// A prompt with an answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The row's id.
    pub id: String,
    /// Tokens of the prompt, template included.
    pub prompt: Vec<u32>,
    /// Tokens of the answer, at least one.
    pub answer: Vec<u32>,
}

/// Mean log-probability of each answer's tokens after its prompt, nats, in the order of the rows. One row a pass.
///
/// # Errors
/// A prompt or answer without a token, a row longer than the context, a number that is not finite, an interruption.
pub fn answer_log_probs(
    model: &impl AsRef<Decoder>,
    rows: &[Answered],
    options: &Options,
) -> Result<Vec<f64>, SteerError> {
    let model = model.as_ref();
    let n_ctx = model.config().max_positions();
    let at = HookPoint::new(Point::ResidPost, model.config().n_layers - 1);
    let mut found = Vec::with_capacity(rows.len());
    for (done, row) in rows.iter().enumerate() {
        if options.cancelled() {
            return Err(SteerError::Interrupted);
        }
        let (before, n) = (row.prompt.len(), row.answer.len());
        let least = before.min(n);
        if least == 0 {
            return Err(SteerError::TooFew {
                what: "tokens of a prompt and its answer",
                needed: 1,
                found: least,
            });
        }
        let ids = [row.prompt.as_slice(), &row.answer].concat();
        if ids.len() > n_ctx {
            return Err(SteerError::PromptTooLong {
                id: row.id.clone(),
                tokens: ids.len(),
                n_ctx,
            });
        }
        // The last token of the answer predicts nothing that is asked for.
        let seen = &ids[..ids.len() - 1];
        let hooks = Hooks::new().capture(at);
        let mut out = model.forward(&Batch::single(seen)?, &hooks, LogitsAt::None)?;
        let Some(stream) = out.captured.remove(&at) else {
            return Err(SteerError::Places {
                what: "the last residuals",
            });
        };
        let states = stream.narrow(1, before - 1, n)?.squeeze(0)?.contiguous()?;
        let logits = model.unembed(&states)?;
        let targets = Tensor::from_slice(&row.answer, (n, 1), &Device::Cpu)?;
        let mean = ops::log_softmax_last_dim(&logits)?
            .gather(&targets, 1)?
            .to_dtype(DType::F64)?
            .mean_all()?
            .to_scalar::<f64>()?;
        if !mean.is_finite() {
            return Err(SteerError::NotFinite {
                id: row.id.clone(),
                what: "log-probability of an answer",
            });
        }
        found.push(mean);
        if let Some(progress) = options.progress {
            progress(done + 1, rows.len());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Checkpoint;
    use crate::steer::kl::log_sum_exp;

    #[test]
    fn an_answer_is_what_its_tokens_are_one_by_one() {
        let cp = Checkpoint::toy(0).unwrap();
        let prompt = cp.tokenizer.encode("What is the capital of", true).unwrap();
        let answer = cp.tokenizer.encode(" France and Paris", false).unwrap();
        let row = Answered {
            id: "a".to_owned(),
            prompt: prompt.clone(),
            answer: answer.clone(),
        };
        let found =
            answer_log_probs(&cp, std::slice::from_ref(&row), &Options::default()).unwrap()[0];
        // The same from the distribution after each beginning, one pass each.
        let mut ids = prompt;
        let mut sum = 0.0;
        for &token in &answer {
            let out = cp
                .decoder
                .forward(&Batch::single(&ids).unwrap(), &Hooks::new(), LogitsAt::Last)
                .unwrap();
            let logits = out.logits().unwrap().flatten_all().unwrap();
            let logits = logits.to_vec1::<f32>().unwrap();
            sum += f64::from(logits[token as usize]) - log_sum_exp(&logits);
            ids.push(token);
        }
        let expected = sum / answer.len() as f64;
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        let empty = Answered {
            answer: Vec::new(),
            ..row
        };
        let error = answer_log_probs(&cp, &[empty], &Options::default()).unwrap_err();
        assert!(matches!(error, SteerError::TooFew { .. }), "{error}");
    }
}
