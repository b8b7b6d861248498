//! What can go wrong between a text and a store of activations.

use std::path::PathBuf;

use crate::{files::FileError, model::ModelError};

/// Errors of the activations room.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A row of the source that cannot be used.
    #[error("{origin}: {what}")]
    Row {
        /// `file:line`, or what else names the row.
        origin: String,
        /// What was expected and found.
        what: String,
    },
    /// A row that is longer than allowed.
    #[error(
        "{origin}: {tokens} tokens, at most {max_len} fit; raise --max-len, shorten the text, or cut rows with --truncate"
    )]
    TooLong {
        /// Which row.
        origin: String,
        /// Its tokens.
        tokens: usize,
        /// The most that are allowed.
        max_len: usize,
    },
    /// A source without rows.
    #[error("{source_name}: no rows; nothing would be captured")]
    NoRows {
        /// The source.
        source_name: String,
    },
    /// A setting that makes no sense.
    #[error("{option}: expected {expected}, found {found}")]
    Setting {
        /// Its name.
        option: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// The store would not fit on the disk.
    #[error(
        "{}: the store needs {needed} bytes, the disk has {free} free; take fewer points, --positions last, --store-dtype f16 or \
         another disk", folder.display()
    )]
    DiskFull {
        /// Where it would be written.
        folder: PathBuf,
        /// Bytes still to write.
        needed: u64,
        /// Bytes available.
        free: u64,
    },
    /// A folder that is in use.
    #[error("{}: {what}", folder.display())]
    FolderInUse {
        /// The folder.
        folder: PathBuf,
        /// What is in it and what to do.
        what: &'static str,
    },
    /// A folder that is no store, or not one this program reads.
    #[error("{}: not a store of activations: {why}", path.display())]
    NotAStore {
        /// The folder or file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// `--resume` with other settings than the store was begun with.
    #[error(
        "{}: was begun with another {field} ({begun}, now {now}); resume with the same settings or capture into another \
         folder", folder.display()
    )]
    OtherSettings {
        /// The store.
        folder: PathBuf,
        /// What differs.
        field: &'static str,
        /// In the store.
        begun: String,
        /// Now.
        now: String,
    },
    /// The source gave other tokens the second time it was read.
    #[error(
        "row {row} of the source changed while it was captured; capture again from a file that stays as it is"
    )]
    SourceChanged {
        /// The first row that differs, or the number of rows.
        row: usize,
    },
    /// A value that f16 cannot hold.
    #[error(
        "{point}, row {row}: {value} does not fit f16 (at most 65504); use --store-dtype bf16 or f32"
    )]
    Overflow {
        /// The point.
        point: String,
        /// The row.
        row: usize,
        /// The value.
        value: f32,
    },
    /// A value that is no number, or infinite.
    #[error(
        "{point}, row {row}: the activation is {value}; nothing can be trained on it; try the model in f32, or look at \
         the row's text"
    )]
    NotFinite {
        /// The point.
        point: String,
        /// The row, and the position where it is known.
        row: String,
        /// The value.
        value: f32,
    },
    /// A source that gives training nothing.
    #[error(
        "{what}: nothing is left to train on; of {tokens} tokens {left_out} are left out by the policy; see --drop"
    )]
    NothingKept {
        /// The source or store.
        what: String,
        /// Its tokens.
        tokens: u64,
        /// Those left out.
        left_out: u64,
    },
    /// A saved place in training rows that does not belong to these.
    #[error("{}: the saved rows are of another {field} ({saved}, here {here}); go on with the settings they were saved with", path.display())]
    OtherRows {
        /// The file.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// In the file.
        saved: String,
        /// Here.
        here: String,
    },
    /// A store that does not go with another one, token by token.
    #[error(
        "{}: its {field} are not those of {} ({expected} there, {found} here); capture both from one source with the same \
         --pack, --positions and limits, by models of one tokenizer", folder.display(), first.display()
    )]
    OtherTokens {
        /// The store.
        folder: PathBuf,
        /// The one that it should go with.
        first: PathBuf,
        /// What differs.
        field: &'static str,
        /// In the first.
        expected: String,
        /// In this one.
        found: String,
    },
    /// A shard whose bytes are not those that were written.
    #[error("{}: sha256 is {found}, the manifest says {expected}; the file has changed or is damaged", file.display())]
    Damaged {
        /// The shard.
        file: PathBuf,
        /// In the manifest.
        expected: String,
        /// Here.
        found: String,
    },
    /// A point or row that was not captured.
    #[error("{}: holds no {what}; it has {there}", folder.display())]
    Absent {
        /// The store.
        folder: PathBuf,
        /// What was asked for.
        what: String,
        /// What there is.
        there: String,
    },
    /// A store whose capture has not finished.
    #[error(
        "{}: the capture is not complete: {rows} of {planned} rows; finish it with `candlescope capture ... --resume`",
        folder.display()
    )]
    Incomplete {
        /// The store.
        folder: PathBuf,
        /// Rows in it.
        rows: usize,
        /// Rows planned.
        planned: usize,
    },
    /// A suite.
    #[error(transparent)]
    Suite(#[from] crate::text::suites::SuiteError),
    /// Rows of a file.
    #[error(transparent)]
    Data(#[from] crate::text::dataset::DataError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Reading a text.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

impl From<crate::hooks::HookError> for StoreError {
    fn from(error: crate::hooks::HookError) -> Self {
        Self::Model(error.into())
    }
}

impl From<crate::text::TextError> for StoreError {
    fn from(error: crate::text::TextError) -> Self {
        Self::Model(error.into())
    }
}

impl From<candle_core::Error> for StoreError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}
