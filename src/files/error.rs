//! What can go wrong between a path and a tensor. Every variant names the file and the field at fault, what was
//! expected there and what was found. Nothing in this room panics on foreign input; it returns one of these.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// An error of reading or writing tensor files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused; a full disk shows up here too.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file or folder that was touched.
        file: PathBuf,
        /// What was being done, as an infinitive: "read", "rename to ...".
        action: String,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A field of the file as a whole is not what the format allows.
    #[error("{}: {field}: expected {expected}, found {found}", file.display())]
    Invalid {
        /// The file at fault.
        file: PathBuf,
        /// Where in it: `header length`, `metadata[3].key`, `weight_map`.
        field: String,
        /// What the format allows there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A field of one tensor is not what the format allows, or not what the caller asked for.
    #[error("{}: tensor `{tensor}`: {field}: expected {expected}, found {found}", file.display())]
    Tensor {
        /// The file at fault.
        file: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// Which of its fields: `shape`, `dtype`, `data_offsets`, `ggml type`.
        field: String,
        /// What is allowed.
        expected: String,
        /// What is there.
        found: String,
    },
    /// No tensor of that name.
    #[error("{}: no tensor `{tensor}` among its {count} tensors", file.display())]
    Missing {
        /// The file or folder that was asked.
        file: PathBuf,
        /// The name that was asked for.
        tensor: String,
        /// How many tensors there are.
        count: usize,
    },
    /// The path holds nothing this room reads.
    #[error("{}: not a checkpoint: {found}; {hint}", file.display())]
    NotACheckpoint {
        /// The path that was opened.
        file: PathBuf,
        /// What is there instead.
        found: String,
        /// What to try.
        hint: String,
    },
    /// The caller's own source of tensors failed while a file was being written.
    #[error("{}: tensor `{tensor}` could not be produced: {source}", file.display())]
    Produce {
        /// The file being written; nothing of it remains.
        file: PathBuf,
        /// The tensor that failed.
        tensor: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl FileError {
    pub(super) fn io(
        file: &Path,
        action: impl Into<String>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let (file, action) = (file.to_path_buf(), action.into());
        move |source| Self::Io {
            file,
            action,
            source,
        }
    }

    pub(super) fn invalid(
        file: &Path,
        field: impl Display,
        expected: impl Display,
        found: impl Display,
    ) -> Self {
        Self::Invalid {
            file: file.to_path_buf(),
            field: field.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(super) fn tensor(
        file: &Path,
        tensor: &str,
        field: impl Display,
        expected: impl Display,
        found: impl Display,
    ) -> Self {
        Self::Tensor {
            file: file.to_path_buf(),
            tensor: tensor.to_owned(),
            field: field.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
