//! Answers that go through a model side by side, and what is read from its states.
//!
//! Always: the same answers make a pass when they are sampled, in every epoch and for every model, so that a model that has
//! not changed gives the same bits; a token is predicted by the state before it in its own row.

use candle_core::Tensor;
use candlescope_ops::{self as ops, HeadOptions, TokenLogprobs};

use super::Answer;
use crate::model::{Batch, Decoder, Trainable};
use crate::train::TrainError;

/// Some answers.
#[derive(Debug)]
pub struct Pass {
    /// Prompts with answers.
    pub batch: Batch,
    /// Tokens of each answer.
    pub tokens: Vec<usize>,
    /// Value slots of each answer: its tokens, and the state behind the last one where the answer ended before `room`.
    pub slots: Vec<usize>,
    ids: Vec<u32>,
    places: Vec<u32>,
    valued: Vec<u32>,
}

impl Pass {
    /// Of answers of at most `room` tokens.
    ///
    /// # Errors
    /// An empty prompt or answer.
    pub fn new(answers: &[Answer], room: usize) -> Result<Self, TrainError> {
        let rows: Vec<Vec<u32>> = answers.iter().map(Answer::row).collect();
        let batch = Batch::new(&rows)?;
        let tokens: Vec<usize> = answers.iter().map(|answer| answer.ids.len()).collect();
        let slots: Vec<usize> = tokens.iter().map(|&n| (n + 1).min(room.max(n))).collect();
        let (mut places, mut valued) = (Vec::new(), Vec::new());
        for (row, answer) in answers.iter().enumerate() {
            // The state that predicts the answer's first token.
            let first = row * batch.len() + batch.pad()[row] + answer.prompt.len() - 1;
            places.extend((first..first + tokens[row]).map(|at| at as u32));
            valued.extend((first..first + slots[row]).map(|at| at as u32));
        }
        let ids = answers.iter().flat_map(|answer| answer.ids.iter().copied());
        Ok(Self {
            ids: ids.collect(),
            batch,
            tokens,
            slots,
            places,
            valued,
        })
    }

    /// The states that predict the answers' tokens, `[tokens, d_model]`, of hidden states `[batch, pos, d_model]`.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn states(&self, hidden: &Tensor) -> Result<Tensor, TrainError> {
        Ok(ops::embedding(&flat(hidden)?, &self.places)?)
    }

    /// What a model says of the answers' tokens, by its hidden states and unembedding.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn said(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        options: HeadOptions,
    ) -> Result<TokenLogprobs, TrainError> {
        let states = self.states(hidden)?;
        Ok(ops::token_logprobs(&states, head, &self.ids, options)?)
    }

    /// By the policy, on the tape.
    ///
    /// # Errors
    /// The model's.
    pub fn by_policy(
        &self,
        policy: &Trainable,
        temperature: f64,
    ) -> Result<TokenLogprobs, TrainError> {
        let options = head_options(policy.decoder(), temperature);
        self.said(&policy.hidden(&self.batch)?, policy.head(), options)
    }

    /// Values at the value slots, `[slots]`, by hidden states and a head `[1, d_model]`.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn values(&self, hidden: &Tensor, head: &Tensor) -> Result<Tensor, TrainError> {
        let states = ops::embedding(&flat(hidden)?, &self.valued)?;
        Ok(ops::linear(&states, head, None)?.squeeze(1)?)
    }

    /// Tokens of prompts and answers.
    pub fn size(&self) -> usize {
        (0..self.batch.rows())
            .map(|row| self.batch.row(row).len())
            .sum()
    }
}

fn flat(hidden: &Tensor) -> Result<Tensor, TrainError> {
    Ok(hidden.reshape(((), hidden.dim(2)?))?)
}

/// How a model's logits become probabilities in a rollout.
pub fn head_options(decoder: &Decoder, temperature: f64) -> HeadOptions {
    HeadOptions {
        temperature,
        softcap: decoder.config().final_softcap,
    }
}

/// Numbers of consecutive runs as rows.
pub fn by_row(values: &[f64], lengths: &[usize]) -> Vec<Vec<f64>> {
    let mut rest = values;
    let rows = lengths.iter().map(|&n| {
        let (row, after) = rest.split_at(n.min(rest.len()));
        rest = after;
        row.to_vec()
    });
    rows.collect()
}
