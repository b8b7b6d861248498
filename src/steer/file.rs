//! Directions on disk: a safetensors file with one vector `direction` `[d_model]`, and where it came from in its metadata.
//!
//! Any safetensors file with a vector will do; one of ours also carries the fingerprint of the forward pass it was made
//! on, so that it is not used on another by accident.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::files::{
    FileError,
    safetensors::SafetensorsFile,
    write::{WriteOptions, header_bytes, write_safetensors_file},
};
use crate::model::Fingerprint;

/// The tensor's name when none is given.
pub const TENSOR: &str = "direction";

/// A direction as it is kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DirectionFile {
    /// `[d_model]`, at its own length: added once, it moves one class of prompts onto the mean of the other.
    pub vector: Vec<f32>,
    /// The forward pass it was made on.
    pub fingerprint: Option<Fingerprint>,
    /// The block whose `resid_pre` it was read at.
    pub layer: Option<usize>,
    /// The position it was read at, from the end.
    pub position: Option<i64>,
    /// Its length, for people; a reader measures the vector.
    pub norm: Option<f64>,
    /// How it was made, such as `means`.
    pub method: Option<String>,
    /// Split-half reliability, stepped up to all prompts (Spearman and Brown).
    pub reliability: Option<f64>,
    /// Hash of the prompts it was made of.
    pub prompts: Option<String>,
    /// What it does on prompts that neither made nor chose it, as `direction select` reports it.
    pub scores: Option<serde_json::Value>,
}

/// Splits `FILE` or `FILE:TENSOR`; a file of the whole name wins.
pub fn parse(spec: &str) -> (PathBuf, &str) {
    if let Some((file, tensor)) = spec.rsplit_once(':')
        && !Path::new(spec).exists()
        && !tensor.is_empty()
        && !tensor.contains(['/', '\\'])
    {
        return (PathBuf::from(file), tensor);
    }
    (PathBuf::from(spec), TENSOR)
}

/// Reads a direction. A tensor of shape `[1, d_model]` counts as a vector too.
///
/// # Errors
/// No such file or tensor, another shape, an entry that is not finite, a fingerprint that cannot be read.
pub fn load(file: &Path, tensor: &str) -> Result<DirectionFile, FileError> {
    let open = SafetensorsFile::open(file)?;
    let wrong = |field: &str, expected: &str, found: String| FileError::Tensor {
        file: file.to_path_buf(),
        tensor: tensor.to_owned(),
        field: field.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let stored = open.load(tensor, DType::F32)?;
    let vector = match stored.dims() {
        [_] | [1, _] => stored.flatten_all().and_then(|t| t.to_vec1::<f32>()),
        other => return Err(wrong("shape", "[d_model]", format!("{other:?}"))),
    };
    let vector = vector.map_err(|e| wrong("data", "a vector", e.to_string()))?;
    if let Some(bad) = vector.iter().find(|x| !x.is_finite()) {
        return Err(wrong("values", "finite numbers", bad.to_string()));
    }
    let metadata = open.metadata();
    let fingerprint = match metadata.get("fingerprint") {
        None => None,
        Some(text) => Some(serde_json::from_str(text).map_err(|e| FileError::Invalid {
            file: file.to_path_buf(),
            field: "metadata `fingerprint`".into(),
            expected: "a fingerprint of candlescope".into(),
            found: e.to_string(),
        })?),
    };
    let number = |key: &str| metadata.get(key).map(String::as_str);
    Ok(DirectionFile {
        vector,
        fingerprint,
        layer: number("layer").and_then(|n| n.parse().ok()),
        position: number("position").and_then(|n| n.parse().ok()),
        norm: number("norm").and_then(|n| n.parse().ok()),
        method: number("method").map(str::to_owned),
        reliability: number("reliability").and_then(|n| n.parse().ok()),
        prompts: number("prompts").map(str::to_owned),
        scores: number("scores").and_then(|text| serde_json::from_str(text).ok()),
    })
}

/// Writes a direction, replacing what is there.
///
/// # Errors
/// The disk refuses.
pub fn save(file: &Path, direction: &DirectionFile) -> Result<(), FileError> {
    let options = WriteOptions {
        metadata: metadata(direction),
        ..WriteOptions::default()
    };
    let plan = [(TENSOR.to_owned(), vec![direction.vector.len()])];
    write_safetensors_file(file, &plan, &options, |_| {
        Tensor::from_slice(&direction.vector, direction.vector.len(), &Device::Cpu)
    })
}

/// The bytes that [`save`] writes.
pub fn bytes(direction: &DirectionFile) -> Vec<u8> {
    let mut metadata = metadata(direction);
    metadata.insert("format".to_owned(), "pt".to_owned());
    let data: Vec<u8> = direction
        .vector
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let entry = serde_json::json!({
        "dtype": "F32", "shape": [direction.vector.len()], "data_offsets": [0, data.len()]
    });
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    header.insert(TENSOR.to_owned(), entry);
    [header_bytes(header), data].concat()
}

fn metadata(direction: &DirectionFile) -> BTreeMap<String, String> {
    let mut metadata =
        BTreeMap::from([("schema".to_owned(), "candlescope.direction/1".to_owned())]);
    let mut note = |key: &str, value: Option<String>| {
        metadata.extend(value.map(|value| (key.to_owned(), value)));
    };
    let fingerprint = direction.fingerprint.as_ref();
    note(
        "fingerprint",
        fingerprint.and_then(|f| serde_json::to_string(f).ok()),
    );
    note("layer", direction.layer.map(|n| n.to_string()));
    note("position", direction.position.map(|n| n.to_string()));
    note("norm", direction.norm.map(|n| n.to_string()));
    note("method", direction.method.clone());
    note("reliability", direction.reliability.map(|n| n.to_string()));
    note("prompts", direction.prompts.clone());
    note("scores", direction.scores.as_ref().map(ToString::to_string));
    metadata
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("d.safetensors");
        let direction = DirectionFile {
            vector: vec![0.6, -0.8, 0.0],
            fingerprint: Some(Fingerprint {
                weights: "w".into(),
                tokenizer: "t".into(),
                template: String::new(),
                config: "c".into(),
                dtype: "f32".into(),
            }),
            layer: Some(4),
            position: Some(-1),
            norm: Some(12.25),
            method: Some("means".into()),
            reliability: Some(0.96),
            prompts: Some("p".into()),
            scores: Some(serde_json::json!({"kl": [0.1, 0.2]})),
        };
        save(&file, &direction).unwrap();
        assert_eq!(load(&file, TENSOR).unwrap(), direction);
        assert_eq!(std::fs::read(&file).unwrap(), bytes(&direction));
        let error = load(&file, "other").unwrap_err().to_string();
        assert!(error.contains("other"), "{error}");
    }

    #[test]
    fn a_vector_that_is_none_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("d.safetensors");
        let write = |shape: Vec<usize>, value: f32| {
            let plan = [("v".to_owned(), shape.clone())];
            write_safetensors_file(&file, &plan, &WriteOptions::default(), |_| {
                Tensor::full(value, shape.clone(), &Device::Cpu)
            })
            .unwrap();
            load(&file, "v").map_err(|e| e.to_string())
        };
        assert!(
            write(vec![2, 3], 1.0)
                .unwrap_err()
                .contains("expected [d_model], found [2, 3]")
        );
        assert!(
            write(vec![3], f32::NAN)
                .unwrap_err()
                .contains("expected finite numbers")
        );
        assert_eq!(write(vec![1, 3], 1.0).unwrap().vector, [1.0; 3]);
    }

    #[test]
    fn a_tensor_is_named_after_a_colon() {
        assert_eq!(
            parse("a/b.safetensors"),
            (PathBuf::from("a/b.safetensors"), TENSOR)
        );
        assert_eq!(
            parse("a/b.safetensors:harm"),
            (PathBuf::from("a/b.safetensors"), "harm")
        );
    }
}
