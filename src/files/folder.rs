//! A safetensors checkpoint: one file, or shards and the index that says which tensor is in which.
//! After opening, the index and the shards agree exactly: no tensor is missing, none is extra, no name leaves the folder.
//! One file's own rules: `safetensors.rs`.

use super::bytes::Bytes;
use super::error::FileError;
use super::safetensors::{MAX_HEADER, SafetensorsFile};
use super::{TensorInfo, TensorSource};
use candle_core::{DType, Tensor};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The file name of a checkpoint in one file.
pub const SINGLE: &str = "model.safetensors";
/// The file name of the index of a sharded checkpoint.
pub const INDEX: &str = "model.safetensors.index.json";

/// A safetensors checkpoint, mapped.
pub struct SafetensorsFolder {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    /// Tensor name to position in `files`.
    home: BTreeMap<String, usize>,
}

impl SafetensorsFolder {
    /// Open a folder with `model.safetensors` or `model.safetensors.index.json`, one `.safetensors` file, or an index.
    ///
    /// # Errors
    /// Nothing readable there, both of the two names in one folder (it would be a guess which is meant), a file that
    /// breaks the format, or an index that disagrees with its shards.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let kind = std::fs::metadata(path).map_err(FileError::io(path, "read"))?;
        if !kind.is_dir() {
            let index = path.extension().is_some_and(|e| e == "json");
            return if index {
                Self::open_index(path)
            } else {
                Self::open_single(path)
            };
        }
        let (single, index) = (path.join(SINGLE), path.join(INDEX));
        match (single.exists(), index.exists()) {
            (true, false) => Self::open_single(&single),
            (false, true) => Self::open_index(&index),
            (true, true) => Err(FileError::NotACheckpoint {
                file: path.to_path_buf(),
                found: format!("both {SINGLE} and {INDEX} are there"),
                hint: "give the path of the one that is meant".to_owned(),
            }),
            (false, false) => Err(nothing_here(path)),
        }
    }

    fn open_single(path: &Path) -> Result<Self, FileError> {
        let file = SafetensorsFile::open(path)?;
        let home = file
            .tensors()
            .keys()
            .map(|name| (name.clone(), 0))
            .collect();
        Ok(Self {
            path: path.to_path_buf(),
            files: vec![file],
            home,
        })
    }

    fn open_index(path: &Path) -> Result<Self, FileError> {
        let weight_map = parse_index(path, &Bytes::map(path)?)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let shards: BTreeSet<&String> = weight_map.values().collect();
        let absent: Vec<_> = shards
            .iter()
            .filter(|s| !folder.join(s).exists())
            .map(|s| s.as_str())
            .collect();
        if !absent.is_empty() {
            let expected = format!("{} shards beside it", shards.len());
            let found = format!("{} missing: {}", absent.len(), shorten(&absent));
            return Err(FileError::invalid(path, "weight_map", expected, found));
        }
        let files = shards
            .iter()
            .map(|s| SafetensorsFile::open(&folder.join(s)))
            .collect::<Result<Vec<_>, FileError>>()?;
        let place: BTreeMap<&String, usize> = shards.into_iter().zip(0..).collect();
        let home: BTreeMap<String, usize> = weight_map
            .iter()
            .map(|(name, shard)| (name.clone(), place[shard]))
            .collect();
        let whole = Self {
            path: path.to_path_buf(),
            files,
            home,
        };
        whole.check_index()?;
        Ok(whole)
    }

    /// Every listed tensor is where the index says, and every stored tensor is listed there.
    fn check_index(&self) -> Result<(), FileError> {
        let missing: Vec<_> = self
            .home
            .iter()
            .filter(|(name, at)| !self.files[**at].tensors().contains_key(*name))
            .map(|(name, _)| name.as_str())
            .collect();
        if !missing.is_empty() {
            let found = format!(
                "{} not in the shard named for them: {}",
                missing.len(),
                shorten(&missing)
            );
            return Err(FileError::invalid(
                &self.path,
                "weight_map",
                "tensors that exist",
                found,
            ));
        }
        for (at, file) in self.files.iter().enumerate() {
            let stray = |name: &&String| self.home.get(*name) != Some(&at);
            let extra: Vec<_> = file
                .tensors()
                .keys()
                .filter(stray)
                .map(String::as_str)
                .collect();
            if !extra.is_empty() {
                let expected = format!("every tensor of {}", file.path().display());
                let found = format!("{} not listed for it: {}", extra.len(), shorten(&extra));
                return Err(FileError::invalid(
                    &self.path,
                    "weight_map",
                    expected,
                    found,
                ));
            }
        }
        Ok(())
    }

    /// The files of this checkpoint, shards in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(SafetensorsFile::path)
    }

    /// The `__metadata__` strings of the first file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.files.first().map_or(&NONE, SafetensorsFile::metadata)
    }

    /// An integer or boolean tensor as i64. For token ids and labels, not for weights.
    pub fn load_ints(&self, name: &str) -> Result<Tensor, FileError> {
        self.file(name)?.load_ints(name)
    }

    fn file(&self, name: &str) -> Result<&SafetensorsFile, FileError> {
        self.home
            .get(name)
            .map(|&at| &self.files[at])
            .ok_or_else(|| FileError::Missing {
                file: self.path.clone(),
                tensor: name.to_owned(),
                count: self.home.len(),
            })
    }
}

impl TensorSource for SafetensorsFolder {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.home.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let entry = self.files[*self.home.get(name)?].tensors().get(name)?;
        Some(TensorInfo {
            dtype: entry.dtype.to_owned(),
            shape: entry.shape.clone(),
        })
    }

    fn load(&self, name: &str, dtype: DType) -> Result<Tensor, FileError> {
        self.file(name)?.load(name, dtype)
    }

    fn raw(&self, name: &str) -> Result<Cow<'_, [u8]>, FileError> {
        self.file(name)?.raw(name).map(Cow::Borrowed)
    }
}

/// Read an index; the result maps tensor names to plain file names. `path` is only used in messages.
///
/// # Errors
/// Not JSON, no `weight_map`, a file name that is not a plain name inside the folder.
pub fn parse_index(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, String>, FileError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    if bytes.len() > MAX_HEADER {
        let expected = format!("at most {MAX_HEADER} bytes");
        return Err(FileError::invalid(
            path,
            "file length",
            expected,
            bytes.len(),
        ));
    }
    let index: Index = serde_json::from_slice(bytes).map_err(|e| {
        FileError::invalid(path, "weight_map", "a JSON object with a weight_map", e)
    })?;
    for (tensor, shard) in &index.weight_map {
        if !is_plain_name(shard) {
            let expected = "the name of a file in this folder";
            return Err(FileError::tensor(
                path,
                tensor,
                "weight_map",
                expected,
                format!("{shard:?}"),
            ));
        }
    }
    Ok(index.weight_map)
}

/// One ordinary component: no separator of any system, no `..`, no NUL.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!(parts.next(), Some(Component::Normal(part)) if part == name)
        && parts.next().is_none();
    one && !name.contains(['/', '\\', '\0', ':'])
}

/// The first few of a list, for a message of one line.
fn shorten(names: &[&str]) -> String {
    let more = if names.len() > 3 { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(3)].join(", "))
}

fn nothing_here(path: &Path) -> FileError {
    let gguf = std::fs::read_dir(path).ok().and_then(|entries| {
        entries
            .filter_map(Result::ok)
            .map(|e| e.path())
            .find(|p| p.extension().is_some_and(|e| e == "gguf"))
    });
    let hint = match gguf {
        Some(file) => format!("give the path of the GGUF file itself: {}", file.display()),
        None => "give a Hugging Face folder or a .safetensors or .gguf file".to_owned(),
    };
    FileError::NotACheckpoint {
        file: path.to_path_buf(),
        found: format!("neither {SINGLE} nor {INDEX} is in this folder"),
        hint,
    }
}
