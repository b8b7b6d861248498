//! Why checkpoints cannot be compared.

use crate::features::FeatureError;
use crate::lens::LensError;
use crate::model::ModelError;

/// Errors of the compare room.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Vocabularies of two sizes.
    #[error(
        "the checkpoints do not share their words: the first has {expected} tokens, the second {found}; compare checkpoints \
         of one family"
    )]
    Vocabulary {
        /// Of the first.
        expected: usize,
        /// Of the second.
        found: usize,
    },
    /// Matrices that have no counterpart.
    #[error(
        "the checkpoints cannot be paired: `{what}` is {expected} in the first and {found} in the second; compare checkpoints \
         of one architecture"
    )]
    Unpaired {
        /// The field or the matrix.
        what: String,
        /// In the first.
        expected: String,
        /// In the second.
        found: String,
    },
    /// More tokens than are compared at once.
    #[error(
        "the prompt is {found} tokens, and at most {most} are compared at once; shorten the prompt"
    )]
    TooLong {
        /// How many there are.
        found: usize,
        /// The most.
        most: usize,
    },
    /// Weights that are no numbers.
    #[error("`{what}`: the weights are not finite")]
    NotFinite {
        /// The matrix.
        what: String,
    },
    /// The lens.
    #[error(transparent)]
    Lens(#[from] LensError),
    /// A dictionary.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<candle_core::Error> for CompareError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}
