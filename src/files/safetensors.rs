//! One safetensors file: an 8-byte length, a JSON header, the bytes of the tensors.
//! After opening, every tensor's range lies inside the file, has exactly the bytes of its shape and dtype, and
//! touches no other; the ranges cover the data without a hole, as the format demands. The `safetensors` crate checks
//! most of this but lets a second tensor of the same name replace the first and names no tensor in its errors, so the
//! header is read here. Folders of such files: `folder.rs`.

use super::bytes::{Bytes, dimensions, element_count};
use super::error::FileError;
use super::stored::Stored;
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The longest JSON header that is read; the format's own limit.
pub const MAX_HEADER: usize = 100_000_000;
const METADATA: &str = "__metadata__";

/// Where a tensor lies and what it is.
pub(super) struct Entry {
    pub(super) dtype: &'static str,
    pub(super) shape: Vec<usize>,
    range: Range<usize>,
}

/// One safetensors file, checked.
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: Bytes,
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
}

impl SafetensorsFile {
    /// Map and check a file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::from_bytes(path, Bytes::map(path)?)
    }

    /// Check bytes; `path` is only used in messages.
    pub fn from_bytes(path: &Path, bytes: Bytes) -> Result<Self, FileError> {
        let data_start = header_end(path, &bytes)?;
        let text = std::str::from_utf8(&bytes[8..data_start])
            .map_err(|e| FileError::invalid(path, "header", "UTF-8 text", e))?;
        let header: Header = serde_json::from_str(text)
            .map_err(|e| FileError::invalid(path, "header", "a JSON object of tensors", e))?;
        let tensors = check(path, header.tensors, data_start, bytes.len())?;
        Ok(Self {
            path: path.to_path_buf(),
            bytes,
            metadata: header.metadata,
            tensors,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `__metadata__` strings.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    pub(super) fn tensors(&self) -> &BTreeMap<String, Entry> {
        &self.tensors
    }

    fn entry(&self, name: &str) -> Result<&Entry, FileError> {
        self.tensors.get(name).ok_or_else(|| FileError::Missing {
            file: self.path.clone(),
            tensor: name.to_owned(),
            count: self.tensors.len(),
        })
    }

    /// The stored bytes of a tensor, little-endian, row-major.
    pub fn raw(&self, name: &str) -> Result<&[u8], FileError> {
        Ok(&self.bytes[self.entry(name)?.range.clone()])
    }

    /// A floating-point tensor as f32, f64 or bf16.
    pub fn load(&self, name: &str, dtype: DType) -> Result<Tensor, FileError> {
        let entry = self.entry(name)?;
        let refuse = |found: &str| {
            FileError::tensor(&self.path, name, "dtype", "F64, F32, F16 or BF16", found)
        };
        let stored = Stored::from_safetensors(entry.dtype).ok_or_else(|| refuse(entry.dtype))?;
        stored
            .decode(&self.bytes[entry.range.clone()], &entry.shape, dtype)
            .map_err(|e| FileError::tensor(&self.path, name, "data", "a tensor in memory", e))
    }

    /// An integer or boolean tensor as i64. For token ids and labels, not for weights.
    pub fn load_ints(&self, name: &str) -> Result<Tensor, FileError> {
        let entry = self.entry(name)?;
        let raw = &self.bytes[entry.range.clone()];
        let fail = |expected: &str, found: &str| {
            FileError::tensor(&self.path, name, "dtype", expected, found)
        };
        let values: Vec<i64> = match entry.dtype {
            "BOOL" | "U8" => raw.iter().map(|&v| i64::from(v)).collect(),
            "I8" => raw.iter().map(|&v| i64::from(v.cast_signed())).collect(),
            "I16" => widen(raw, |b| i64::from(i16::from_le_bytes(b))),
            "U16" => widen(raw, |b| i64::from(u16::from_le_bytes(b))),
            "I32" => widen(raw, |b| i64::from(i32::from_le_bytes(b))),
            "U32" => widen(raw, |b| i64::from(u32::from_le_bytes(b))),
            "I64" => widen(raw, i64::from_le_bytes),
            "U64" => {
                let values: Vec<i64> =
                    widen(raw, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(-1));
                if values.contains(&-1) {
                    return Err(fail("values below 2^63", "a larger U64"));
                }
                values
            }
            other => return Err(fail("an integer type", other)),
        };
        Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)
            .map_err(|e| FileError::tensor(&self.path, name, "data", "a tensor in memory", e))
    }
}

fn widen<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> i64) -> Vec<i64> {
    raw.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
}

/// Where the header ends and the data begins.
fn header_end(path: &Path, bytes: &[u8]) -> Result<usize, FileError> {
    let Some(prefix) = bytes.first_chunk::<8>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(FileError::invalid(
            path,
            "file length",
            "at least 8 bytes",
            found,
        ));
    };
    let claimed = u64::from_le_bytes(*prefix);
    let room = bytes.len() - 8;
    match usize::try_from(claimed) {
        Ok(length) if length <= room && length <= MAX_HEADER => Ok(8 + length),
        _ => {
            let expected = format!(
                "at most {} (the file has {} bytes)",
                room.min(MAX_HEADER),
                bytes.len()
            );
            Err(FileError::invalid(path, "header length", expected, claimed))
        }
    }
}

/// Bytes of one element of each dtype name. Formats below one byte are not served.
fn dtype(name: &str) -> Option<(&'static str, usize)> {
    const TABLE: [(&str, usize); 17] = [
        ("BOOL", 1),
        ("U8", 1),
        ("I8", 1),
        ("F8_E4M3", 1),
        ("F8_E5M2", 1),
        ("F8_E8M0", 1),
        ("I16", 2),
        ("U16", 2),
        ("F16", 2),
        ("BF16", 2),
        ("I32", 4),
        ("U32", 4),
        ("F32", 4),
        ("I64", 8),
        ("U64", 8),
        ("F64", 8),
        ("C64", 8),
    ];
    TABLE.into_iter().find(|row| row.0 == name)
}

fn check(
    path: &Path,
    raw: BTreeMap<String, RawEntry>,
    data_start: usize,
    file_len: usize,
) -> Result<BTreeMap<String, Entry>, FileError> {
    let data_len = file_len - data_start;
    let mut tensors = BTreeMap::new();
    for (name, raw) in raw {
        let bad = |field: &str, expected: String, found: String| {
            FileError::tensor(path, &name, field, expected, found)
        };
        let Some((dtype, size)) = dtype(&raw.dtype) else {
            return Err(bad(
                "dtype",
                "a known dtype of whole bytes".into(),
                format!("{:?}", raw.dtype),
            ));
        };
        let shape = dimensions(raw.shape.iter());
        let length = shape
            .as_deref()
            .and_then(element_count)
            .and_then(|n| n.checked_mul(size));
        let (Some(shape), Some(length)) = (shape, length) else {
            return Err(bad(
                "shape",
                "a size that fits in memory".into(),
                format!("{:?} of {dtype}", raw.shape),
            ));
        };
        let (begin, end) = raw.data_offsets;
        let found = || format!("[{begin}, {end}]");
        if begin > end || end > data_len as u64 {
            return Err(bad(
                "data_offsets",
                format!("a range within the {data_len} bytes of data"),
                found(),
            ));
        }
        if end - begin != length as u64 {
            let expected = format!("{length} bytes for {shape:?} of {dtype}");
            return Err(bad(
                "data_offsets",
                expected,
                format!("{} bytes {}", end - begin, found()),
            ));
        }
        // Both fit: they are at most data_len.
        let range = data_start + begin as usize..data_start + end as usize;
        tensors.insert(
            name,
            Entry {
                dtype,
                shape,
                range,
            },
        );
    }
    check_cover(path, &tensors, data_start, file_len)?;
    Ok(tensors)
}

/// The ranges follow each other from the first byte of data to the last.
fn check_cover(
    path: &Path,
    tensors: &BTreeMap<String, Entry>,
    data_start: usize,
    file_len: usize,
) -> Result<(), FileError> {
    let mut order: Vec<_> = tensors
        .iter()
        .map(|(name, e)| (e.range.start, e.range.end, name))
        .collect();
    order.sort_unstable();
    let mut at = data_start;
    for (start, end, name) in order {
        if start != at {
            let what = if start < at {
                "an overlap with another tensor"
            } else {
                "a hole before it"
            };
            let expected = format!("to begin at {}, where the one before ends", at - data_start);
            let found = format!("{} ({what})", start - data_start);
            return Err(FileError::tensor(
                path,
                name,
                "data_offsets",
                expected,
                found,
            ));
        }
        at = end;
    }
    if at != file_len {
        let (expected, found) = (
            format!("{at} bytes, where the last tensor ends"),
            format!("{file_len} bytes"),
        );
        return Err(FileError::invalid(path, "file length", expected, found));
    }
    Ok(())
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawEntry>,
}

/// By hand, because a derived map would let a repeated name replace the earlier one in silence.
impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of tensor names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let repeated = if name == METADATA {
                        metadata.replace(map.next_value()?).is_some()
                    } else {
                        let entry = map
                            .next_value()
                            .map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                        tensors.insert(name.clone(), entry).is_some()
                    };
                    if repeated {
                        return Err(A::Error::custom(format!("the name `{name}` appears twice")));
                    }
                }
                Ok(Header {
                    metadata: metadata.unwrap_or_default(),
                    tensors,
                })
            }
        }
        deserializer.deserialize_map(Names)
    }
}
