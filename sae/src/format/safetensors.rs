//! Safetensors: eight bytes of header length, a JSON table, then the data. Only the header is read on opening; every
//! length is checked against the size of the file before anything is allocated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::dtype::Dtype;
use super::refusal;
use super::tensors::{Entry, Place, Tensors, short};
use crate::SaeError;

/// The limit of the format itself.
const HEADER: u64 = 100_000_000;

#[derive(Deserialize)]
struct Row {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Opens a file and checks its table.
pub(super) fn open(path: &Path) -> Result<Tensors, SaeError> {
    let io = |source| SaeError::Io {
        file: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut length = [0; 8];
    if size < 8 {
        return Err(refusal(path, format!("a safetensors file of {size} bytes")));
    }
    file.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER || length > size - 8 {
        return Err(refusal(
            path,
            format!("a safetensors header of {length} bytes in a file of {size}"),
        ));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(io)?;
    let table: BTreeMap<String, Value> = serde_json::from_slice(&header)
        .map_err(|e| refusal(path, format!("its safetensors header is not JSON: {e}")))?;
    let data = 8 + length;
    let entries = table
        .into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, row)| Ok((name.clone(), entry(path, &name, row, data, size - data)?)))
        .collect::<Result<_, SaeError>>()?;
    Ok(Tensors::flat(path, file, entries))
}

fn entry(path: &Path, name: &str, row: Value, data: u64, bytes: u64) -> Result<Entry, SaeError> {
    let refuse = |what: String| refusal(path, format!("tensor `{}`: {what}", short(name)));
    let row: Row = serde_json::from_value(row).map_err(|e| refuse(e.to_string()))?;
    let Some(dtype) = Dtype::from_safetensors(&row.dtype) else {
        return Err(refuse(format!(
            "dtype {} is not one that is read here (F32, F16, BF16, F64)",
            short(&row.dtype)
        )));
    };
    let [start, end] = row.data_offsets;
    let shape = row.shape.clone();
    let Some(entry) = Entry::contiguous(dtype, row.shape, Place::File(data.saturating_add(start)))
    else {
        return Err(refuse(format!("shape {shape:?} is beyond any file")));
    };
    let expected = entry.reach().map(|n| n as u64 * dtype.size() as u64);
    if end > bytes || start > end || Some(end - start) != expected {
        return Err(refuse(format!(
            "shape {shape:?} and bytes {start}..{end} do not fit each other or the {bytes} bytes of data"
        )));
    }
    Ok(entry)
}
