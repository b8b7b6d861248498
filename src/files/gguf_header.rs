//! The header of a GGUF file (versions 2 and 3, little-endian): metadata, then one record for each tensor.
//! Every count and length is checked against the bytes that are left before anything is read or sized by it, and the
//! header as a whole is bounded. Layout: ggml's docs/gguf.md. The public face is `gguf.rs`.

use super::bytes::{dimensions, element_count};
use super::error::FileError;
use super::gguf::{MAGIC, Value};
use super::stored::Stored;
use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::ops::Range;
use std::path::Path;

/// The longest header that is read: twenty times the largest known (a vocabulary of 262,144 with its scores).
const MAX_HEADER: usize = 128 << 20;
/// ggml's own limit.
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 20;

pub(super) struct Entry {
    pub(super) stored: Stored,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Entry>,
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Header, FileError> {
    let mut cursor = Cursor {
        path,
        bytes: &bytes[..bytes.len().min(MAX_HEADER)],
        at: 0,
    };
    check_magic(&mut cursor)?;
    // The smallest tensor record is 24 bytes, the smallest pair 13: a name's length, a type, one byte.
    let tensor_count = cursor.count(24, format_args!("tensor count"))?;
    let pair_count = cursor.count(13, format_args!("metadata count"))?;
    let mut metadata = BTreeMap::new();
    for i in 0..pair_count {
        let key = cursor.string(format_args!("metadata[{i}].key"))?.to_owned();
        let kind = cursor.u32(format_args!("metadata `{key}` type"))?;
        let value = cursor.value(kind, &key)?;
        if metadata.contains_key(&key) {
            return Err(FileError::invalid(
                path,
                format!("metadata[{i}].key"),
                "a new key",
                format!("{key:?} again"),
            ));
        }
        metadata.insert(key, value);
    }
    check_whole(path, &metadata)?;
    let alignment = alignment(path, &metadata)?;
    let records = (0..tensor_count)
        .map(|i| record(&mut cursor, i))
        .collect::<Result<Vec<_>, _>>()?;
    let data_start = cursor.at.next_multiple_of(alignment);
    let tensors = place(path, records, data_start, alignment, bytes.len())?;
    Ok(Header { metadata, tensors })
}

fn check_magic(cursor: &mut Cursor) -> Result<(), FileError> {
    let path = cursor.path;
    let magic = cursor.take(4, format_args!("magic"))?;
    if magic != MAGIC {
        return Err(FileError::invalid(
            path,
            "magic",
            "\"GGUF\"",
            format!("\"{}\"", magic.escape_ascii()),
        ));
    }
    match cursor.u32(format_args!("version"))? {
        2 | 3 => Ok(()),
        other if other.swap_bytes() <= 3 => Err(FileError::invalid(
            path,
            "version",
            "a little-endian file",
            "a big-endian one",
        )),
        other => Err(FileError::invalid(path, "version", "2 or 3", other)),
    }
}

/// A file split in several parts holds only some of the tensors.
fn check_whole(path: &Path, metadata: &BTreeMap<String, Value>) -> Result<(), FileError> {
    match metadata.get("split.count") {
        Some(Value::U64(parts)) if *parts > 1 => {
            let found = format!("one of {parts} parts; join them with llama-gguf-split --merge");
            Err(FileError::invalid(
                path,
                "metadata `split.count`",
                "a whole file",
                found,
            ))
        }
        _ => Ok(()),
    }
}

fn alignment(path: &Path, metadata: &BTreeMap<String, Value>) -> Result<usize, FileError> {
    let found = match metadata.get("general.alignment") {
        None => return Ok(32),
        Some(Value::U64(n)) if n.is_power_of_two() && *n <= MAX_ALIGNMENT => return Ok(*n as usize),
        Some(other) => format!("{other:?}"),
    };
    let expected = format!("a power of two up to {MAX_ALIGNMENT}");
    Err(FileError::invalid(
        path,
        "metadata `general.alignment`",
        expected,
        found,
    ))
}

struct Record {
    name: String,
    stored: Stored,
    shape: Vec<usize>,
    length: usize,
    offset: u64,
}

fn record(cursor: &mut Cursor, i: usize) -> Result<Record, FileError> {
    let path = cursor.path;
    let name = cursor.string(format_args!("tensors[{i}].name"))?.to_owned();
    let bad = |field: &str, expected: &str, found: String| {
        FileError::tensor(path, &name, field, expected, found)
    };
    let rank = cursor.u32(format_args!("tensor `{name}` dimension count"))?;
    if rank > MAX_DIMS {
        return Err(bad("dimension count", "at most 4", rank.to_string()));
    }
    let mut dims = Vec::with_capacity(rank as usize);
    for d in 0..rank {
        dims.push(cursor.u64(format_args!("tensor `{name}` dimension {d}"))?);
    }
    let kind = cursor.u32(format_args!("tensor `{name}` type"))?;
    let offset = cursor.u64(format_args!("tensor `{name}` offset"))?;
    let Some(stored) = Stored::from_ggml(kind) else {
        return Err(bad(
            "ggml type",
            "F32, F16, BF16, Q4_0 to Q8_1 or Q2_K to Q8_K",
            unknown_type(kind),
        ));
    };
    let innermost = dims.first().copied().unwrap_or(1);
    if innermost % stored.block() as u64 != 0 {
        let expected = format!("a multiple of {} for {}", stored.block(), stored.name());
        return Err(bad("innermost dimension", &expected, innermost.to_string()));
    }
    let shape = dimensions(dims.iter().rev());
    let length = shape
        .as_deref()
        .and_then(element_count)
        .and_then(|n| stored.byte_len(n));
    match (shape, length) {
        (Some(shape), Some(length)) => Ok(Record {
            name,
            stored,
            shape,
            length,
            offset,
        }),
        _ => Err(bad(
            "dimensions",
            "a size that fits in memory",
            format!("{dims:?}"),
        )),
    }
}

/// The number, with ggml's name for it where it has one.
fn unknown_type(kind: u32) -> String {
    let name = match kind {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24..=27 => "integers",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return kind.to_string(),
    };
    format!("{kind} ({name})")
}

/// Turn offsets into ranges of the file that are aligned, inside it, and apart.
fn place(
    path: &Path,
    records: Vec<Record>,
    data_start: usize,
    alignment: usize,
    file_len: usize,
) -> Result<BTreeMap<String, Entry>, FileError> {
    let room = file_len.saturating_sub(data_start);
    let mut spans = Vec::with_capacity(records.len());
    let mut tensors = BTreeMap::new();
    for record in records {
        let Record {
            name,
            stored,
            shape,
            length,
            offset,
        } = record;
        if offset % alignment as u64 != 0 {
            return Err(FileError::tensor(
                path,
                &name,
                "offset",
                format!("a multiple of {alignment}"),
                offset,
            ));
        }
        let end = offset
            .checked_add(length as u64)
            .filter(|&end| end <= room as u64);
        let Some(end) = end else {
            let expected = format!("{length} bytes within the {room} bytes of data");
            return Err(FileError::tensor(
                path,
                &name,
                "offset",
                expected,
                format!("offset {offset}"),
            ));
        };
        if tensors.contains_key(&name) {
            return Err(FileError::tensor(
                path,
                &name,
                "name",
                "a new name",
                "the same name again",
            ));
        }
        if length > 0 {
            spans.push((offset, end, name.clone()));
        }
        let start = data_start + offset as usize;
        tensors.insert(
            name,
            Entry {
                stored,
                shape,
                range: start..start + length,
            },
        );
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        let ((_, end, before), (start, _, name)) = (&pair[0], &pair[1]);
        if start < end {
            let expected = format!("at least {end}, where `{before}` ends");
            return Err(FileError::tensor(path, name, "offset", expected, start));
        }
    }
    Ok(tensors)
}

/// A position in the header. Fields are named lazily: the text is made only when something is wrong with them.
struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize, field: Arguments) -> Result<&'a [u8], FileError> {
        let left = self.bytes.len() - self.at;
        if length > left {
            return Err(self.short(field, length as u64));
        }
        self.at += length;
        Ok(&self.bytes[self.at - length..self.at])
    }

    fn short(&self, field: Arguments, wanted: u64) -> FileError {
        let left = self.bytes.len() - self.at;
        let found = format!("{wanted} wanted at byte {}", self.at);
        FileError::invalid(
            self.path,
            field,
            format!("at most {left} more bytes of header"),
            found,
        )
    }

    fn array<const N: usize>(&mut self, field: Arguments) -> Result<[u8; N], FileError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, field)?);
        Ok(out)
    }

    fn u32(&mut self, field: Arguments) -> Result<u32, FileError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: Arguments) -> Result<u64, FileError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A count of things that take at least `size` bytes each, so that what is left bounds it.
    fn count(&mut self, size: usize, field: Arguments) -> Result<usize, FileError> {
        let claimed = self.u64(field)?;
        let most = (self.bytes.len() - self.at) / size;
        if claimed > most as u64 {
            let expected = format!("at most {most}, which is what the rest of the file can hold");
            return Err(FileError::invalid(self.path, field, expected, claimed));
        }
        Ok(claimed as usize)
    }

    fn string(&mut self, field: Arguments) -> Result<&'a str, FileError> {
        let length = self.count(1, field)?;
        let raw = self.take(length, field)?;
        std::str::from_utf8(raw).map_err(|e| FileError::invalid(self.path, field, "UTF-8 text", e))
    }

    fn bool(&mut self, field: Arguments) -> Result<bool, FileError> {
        match self.array::<1>(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(FileError::invalid(self.path, field, "0 or 1", other)),
        }
    }

    fn no_type(&self, field: Arguments, kind: u32) -> FileError {
        FileError::invalid(self.path, field, "a value type from 0 to 12", kind)
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, FileError> {
        let field = format_args!("metadata `{key}`");
        Ok(match kind {
            0 => Value::U64(u8::from_le_bytes(self.array(field)?).into()),
            1 => Value::I64(i8::from_le_bytes(self.array(field)?).into()),
            2 => Value::U64(u16::from_le_bytes(self.array(field)?).into()),
            3 => Value::I64(i16::from_le_bytes(self.array(field)?).into()),
            4 => Value::U64(self.u32(field)?.into()),
            5 => Value::I64(i32::from_le_bytes(self.array(field)?).into()),
            6 => Value::F64(f32::from_le_bytes(self.array(field)?).into()),
            7 => Value::Bool(self.bool(field)?),
            8 => Value::String(self.string(field)?.to_owned()),
            9 => self.list(key)?,
            10 => Value::U64(self.u64(field)?),
            11 => Value::I64(i64::from_le_bytes(self.array(field)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(field)?)),
            other => return Err(self.no_type(field, other)),
        })
    }

    fn list(&mut self, key: &str) -> Result<Value, FileError> {
        let field = format_args!("metadata `{key}` elements");
        let kind = self.u32(field)?;
        Ok(match kind {
            0 => Value::Ints(self.plain(field, |b| u8::from_le_bytes(b).into())?),
            1 => Value::Ints(self.plain(field, |b| i8::from_le_bytes(b).into())?),
            2 => Value::Ints(self.plain(field, |b| u16::from_le_bytes(b).into())?),
            3 => Value::Ints(self.plain(field, |b| i16::from_le_bytes(b).into())?),
            4 => Value::Ints(self.plain(field, |b| u32::from_le_bytes(b).into())?),
            5 => Value::Ints(self.plain(field, |b| i32::from_le_bytes(b).into())?),
            6 => Value::Floats(self.plain(field, f32::from_le_bytes)?),
            7 => {
                let count = self.count(1, field)?;
                Value::Bools(
                    (0..count)
                        .map(|_| self.bool(field))
                        .collect::<Result<_, _>>()?,
                )
            }
            8 => {
                let count = self.count(8, field)?;
                let one = |i| {
                    self.string(format_args!("metadata `{key}`[{i}]"))
                        .map(str::to_owned)
                };
                Value::Strings((0..count).map(one).collect::<Result<_, _>>()?)
            }
            10 => {
                let wide: Vec<u64> = self.plain(field, u64::from_le_bytes)?;
                let narrow: Result<Vec<i64>, _> = wide.into_iter().map(i64::try_from).collect();
                Value::Ints(
                    narrow.map_err(|e| {
                        FileError::invalid(self.path, field, "values below 2^63", e)
                    })?,
                )
            }
            11 => Value::Ints(self.plain(field, i64::from_le_bytes)?),
            12 => Value::Floats(self.plain(field, |b| f64::from_le_bytes(b) as f32)?),
            9 => {
                return Err(FileError::invalid(
                    self.path,
                    field,
                    "plain values",
                    "an array of arrays",
                ));
            }
            other => return Err(self.no_type(field, other)),
        })
    }

    fn plain<const N: usize, T>(
        &mut self,
        field: Arguments,
        read: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, FileError> {
        let count = self.count(N, field)?;
        let raw = self.take(count * N, field)?;
        Ok(raw.as_chunks::<N>().0.iter().map(|b| read(*b)).collect())
    }
}
