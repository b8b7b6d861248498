//! How far a direction has been learned, on disk: `learning.json`, written whole after every step.
//!
//! Always: what is read continues to the bit; a state of another model, other prompts or settings is refused by name.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Sphere;
use crate::files::write::write_atomic;
use crate::model::ModelError;
use crate::steer::SteerError;
use crate::steer::keyed::{Key, at, same};

/// The file's name in a learning's folder.
pub const NAME: &str = "learning.json";

/// No state is larger: a cone of some hundred wide directions.
const MOST: u64 = 1 << 30;

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Losses of the examples of this step, before it: bypass, induce, retain.
    pub train: [f64; 3],
    /// Weighted validation loss after it, where it was measured.
    pub validation: Option<f64>,
}

/// Everything that goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it belongs to.
    pub key: Key,
    /// The directions and their moments.
    pub sphere: Sphere,
    /// The directions of least validation loss, and that loss.
    pub best: (f64, Vec<Vec<f64>>),
    /// Measurements without a better one.
    pub waiting: usize,
    /// How often the rate has been cut.
    pub cuts: usize,
    /// Steps so far.
    pub history: Vec<Step>,
}

impl State {
    /// Reads the state of a folder; `None` where there is none.
    ///
    /// # Errors
    /// [`SteerError::Ledger`]: it belongs to something else or cannot be read.
    pub fn read(folder: &Path, key: &Key) -> Result<Option<Self>, SteerError> {
        let path = folder.join(NAME);
        let size = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path, error.to_string())),
            Ok(about) => about.len(),
        };
        if size > MOST {
            return Err(at(&path, format!("{size} bytes; at most {MOST} are read")));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| at(&path, e.to_string()))?;
        let state: Self = serde_json::from_str(&text).map_err(|e| at(&path, e.to_string()))?;
        same(&path, &state.key, key)?;
        Ok(Some(state))
    }

    /// Writes it whole.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, folder: &Path) -> Result<(), SteerError> {
        let path = folder.join(NAME);
        std::fs::create_dir_all(folder).map_err(|e| at(&path, e.to_string()))?;
        let text = serde_json::to_string(self).map_err(|e| at(&path, e.to_string()))?;
        write_atomic(&path, text.as_bytes()).map_err(|e| SteerError::from(ModelError::from(e)))
    }
}
