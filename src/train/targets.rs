//! Rows of a batch with the places of the tokens that a loss asks about.
//!
//! Always: a token is predicted by the state before it in its own row; places count padding, so that nothing is looked up by
//! an id.

use candle_core::Tensor;
use candlescope_ops::{self as ops, HeadOptions, TokenLogprobs};

use super::{Bench, TrainError};
use crate::model::{Batch, Decoder};

/// Where targets are predicted, and what they are.
#[derive(Debug, Default)]
pub struct Targets {
    /// Slot of the flattened batch `[batch * pos]` whose state predicts it.
    places: Vec<u32>,
    ids: Vec<u32>,
}

impl Targets {
    /// Adds tokens of a row by their positions in it, none of them the first.
    pub fn add(&mut self, batch: &Batch, row: usize, positions: impl Iterator<Item = usize>) {
        let first = row * batch.len() + batch.pad()[row];
        let tokens = batch.row(row);
        for at in positions {
            self.places.push((first + at - 1) as u32);
            self.ids.push(tokens[at]);
        }
    }

    /// What a model says of them, given its final states `[batch, pos, d_model]` and its unembedding.
    ///
    /// # Errors
    /// No targets; failing tensor arithmetic.
    pub fn scored(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        softcap: Option<f64>,
    ) -> Result<TokenLogprobs, TrainError> {
        let (rows, slots, width) = hidden.dims3()?;
        let states = ops::reshape(hidden, (rows * slots, width))?;
        let states = ops::embedding(&states, &self.places)?;
        let options = HeadOptions {
            softcap,
            ..HeadOptions::default()
        };
        Ok(ops::token_logprobs(&states, head, &self.ids, options)?)
    }

    /// By a model that does not train.
    ///
    /// # Errors
    /// The model's.
    pub fn by(&self, decoder: &Decoder, batch: &Batch) -> Result<TokenLogprobs, TrainError> {
        let hidden = decoder.hidden(batch)?;
        let softcap = decoder.config().final_softcap;
        self.scored(&hidden, &decoder.weights().head, softcap)
    }

    /// By the policy, on the tape.
    ///
    /// # Errors
    /// The model's.
    pub fn by_policy(&self, bench: &Bench, batch: &Batch) -> Result<TokenLogprobs, TrainError> {
        let policy = &bench.policy;
        let softcap = policy.decoder().config().final_softcap;
        self.scored(&policy.hidden(batch)?, policy.head(), softcap)
    }
}
