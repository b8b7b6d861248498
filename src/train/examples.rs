//! The rows that a method trains on, one example at a time: where it stands, its loss alone, and the tokens it teaches.
//!
//! Always: an example's loss is what it adds to the loss of a step, before that is divided by the step's count; it is computed
//! by the code of the step itself, without dropout. Methods that draw their own answers have none.

use candle_core::Tensor;

use super::{Bench, TrainError};

/// Tokens of an example with those that it teaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Taught {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// As long as `ids`: this token is of the answer.
    pub answer: Vec<bool>,
    /// 1 for an answer that becomes likelier, -1 for one that becomes less likely.
    pub sign: f64,
}

impl Taught {
    /// A prompt with its answer.
    pub fn answer(prompt: &[u32], answer: &[u32], sign: f64) -> Self {
        let of = |n: usize, is: bool| std::iter::repeat_n(is, n);
        Self {
            ids: [prompt, answer].concat(),
            answer: of(prompt.len(), false)
                .chain(of(answer.len(), true))
                .collect(),
            sign,
        }
    }
}

/// A method's examples.
pub trait Examples {
    /// The examples behind a row that the sampler draws: several where rows are packed. Of examples with the same tokens the
    /// first one stands for all.
    fn of_row(&self, row: usize) -> Vec<usize>;

    /// Where an example stands, as `file:line`.
    fn place(&self, example: usize) -> String;

    /// Its loss, on the tape of the bench's policy.
    ///
    /// # Errors
    /// The model's.
    fn loss(&self, bench: &Bench, example: usize) -> Result<Tensor, TrainError>;

    /// What it teaches.
    fn taught(&self, example: usize) -> Vec<Taught>;
}
