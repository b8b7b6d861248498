//! A file of rows, read whole: which format it is in, and how much of it is read at most.
//!
//! Always: a format gives the same rows as the others for the same content; `null` is an absent column. JSON is read in
//! `json.rs`, Parquet in `parquet.rs`; what columns mean is in [`super::columns`].

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use minijinja::Value;
use serde::Serialize;

use super::{error::DataError, json, parquet};
use crate::files::hash::sha256;

/// The largest file read, in bytes.
pub(super) const MAX_FILE: u64 = 2 << 30;
/// Most rows of a file.
pub(super) const MAX_ROWS: u64 = 20_000_000;

/// Where a row stands, for messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// In it.
    pub at: At,
}

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// A line of JSON lines.
    Line(usize),
    /// A row of a JSON array or of Parquet.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.at {
            At::Line(line) => write!(f, "{}:{line}", self.file),
            At::Row(row) => write!(f, "{} row {row}", self.file),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One row as it stands in the file: its columns in their order, none twice, none `null`.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where.
    pub place: Place,
    pub(super) fields: Vec<(String, Value)>,
}

impl Record {
    pub(super) fn get(&self, column: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|(name, _)| name == column)
            .map(|(_, value)| value)
    }

    /// What stands in a column: a text as it is, anything else as JSON.
    pub fn text(&self, column: &str) -> Option<String> {
        let value = self.get(column)?;
        let text = value.as_str().map(str::to_owned);
        text.or_else(|| serde_json::to_string(value).ok())
    }

    /// Names of its columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

/// The rows of a file; at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The file's name, for messages.
    pub file: Arc<str>,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its rows.
    pub rows: Vec<Record>,
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Lines,
    Array,
    Parquet,
}

/// Reads a file: Parquet by its first bytes, a JSON array by its first bracket, JSON lines otherwise.
///
/// # Errors
/// [`DataError::Read`], [`DataError::TooLarge`], [`DataError::Empty`], [`DataError::Malformed`], [`DataError::Parquet`],
/// [`DataError::Codec`].
pub fn read(path: &Path) -> Result<Table, DataError> {
    let file = path.display().to_string();
    let failed = |source| DataError::Read {
        file: file.clone(),
        source,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    from_bytes(&file, bytes)
}

/// As [`read`], for what is already in memory; `name` is said in messages.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Table, DataError> {
    let file: Arc<str> = name.into();
    if bytes.len() as u64 > MAX_FILE {
        return Err(DataError::TooLarge {
            file: name.into(),
            what: "bytes",
            limit: MAX_FILE,
            found: bytes.len() as u64,
        });
    }
    let sha256 = sha256(&bytes);
    let rows = match format(&bytes) {
        Format::Lines => json::lines(&file, &bytes)?,
        Format::Array => json::array(&file, &bytes)?,
        Format::Parquet => parquet::rows(&file, bytes)?,
    };
    if rows.is_empty() {
        return Err(DataError::Empty { file: name.into() });
    }
    Ok(Table { file, sha256, rows })
}

fn format(bytes: &[u8]) -> Format {
    if bytes.starts_with(b"PAR1") {
        return Format::Parquet;
    }
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => Format::Array,
        _ => Format::Lines,
    }
}
