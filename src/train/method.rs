//! What a training method must be for the loop to run it.
//!
//! Always: a method owns its data and its losses, the bench owns the weights, the optimiser and all that is random; what a
//! method keeps from one step to the next it gives to a checkpoint. Read `sft.rs` for one.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Bench, Examples, Report, RunFolder, TrainError, log::Numbers};

/// What a method's data is, counted before the first step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What the sampler draws from: rows, or packed rows.
    pub rows: usize,
    /// Rows of the files that are trained on.
    pub examples: usize,
    /// Rows left out, by reason.
    pub dropped: Vec<(String, usize)>,
    /// Rows that were cut to `data.max_length`.
    pub truncated: usize,
    /// Tokens of one time through the data.
    pub tokens: usize,
    /// Those that are targets of the loss.
    pub supervised: usize,
    /// Tokens of the longest row.
    pub longest: usize,
    /// Share of the rows of the files whose end token is a target; without it a model does not learn to stop.
    pub end_trained: f64,
    /// Rows of the evaluation data.
    pub eval_rows: usize,
}

/// A training method.
pub trait Method {
    /// `sft`, `dpo`, ...
    fn name(&self) -> &'static str;

    /// Its data, counted.
    fn facts(&self) -> &Facts;

    /// Called once before the first step of a sitting, when the bench stands where the run does: what is computed once for a run
    /// and kept in its folder. Gives fields for the log's row of the beginning.
    ///
    /// # Errors
    /// The model's, the disk's.
    fn ready(
        &mut self,
        _bench: &Bench,
        _folder: &RunFolder,
    ) -> Result<Map<String, Value>, TrainError> {
        Ok(Map::new())
    }

    /// One logged step: draws its rows through the bench's sampler, accumulates, applies the optimiser once or more. Gives
    /// metrics under TRL's names.
    ///
    /// # Errors
    /// A loss that is no number ends the run with the rows that made it; no weight has changed then.
    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError>;

    /// Numbers on the evaluation data, without the prefix `eval_`; draws nothing random.
    ///
    /// # Errors
    /// The model's.
    fn evaluate(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError>;

    /// What is to be said of the finished model beside its metrics, for `report.json`; draws nothing random.
    ///
    /// # Errors
    /// The model's.
    fn report(&mut self, _bench: &Bench) -> Result<Option<Report>, TrainError> {
        Ok(None)
    }

    /// What a checkpoint carries besides weights, optimiser, random generator and place in the data.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes over what [`Self::state`] gave.
    ///
    /// # Errors
    /// Another method's state.
    fn restore(&mut self, state: &Value) -> Result<(), TrainError> {
        if state.is_null() {
            return Ok(());
        }
        Err(TrainError::config("state", "none for this method", state))
    }

    /// What trains besides the bench's policy, and its optimiser: tensors for a checkpoint, by name.
    ///
    /// # Errors
    /// Tensor arithmetic.
    fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainError> {
        Ok(Vec::new())
    }

    /// Takes over what [`Self::tensors`] gave, after [`Self::restore`].
    ///
    /// # Errors
    /// Another model's tensors.
    fn restore_tensors(&mut self, _tensors: Vec<(String, Tensor)>) -> Result<(), TrainError> {
        Ok(())
    }

    /// Prompts of the evaluation data, where the method trains answers to prompts and draws none itself.
    fn asked(&self) -> Vec<&[u32]> {
        Vec::new()
    }

    /// The examples one by one, where the method trains on rows of files.
    fn examples(&self) -> Option<&dyn Examples> {
        None
    }

    /// Fields of `sample` rows for the log: what the policy has said since they were last asked for.
    fn samples(&mut self) -> Vec<Map<String, Value>> {
        Vec::new()
    }
}
