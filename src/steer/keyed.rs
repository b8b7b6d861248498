//! A file of JSON lines that belongs to something: first what that is, then what was found, a line each, kept as soon as it
//! is known. Selections and searches go on from one after a kill.
//!
//! Always: a line is whole or not there (one that a kill cut off is dropped when the file is opened again), and a file that
//! belongs to another model, other prompts or other settings is refused, naming the first field that differs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::SteerError;

/// No file is larger: ten thousand lines with some thousand numbers each.
const MOST: u64 = 1 << 30;

/// What a file belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Such as `candlescope.direction.grid/1`.
    pub schema: String,
    /// Hash of the weights.
    pub weights: String,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Hash of the chat template.
    pub template: String,
    /// Hash of the prompts.
    pub prompts: String,
    /// The policy and everything else that decides the numbers, as JSON.
    pub settings: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum First {
    Key(Key),
}

/// The open file.
#[derive(Debug)]
pub(super) struct KeyedLines {
    path: PathBuf,
    file: File,
}

impl KeyedLines {
    /// Opens the file of a folder, or begins one; the lines behind the first, in order.
    ///
    /// # Errors
    /// [`SteerError::Ledger`]: it belongs to something else, cannot be read or written, or is damaged before its end.
    pub fn open<T: DeserializeOwned>(
        folder: &Path,
        name: &str,
        key: &Key,
    ) -> Result<(Self, Vec<T>), SteerError> {
        let path = folder.join(name);
        let failed = |error: std::io::Error| at(&path, error.to_string());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file = (options.read(true).write(true).create(true).truncate(false))
            .open(&path)
            .map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > MOST {
            return Err(at(&path, format!("{size} bytes; at most {MOST} are read")));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let first = lines.next();
        if let Some(line) = first {
            match serde_json::from_str(line) {
                Ok(First::Key(theirs)) => same(&path, &theirs, key)?,
                Err(_) => return Err(at(&path, "its first line does not say what it belongs to")),
            }
        }
        let mut read = Vec::new();
        for (behind, line) in lines.enumerate() {
            let line = serde_json::from_str(line);
            read.push(line.map_err(|_| unread(&path, behind))?);
        }
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut found = Self { path, file };
        if first.is_none() {
            found.write(&First::Key(key.clone()))?;
        }
        Ok((found, read))
    }

    /// Adds a line, on disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, line: &impl Serialize) -> Result<(), SteerError> {
        let text = serde_json::to_string(line).map_err(|e| at(&self.path, e.to_string()))?;
        let written = (self.file.write_all(format!("{text}\n").as_bytes()))
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| at(&self.path, error.to_string()))
    }

    /// The error of a line, counted from the one behind the first, that cannot stand where it does.
    pub fn misplaced(&self, behind: usize) -> SteerError {
        unread(&self.path, behind)
    }
}

fn unread(path: &Path, behind: usize) -> SteerError {
    at(path, format!("line {} cannot be read", behind + 2))
}

/// Refuses a file of something else.
pub(super) fn same(path: &Path, theirs: &Key, ours: &Key) -> Result<(), SteerError> {
    let settings = [theirs.settings.to_string(), ours.settings.to_string()];
    let fields = [
        ("schema", &theirs.schema, &ours.schema),
        ("weights", &theirs.weights, &ours.weights),
        ("tokenizer", &theirs.tokenizer, &ours.tokenizer),
        ("template", &theirs.template, &ours.template),
        ("prompts", &theirs.prompts, &ours.prompts),
        ("settings", &settings[0], &settings[1]),
    ];
    let Some((field, found, expected)) = fields.into_iter().find(|(_, a, b)| a != b) else {
        return Ok(());
    };
    Err(at(
        path,
        format!(
            "it was made with other {field}: expected {expected}, found {found}; name another folder, or delete this file"
        ),
    ))
}

pub(super) fn at(path: &Path, why: impl Into<String>) -> SteerError {
    SteerError::Ledger {
        file: path.display().to_string(),
        why: why.into(),
    }
}
