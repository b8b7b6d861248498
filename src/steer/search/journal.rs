//! A search on disk: `trials.jsonl`, first what it belongs to, then a line for each trial, and at its end one for each of the
//! front's trials on test prompts.
//!
//! Always: trials stand in their order. How it is kept and refused is `steer/keyed.rs`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Extras, Measured, Trial};
use crate::steer::SteerError;
use crate::steer::keyed::{Key, KeyedLines};

/// The file's name in a search's folder.
pub const NAME: &str = "trials.jsonl";

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
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
    lines: KeyedLines,
    trials: Vec<Trial>,
    tests: Vec<(usize, Measured, Extras)>,
}

impl Journal {
    /// Opens the journal of a folder, or begins one.
    ///
    /// # Errors
    /// [`SteerError::Ledger`]: it belongs to something else, cannot be read or written, or is damaged before its end.
    pub fn open(folder: &Path, key: &Key) -> Result<Self, SteerError> {
        let (lines, read) = KeyedLines::open(folder, NAME, key)?;
        let mut found = Self {
            lines,
            trials: Vec::new(),
            tests: Vec::new(),
        };
        for (behind, line) in read.into_iter().enumerate() {
            match line {
                Line::Trial(trial) if trial.number == found.trials.len() => {
                    found.trials.push(trial);
                }
                Line::Trial(_) => return Err(found.lines.misplaced(behind)),
                Line::Test {
                    trial,
                    measured,
                    extras,
                } => found.tests.push((trial, measured, extras)),
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
        self.lines.write(&Line::Trial(trial.clone()))?;
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
        self.lines.write(&Line::Test {
            trial,
            measured: measured.clone(),
            extras: extras.clone(),
        })?;
        self.tests.push((trial, measured, extras));
        Ok(())
    }
}
