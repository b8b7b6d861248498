//! A dictionary from a file, with the points of a model that it reads and writes.

use std::path::Path;

use candlescope_sae::{Dictionary, format};

use super::FeatureError;
use crate::hooks::HookPoint;
use crate::model::fetch::{self, Cache};
use crate::model::{Checkpoint, Fingerprint, ModelError, built_in};

/// A dictionary as it was read.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Its path, for messages.
    pub name: String,
    /// The dictionary.
    pub dictionary: Dictionary,
    /// What was recognised: format, files, notes.
    pub found: format::Found,
}

/// Reads a dictionary in any format that is known, or the one in this binary by its name.
///
/// # Errors
/// As [`format::read`].
pub fn open(path: &Path) -> Result<Opened, FeatureError> {
    let (dictionary, found) = match path.to_str().and_then(built_in::dictionary) {
        Some(dictionary) => format::read(&fetch::unpacked(dictionary, &Cache::new()?)?)?,
        None => format::read(path)?,
    };
    Ok(Opened {
        name: path.display().to_string(),
        dictionary,
        found,
    })
}

impl Opened {
    /// The point it reads, from its own words.
    ///
    /// # Errors
    /// It names none, several (a crosscoder), or one that no model has.
    pub fn read(&self) -> Result<HookPoint, FeatureError> {
        place(&self.name, "reads", &self.dictionary.about().reads)
    }

    /// The point it writes: for an autoencoder the one that it reads.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn write(&self) -> Result<HookPoint, FeatureError> {
        let about = self.dictionary.about();
        if about.writes.is_empty() {
            return self.read();
        }
        place(&self.name, "writes", &about.writes)
    }

    /// Refuses a model on which it was not made. A dictionary that does not say on which it was made is taken.
    ///
    /// # Errors
    /// The field of the fingerprint that differs; a fingerprint that is not one.
    pub fn expect(&self, checkpoint: &Checkpoint) -> Result<(), FeatureError> {
        let Some(value) = &self.dictionary.about().fingerprint else {
            return Ok(());
        };
        let made_on: Fingerprint = serde_json::from_value(value.clone()).map_err(|e| {
            let path = self.name.clone();
            let why = format!("its fingerprint is not one of this program: {e}");
            ModelError::NotACheckpoint { path, why }
        })?;
        let same = checkpoint.fingerprint()?.expect(&made_on, &self.name);
        same.map_err(|source| FeatureError::Foreign { source })
    }
}

fn place(artefact: &str, side: &'static str, points: &[String]) -> Result<HookPoint, FeatureError> {
    let refuse = |why: String| FeatureError::Place {
        artefact: artefact.to_owned(),
        side,
        why,
    };
    match points {
        [] => Err(refuse("its file names no point".into())),
        [one] => one
            .parse()
            .map_err(|e: crate::hooks::HookError| refuse(e.to_string())),
        several => Err(refuse(format!("several points: {}", several.join(", ")))),
    }
}
