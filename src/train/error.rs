//! What can go wrong in a run, by name: config, data, folder, checkpoint, arithmetic.
//!
//! Always: a variant names the file, section or field, what was expected and what was found; text is made here alone.

use std::path::{Path, PathBuf};

use candlescope_sae::SaeError;

use super::loss::LossError;
use crate::{
    activations::StoreError,
    files::FileError,
    model::ModelError,
    text::{TextError, dataset::DataError},
};

/// Errors of training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The operating system refused; a full disk shows up here too.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: String,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A config that is no TOML, or has a key that is not known.
    #[error("{origin}: {message}")]
    Syntax {
        /// The file, or the option of the command line.
        origin: String,
        /// What the parser said.
        message: String,
    },
    /// A value of the config that cannot be used.
    #[error("`{field}`: expected {expected}, found {found}")]
    Config {
        /// Section and key.
        field: String,
        /// What can be used.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An option that the chosen method would ignore.
    #[error("`{field}` has no effect: {why}; remove it")]
    Ignored {
        /// Section and key.
        field: String,
        /// Why it would be ignored.
        why: String,
    },
    /// Nothing to train on.
    #[error("{what}: {found}; {hint}")]
    Empty {
        /// Which data.
        what: String,
        /// What is there instead.
        found: String,
        /// What to try.
        hint: String,
    },
    /// A folder that already has a run.
    #[error("{}: holds {found}; a new run needs a folder of its own", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A folder that is no run.
    #[error("{}: not a run: {why}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Another process trains in this folder.
    #[error("{}: another process is training in this folder", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A checkpoint or manifest of another model, config or program.
    #[error("{}: {field}: expected {expected}, found {found}", path.display())]
    Mismatch {
        /// The checkpoint or manifest.
        path: PathBuf,
        /// The field that differs.
        field: String,
        /// What this run has.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A loss or gradient that is no number; training cannot go on.
    #[error("step {step}: {what} is {value} on rows {}", rows.join(", "))]
    NotFinite {
        /// The step that was being made; no weight has changed in it.
        step: u64,
        /// `loss` or `grad_norm`.
        what: &'static str,
        /// What it is.
        value: f64,
        /// The rows of the batch, as `file:line`.
        rows: Vec<String>,
        /// Each row's tokens, for the file that is kept of them.
        batch: serde_json::Value,
    },
    /// A reward that gives no number; no weight has changed in the step.
    #[error("reward from {origin}: {why}")]
    Reward {
        /// The source.
        origin: String,
        /// What it did.
        why: String,
    },
    /// What must hold of every run and does not: a mistake of this program, or of the machine.
    #[error("step {step}: {what}: expected {expected}, found {found}")]
    Invariant {
        /// The step that was being made; no weight has changed in it.
        step: u64,
        /// Of what.
        what: &'static str,
        /// What must hold.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// An observer of checkpoints failed.
    #[error("{observer}: {source}")]
    Observer {
        /// Its name.
        observer: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A loss's options or inputs.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// A tensor file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Activations.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A dictionary.
    #[error(transparent)]
    Dictionary(#[from] SaeError),
    /// Training data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Tokenizer or chat template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Tensor arithmetic.
    #[error("tensor arithmetic: {0}")]
    Candle(#[from] candle_core::Error),
}

impl TrainError {
    /// For `map_err` on what the system does with `path`.
    pub(crate) fn io(
        path: &Path,
        action: impl Into<String>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let (path, action) = (path.to_path_buf(), action.into());
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    /// A config value that cannot be used.
    pub(crate) fn config(
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Config {
            field: field.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// A field of a file of this run that is not what this run has.
    pub(crate) fn mismatch(
        path: &Path,
        field: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Mismatch {
            path: path.to_path_buf(),
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
