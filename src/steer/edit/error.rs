//! What can go wrong while weights are edited or two checkpoints are compared.

use crate::files::FileError;
use crate::model::ModelError;
use crate::steer::SteerError;

/// Errors of weight edits.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// No direction was given.
    #[error("no direction to take out; give at least one")]
    NoDirection,
    /// A direction without length, or of which nothing is left.
    #[error("direction {index}: {why}, so it points nowhere")]
    NoLength {
        /// Which one, from 0.
        index: usize,
        /// What became of it.
        why: &'static str,
    },
    /// A direction that lies in the span of those before it.
    #[error(
        "direction {index} lies in the span of those before it; leave it out, it adds nothing to the subspace"
    )]
    Dependent {
        /// Which one, from 0.
        index: usize,
    },
    /// A direction with an entry that is no number.
    #[error("direction {index} has an entry that is not finite")]
    NotFinite {
        /// Which one, from 0.
        index: usize,
    },
    /// A vector of another width than the residual stream.
    #[error(
        "{what}: expected {expected} numbers (the width of the residual stream), found {found}"
    )]
    Width {
        /// Which vector.
        what: String,
        /// `d_model`.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// Amounts that are not one finite number for each layer.
    #[error("amounts of `{component}`: expected {expected}, found {found}")]
    Amounts {
        /// `embed`, `attn` or `mlp`.
        component: &'static str,
        /// What fits.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An embedding that is the unembedding too, and must not be made two.
    #[error(
        "`{tensor}` is also the unembedding, so editing it would change what the model reads off the stream; expected \
         leave to untie the two (the unembedding keeps its copy), or an edit without the embedding"
    )]
    Tied {
        /// The embedding.
        tensor: String,
    },
    /// What a low-rank adapter cannot hold.
    #[error("{what} cannot go into an adapter of linear layers; {instead}")]
    NotInAdapter {
        /// What.
        what: String,
        /// What to do.
        instead: &'static str,
    },
    /// An edit of nothing.
    #[error("every amount is 0, so there is nothing to write")]
    NoChange,
    /// Two models that have no matrices in common.
    #[error(
        "the checkpoints cannot be compared: {field} is {found} here and {expected} in the baseline"
    )]
    Architecture {
        /// What differs.
        field: &'static str,
        /// In the baseline.
        expected: String,
        /// In the checkpoint.
        found: String,
    },
    /// A matrix with an entry that is no number.
    #[error("`{tensor}` has entries that are not finite; `candlescope model check` names them all")]
    BrokenWeights {
        /// The matrix.
        tensor: String,
    },
    /// Steering refused.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The model refused.
    #[error(transparent)]
    Model(Box<ModelError>),
}

impl From<ModelError> for EditError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<FileError> for EditError {
    fn from(error: FileError) -> Self {
        ModelError::from(error).into()
    }
}

impl From<candle_core::Error> for EditError {
    fn from(error: candle_core::Error) -> Self {
        ModelError::from(error).into()
    }
}
