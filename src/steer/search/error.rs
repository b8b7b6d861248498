//! What can go wrong in a search.

use std::path::PathBuf;

use crate::steer::{SteerError, edit::EditError};

/// Errors of a search.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A pass, a prompt or the journal.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// An edit that cannot be made.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Candidates that cannot be searched over.
    #[error("{file}: expected {expected}, found {found}")]
    Candidates {
        /// The file.
        file: PathBuf,
        /// What fits.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A setting out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Setting {
        /// Which.
        field: &'static str,
        /// What fits.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// A file of amounts that is not one, or that belongs to another direction or model.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Amounts {
        /// The file.
        file: PathBuf,
        /// Which part.
        field: &'static str,
        /// What fits.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl From<crate::model::ModelError> for SearchError {
    fn from(error: crate::model::ModelError) -> Self {
        Self::Steer(error.into())
    }
}

impl From<candle_core::Error> for SearchError {
    fn from(error: candle_core::Error) -> Self {
        Self::Steer(error.into())
    }
}
