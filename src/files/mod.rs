//! Tensor files: safetensors folders and GGUF, read with bounds and written atomically.
//! A file that opens is whole: every tensor's bytes lie in it and match its shape. Foreign input never panics and never
//! sizes an allocation by an unchecked length. Formats: `safetensors.rs`, `folder.rs`, `gguf.rs`; numbers: `stored.rs`.

pub mod bytes;
pub mod error;
pub mod folder;
pub mod gguf;
mod gguf_header;
pub mod hash;
pub mod lock;
pub mod memory;
pub mod safetensors;
pub mod scan;
pub mod stored;
pub mod write;

pub use bytes::Bytes;
pub use error::FileError;
pub use folder::SafetensorsFolder;
pub use gguf::{Gguf, Value};
pub use memory::InMemory;
pub use scan::scan_non_finite;

use candle_core::{DType, Tensor};
use std::borrow::Cow;
use std::path::Path;

/// What is known of a tensor without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The stored format's own name: `F32`, `BF16`, `Q4_1`, `I64`.
    pub dtype: String,
    /// Row-major, outermost first (GGUF's dimensions reversed).
    pub shape: Vec<usize>,
}

/// A checkpoint as named tensors. Loading from many threads at once is safe and takes no lock.
pub trait TensorSource: Send + Sync {
    /// The path, for messages.
    fn describe(&self) -> String;

    /// All tensor names, sorted.
    fn names(&self) -> Vec<String>;

    /// Stored dtype and shape of a tensor.
    fn info(&self, name: &str) -> Option<TensorInfo>;

    /// A tensor on the CPU, converted or dequantised to f32, f64 or bf16. Integers are refused.
    fn load(&self, name: &str, dtype: DType) -> Result<Tensor, FileError>;

    /// The stored bytes. A source that keeps none gives its f32 values, little-endian, row-major.
    fn raw(&self, name: &str) -> Result<Cow<'_, [u8]>, FileError> {
        let values = self
            .load(name, DType::F32)?
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .map_err(|e| {
                FileError::tensor(Path::new(&self.describe()), name, "data", "f32 values", e)
            })?;
        Ok(Cow::Owned(
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ))
    }
}

/// Which of the formats a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A GGUF file: weights, config and tokenizer in one; open it with [`Gguf::open`] to read its metadata.
    Gguf,
    /// A safetensors file, or a folder with one or with shards; config and tokenizer lie beside it.
    Safetensors,
}

/// Tell the format from what is there: a folder is safetensors, a file is GGUF when it begins with that magic or is
/// named so.
pub fn layout(path: &Path) -> Result<Layout, FileError> {
    let kind = std::fs::metadata(path).map_err(FileError::io(path, "read"))?;
    if kind.is_dir() {
        return Ok(Layout::Safetensors);
    }
    let named = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if named || Bytes::map(path)?.starts_with(gguf::MAGIC) {
        Ok(Layout::Gguf)
    } else {
        Ok(Layout::Safetensors)
    }
}

/// Open a `.gguf` file, a folder with `model.safetensors` or `model.safetensors.index.json`, or one `.safetensors` file.
pub fn open(path: &Path) -> Result<Box<dyn TensorSource>, FileError> {
    Ok(match layout(path)? {
        Layout::Gguf => Box::new(Gguf::open(path)?),
        Layout::Safetensors => Box::new(SafetensorsFolder::open(path)?),
    })
}
