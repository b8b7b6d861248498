//! Reading a store of activations.
//!
//! Always: a shard's hash is checked the first time it is opened, a tensor comes with exactly the shape that the manifest
//! promises, and [`Store::expect`] stands between a store and a model it was not made on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{DType, Tensor};

use super::{
    Manifest, StoreDtype, StoreError,
    manifest::{ShardInfo, StoredPoint},
    shard::{LEFT_OUT, row_tensor, scale_tensor},
};
use crate::files::{FileError, hash::sha256_file, safetensors::SafetensorsFile};
use crate::hooks::HookPoint;
use crate::model::Fingerprint;

/// A store on disk.
pub struct Store {
    folder: PathBuf,
    manifest: Manifest,
    /// Shards whose hash has been checked.
    checked: Mutex<BTreeSet<usize>>,
}

impl Store {
    /// Reads the manifest; shards are opened when they are asked for.
    ///
    /// # Errors
    /// No store, another schema, a manifest that contradicts itself.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            folder: folder.to_path_buf(),
            manifest: Manifest::read(folder)?,
            checked: Mutex::default(),
        })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Refuses a model that the store was not made on, naming what differs.
    pub fn expect(&self, fingerprint: &Fingerprint) -> Result<(), StoreError> {
        let artefact = self.folder.display().to_string();
        Ok(fingerprint.expect(&self.manifest.fingerprint, &artefact)?)
    }

    /// Refuses a store whose capture has not finished.
    pub fn require_complete(&self) -> Result<(), StoreError> {
        if self.manifest.complete {
            return Ok(());
        }
        Err(StoreError::Incomplete {
            folder: self.folder.clone(),
            rows: self.manifest.rows_done(),
            planned: self.manifest.rows,
        })
    }

    /// Every shard in order, opened one after the other.
    pub fn shards(&self) -> impl Iterator<Item = Result<ShardReader<'_>, StoreError>> {
        (0..self.manifest.shards.len()).map(|i| self.shard(i))
    }

    /// One shard. The first opening reads it whole to check its hash.
    ///
    /// # Errors
    /// No such shard, a file that has changed, tensors other than the manifest's.
    pub fn shard(&self, index: usize) -> Result<ShardReader<'_>, StoreError> {
        let info = self.manifest.shards.get(index).ok_or_else(|| {
            self.absent(
                format!("shard {index}"),
                format!("{} shards", self.manifest.shards.len()),
            )
        })?;
        let path = self.folder.join(&info.file);
        let known = |set: &BTreeSet<usize>| set.contains(&index);
        if !self.checked.lock().is_ok_and(|set| known(&set)) {
            let found = sha256_file(&path)?;
            if found != info.sha256 {
                return Err(StoreError::Damaged {
                    file: path,
                    expected: info.sha256.clone(),
                    found,
                });
            }
            if let Ok(mut set) = self.checked.lock() {
                set.insert(index);
            }
        }
        Ok(ShardReader {
            store: self,
            info,
            file: SafetensorsFile::open(&path)?,
        })
    }

    /// The activations of one row: `[token, ...]`, or `[head, query, key]` for an attention point.
    ///
    /// # Errors
    /// A point or row that the store does not hold.
    pub fn row(&self, at: HookPoint, row: usize) -> Result<Tensor, StoreError> {
        let holds = |s: &ShardInfo| (s.first_row..s.first_row + s.rows).contains(&row);
        let index = self.manifest.shards.iter().position(holds);
        let index = index.ok_or_else(|| {
            self.absent(
                format!("row {row}"),
                format!("rows 0 to {}", self.manifest.rows_done().saturating_sub(1)),
            )
        })?;
        self.shard(index)?.row(at, row)
    }

    pub(super) fn point(&self, at: HookPoint) -> Result<&StoredPoint, StoreError> {
        let points = &self.manifest.points;
        points.iter().find(|p| p.point == at).ok_or_else(|| {
            let names: Vec<_> = points.iter().map(|p| p.point.to_string()).collect();
            self.absent(format!("point {at}"), names.join(", "))
        })
    }

    fn absent(&self, what: String, there: String) -> StoreError {
        StoreError::Absent {
            folder: self.folder.clone(),
            what,
            there,
        }
    }
}

/// One shard, memory-mapped.
pub struct ShardReader<'a> {
    store: &'a Store,
    info: &'a ShardInfo,
    file: SafetensorsFile,
}

impl ShardReader<'_> {
    /// Its row of the manifest.
    pub fn info(&self) -> &ShardInfo {
        self.info
    }

    /// Refuses a shard whose tensors are not of the shapes that rows are read out of.
    pub(super) fn check(&self, points: &[HookPoint]) -> Result<(), StoreError> {
        let manifest = &self.store.manifest;
        let tokens = self.info.tokens as usize;
        let mut wanted = vec![("row".into(), tokens * 8), ("position".into(), tokens * 8)];
        if manifest.facts.is_some() {
            wanted.push((LEFT_OUT.into(), tokens));
        }
        for at in points {
            let values = tokens * self.store.point(*at)?.dims.iter().product::<usize>();
            wanted.push((at.to_string(), values * manifest.dtype.size() as usize));
            if manifest.dtype == StoreDtype::Int8 {
                wanted.push((scale_tensor(*at), tokens * 4));
            }
        }
        for (name, bytes) in wanted {
            let found = self.file.raw(&name)?.len();
            if found != bytes {
                return Err(self.wrong(&name, "bytes", bytes, found));
            }
        }
        Ok(())
    }

    pub(super) fn into_file(self) -> SafetensorsFile {
        self.file
    }

    /// Token ids of the stored tokens.
    pub fn token_ids(&self) -> Result<Vec<u32>, StoreError> {
        self.ints("token_ids")
    }

    /// Which row of the source each stored token is in.
    pub fn rows(&self) -> Result<Vec<usize>, StoreError> {
        self.ints("row")
    }

    /// Where in its row each stored token is.
    pub fn positions(&self) -> Result<Vec<usize>, StoreError> {
        self.ints("position")
    }

    /// All stored tokens of a point that is stored by token, `[token, ...]`, in f32.
    ///
    /// # Errors
    /// A point that was not captured or is stored by row.
    pub fn tokens(&self, at: HookPoint) -> Result<Tensor, StoreError> {
        let point = self.store.point(at)?;
        if point.by_row {
            return Err(self.store.absent(
                format!("{at} by token"),
                format!("it by row: `{}`", row_tensor(at, self.info.first_row)),
            ));
        }
        let mut expected = vec![self.info.tokens as usize];
        expected.extend(&point.dims);
        if self.store.manifest.dtype == StoreDtype::Int8 {
            let codes = self.file.load_ints(&at.to_string())?;
            let codes = self.shaped(codes, &at.to_string(), &expected)?;
            let name = scale_tensor(at);
            let scales = self.file.load(&name, DType::F32)?;
            let scales = self.shaped(scales, &name, &expected[..1])?;
            let mut ones = vec![expected[0]];
            ones.resize(expected.len(), 1);
            let codes = codes.to_dtype(DType::F32)?;
            return Ok(codes.broadcast_mul(&scales.reshape(ones)?)?);
        }
        let tensor = self.file.load(&at.to_string(), DType::F32)?;
        self.shaped(tensor, &at.to_string(), &expected)
    }

    /// Why training leaves out each stored token, as [`super::policy::Reason`] counts them; none where no policy decides.
    pub fn left_out(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let decided = self.store.manifest.facts.is_some();
        decided.then(|| self.ints(LEFT_OUT)).transpose()
    }

    /// The stored tokens of one row, in f32: `[token, ...]`, or `[head, query, key]` for an attention point.
    ///
    /// # Errors
    /// A point that was not captured, a row of another shard.
    pub fn row(&self, at: HookPoint, row: usize) -> Result<Tensor, StoreError> {
        let point = self.store.point(at)?;
        let manifest = &self.store.manifest;
        let first = self.info.first_row;
        if !(first..first + self.info.rows).contains(&row) {
            let there = format!("rows {first} to {}", first + self.info.rows - 1);
            return Err(self
                .store
                .absent(format!("row {row} in {}", self.info.file), there));
        }
        let kept = |row: usize| {
            let len = manifest.tokens_per_row[row] as usize;
            (manifest.positions.of(len).len(), len)
        };
        let (stored, len) = kept(row);
        if point.by_row {
            let name = row_tensor(at, row);
            let tensor = self.file.load(&name, DType::F32)?;
            let mut expected = point.dims.clone();
            expected.extend([stored, len]);
            return self.shaped(tensor, &name, &expected);
        }
        let before: usize = (first..row).map(|row| kept(row).0).sum();
        Ok(self.tokens(at)?.narrow(0, before, stored)?)
    }

    fn ints<T: TryFrom<i64>>(&self, name: &str) -> Result<Vec<T>, StoreError> {
        let tensor = self.file.load_ints(name)?;
        let tensor = self.shaped(tensor, name, &[self.info.tokens as usize])?;
        let number = |i: i64| {
            T::try_from(i).map_err(|_| self.wrong(name, "values", "small, not negative", i))
        };
        tensor.to_vec1::<i64>()?.into_iter().map(number).collect()
    }

    fn shaped(&self, tensor: Tensor, name: &str, expected: &[usize]) -> Result<Tensor, StoreError> {
        if tensor.dims() == expected {
            return Ok(tensor);
        }
        let found = format!("{:?}", tensor.dims());
        Err(self.wrong(
            name,
            "shape",
            format!("{expected:?} from the manifest"),
            found,
        ))
    }

    fn wrong(
        &self,
        tensor: &str,
        field: &str,
        expected: impl ToString,
        found: impl ToString,
    ) -> StoreError {
        FileError::Tensor {
            file: self.file.path().to_path_buf(),
            tensor: tensor.into(),
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
        .into()
    }
}
