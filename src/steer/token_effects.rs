//! Which tokens would move the refusal score most: a first-order estimate for the whole vocabulary from one gradient.
//!
//! The score is differentiated by the embedding at a slot of the prompt; a token's estimate is its own embedding along that
//! gradient (HotFlip, Ebrahimi et al. 2018). It ranks candidates and measures nothing: what they do is found by trying them.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candlescope_ops as ops;

use super::{Options, RefusalTokens, SteerError};
use crate::hooks::{Edit, EditOp, HookPoint, Hooks, Pass, Point};
use crate::model::{Batch, Decoder, LogitsAt};

/// Embedding rows that are multiplied at once.
const ROWS: usize = 4096;

/// A prompt with a slot: the index of the token that would be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slotted {
    /// Tokens, a placeholder at the slot.
    pub ids: Vec<u32>,
    /// Where.
    pub slot: usize,
}

/// For each row of the embedding its estimated refusal score at the slots, but for a constant; nats, mean over prompts.
///
/// # Errors
/// No prompts, a slot outside its prompt, a gradient that is not finite, an interruption.
pub fn token_effects(
    model: &impl AsRef<Decoder>,
    prompts: &[Slotted],
    tokens: &RefusalTokens,
    options: &Options,
) -> Result<Vec<f64>, SteerError> {
    let model = model.as_ref();
    if prompts.is_empty() {
        return Err(SteerError::TooFew {
            what: "prompts",
            needed: 1,
            found: 0,
        });
    }
    let mut sum = vec![0.0f32; model.config().d_model];
    for prompt in prompts {
        if options.cancelled() {
            return Err(SteerError::Interrupted);
        }
        let found = gradient(model, prompt, tokens)?;
        let share = 1.0 / prompts.len() as f32;
        sum.iter_mut()
            .zip(found)
            .for_each(|(sum, g)| *sum += share * g);
    }
    let embed = &model.weights().embed;
    let gradient = Tensor::from_slice(&sum, (sum.len(), 1), &Device::Cpu)?;
    let vocab = embed.dim(0)?;
    let mut effects = Vec::with_capacity(vocab);
    for start in (0..vocab).step_by(ROWS) {
        let rows = embed
            .narrow(0, start, ROWS.min(vocab - start))?
            .to_dtype(DType::F32)?;
        let along = rows.matmul(&gradient)?.flatten_all()?.to_vec1::<f32>()?;
        effects.extend(along.into_iter().map(f64::from));
    }
    Ok(effects)
}

/// The score's gradient by the embedding at the slot, `[d_model]`.
fn gradient(
    model: &Decoder,
    prompt: &Slotted,
    tokens: &RefusalTokens,
) -> Result<Vec<f32>, SteerError> {
    let (len, width) = (prompt.ids.len(), model.config().d_model);
    if prompt.slot >= len {
        return Err(SteerError::NoPosition {
            id: "of a slot".to_owned(),
            tokens: len,
            position: format!("token {}", prompt.slot),
        });
    }
    let moved = Var::zeros((1, 1, width), model.compute_dtype(), &Device::Cpu)?;
    let here: Vec<f32> = (0..len)
        .map(|i| f32::from(u8::from(i == prompt.slot)))
        .collect();
    let mask =
        Tensor::from_vec(here, (1, len, 1), &Device::Cpu)?.to_dtype(model.compute_dtype())?;
    let step = mask.broadcast_mul(moved.as_tensor())?;
    let op = EditOp::Closure {
        name: "a step of one embedding".to_owned(),
        function: Arc::new(move |x: &Tensor, _: &Pass| x.broadcast_add(&step)),
    };
    let last = HookPoint::new(Point::ResidPost, model.config().n_layers - 1);
    let hooks = Hooks::new()
        .edit(Edit::new(HookPoint::new(Point::Embed, 0), op))
        .capture(last);
    let mut out = model.forward(&Batch::single(&prompt.ids)?, &hooks, LogitsAt::None)?;
    let Some(stream) = out.captured.remove(&last) else {
        return Err(SteerError::Places {
            what: "the last residuals",
        });
    };
    let state = stream.narrow(1, len - 1, 1)?.squeeze(0)?.contiguous()?;
    let ids = Tensor::from_slice(&tokens.ids, (1, tokens.ids.len()), &Device::Cpu)?;
    let mass = ops::log_softmax_last_dim(&model.unembed(&state)?)?
        .gather(&ids, 1)?
        .exp()?
        .sum_all()?;
    let rest = (1.0 - &mass)?;
    let score = ((mass + 1e-8)?.log()? - (rest + 1e-8)?.log()?)?;
    let grads = ops::backward(&score)?;
    let found = match grads.get(moved.as_tensor()) {
        Some(found) => found
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?,
        None => vec![0.0; width],
    };
    if found.iter().any(|g| !g.is_finite()) {
        return Err(SteerError::NotFinite {
            id: "of a slot".to_owned(),
            what: "gradient of the refusal score",
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Checkpoint;
    use crate::steer::{log_odds, refusal_tokens};

    /// The score with a step of the slot's embedding towards a token's.
    fn stepped(cp: &Checkpoint, prompt: &Slotted, tokens: &RefusalTokens, step: Vec<f32>) -> f64 {
        let mut select = crate::hooks::Selector::all();
        select.positions = crate::hooks::PositionSelect::At(vec![prompt.slot as i64]);
        let mut edit = Edit::new(
            HookPoint::new(Point::Embed, 0),
            EditOp::Add {
                vector: Arc::new(step),
                alpha: 1.0,
            },
        );
        edit.select = select;
        let out = cp
            .decoder
            .forward(
                &Batch::single(&prompt.ids).unwrap(),
                &Hooks::new().edit(edit),
                LogitsAt::Last,
            )
            .unwrap();
        let logits = out.logits().unwrap().flatten_all().unwrap();
        log_odds(&logits.to_vec1::<f32>().unwrap(), tokens)
    }

    #[test]
    fn effects_are_slopes_of_the_score() {
        let cp = Checkpoint::toy(0).unwrap();
        let tokens = refusal_tokens(&cp).unwrap();
        let ids = cp.tokenizer.encode("What is the time here", true).unwrap();
        let prompt = Slotted { slot: 2, ids };
        let effects = token_effects(
            &cp,
            std::slice::from_ref(&prompt),
            &tokens,
            &Options::default(),
        )
        .unwrap();
        let embed = cp.decoder.weights().embed.to_vec2::<f32>().unwrap();
        assert_eq!(effects.len(), embed.len());
        for token in [300usize, 500, 700] {
            // A central difference along the token's embedding.
            let small = 1e-2;
            let step = |sign: f32| embed[token].iter().map(|x| sign * small * x).collect();
            let slope = (stepped(&cp, &prompt, &tokens, step(1.0))
                - stepped(&cp, &prompt, &tokens, step(-1.0)))
                / f64::from(2.0 * small);
            let found = effects[token];
            assert!(
                (found - slope).abs() < 1e-3 + 0.05 * slope.abs(),
                "{token}: {found} {slope}"
            );
        }
        let outside = Slotted {
            slot: prompt.ids.len(),
            ..prompt
        };
        let error = token_effects(&cp, &[outside], &tokens, &Options::default()).unwrap_err();
        assert!(matches!(error, SteerError::NoPosition { .. }), "{error}");
    }
}
