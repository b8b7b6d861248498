//! Why a dictionary cannot be used on a model.

use candlescope_probes::ProbeError;
use candlescope_sae::SaeError;

use crate::activations::StoreError;
use crate::files::FileError;
use crate::hooks::{HookError, HookPoint};
use crate::model::ModelError;
use crate::model::fetch::FetchError;

/// Errors of the features room.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// A dictionary that does not say where it belongs, or says it in words that name no point.
    #[error("{artefact}: where it {side} is not known ({why}); name the hook point")]
    Place {
        /// The dictionary.
        artefact: String,
        /// `reads` or `writes`.
        side: &'static str,
        /// What was found.
        why: String,
    },
    /// A dictionary of another width than the tensor it belongs to.
    #[error("{artefact}: it {side} {found} values, {at} has {expected} in this model")]
    Width {
        /// The dictionary.
        artefact: String,
        /// `reads` or `writes`.
        side: &'static str,
        /// The point.
        at: HookPoint,
        /// Width of the model's tensor.
        expected: usize,
        /// Width of the dictionary's.
        found: usize,
    },
    /// A transcoder that writes before it has read.
    #[error(
        "{artefact}: {write} comes before {read} in the forward pass, so it cannot be written from it"
    )]
    Order {
        /// The dictionary.
        artefact: String,
        /// Where it reads.
        read: HookPoint,
        /// Where it writes.
        write: HookPoint,
    },
    /// A dictionary that was made on another forward pass.
    #[error("{source}; --accept-foreign uses the dictionary all the same")]
    Foreign {
        /// What differs.
        source: ModelError,
    },
    /// The dictionary of this binary cannot be unpacked.
    #[error(transparent)]
    BuiltIn(#[from] FetchError),
    /// Nothing to measure on.
    #[error("{what}")]
    Nothing {
        /// What is missing, and what to try.
        what: String,
    },
    /// A latent edit that cannot be read or applied.
    #[error("latent edit `{text}`: {why}")]
    Edit {
        /// As written.
        text: String,
        /// What is wrong, and how it is written.
        why: String,
    },
    /// The dictionary.
    #[error(transparent)]
    Sae(#[from] SaeError),
    /// The hooks.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The texts, or what is left out of them.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file beside the dictionary: records, labels.
    #[error(transparent)]
    File(#[from] FileError),
    /// The statistics.
    #[error(transparent)]
    Statistics(#[from] ProbeError),
    /// Tensor arithmetic.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
