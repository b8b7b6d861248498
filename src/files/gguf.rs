//! A GGUF file: metadata by key, tensors by name, dequantised on loading.
//! Names and row order are the file's own: llama.cpp's names, and its Q/K row permutation still in place.
//! Header rules: `gguf_header.rs`; block formats: `stored.rs`.

use super::bytes::Bytes;
use super::error::FileError;
use super::gguf_header::{Entry, Header, parse};
use super::{TensorInfo, TensorSource};
use candle_core::{DType, Tensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The first four bytes of every GGUF file.
pub const MAGIC: &[u8] = b"GGUF";

/// A metadata value; integers of every width are widened, f32 scalars too, f64 arrays are narrowed to f32.
#[allow(missing_docs)] // the names are the types
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
}

/// A GGUF file, mapped and checked.
pub struct Gguf {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

impl Gguf {
    /// Map and check a file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::from_bytes(path, Bytes::map(path)?)
    }

    /// Check bytes; `path` is only used in messages.
    pub fn from_bytes(path: &Path, bytes: Bytes) -> Result<Self, FileError> {
        let header = parse(path, &bytes)?;
        Ok(Self {
            path: path.to_path_buf(),
            bytes,
            header,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All metadata.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.header.metadata
    }

    /// A non-negative integer of any width.
    pub fn u64(&self, key: &str) -> Option<u64> {
        match self.metadata().get(key)? {
            Value::U64(v) => Some(*v),
            Value::I64(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// A number; integers are converted.
    pub fn f64(&self, key: &str) -> Option<f64> {
        match self.metadata().get(key)? {
            Value::F64(v) => Some(*v),
            Value::U64(v) => Some(*v as f64),
            Value::I64(v) => Some(*v as f64),
            _ => None,
        }
    }

    /// A string.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.metadata().get(key)? {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// A flag.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.metadata().get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.metadata().get(key)? {
            Value::Strings(v) => Some(v),
            _ => None,
        }
    }

    /// An array of integers of any width.
    pub fn ints(&self, key: &str) -> Option<&[i64]> {
        match self.metadata().get(key)? {
            Value::Ints(v) => Some(v),
            _ => None,
        }
    }

    /// An array of floats.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.metadata().get(key)? {
            Value::Floats(v) => Some(v),
            _ => None,
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry, FileError> {
        let tensors = &self.header.tensors;
        tensors.get(name).ok_or_else(|| FileError::Missing {
            file: self.path.clone(),
            tensor: name.to_owned(),
            count: tensors.len(),
        })
    }
}

impl TensorSource for Gguf {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.header.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let entry = self.header.tensors.get(name)?;
        Some(TensorInfo {
            dtype: entry.stored.name().to_owned(),
            shape: entry.shape.clone(),
        })
    }

    fn load(&self, name: &str, dtype: DType) -> Result<Tensor, FileError> {
        let entry = self.entry(name)?;
        entry
            .stored
            .decode(&self.bytes[entry.range.clone()], &entry.shape, dtype)
            .map_err(|e| FileError::tensor(&self.path, name, "data", "a tensor in memory", e))
    }

    fn raw(&self, name: &str) -> Result<Cow<'_, [u8]>, FileError> {
        Ok(Cow::Borrowed(&self.bytes[self.entry(name)?.range.clone()]))
    }
}
