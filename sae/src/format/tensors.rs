//! The named tensors of one foreign file, whatever its container: a table that was checked against the size of the file
//! when it was opened, and values that are read one tensor at a time, as f32.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use zip::ZipArchive;

use super::dtype::Dtype;
use super::refusal;
use crate::SaeError;

/// Where a tensor's storage lies.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// From this byte of the file.
    File(u64),
    /// In a member of the zip archive, from this byte of it.
    Member(usize, u64),
    /// A number that stood in the table itself.
    Number(f64),
}

/// One tensor: element `i, j, …` is element `offset + i·strides[0] + j·strides[1] + …` of its storage.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) offset: usize,
    pub(super) strides: Vec<usize>,
    pub(super) place: Place,
}

/// Strides of an array whose last index runs fastest; `None` where its size overflows.
pub(super) fn row_major(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].checked_mul(shape[axis])?;
    }
    elements(shape).map(|_| strides)
}

/// Elements of a shape; `None` where that overflows.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

impl Entry {
    /// A contiguous tensor, last index fastest; `None` where its size overflows.
    pub(super) fn contiguous(dtype: Dtype, shape: Vec<usize>, place: Place) -> Option<Self> {
        let strides = row_major(&shape)?;
        elements(&shape)?.checked_mul(dtype.size())?;
        Some(Self {
            dtype,
            shape,
            offset: 0,
            strides,
            place,
        })
    }

    /// One past the last element of the storage that is used; `None` where that overflows.
    pub(super) fn reach(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(self.offset);
        }
        let last = |at: usize, (&d, &s): (&usize, &usize)| at.checked_add((d - 1).checked_mul(s)?);
        let mut axes = self.shape.iter().zip(&self.strides);
        axes.try_fold(self.offset, last)?.checked_add(1)
    }
}

enum Source {
    Flat(File),
    Zip(ZipArchive<File>),
}

/// The tensors of a file.
pub(super) struct Tensors {
    file: PathBuf,
    source: Source,
    table: BTreeMap<String, Entry>,
    read: BTreeSet<String>,
}

impl Tensors {
    pub(super) fn flat(file: &Path, source: File, table: BTreeMap<String, Entry>) -> Self {
        Self::new(file, Source::Flat(source), table)
    }

    pub(super) fn zipped(
        file: &Path,
        source: ZipArchive<File>,
        table: BTreeMap<String, Entry>,
    ) -> Self {
        Self::new(file, Source::Zip(source), table)
    }

    fn new(file: &Path, source: Source, table: BTreeMap<String, Entry>) -> Self {
        Self {
            file: file.to_owned(),
            source,
            table,
            read: BTreeSet::new(),
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Its shape.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.table.get(name).map(|e| e.shape.as_slice())
    }

    /// Names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.table.keys().map(String::as_str)
    }

    /// Gives a tensor another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(entry) = self.table.remove(from) {
            self.table.insert(to.to_owned(), entry);
        }
    }

    /// Takes a tensor as read that is not needed.
    pub(super) fn skip(&mut self, name: &str) {
        self.read.insert(name.to_owned());
    }

    /// Refuses tensors that nobody asked for: a dictionary with parts that were left out would be another dictionary.
    pub(super) fn finish(&self) -> Result<(), SaeError> {
        match self.names().find(|name| !self.read.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(refusal(
                &self.file,
                format!("tensor `{}` has no place in this format", short(name)),
            )),
        }
    }

    /// A matrix.
    pub(super) fn matrix(&mut self, name: &str) -> Result<Array2<f32>, SaeError> {
        let values = self.load(name, Some(2))?;
        let found = values.shape().to_vec();
        values
            .into_dimensionality()
            .map_err(|_| self.rank(name, "a matrix", &found))
    }

    /// A vector.
    pub(super) fn vector(&mut self, name: &str) -> Result<Array1<f32>, SaeError> {
        let values = self.load(name, Some(1))?;
        let found = values.shape().to_vec();
        values
            .into_dimensionality()
            .map_err(|_| self.rank(name, "a vector", &found))
    }

    /// The one number in a tensor of any rank.
    pub(super) fn scalar(&mut self, name: &str) -> Result<f64, SaeError> {
        if let Some(Entry {
            place: Place::Number(value),
            ..
        }) = self.table.get(name)
        {
            let value = *value;
            self.skip(name);
            return Ok(value);
        }
        if let Some(shape) = self.shape(name)
            && elements(shape) != Some(1)
        {
            return Err(self.rank(name, "one number", shape));
        }
        let values = self.load(name, None)?;
        Ok(values.first().copied().map_or(f64::NAN, f64::from))
    }

    fn rank(&self, name: &str, expected: &str, found: &[usize]) -> SaeError {
        refusal(
            &self.file,
            format!("tensor `{name}`: expected {expected}, found shape {found:?}"),
        )
    }

    fn load(&mut self, name: &str, rank: Option<usize>) -> Result<ArrayD<f32>, SaeError> {
        let Some(entry) = self.table.get(name).cloned() else {
            let names: Vec<String> = self.names().take(12).map(short).collect();
            return Err(refusal(
                &self.file,
                format!("no tensor `{name}`; it has {}", names.join(", ")),
            ));
        };
        // Before anything is read, so that a matrix where a vector belongs costs nothing.
        if let Some(rank) = rank
            && entry.shape.len() != rank
        {
            let expected = if rank == 1 { "a vector" } else { "a matrix" };
            return Err(self.rank(name, expected, &entry.shape));
        }
        self.skip(name);
        let broken = |e: std::io::Error| {
            refusal(
                &self.file,
                format!("tensor `{name}`: its bytes cannot be read: {e}"),
            )
        };
        let count = entry.reach().unwrap_or(usize::MAX);
        let storage = match (&mut self.source, &entry.place) {
            (Source::Flat(file), Place::File(start)) => {
                file.seek(SeekFrom::Start(*start)).map_err(broken)?;
                entry.dtype.read(&mut BufReader::new(file), count)
            }
            (Source::Zip(archive), Place::Member(index, skip)) => {
                let mut member = archive.by_index(*index).map_err(|e| broken(e.into()))?;
                std::io::copy(&mut member.by_ref().take(*skip), &mut std::io::sink())
                    .map_err(broken)?;
                entry.dtype.read(&mut member, count)
            }
            _ => Err(std::io::Error::other("not a tensor")),
        }
        .map_err(broken)?;
        self.arrange(name, &entry, storage)
    }

    /// The storage as an array in row-major order.
    fn arrange(
        &self,
        name: &str,
        entry: &Entry,
        storage: Vec<f32>,
    ) -> Result<ArrayD<f32>, SaeError> {
        let shape = IxDyn(&entry.shape);
        let unfit = |_| self.rank(name, "a shape that fits its bytes", &entry.shape);
        if entry.offset == 0 && Some(&entry.strides) == row_major(&entry.shape).as_ref() {
            return ArrayD::from_shape_vec(shape, storage).map_err(unfit);
        }
        let strided = shape.strides(IxDyn(&entry.strides));
        let used = storage.get(entry.offset..).unwrap_or_default();
        let view = ArrayViewD::from_shape(strided, used).map_err(unfit)?;
        Ok(view.as_standard_layout().into_owned())
    }
}

/// A name from a foreign file, cut to what fits in a message.
pub(super) fn short(name: &str) -> String {
    match name.char_indices().nth(60) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}
