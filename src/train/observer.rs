//! Who is told of a run: observers after each checkpoint, with the model in memory, and whoever shows progress.
//!
//! Always: an observer sees the model as the checkpoint has it, and cannot change it; the numbers it returns become a row of
//! the log at that step. The audit and the tools for dictionaries stand above this room and implement the trait.

use std::path::Path;
use std::time::Duration;

use super::log::{Numbers, Row};
use crate::model::Decoder;
use crate::text::{ChatTemplate, Tokenizer};

/// A checkpoint that has just become whole.
pub struct At<'a> {
    /// Steps done.
    pub step: u64,
    /// Its folder.
    pub path: &'a Path,
    /// The model with these weights.
    pub model: &'a Decoder,
    /// Its words.
    pub tokenizer: &'a Tokenizer,
    /// Its chat template.
    pub template: Option<&'a ChatTemplate>,
}

/// Something that looks at checkpoints.
pub trait CheckpointObserver {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Called after each checkpoint.
    ///
    /// # Errors
    /// Its own; the run then stops, and the checkpoint stays.
    fn checkpoint(
        &mut self,
        at: &At<'_>,
    ) -> Result<Numbers, Box<dyn std::error::Error + Send + Sync>>;
}

/// Where a run stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Steps done.
    pub step: u64,
    /// Steps of the run.
    pub total: u64,
    /// Time left at the pace of this session, once there is one.
    pub left: Option<Duration>,
    /// The row that was just logged.
    pub row: Option<&'a Row>,
}

/// Who shows progress.
pub trait Progress {
    /// Called before work of another kind than the steps that came last.
    fn begins(&self, _what: &str) {}

    /// Called after each step and each row.
    fn at(&self, standing: &Standing<'_>);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn at(&self, _: &Standing<'_>) {}
}
