//! A checkpoint of such a run: `state.json`, `rows/` where the data goes on, and for each dictionary `NAME.trainer.safetensors` (all that
//! training needs) and `NAME/` (the dictionary as it stands, in SAELens's format).

use std::fs;
use std::path::{Path, PathBuf};

use candlescope_sae::format::write_saelens;
use candlescope_sae::train::Trainer;
use serde::{Deserialize, Serialize};

use super::one::One;
use crate::activations::TrainingRows;
use crate::files::write::write_atomic;
use crate::train::{TrainError, checkpoint::difference};

const SCHEMA: &str = "candlescope.dictionary-checkpoint/1";

/// What goes on from here must agree with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    schema: String,
    pub step: u64,
    /// All that decides the weights.
    config: serde_json::Value,
    /// Hashes of the model's forward and of the data.
    pub model: String,
    pub data: String,
}

/// What a checkpoint must have been made with.
pub(super) struct Made<'a> {
    pub config: &'a serde_json::Value,
    pub model: &'a str,
    pub data: &'a str,
}

/// Where a checkpoint has all that training of a dictionary needs.
pub(super) fn state_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.trainer.safetensors"))
}

/// Writes a checkpoint's files.
pub(super) fn write(
    folder: &Path,
    step: u64,
    made: &Made,
    rows: &dyn TrainingRows,
    all: &[One],
) -> Result<(), TrainError> {
    let state = State {
        schema: SCHEMA.into(),
        step,
        config: made.config.clone(),
        model: made.model.into(),
        data: made.data.into(),
    };
    let text = serde_json::to_string_pretty(&state).map_err(|e| TrainError::Syntax {
        origin: "state.json".into(),
        message: e.to_string(),
    })?;
    write_atomic(&folder.join("state.json"), text.as_bytes())?;
    let place = folder.join("rows");
    fs::create_dir(&place).map_err(TrainError::io(&place, "make"))?;
    rows.save(&place)?;
    for one in all {
        write_atomic(&state_of(folder, &one.name), &one.trainer.to_bytes()?)?;
        write_saelens(&one.dictionary()?, &folder.join(&one.name), None)?;
    }
    Ok(())
}

/// Reads a checkpoint into what was prepared for a new run; gives its step.
pub(super) fn read(
    folder: &Path,
    made: &Made,
    rows: &mut dyn TrainingRows,
    all: &mut [One],
) -> Result<u64, TrainError> {
    let path = folder.join("state.json");
    let text = fs::read_to_string(&path).map_err(TrainError::io(&path, "read"))?;
    let state: State = serde_json::from_str(&text).map_err(|e| TrainError::Syntax {
        origin: path.display().to_string(),
        message: e.to_string(),
    })?;
    for (field, ours, theirs) in [
        ("schema", SCHEMA, state.schema.as_str()),
        ("model", made.model, &state.model),
        ("data", made.data, &state.data),
    ] {
        if ours != theirs {
            return Err(TrainError::mismatch(&path, field, ours, theirs));
        }
    }
    if let Some((field, ours, theirs)) = difference(made.config, &state.config, "") {
        return Err(TrainError::mismatch(&path, field, ours, theirs));
    }
    rows.restore(&folder.join("rows"))?;
    for one in all {
        let path = state_of(folder, &one.name);
        let bytes = fs::read(&path).map_err(TrainError::io(&path, "read"))?;
        one.trainer = Trainer::from_bytes(&bytes)?;
    }
    Ok(state.step)
}
