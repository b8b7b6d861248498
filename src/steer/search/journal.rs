//! A search on disk: `trials.jsonl`, first what it belongs to, then a line for each trial, and at its end one for each of the
//! front's trials on test prompts.
//!
//! Always: a line is whole or not there (one that a kill cut off is dropped when the file is opened again), trials stand in
//! their order, and a file that belongs to another model, other prompts, directions or settings is refused by name.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Extras, Measured, Trial};
use crate::steer::SteerError;
use crate::steer::grid_file::{Key, at, same};

/// The file's name in a search's folder.
pub const NAME: &str = "trials.jsonl";

/// No search is larger: ten thousand trials with some thousand numbers each.
const MOST: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Key(Key),
    Trial(Trial),
    Test {
        trial: usize,
        measured: Measured,
        extras: Extras,
    },
}

/// The open file with what it holds.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    trials: Vec<Trial>,
    tests: Vec<(usize, Measured, Extras)>,
}

impl Journal {
    /// Opens the journal of a folder, or begins one.
    ///
    /// # Errors
    /// [`SteerError::Ledger`]: it belongs to something else, cannot be read or written, or is damaged before its end.
    pub fn open(folder: &Path, key: &Key) -> Result<Self, SteerError> {
        let path = folder.join(NAME);
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
        let mut found = Self {
            file,
            trials: Vec::new(),
            tests: Vec::new(),
            path: path.clone(),
        };
        found.file.set_len(whole as u64).map_err(failed)?;
        found.file.seek(SeekFrom::End(0)).map_err(failed)?;
        if whole == 0 {
            found.write(&Line::Key(key.clone()))?;
            return Ok(found);
        }
        for (number, line) in text[..whole].lines().enumerate() {
            let bad = || at(&path, format!("line {} cannot be read", number + 1));
            match (number, serde_json::from_str(line).map_err(|_| bad())?) {
                (0, Line::Key(theirs)) => same(&path, &theirs, key)?,
                (1.., Line::Trial(trial)) if trial.number == found.trials.len() => {
                    found.trials.push(trial);
                }
                (
                    1..,
                    Line::Test {
                        trial,
                        measured,
                        extras,
                    },
                ) => found.tests.push((trial, measured, extras)),
                _ => return Err(bad()),
            }
        }
        Ok(found)
    }

    /// Trials, in order.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// What a trial gave on test prompts.
    pub fn test(&self, trial: usize) -> Option<(&Measured, &Extras)> {
        let found = self.tests.iter().find(|(number, ..)| *number == trial);
        found.map(|(_, measured, extras)| (measured, extras))
    }

    /// Keeps a trial.
    ///
    /// # Errors
    /// The disk's.
    pub fn note(&mut self, trial: Trial) -> Result<(), SteerError> {
        self.write(&Line::Trial(trial.clone()))?;
        self.trials.push(trial);
        Ok(())
    }

    /// Keeps what a trial gave on test prompts.
    ///
    /// # Errors
    /// The disk's.
    pub fn note_test(
        &mut self,
        trial: usize,
        measured: Measured,
        extras: Extras,
    ) -> Result<(), SteerError> {
        self.write(&Line::Test {
            trial,
            measured: measured.clone(),
            extras: extras.clone(),
        })?;
        self.tests.push((trial, measured, extras));
        Ok(())
    }

    fn write(&mut self, line: &Line) -> Result<(), SteerError> {
        let text = serde_json::to_string(line).map_err(|e| at(&self.path, e.to_string()))?;
        let written = (self.file.write_all(format!("{text}\n").as_bytes()))
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| at(&self.path, error.to_string()))
    }
}
