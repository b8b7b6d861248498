//! Tensors that were made by this program and lie in no file.
//!
//! Always: names are sorted, and two sources with the same tensors have the same content hash. Files are in the rest of
//! this room.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use super::{FileError, TensorInfo, TensorSource};

/// Named tensors in memory.
#[derive(Debug, Clone)]
pub struct InMemory {
    name: String,
    tensors: BTreeMap<String, Tensor>,
}

impl InMemory {
    /// Under a name that stands where a path would in messages.
    pub fn new(name: &str, tensors: BTreeMap<String, Tensor>) -> Self {
        Self {
            name: name.to_owned(),
            tensors,
        }
    }
}

impl TensorSource for InMemory {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).map(|tensor| TensorInfo {
            dtype: tensor.dtype().as_str().to_uppercase(),
            shape: tensor.dims().to_vec(),
        })
    }

    fn load(&self, name: &str, dtype: DType) -> Result<Tensor, FileError> {
        let tensor = self.tensors.get(name).ok_or_else(|| FileError::Missing {
            file: self.name.clone().into(),
            tensor: name.to_owned(),
            count: self.tensors.len(),
        })?;
        let file = Path::new(&self.name);
        tensor
            .to_dtype(dtype)
            .map_err(|e| FileError::tensor(file, name, "dtype", dtype.as_str(), e))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;
    use crate::files::hash::content_hash;

    fn source(last: f32) -> InMemory {
        let tensor = Tensor::new(&[[1.0f32, 2.0], [3.0, last]], &Device::Cpu).unwrap();
        InMemory::new("made", [("b".to_owned(), tensor)].into())
    }

    #[test]
    fn it_is_a_source_like_a_file() {
        let made = source(4.0);
        let info = made.info("b").unwrap();
        assert_eq!((info.dtype.as_str(), info.shape), ("F32", vec![2, 2]));
        assert_eq!(made.raw("b").unwrap()[12..], 4.0f32.to_le_bytes());
        assert_eq!(made.load("b", DType::F64).unwrap().dtype(), DType::F64);
        let error = made.load("a", DType::F32).unwrap_err().to_string();
        assert!(error.contains("made") && error.contains("`a`"), "{error}");
        assert_eq!(
            content_hash(&made).unwrap(),
            content_hash(&source(4.0)).unwrap()
        );
        assert_ne!(
            content_hash(&made).unwrap(),
            content_hash(&source(5.0)).unwrap()
        );
    }
}
