//! How rows are encoded: the limit and what becomes of longer rows, which tokens are targets, what becomes of rows of no use.

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

/// What becomes of an [`super::Example`] over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// The end is cut off; the end token with it.
    #[default]
    KeepStart,
    /// The beginning is cut off.
    KeepEnd,
    /// It is left out.
    Drop,
}

/// Which tokens of an [`super::Example`] are targets of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Supervise {
    /// The answer of prompt and completion, the assistant's turns of messages, all of a text. TRL takes all tokens of
    /// messages unless told otherwise.
    #[default]
    Auto,
    /// All tokens.
    All,
    /// What follows the prompt: the completion, or the last turn of messages.
    Completion,
    /// The assistant's turns.
    Assistant,
}

/// What becomes of rows that are read well but cannot be used (see [`super::Reason`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    /// The first one is an error.
    #[default]
    Refuse,
    /// They are left out and counted.
    Drop,
}

/// How rows are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Most tokens of a row: prompt and answer together.
    pub max_length: usize,
    /// What becomes of longer examples.
    pub truncation: Truncation,
    /// Which tokens are targets.
    pub supervise: Supervise,
    /// Plain prompts become a user's turn and plain answers the assistant's. Without it strings are taken as they are.
    pub chat: bool,
    /// What becomes of rows that cannot be used.
    pub unusable: Unusable,
    /// The time that a template which prints a date is given; the machine's if `None`, and then runs differ by the day.
    pub now: Option<DateTime>,
}

impl EncodeOptions {
    /// The defaults with a limit.
    pub fn up_to(max_length: usize) -> Self {
        Self {
            max_length,
            truncation: Truncation::default(),
            supervise: Supervise::default(),
            chat: false,
            unusable: Unusable::default(),
            now: None,
        }
    }
}
