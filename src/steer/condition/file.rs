//! A condition on disk: a safetensors file with `condition` and `centre`, `[d_model]` each, and its numbers as metadata.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Condition, Method, Score, Side};
use crate::files::{
    FileError,
    safetensors::SafetensorsFile,
    write::{WriteOptions, write_safetensors_file},
};
use crate::model::Fingerprint;

const SCHEMA: &str = "candlescope.condition/1";
const DIRECTION: &str = "condition";
const CENTRE: &str = "centre";

/// All but the vectors, as JSON in one metadata field.
#[derive(Serialize, Deserialize)]
struct Numbers {
    layer: usize,
    score: Score,
    method: Method,
    threshold: f64,
    side: Side,
    f1: f64,
    n_train: (usize, usize),
    prompts: String,
    fingerprint: Option<Fingerprint>,
}

/// Writes a condition, replacing what is there.
///
/// # Errors
/// The disk refuses.
pub fn save(file: &Path, condition: &Condition) -> Result<(), FileError> {
    let numbers = Numbers {
        layer: condition.layer,
        score: condition.score,
        method: condition.method,
        threshold: condition.threshold,
        side: condition.side,
        f1: condition.f1,
        n_train: condition.n_train,
        prompts: condition.prompts.clone(),
        fingerprint: condition.fingerprint.clone(),
    };
    let text = serde_json::to_string(&numbers).map_err(|error| FileError::Invalid {
        file: file.to_path_buf(),
        field: "metadata `condition`".into(),
        expected: "numbers that can be written".into(),
        found: error.to_string(),
    })?;
    let metadata = BTreeMap::from([
        ("schema".to_owned(), SCHEMA.to_owned()),
        ("condition".to_owned(), text),
    ]);
    let options = WriteOptions {
        metadata,
        ..WriteOptions::default()
    };
    let width = condition.direction.len();
    let plan = [
        (CENTRE.to_owned(), vec![width]),
        (DIRECTION.to_owned(), vec![width]),
    ];
    write_safetensors_file(file, &plan, &options, |name| {
        let values = if name == CENTRE {
            &condition.centre
        } else {
            &condition.direction
        };
        Tensor::from_slice(values, width, &Device::Cpu)
    })
}

/// Reads a condition.
///
/// # Errors
/// No such file, another kind of file, vectors of another shape or with entries that are not finite, a threshold that is no
/// number.
pub fn load(file: &Path) -> Result<Condition, FileError> {
    let open = SafetensorsFile::open(file)?;
    let invalid = |field: &str, expected: &str, found: String| FileError::Invalid {
        file: file.to_path_buf(),
        field: field.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let metadata = open.metadata();
    let schema = metadata.get("schema").cloned().unwrap_or_default();
    if schema != SCHEMA {
        let found = if schema.is_empty() {
            "none".into()
        } else {
            schema
        };
        return Err(invalid("metadata `schema`", SCHEMA, found));
    }
    let text = metadata.get("condition").map_or("", String::as_str);
    let numbers: Numbers = serde_json::from_str(text).map_err(|error| {
        invalid(
            "metadata `condition`",
            "a condition's numbers",
            error.to_string(),
        )
    })?;
    if !numbers.threshold.is_finite() {
        return Err(invalid(
            "threshold",
            "a finite number",
            numbers.threshold.to_string(),
        ));
    }
    let vector = |name: &str| -> Result<Vec<f32>, FileError> {
        let stored = open.load(name, DType::F32)?;
        let values = stored
            .to_vec1::<f32>()
            .map_err(|error| invalid(name, "a vector", error.to_string()))?;
        match values.iter().find(|x| !x.is_finite()) {
            Some(bad) => Err(invalid(name, "finite numbers", bad.to_string())),
            None => Ok(values),
        }
    };
    let (direction, centre) = (vector(DIRECTION)?, vector(CENTRE)?);
    if direction.len() != centre.len() {
        let expected = format!("{} numbers", direction.len());
        return Err(invalid(CENTRE, &expected, centre.len().to_string()));
    }
    Ok(Condition {
        direction,
        centre,
        layer: numbers.layer,
        score: numbers.score,
        method: numbers.method,
        threshold: numbers.threshold,
        side: numbers.side,
        f1: numbers.f1,
        n_train: numbers.n_train,
        prompts: numbers.prompts,
        fingerprint: numbers.fingerprint,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_a_direction_is_no_condition() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.safetensors");
        let condition = Condition {
            direction: vec![0.6, -0.8],
            centre: vec![1.0, 2.0],
            layer: 4,
            score: Score::Signed,
            method: Method::PairwisePca,
            threshold: 0.1 + 0.2,
            side: Side::Below,
            f1: 0.96,
            n_train: (32, 30),
            prompts: "abc".into(),
            fingerprint: None,
        };
        save(&file, &condition).unwrap();
        assert_eq!(load(&file).unwrap(), condition);
        let direction = crate::steer::file::DirectionFile {
            vector: vec![1.0],
            ..Default::default()
        };
        crate::steer::file::save(&file, &direction).unwrap();
        let error = load(&file).unwrap_err().to_string();
        assert!(error.contains("candlescope.condition/1"), "{error}");
    }
}
