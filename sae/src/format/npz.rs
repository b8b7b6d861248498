//! numpy archives (`.npz`): a zip archive of arrays, each a short header in Python's notation and then the data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use zip::ZipArchive;

use super::dtype::Dtype;
use super::refusal;
use super::tensors::{Entry, Place, Tensors, elements, row_major, short};
use crate::SaeError;

/// Opens an archive and reads the headers.
pub(super) fn open(path: &Path) -> Result<Tensors, SaeError> {
    let file = File::open(path).map_err(|source| SaeError::Io {
        file: path.to_owned(),
        source,
    })?;
    let mut archive =
        ZipArchive::new(file).map_err(|e| refusal(path, format!("a broken zip archive: {e}")))?;
    let mut table = BTreeMap::new();
    for index in 0..archive.len() {
        let mut member = archive
            .by_index(index)
            .map_err(|e| refusal(path, e.to_string()))?;
        let name = member.name().map_err(|e| refusal(path, e.to_string()))?;
        let name = name.trim_end_matches(".npy").to_owned();
        let bytes = member.size();
        let entry = entry(&mut member, index, bytes)
            .map_err(|what| refusal(path, format!("array `{}`: {what}", short(&name))))?;
        table.insert(name, entry);
    }
    Ok(Tensors::zipped(path, archive, table))
}

fn entry(member: &mut impl Read, index: usize, bytes: u64) -> Result<Entry, String> {
    let mut start = [0; 8];
    let short_file = |_| "it ends in its header".to_owned();
    member.read_exact(&mut start).map_err(short_file)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err("not a numpy array".into());
    }
    let mut length = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    member
        .read_exact(&mut length[..width])
        .map_err(short_file)?;
    let length = u32::from_le_bytes(length);
    if length > 1 << 16 {
        return Err(format!("a header of {length} bytes"));
    }
    let mut text = vec![0; length as usize];
    member.read_exact(&mut text).map_err(short_file)?;
    let header = Header::parse(&String::from_utf8_lossy(&text))?;
    let skip = 8 + width as u64 + u64::from(length);
    let entry = header.entry(Place::Member(index, skip))?;
    let data = elements(&entry.shape).and_then(|n| n.checked_mul(entry.dtype.size()));
    if data.map(|n| n as u64) != bytes.checked_sub(skip) {
        return Err(format!(
            "shape {:?} does not fit its {bytes} bytes",
            entry.shape
        ));
    }
    Ok(entry)
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2304, 16384), }`.
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Result<Self, String> {
        let after = |key: &str| {
            let at = text.find(&format!("'{key}':"));
            at.map(|at| text[at + key.len() + 3..].trim_start())
                .ok_or_else(|| format!("its header has no `{key}`"))
        };
        let quoted = after("descr")?.strip_prefix('\'');
        let descr = quoted.and_then(|d| d.split('\'').next());
        let shape = after("shape")?
            .strip_prefix('(')
            .and_then(|s| s.split_once(')'));
        let (shape, _) = shape.ok_or("its shape does not end")?;
        let axis = |a: &str| {
            a.parse::<usize>()
                .map_err(|_| format!("its shape is ({})", short(shape)))
        };
        Ok(Self {
            descr: descr.ok_or("its dtype is a record")?.to_owned(),
            fortran: after("fortran_order")?.starts_with("True"),
            shape: shape
                .split(',')
                .map(str::trim)
                .filter(|a| !a.is_empty())
                .map(axis)
                .collect::<Result<_, _>>()?,
        })
    }

    fn entry(self, place: Place) -> Result<Entry, String> {
        let Some(dtype) = Dtype::from_numpy(&self.descr) else {
            return Err(match self.descr.as_str() {
                "|O" => "it holds Python objects, which are not read".into(),
                other => format!(
                    "dtype `{}` is not one that is read here (<f2, <f4, <f8)",
                    short(other)
                ),
            });
        };
        let beyond = || format!("shape {:?} is beyond any file", self.shape);
        let strides = if self.fortran {
            let mut reversed = self.shape.clone();
            reversed.reverse();
            let mut strides = row_major(&reversed).ok_or_else(beyond)?;
            strides.reverse();
            strides
        } else {
            row_major(&self.shape).ok_or_else(beyond)?
        };
        Ok(Entry {
            dtype,
            shape: self.shape,
            offset: 0,
            strides,
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_as_numpy_writes_them() {
        let place = || Place::Number(0.0);
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }   \n";
        let entry = Header::parse(text).unwrap().entry(place()).unwrap();
        assert_eq!((entry.shape, entry.strides), (vec![3, 5], vec![5, 1]));
        let text = "{'descr': '<f8', 'fortran_order': True, 'shape': (3, 5), }";
        let entry = Header::parse(text).unwrap().entry(place()).unwrap();
        assert_eq!((entry.dtype, entry.strides), (Dtype::F64, vec![1, 3]));
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (), }";
        assert!(
            Header::parse(text)
                .unwrap()
                .entry(place())
                .unwrap()
                .shape
                .is_empty()
        );
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }";
        assert_eq!(Header::parse(text).unwrap().shape, [7]);
    }

    #[test]
    fn what_is_not_a_plain_array_is_named() {
        let refused = |descr: &str, shape: &str| {
            let text =
                format!("{{'descr': {descr}, 'fortran_order': False, 'shape': ({shape}), }}");
            let entry = Header::parse(&text).and_then(|h| h.entry(Place::Number(0.0)));
            entry.unwrap_err()
        };
        assert!(refused("'|O'", "3,").contains("Python objects"));
        assert!(refused("'>f4'", "3,").contains(">f4"));
        assert!(refused("[('a', '<f4')]", "3,").contains("record"));
        assert!(refused("'<f4'", "18446744073709551615, 2").contains("beyond"));
        assert!(refused("'<f4'", "-1,").contains("shape"));
    }
}
