//! The configuration beside foreign weights: JSON keys that are taken one by one with their types checked, and what is left
//! over. A key that is null counts as absent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::refusal;
use super::tensors::short;
use crate::SaeError;

/// No configuration is near this long.
const LIMIT: u64 = 16 << 20;

/// Keys of one object of a configuration file.
#[derive(Clone, Debug)]
pub(super) struct Config {
    file: PathBuf,
    keys: Map<String, Value>,
}

/// A small text file.
pub(super) fn read_text(path: &Path) -> Result<String, SaeError> {
    let io = |source| SaeError::Io {
        file: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() > LIMIT {
        return Err(refusal(path, "a configuration of more than 16 MiB".into()));
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

impl Config {
    pub(super) fn read(path: &Path) -> Result<Self, SaeError> {
        let text = read_text(path)?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|e| refusal(path, format!("it is not JSON: {e}")))?;
        let Value::Object(keys) = value else {
            return Err(refusal(path, "expected a JSON object".into()));
        };
        Ok(Self::of(path, keys))
    }

    pub(super) fn of(path: &Path, mut keys: Map<String, Value>) -> Self {
        keys.retain(|_, value| !value.is_null());
        Self {
            file: path.to_owned(),
            keys,
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Gives a key another name, unless that is taken.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if !self.has(to)
            && let Some(value) = self.keys.remove(from)
        {
            self.keys.insert(to.to_owned(), value);
        }
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.keys.insert(key.to_owned(), value.into());
    }

    pub(super) fn drop(&mut self, keys: &[&str]) {
        for key in keys {
            self.keys.remove(*key);
        }
    }

    /// Adds the keys of another object; those that are here stay as they are.
    pub(super) fn join(&mut self, other: Self) {
        for (key, value) in other.keys {
            self.keys.entry(key).or_insert(value);
        }
    }

    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, SaeError> {
        let Some(value) = self.keys.remove(key) else {
            return Ok(None);
        };
        match read(&value) {
            Some(value) => Ok(Some(value)),
            None => Err(refusal(
                &self.file,
                format!(
                    "`{key}`: expected {expected}, found {}",
                    short(&value.to_string())
                ),
            )),
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, SaeError> {
        self.take(key, "a text", |v| v.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, SaeError> {
        self.take(key, "true or false", Value::as_bool)
    }

    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>, SaeError> {
        self.take(key, "a number", Value::as_f64)
    }

    /// A whole number from 0; `32.0` counts.
    pub(super) fn count(&mut self, key: &str) -> Result<Option<usize>, SaeError> {
        let whole = |f: f64| (f.fract() == 0.0 && (0.0..9e15).contains(&f)).then_some(f as u64);
        self.take(key, "a whole number", |v| {
            let n = v.as_u64().or_else(|| v.as_f64().and_then(whole))?;
            usize::try_from(n).ok()
        })
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Self>, SaeError> {
        let keys = self.take(key, "an object", |v| v.as_object().cloned())?;
        Ok(keys.map(|keys| Self::of(&self.file, keys)))
    }

    pub(super) fn value(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key)
    }

    /// Asks for what must be there.
    pub(super) fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, SaeError> {
        value.ok_or_else(|| refusal(&self.file, format!("`{key}` is missing")))
    }

    /// Compares a width that the configuration gives with the one the weights have.
    pub(super) fn agree(
        &self,
        key: &str,
        expected: Option<usize>,
        found: usize,
    ) -> Result<(), SaeError> {
        match expected {
            Some(n) if n != found => Err(refusal(
                &self.file,
                format!("`{key}` is {n}, but the weights have {found}"),
            )),
            _ => Ok(()),
        }
    }

    /// What nobody took.
    pub(super) fn rest(self) -> BTreeMap<String, Value> {
        self.keys.into_iter().collect()
    }
}

/// The `key: value` lines at the top level of a YAML file, values as plain text. Lists and nested keys are passed over: only
/// words about a dictionary are read this way, never numbers that it computes with.
pub(super) fn yaml_words(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with([' ', '\t', '#', '-']))
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| {
            let value = value.split(" #").next().unwrap_or("").trim();
            let bare = value.trim_matches(['"', '\'']);
            (key.trim().to_owned(), bare.to_owned())
        })
        .filter(|(_, value)| !value.is_empty() && value != "null")
        .collect()
}
