//! What a reference says of the data, computed once and kept in the run's folder: `reference/logps.safetensors`.
//!
//! Always: numbers are read back only under the very key they were computed for (reference's weights, data, template,
//! tokenizer, truncation, rows); under any other they are computed again, and the log says so. The file is written atomically
//! with its key in it, and holds f32, so that a resumed run has the bits of the one that computed them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::{RunFolder, TrainError};
use crate::files::{
    SafetensorsFolder, TensorSource,
    hash::sha256,
    write::{Planned, WriteOptions, write_safetensors_file},
};

const SCHEMA: &str = "candlescope.reference/1";

/// What numbers depend on, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key(BTreeMap<String, String>);

impl Key {
    /// With one part more.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// With the hash of encoded rows.
    pub fn with_rows<T: Serialize>(self, name: &str, rows: &[T]) -> Self {
        // Rows are lists of numbers, which JSON can hold.
        let text = serde_json::to_vec(rows).unwrap_or_default();
        self.with(name, sha256(&text))
    }

    /// The first part that another key has otherwise.
    fn difference(&self, other: &BTreeMap<String, String>) -> Option<&str> {
        let mut parts = self.0.iter();
        let (name, _) = parts.find(|(name, value)| other.get(*name) != Some(value))?;
        Some(name)
    }
}

/// Numbers by name.
pub type Table = BTreeMap<String, Vec<f32>>;

/// How numbers came to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(String);

impl Source {
    /// For the log.
    pub fn words(&self) -> &str {
        &self.0
    }
}

fn path(folder: &RunFolder) -> PathBuf {
    folder.path().join("reference").join("logps.safetensors")
}

/// The kept numbers, or those that `compute` gives, which are kept from then on.
///
/// # Errors
/// What `compute` fails with; the disk.
pub fn kept_or(
    folder: &RunFolder,
    key: &Key,
    compute: impl FnOnce() -> Result<Table, TrainError>,
) -> Result<(Table, Source), TrainError> {
    let file = path(folder);
    let why = match read(&file, key) {
        Ok(table) => return Ok((table, Source("read".to_owned()))),
        Err(None) => "computed".to_owned(),
        Err(Some(why)) => format!("computed again: {why}"),
    };
    let table = compute()?;
    write(&file, key, &table)?;
    Ok((table, Source(why)))
}

/// The numbers of a file, or why they cannot be used; nothing to say where there is no file.
fn read(file: &std::path::Path, key: &Key) -> Result<Table, Option<String>> {
    if !file.exists() {
        return Err(None);
    }
    let broken = |error: &dyn ToString| {
        Some(format!(
            "what was kept cannot be read: {}",
            error.to_string()
        ))
    };
    let source = SafetensorsFolder::open(file).map_err(|e| broken(&e))?;
    if let Some(part) = key
        .clone()
        .with("schema", SCHEMA)
        .difference(source.metadata())
    {
        return Err(Some(format!("what was kept is of another {part}")));
    }
    let names = source.names().into_iter();
    let each = names.map(|name| {
        let tensor = source.load(&name, DType::F32).map_err(|e| broken(&e))?;
        let numbers = tensor.to_vec1::<f32>().map_err(|e| broken(&e))?;
        Ok((name, numbers))
    });
    each.collect()
}

fn write(file: &std::path::Path, key: &Key, table: &Table) -> Result<(), TrainError> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(TrainError::io(parent, "make"))?;
    }
    let lists = table.iter().filter(|(_, numbers)| !numbers.is_empty());
    let plan: Vec<Planned> = lists
        .map(|(name, numbers)| (name.clone(), vec![numbers.len()]))
        .collect();
    let options = WriteOptions {
        metadata: key.clone().with("schema", SCHEMA).0,
        ..WriteOptions::default()
    };
    write_safetensors_file(file, &plan, &options, |name| {
        Tensor::new(table[name].as_slice(), &Device::Cpu)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_read_under_their_own_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&dir.path().join("run"), "").unwrap();
        let key = Key::default().with("data", "a").with_rows("rows", &[1, 2]);
        let table = Table::from([
            ("own".to_owned(), vec![0.1f32, -1e-42]),
            ("none".to_owned(), vec![]),
        ]);
        let ask = |key: &Key, value: f32| {
            let compute = || Ok(Table::from([("own".to_owned(), vec![value])]));
            kept_or(&folder, key, compute).unwrap()
        };
        let (_, source) = kept_or(&folder, &key, || Ok(table.clone())).unwrap();
        assert_eq!(source.words(), "computed");
        let (found, source) = ask(&key, 7.0);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            (bits(&found["own"]), source.words()),
            (bits(&table["own"]), "read")
        );
        let (found, source) = ask(&key.clone().with("data", "b"), 8.0);
        assert_eq!(found["own"], [8.0]);
        assert_eq!(
            source.words(),
            "computed again: what was kept is of another data"
        );
        // And those are kept in turn; a broken file is no hindrance.
        let (found, source) = ask(&key, 9.0);
        assert_eq!(
            (found["own"].as_slice(), source.words().len() > 8),
            ([9.0].as_slice(), true)
        );
        std::fs::write(path(&folder), "no tensors").unwrap();
        let (found, source) = ask(&key, 10.0);
        assert_eq!(found["own"], [10.0]);
        assert!(
            source.words().contains("cannot be read"),
            "{}",
            source.words()
        );
    }
}
