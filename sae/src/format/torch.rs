//! torch files (`.pt`): a zip archive with a pickle (`data.pkl`, read by `pickle.rs`) and one member for each storage.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zip::ZipArchive;

use super::pickle::{self, Item, View};
use super::tensors::{Entry, Place, Tensors, elements, short};
use super::{refusal, unsupported};
use crate::SaeError;
use crate::format::dtype::Dtype;

/// A table of tensors is some kilobytes.
const PICKLE: u64 = 16 << 20;

/// Opens a file and reads its table.
pub(super) fn open(path: &Path) -> Result<Tensors, SaeError> {
    let mut archive = archive(path)?;
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|n| Some(n.ok()?.into_owned()))
        .collect();
    let Some(prefix) = names.iter().find_map(|n| n.strip_suffix("data.pkl")) else {
        return Err(refusal(
            path,
            "a zip archive without data.pkl, so not a torch file".into(),
        ));
    };
    if let Some(order) = member(path, &mut archive, &format!("{prefix}byteorder"), 64)?
        && order != b"little"
    {
        return Err(unsupported(
            path,
            "big-endian storages",
            "save the file again on a little-endian machine",
        ));
    }
    let pickle = member(path, &mut archive, &format!("{prefix}data.pkl"), PICKLE)?;
    let items = pickle::parse(&pickle.unwrap_or_default())
        .map_err(|e| refusal(path, format!("its pickle was not read: {e}")))?;
    let mut table = std::collections::BTreeMap::new();
    for (name, item) in items {
        let entry = match item {
            Item::Number(value) => Entry {
                dtype: Dtype::F64,
                shape: Vec::new(),
                offset: 0,
                strides: Vec::new(),
                place: Place::Number(value),
            },
            Item::Tensor(view) => {
                let member = format!("{prefix}data/{}", view.key);
                let Some(index) = archive.index_for_name(&member) else {
                    return Err(refusal(
                        path,
                        format!("tensor `{}`: no member `{}`", short(&name), short(&member)),
                    ));
                };
                let bytes = archive
                    .by_index(index)
                    .map_err(|e| refusal(path, e.to_string()))?
                    .size();
                entry(view, index, bytes)
                    .map_err(|what| refusal(path, format!("tensor `{}`: {what}", short(&name))))?
            }
        };
        table.insert(name, entry);
    }
    Ok(Tensors::zipped(path, archive, table))
}

/// Opens a zip archive, and says what a file is that is none.
fn archive(path: &Path) -> Result<ZipArchive<File>, SaeError> {
    let io = |source| SaeError::Io {
        file: path.to_owned(),
        source,
    };
    let mut magic = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(4).read_to_end(&mut magic).map_err(io)?;
    if magic != b"PK\x03\x04" {
        let what = if magic.first() == Some(&0x80) {
            "a torch file of before PyTorch 1.6 (a bare pickle, no zip archive)"
        } else {
            "a file that is no zip archive, so not a torch file"
        };
        let why = "only zip archives of tensors are read; load it in PyTorch where you trust it and torch.save it again";
        return Err(unsupported(path, what, why));
    }
    ZipArchive::new(File::open(path).map_err(io)?)
        .map_err(|e| refusal(path, format!("a broken zip archive: {e}")))
}

/// A small member; `None` where there is none of the name.
fn member(
    path: &Path,
    archive: &mut ZipArchive<File>,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, SaeError> {
    let Some(index) = archive.index_for_name(name) else {
        return Ok(None);
    };
    let member = archive.by_index(index);
    let member = member.map_err(|e| refusal(path, format!("{}: {e}", short(name))))?;
    if member.size() > limit {
        return Err(refusal(
            path,
            format!("{} has {} bytes", short(name), member.size()),
        ));
    }
    let mut bytes = Vec::new();
    let read = member.take(limit).read_to_end(&mut bytes);
    read.map_err(|e| refusal(path, format!("{}: {e}", short(name))))?;
    Ok(Some(bytes))
}

fn entry(view: View, index: usize, bytes: u64) -> Result<Entry, String> {
    let size = view.dtype.size() as u64;
    if (view.length as u64)
        .checked_mul(size)
        .is_none_or(|n| n > bytes)
    {
        return Err(format!(
            "a storage of {} elements in {bytes} bytes",
            view.length
        ));
    }
    // Elements that share their place (an expanded tensor) would take memory that the file does not have.
    let many = elements(&view.shape).is_none_or(|n| n > view.length);
    let entry = Entry {
        dtype: view.dtype,
        shape: view.shape,
        offset: view.offset,
        strides: view.strides,
        place: Place::Member(index, 0),
    };
    if many || entry.reach().is_none_or(|n| n > view.length) {
        return Err(format!(
            "shape {:?}, strides {:?} and offset {} go beyond a storage of {} elements",
            entry.shape, entry.strides, entry.offset, view.length
        ));
    }
    Ok(entry)
}
