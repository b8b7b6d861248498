//! What can go wrong between text and token ids.
//!
//! Every variant names the file, metadata key, template or id, what was expected and what was found.
//! Nothing here is raised for our own mistakes: all of it comes from files and texts of others.

use std::io;
use std::path::PathBuf;

/// An error of the tokenizer or of a chat template.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was read, but is not what its name promises.
    #[error("{path} is not a valid {expected}: {found}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        expected: &'static str,
        /// What is wrong with it.
        found: String,
    },
    /// A checkpoint folder without `tokenizer.json`.
    #[error(
        "{dir} has no tokenizer.json (found: {found}); save the checkpoint once with a fast tokenizer, which writes that file"
    )]
    NoTokenizer {
        /// The folder.
        dir: PathBuf,
        /// The tokenizer files of other kinds that lie there, or "nothing of a tokenizer".
        found: String,
    },
    /// A tokenizer key of a GGUF file is missing or has another type or length.
    #[error("gguf metadata `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// The metadata key.
        key: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// `tokenizer.ggml.model` names a kind that is not rebuilt here.
    #[error(
        "gguf tokenizer kind `{kind}` is not supported (supported: gpt2, llama); use the Hugging Face folder of this checkpoint"
    )]
    UnknownKind {
        /// The value of `tokenizer.ggml.model`.
        kind: String,
    },
    /// `tokenizer.ggml.pre` names a splitting rule that is not known exactly, so no ids are given rather than wrong ones.
    #[error(
        "gguf pre-tokenizer `{name}` is not known exactly (known: {known}); use the Hugging Face folder of this checkpoint"
    )]
    UnknownPreTokenizer {
        /// The value of `tokenizer.ggml.pre`.
        name: String,
        /// All names that are known.
        known: String,
    },
    /// The tokenizers library refused.
    #[error("tokenizer failed while {doing}: {message}")]
    Library {
        /// What was being done.
        doing: &'static str,
        /// What the library said.
        message: String,
    },
    /// The tokenizer can produce ids that the model has no row for: it belongs to another checkpoint.
    #[error(
        "the tokenizer has ids up to {max_id} (`{token}`) but the model has {model_vocab} embedding rows; this tokenizer belongs to another checkpoint"
    )]
    VocabMismatch {
        /// Highest id of the tokenizer.
        max_id: u32,
        /// The token with that id.
        token: String,
        /// Rows of the model's embedding.
        model_vocab: usize,
    },
    /// A chat template that does not parse.
    #[error("chat template `{name}`{at}: {message}", at = .line.map_or(String::new(), |l| format!(" line {l}")))]
    TemplateSyntax {
        /// Name of the template.
        name: String,
        /// Line of the template's source.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// The template called `raise_exception`: it does not take these messages.
    #[error("chat template `{name}` refuses these messages: {message}")]
    TemplateRaised {
        /// Name of the template.
        name: String,
        /// The template's own words.
        message: String,
    },
    /// The template failed, ran too long or wrote too much.
    #[error("chat template `{name}`{at} failed: {message}", at = .line.map_or(String::new(), |l| format!(" line {l}")))]
    TemplateRender {
        /// Name of the template.
        name: String,
        /// Line of the template's source.
        line: Option<usize>,
        /// What went wrong.
        message: String,
    },
    /// A value for the template that is not JSON.
    #[error("template variable `{name}` is not valid JSON: {message}")]
    TemplateVariable {
        /// Name of the variable.
        name: String,
        /// What the parser said.
        message: String,
    },
}

impl TextError {
    /// Wraps an error of the tokenizers library, whose error type is a bare box.
    pub(super) fn library(doing: &'static str, source: impl std::fmt::Display) -> Self {
        Self::Library {
            doing,
            message: source.to_string(),
        }
    }
}
