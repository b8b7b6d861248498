//! The bytes of one file, mapped or owned, so that each parser has one entry for disk, tests and the fuzzer.
//! Only regular, non-empty files are mapped: a folder, a pipe or a device is refused before it is opened.

use super::error::FileError;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// Bytes that a parser reads.
pub enum Bytes {
    /// In memory.
    Owned(Vec<u8>),
    /// A read-only map of a file.
    Mmap(memmap2::Mmap),
}

impl Bytes {
    /// Map a file. A symbolic link is followed (model caches are made of them).
    ///
    /// # Errors
    /// The path does not exist, is not a regular file, or is empty.
    pub fn map(path: &Path) -> Result<Self, FileError> {
        // Asked before opening: opening a pipe would wait for a writer for ever.
        let kind = std::fs::metadata(path).map_err(FileError::io(path, "read"))?;
        if !kind.is_file() {
            let found = if kind.is_dir() {
                "a folder"
            } else {
                "a device, socket or pipe"
            };
            return Err(FileError::invalid(path, "path", "a regular file", found));
        }
        let file = File::open(path).map_err(FileError::io(path, "open"))?;
        let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
        if length == 0 {
            return Err(FileError::invalid(
                path,
                "file length",
                "a header and tensors",
                "an empty file (0 bytes)",
            ));
        }
        // SAFETY: the map is read-only and private to this value. Another process that shortens the file in place
        // while it is mapped would be a fault; candlescope itself replaces files by rename, which leaves the map intact.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(FileError::io(path, "map"))?;
        Ok(Self::Mmap(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mmap(map) => map,
        }
    }
}

/// Dimensions as a file gives them, if each fits this machine.
pub(super) fn dimensions<'a>(dims: impl Iterator<Item = &'a u64>) -> Option<Vec<usize>> {
    dims.map(|&d| usize::try_from(d).ok()).collect()
}

/// The number of elements of a shape, or `None` when it or any of its strides would overflow. Zero dimensions count
/// as one in the check, because strides are products of the other dimensions even in an empty tensor.
pub(super) fn element_count(shape: &[usize]) -> Option<usize> {
    let spread = shape
        .iter()
        .try_fold(1usize, |product, &d| product.checked_mul(d.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { spread })
}
