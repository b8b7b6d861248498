//! What can go wrong with a model, by name.

use crate::{config::ConfigError, files::FileError};

/// Errors of the model room.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Somebody no longer waits for the result.
    #[error("cancelled")]
    Cancelled,
    /// A config that is not served.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Weights asked for in a dtype that the decoder does not compute in.
    #[error("{file}: --dtype: expected f32, bf16 or f64, found {found}")]
    Dtype {
        /// The file or folder.
        file: String,
        /// What was asked for.
        found: &'static str,
    },
    /// A dump of another implementation's tensors that cannot be compared.
    #[error("{file}: `{tensor}`: expected {expected}, found {found}")]
    Dump {
        /// The dump.
        file: String,
        /// Its tensor.
        tensor: String,
        /// What can be compared.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor that the config requires is not in the file.
    #[error("{file}: tensor `{tensor}` is missing ({needed_for})")]
    MissingTensor {
        /// The file or folder.
        file: String,
        /// Its name.
        tensor: String,
        /// What it would be used for.
        needed_for: String,
    },
    /// Tensors that no part of the model reads.
    #[error("{file}: {count} tensor(s) that this config has no place for: {tensors}")]
    ExtraTensors {
        /// The file or folder.
        file: String,
        /// How many.
        count: usize,
        /// The first few names.
        tensors: String,
    },
    /// A tensor of another shape than the config implies.
    #[error(
        "{file}: tensor `{tensor}`: expected shape {expected:?} from the config, found {found:?}"
    )]
    Shape {
        /// The file or folder.
        file: String,
        /// Its name.
        tensor: String,
        /// From the config.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// More tokens than the model has positions for.
    #[error(
        "{tokens} tokens do not fit the model's context of {n_ctx}; shorten the prompt or generate fewer tokens"
    )]
    ContextTooLong {
        /// Wanted.
        tokens: usize,
        /// Had.
        n_ctx: usize,
    },
    /// A token id outside the vocabulary.
    #[error(
        "token id {id} is outside the model's vocabulary of {vocab}; the tokenizer may belong to another model"
    )]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// An empty batch or prompt.
    #[error("empty input: {what}")]
    Empty {
        /// What was empty.
        what: &'static str,
    },
    /// An adapter that does not fit the model, or has what is not served.
    #[error("adapter: {of}: expected {expected}, found {found}")]
    Adapter {
        /// The option, file or module.
        of: String,
        /// What fits.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An adapter whose base model is not on this machine.
    #[error(
        "{adapter}: its base model `{base}` is not here (looked at {tried}); say where it is with --base MODEL"
    )]
    NoBase {
        /// The adapter's folder.
        adapter: String,
        /// What it names.
        base: String,
        /// Where it was looked for.
        tried: String,
    },
    /// Packed rows that cannot be run.
    #[error("packed rows: {why}")]
    Packed {
        /// The reason.
        why: String,
    },
    /// A KV cache that does not fit the pass.
    #[error("the KV cache cannot be used here: {why}")]
    Cache {
        /// The reason.
        why: String,
    },
    /// Results that no token can be chosen from.
    #[error(
        "{count} of the {what} are NaN, so no token can be chosen; a weight or an edit is broken"
    )]
    NotANumber {
        /// Which results.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A bad sampling setting.
    #[error("sampling option `{option}`: expected {expected}, found {found}")]
    Sampling {
        /// Its name.
        option: &'static str,
        /// The valid range.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// An artefact that was made on another forward pass.
    #[error(
        "{artefact}: made on another forward pass: its {field} is {expected}, this model's is {found}"
    )]
    Fingerprint {
        /// The artefact.
        artefact: String,
        /// The field that differs.
        field: &'static str,
        /// In the artefact.
        expected: String,
        /// Here.
        found: String,
    },
    /// A chat with a model that has no template.
    #[error("{name} has no chat template; use raw text (--raw), or a chat model")]
    NoTemplate {
        /// The model.
        name: String,
    },
    /// No model where one was looked for.
    #[error("{path}: not a checkpoint: {why}")]
    NotACheckpoint {
        /// Where.
        path: String,
        /// The reason.
        why: String,
    },
    /// A hook that cannot apply.
    #[error(transparent)]
    Hook(#[from] crate::hooks::HookError),
    /// Tokenizer or chat template.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// A tensor file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Tensor arithmetic.
    #[error("tensor arithmetic: {0}")]
    Candle(#[from] candle_core::Error),
}
