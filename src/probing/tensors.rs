//! What all probe files share: tensors of f32, and everything else as JSON in the metadata under `probe`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::{Serialize, de::DeserializeOwned};

use super::ProbingError;
use crate::files::{
    FileError,
    safetensors::SafetensorsFile,
    write::{WriteOptions, write_safetensors_file},
};

/// What is wrong with a file, where.
pub(super) fn invalid(file: &Path, field: &str, expected: &str, found: String) -> FileError {
    FileError::Invalid {
        file: file.to_path_buf(),
        field: field.into(),
        expected: expected.into(),
        found,
    }
}

/// Writes a probe, replacing what is there; tensors by name with their shapes.
///
/// # Errors
/// The disk refuses.
pub(super) fn write(
    file: &Path,
    schema: &str,
    about: &impl Serialize,
    tensors: &[(&str, Vec<usize>, Vec<f64>)],
) -> Result<(), ProbingError> {
    let about = serde_json::to_string(about)
        .map_err(|e| invalid(file, "metadata `probe`", "finite numbers", e.to_string()))?;
    let options = WriteOptions {
        metadata: BTreeMap::from([
            ("schema".to_owned(), schema.to_owned()),
            ("probe".to_owned(), about),
        ]),
        ..WriteOptions::default()
    };
    let plan: Vec<(String, Vec<usize>)> = tensors
        .iter()
        .map(|(name, shape, _)| ((*name).to_owned(), shape.clone()))
        .collect();
    write_safetensors_file(file, &plan, &options, |name| {
        let found = tensors.iter().find(|(n, ..)| *n == name);
        let (shape, values) = found.map_or((&[0][..], &[][..]), |(_, s, v)| (&s[..], &v[..]));
        let narrow: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        Tensor::from_vec(narrow, shape, &Device::Cpu)
    })?;
    Ok(())
}

/// A file of this schema, with what it says of the probe, which `what` names.
///
/// # Errors
/// No such file, another schema, metadata that do not fit it.
pub(super) fn opened<T: DeserializeOwned>(
    file: &Path,
    schema: &str,
    what: &str,
) -> Result<(SafetensorsFile, T), ProbingError> {
    let open = SafetensorsFile::open(file)?;
    let metadata = open.metadata();
    let found = metadata.get("schema").map_or("nothing", String::as_str);
    if found != schema {
        return Err(invalid(file, "metadata `schema`", schema, found.to_owned()).into());
    }
    let about = metadata.get("probe").map_or("", String::as_str);
    let about = serde_json::from_str(about)
        .map_err(|e| invalid(file, "metadata `probe`", what, e.to_string()))?;
    Ok((open, about))
}

/// A tensor's numbers, all finite, with its shape.
///
/// # Errors
/// No such tensor, a number that is not finite.
pub(super) fn numbers(
    open: &SafetensorsFile,
    file: &Path,
    name: &str,
) -> Result<(Vec<usize>, Vec<f64>), ProbingError> {
    let tensor = open.load(name, DType::F32)?;
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
        let field = format!("tensor `{name}`");
        return Err(invalid(file, &field, "finite numbers", bad.to_string()).into());
    }
    let wide = values.into_iter().map(f64::from).collect();
    Ok((tensor.dims().to_vec(), wide))
}

/// Refuses a vector of another length than `weights`.
pub(super) fn as_weights(
    file: &Path,
    name: &str,
    found: usize,
    weights: usize,
) -> Result<(), ProbingError> {
    if found == weights {
        return Ok(());
    }
    let expected = format!("{weights} numbers, as `weights` has");
    let field = format!("tensor `{name}`");
    Err(invalid(file, &field, &expected, found.to_string()).into())
}
