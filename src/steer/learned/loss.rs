//! The three losses of a direction, on candle's tape: what it does when it is taken out of the stream, when it is added to it, and
//! what it does where it should do nothing.
//!
//! The edits are [`ablation`](crate::steer::ablation) and [`addition`](crate::steer::addition) with the direction as a tensor
//! instead of numbers, so that its gradient comes through the model. Always: the direction is brought to length 1 on the tape,
//! so its gradient is tangent to the sphere.

use std::sync::Arc;

use candle_core::{Device, Result as CandleResult, Tensor};
use candlescope_ops as ops;
use serde::{Deserialize, Serialize};

use super::{Example, Lessons};
use crate::config::ModelConfig;
use crate::hooks::{Edit, EditOp, HookPoint, Hooks, Pass, Point};
use crate::model::{Batch, Decoder, LogitsAt};
use crate::steer::SteerError;

/// What the losses weigh, as in the paper: bypass, induce, retain.
pub const WEIGHTS: [f64; 3] = [1.0, 0.2, 1.0];

/// Where a direction is added, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The block at whose input.
    pub layer: usize,
    /// The length that is added.
    pub alpha: f64,
}

/// Means over the tokens of each example, then over examples, nats.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Cross-entropy of the answers under ablation.
    pub bypass: Tensor,
    /// Cross-entropy of the refusals under addition.
    pub induce: Tensor,
    /// KL(unedited ‖ ablated) over the unedited answers.
    pub retain: Tensor,
}

impl Losses {
    /// Their weighted sum.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn total(&self) -> CandleResult<Tensor> {
        let [bypass, induce, retain] = WEIGHTS;
        ((&self.bypass * bypass)? + (&self.induce * induce)?)? + (&self.retain * retain)?
    }

    /// As numbers, in the order of [`WEIGHTS`].
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn numbers(&self) -> CandleResult<[f64; 3]> {
        let number = |t: &Tensor| t.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>();
        Ok([
            number(&self.bypass)?,
            number(&self.induce)?,
            number(&self.retain)?,
        ])
    }
}

/// The losses of a direction `[d_model]` of any length but 0, in the model's dtype; on the tape if the direction is.
///
/// # Errors
/// No examples of a kind, a direction of another width, anything a pass can fail with.
pub fn losses(
    model: &Decoder,
    direction: &Tensor,
    place: Place,
    lessons: &Lessons,
) -> Result<Losses, SteerError> {
    let length = direction.sqr()?.sum_keepdim(0)?.sqrt()?;
    let unit = direction.broadcast_div(&length)?;
    let ablated = Hooks::new().edits(taken_out(&unit, model.config())?);
    let added = Hooks::new().edit(put_in(&unit, place)?);
    Ok(Losses {
        bypass: cross_entropy(model, &lessons.bypass, &ablated)?,
        induce: cross_entropy(model, &lessons.induce, &added)?,
        retain: divergence(model, &lessons.retain, &ablated)?,
    })
}

/// A direction of length 1 projected out of every stream and of all that is added to it.
fn taken_out(unit: &Tensor, config: &ModelConfig) -> CandleResult<Vec<Edit>> {
    let basis = unit.unsqueeze(0)?;
    let op = closure("learned ablation", move |x| {
        ops::project_out(x, &basis, 1.0)
    });
    let points = [Point::ResidPre, Point::AttnContrib, Point::MlpContrib];
    Ok((0..config.n_layers)
        .flat_map(|layer| points.map(|point| HookPoint::new(point, layer)))
        .map(|at| Edit::new(at, op.clone()))
        .collect())
}

/// A direction of length 1, times `alpha`, added to the input of a block.
fn put_in(unit: &Tensor, place: Place) -> CandleResult<Edit> {
    let dose = (unit * place.alpha)?;
    let op = closure("learned addition", move |x| x.broadcast_add(&dose));
    Ok(Edit::new(HookPoint::new(Point::ResidPre, place.layer), op))
}

fn closure(
    name: &str,
    function: impl Fn(&Tensor) -> CandleResult<Tensor> + Send + Sync + 'static,
) -> EditOp {
    EditOp::Closure {
        name: name.to_owned(),
        function: Arc::new(move |x: &Tensor, _: &Pass| function(x)),
    }
}

/// Log-probabilities `[tokens, vocab]` at the answer of each example.
fn logprobs(
    model: &Decoder,
    examples: &[Example],
    hooks: &Hooks,
) -> Result<Vec<Tensor>, SteerError> {
    if examples.is_empty() {
        return Err(SteerError::TooFew {
            what: "examples to learn from",
            needed: 1,
            found: 0,
        });
    }
    let rows: Vec<&[u32]> = examples.iter().map(|e| e.ids.as_slice()).collect();
    let batch = Batch::new(&rows)?;
    let at = HookPoint::new(Point::ResidPost, model.config().n_layers - 1);
    let reading = hooks.clone().capture(at);
    let mut out = model.forward(&batch, &reading, LogitsAt::None)?;
    let Some(stream) = out.captured.remove(&at) else {
        return Err(SteerError::Places {
            what: "the last residuals",
        });
    };
    let each = examples.iter().enumerate().map(|(row, example)| {
        let n = example.answer.len();
        let states = stream.get(row)?.narrow(0, batch.len() - n, n)?;
        let logits = model.unembed(&states.contiguous()?)?;
        Ok(ops::log_softmax_last_dim(&logits)?)
    });
    each.collect()
}

fn cross_entropy(
    model: &Decoder,
    examples: &[Example],
    hooks: &Hooks,
) -> Result<Tensor, SteerError> {
    let found = logprobs(model, examples, hooks)?;
    let each = found.iter().zip(examples).map(|(logp, example)| {
        let n = example.answer.len();
        let targets = Tensor::from_slice(&example.answer, (n, 1), &Device::Cpu)?;
        logp.gather(&targets, 1)?.mean_all()?.neg()
    });
    Ok(mean(&each.collect::<CandleResult<Vec<_>>>()?)?)
}

fn divergence(model: &Decoder, examples: &[Example], hooks: &Hooks) -> Result<Tensor, SteerError> {
    let unedited = logprobs(model, examples, &Hooks::new())?;
    let ablated = logprobs(model, examples, hooks)?;
    let each = unedited.iter().zip(&ablated).map(|(p, q)| {
        let apart = (p.exp()? * (p - q)?)?;
        apart.sum(1)?.mean_all()
    });
    Ok(mean(&each.collect::<CandleResult<Vec<_>>>()?)?)
}

fn mean(each: &[Tensor]) -> CandleResult<Tensor> {
    Tensor::stack(each, 0)?.mean_all()
}
