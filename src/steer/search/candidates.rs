//! The candidates that `direction extract` wrote, as series to search over: those of one method and position, by layer.
//!
//! Always: a vector's name says what it is (METHOD.LAYER.POSITION); one that says it otherwise is refused by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{SearchError, Series};
use crate::files::safetensors::SafetensorsFile;
use crate::hooks::Vector;
use crate::model::{Checkpoint, ModelError};
use crate::steer::{SteerError, file};

/// The file in such a folder.
const FILE: &str = "candidates.safetensors";

impl Series {
    /// Reads the series of a folder, each with its layers ascending. Those made on another model are refused unless `foreign`.
    ///
    /// # Errors
    /// No such file, a vector of another name or width, another model's.
    pub fn read(folder: &Path, cp: &Checkpoint, foreign: bool) -> Result<Vec<Self>, SearchError> {
        let path = folder.join(FILE);
        let wrong = |expected: &str, found: String| SearchError::Candidates {
            file: path.clone(),
            expected: expected.to_owned(),
            found,
        };
        let names = SafetensorsFile::open(&path)
            .map_err(ModelError::from)?
            .names();
        let mut all: BTreeMap<String, BTreeMap<usize, Vector>> = BTreeMap::new();
        for name in names {
            let mut parts = name.splitn(3, '.');
            let (Some(method), Some(layer), Some(place)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(wrong("vectors named METHOD.LAYER.POSITION", name));
            };
            let layer: usize = layer
                .parse()
                .map_err(|_| wrong("vectors named METHOD.LAYER.POSITION", name.clone()))?;
            let read = file::load(&path, &name).map_err(ModelError::from)?;
            let width = cp.config().d_model;
            if read.vector.len() != width {
                return Err(SteerError::Width {
                    file: path.display().to_string(),
                    tensor: name.clone(),
                    expected: width,
                    model: cp.name.clone(),
                    found: read.vector.len(),
                }
                .into());
            }
            if layer >= cp.config().n_layers {
                let n = cp.config().n_layers;
                return Err(wrong(&format!("layers below {n}, as the model has"), name));
            }
            if let (Some(made_on), false) = (&read.fingerprint, foreign) {
                let artefact = path.display().to_string();
                cp.fingerprint()?.expect(made_on, &artefact)?;
            }
            let series = all.entry(format!("{method}.{place}")).or_default();
            series.insert(layer, Arc::new(read.vector));
        }
        if all.is_empty() {
            return Err(wrong("at least one vector", "none".to_owned()));
        }
        let series = |(name, layers): (String, BTreeMap<usize, Vector>)| Self {
            name,
            directions: layers.into_iter().collect(),
        };
        Ok(all.into_iter().map(series).collect())
    }
}
