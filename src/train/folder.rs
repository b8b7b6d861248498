//! A run's folder: `run.toml`, `manifest.json`, `metrics.jsonl`, `tensorboard/`, `checkpoints/step-N/`, `failed/`, and the
//! `report.json` of a reward model.
//!
//! Always: a checkpoint appears whole or not at all (hidden folder, fsync of every file, rename, fsync of the parent); a
//! folder is trained in by one process at a time; a checkpoint is retired by renaming it away first. What a checkpoint holds
//! is `checkpoint.rs`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::TrainError;
use crate::files::{lock, write::write_atomic};

/// The resolved config.
pub const CONFIG: &str = "run.toml";
/// Provenance.
pub const MANIFEST: &str = "manifest.json";
/// The event log.
pub const LOG: &str = "metrics.jsonl";
/// What is said of a finished model beside its metrics.
pub const REPORT: &str = "report.json";
/// Held locked by the process that trains.
const LOCK: &str = ".lock";
const CHECKPOINTS: &str = "checkpoints";

/// A run's folder.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// Kept open, and so locked, while this process trains here.
    lock: Option<File>,
}

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Optimiser steps it has seen.
    pub step: u64,
    /// `checkpoints/step-N`.
    pub path: PathBuf,
}

impl RunFolder {
    /// Makes a folder for a new run, and locks it.
    ///
    /// # Errors
    /// Something else is there: another run, or files.
    pub fn create(root: &Path, config: &str) -> Result<Self, TrainError> {
        fs::create_dir_all(root).map_err(TrainError::io(root, "make"))?;
        let occupied = |found: String| TrainError::Occupied {
            path: root.to_path_buf(),
            found,
        };
        let checkpoints = root.join(CHECKPOINTS);
        if is_run(root) || checkpoints.exists() && !entries(&checkpoints)?.is_empty() {
            return Err(occupied("a run".into()));
        }
        // What a kill before `run.toml` may have left is no hindrance.
        let mut entries = fs::read_dir(root).map_err(TrainError::io(root, "list"))?;
        let foreign = entries.find_map(|entry| {
            let name = entry.ok()?.file_name().to_string_lossy().into_owned();
            (!name.starts_with('.') && name != CHECKPOINTS).then_some(name)
        });
        if let Some(name) = foreign {
            return Err(occupied(format!("`{name}`")));
        }
        let folder = Self::locked(root)?;
        fs::create_dir_all(folder.checkpoints_path())
            .map_err(TrainError::io(root, "make checkpoints/ in"))?;
        // Last: until it is there, the folder is no run.
        write_atomic(&folder.config_path(), config.as_bytes())?;
        Ok(folder)
    }

    /// Opens a run to look at it.
    ///
    /// # Errors
    /// There is none.
    pub fn open(root: &Path) -> Result<Self, TrainError> {
        if !is_run(root) {
            return Err(TrainError::NotARun {
                path: root.to_path_buf(),
                why: format!("it does not hold {CONFIG} and {CHECKPOINTS}/"),
            });
        }
        Ok(Self {
            root: root.to_path_buf(),
            lock: None,
        })
    }

    /// Opens a run to go on with it: locks it and removes what a kill left half-written.
    ///
    /// # Errors
    /// There is none, or another process trains in it.
    pub fn resume(root: &Path) -> Result<Self, TrainError> {
        Self::open(root)?;
        let folder = Self::locked(root)?;
        let checkpoints = folder.checkpoints_path();
        fs::create_dir_all(&checkpoints).map_err(TrainError::io(&checkpoints, "make"))?;
        for path in entries(&checkpoints)? {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(".step-"));
            if hidden {
                fs::remove_dir_all(&path).map_err(TrainError::io(&path, "remove"))?;
            }
        }
        Ok(folder)
    }

    fn locked(root: &Path) -> Result<Self, TrainError> {
        let path = root.join(LOCK);
        let lock = lock::hold(&path).map_err(TrainError::io(&path, "lock"))?;
        let lock = lock.ok_or_else(|| TrainError::Busy {
            path: root.to_path_buf(),
        })?;
        Ok(Self {
            root: root.to_path_buf(),
            lock: Some(lock),
        })
    }

    /// Whether a process trains in it now.
    pub fn busy(&self) -> bool {
        if self.lock.is_some() {
            return true;
        }
        let Ok(lock) = File::open(self.root.join(LOCK)) else {
            return false;
        };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `run.toml`
    pub fn config_path(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    /// `manifest.json`
    pub fn manifest_path(&self) -> PathBuf {
        self.root.join(MANIFEST)
    }

    /// `metrics.jsonl`
    pub fn log_path(&self) -> PathBuf {
        self.root.join(LOG)
    }

    /// `tensorboard/`
    pub fn tensorboard_path(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// `report.json`
    pub fn report_path(&self) -> PathBuf {
        self.root.join(REPORT)
    }

    fn checkpoints_path(&self) -> PathBuf {
        self.root.join(CHECKPOINTS)
    }

    /// Keeps the batch of a step that failed, for inspection; gives the file.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep_failed(&self, step: u64, batch: &serde_json::Value) -> Result<PathBuf, TrainError> {
        let folder = self.root.join("failed");
        fs::create_dir_all(&folder).map_err(TrainError::io(&folder, "make"))?;
        let path = folder.join(format!("step-{step}.json"));
        write_atomic(&path, format!("{batch:#}\n").as_bytes())?;
        Ok(path)
    }

    /// The whole checkpoints, by step.
    ///
    /// # Errors
    /// The system refuses to list them.
    pub fn checkpoints(&self) -> Result<Vec<Saved>, TrainError> {
        let folder = self.checkpoints_path();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let step = |path: &Path| -> Option<u64> {
            let name = path.file_name()?.to_str()?;
            let digits = name.strip_prefix("step-")?;
            digits.parse().ok().filter(|_| path.is_dir())
        };
        let mut found: Vec<Saved> = entries(&folder)?
            .into_iter()
            .filter_map(|path| {
                Some(Saved {
                    step: step(&path)?,
                    path,
                })
            })
            .collect();
        found.sort_by_key(|saved| saved.step);
        Ok(found)
    }

    /// Writes the checkpoint of `step`: `fill` writes its files into a hidden folder, which then takes its name. One that is
    /// there already is replaced. On failure nothing of it remains.
    ///
    /// # Errors
    /// `fill` fails, or the disk refuses.
    pub fn save(
        &self,
        step: u64,
        fill: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<Saved, TrainError> {
        let parent = self.checkpoints_path();
        let hidden = parent.join(format!(".step-{step}.partial"));
        let path = parent.join(format!("step-{step}"));
        if hidden.exists() {
            fs::remove_dir_all(&hidden).map_err(TrainError::io(&hidden, "remove"))?;
        }
        fs::create_dir(&hidden).map_err(TrainError::io(&hidden, "make"))?;
        let finished = fill(&hidden).and_then(|()| {
            settle(&hidden)?;
            if path.exists() {
                remove(&path)?;
            }
            fs::rename(&hidden, &path)
                .map_err(TrainError::io(&path, "move the finished folder to"))?;
            sync(&parent)
        });
        if let Err(error) = finished {
            // The failure is the news; what cannot be removed is hidden and swept on resume.
            let _ = fs::remove_dir_all(&hidden);
            return Err(error);
        }
        Ok(Saved { step, path })
    }

    /// Removes all checkpoints but the last `keep_last` (at least one) and those of the steps in `keep`; gives their steps.
    ///
    /// # Errors
    /// The system refuses.
    pub fn retire(&self, keep_last: usize, keep: &[u64]) -> Result<Vec<u64>, TrainError> {
        let mut there = self.checkpoints()?;
        there.truncate(there.len().saturating_sub(keep_last.max(1)));
        there.retain(|saved| !keep.contains(&saved.step));
        for saved in &there {
            remove(&saved.path)?;
        }
        Ok(there.into_iter().map(|saved| saved.step).collect())
    }
}

/// A config by itself is none, even if it is called `run.toml`.
fn is_run(root: &Path) -> bool {
    root.join(CONFIG).is_file() && root.join(CHECKPOINTS).is_dir()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let io = |error| TrainError::io(folder, "list")(error);
    fs::read_dir(folder)
        .map_err(io)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(io))
        .collect()
}

/// Makes a folder of files durable.
fn settle(folder: &Path) -> Result<(), TrainError> {
    for path in entries(folder)? {
        sync(&path)?;
    }
    sync(folder)
}

fn sync(path: &Path) -> Result<(), TrainError> {
    let file = File::open(path).map_err(TrainError::io(path, "open"))?;
    file.sync_all().map_err(TrainError::io(path, "sync"))
}

/// A checkpoint that is being removed is none: it is renamed away first.
fn remove(path: &Path) -> Result<(), TrainError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}.removed"));
    if hidden.exists() {
        fs::remove_dir_all(&hidden).map_err(TrainError::io(&hidden, "remove"))?;
    }
    fs::rename(path, &hidden).map_err(TrainError::io(path, "move away"))?;
    fs::remove_dir_all(&hidden).map_err(TrainError::io(&hidden, "remove"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn steps(folder: &RunFolder) -> Vec<u64> {
        folder
            .checkpoints()
            .unwrap()
            .iter()
            .map(|s| s.step)
            .collect()
    }

    fn filled(path: &Path) -> Result<(), TrainError> {
        fs::write(path.join("weights"), "w").map_err(TrainError::io(path, "write"))
    }

    #[test]
    fn a_folder_is_made_once_and_trained_in_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        assert!(matches!(
            RunFolder::open(&root),
            Err(TrainError::NotARun { .. })
        ));
        let folder = RunFolder::create(&root, "seed = 1\n").unwrap();
        assert!(RunFolder::open(&root).unwrap().busy());
        assert!(matches!(
            RunFolder::create(&root, ""),
            Err(TrainError::Occupied { .. })
        ));
        assert!(matches!(
            RunFolder::resume(&root),
            Err(TrainError::Busy { .. })
        ));
        drop(folder);
        assert!(!RunFolder::open(&root).unwrap().busy());
        assert!(RunFolder::resume(&root).is_ok());
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let error = RunFolder::create(dir.path(), "").unwrap_err().to_string();
        assert!(
            error.contains("run") || error.contains("notes.txt"),
            "{error}"
        );
    }

    #[test]
    fn a_half_written_checkpoint_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        let folder = RunFolder::create(&root, "").unwrap();
        folder.save(2, filled).unwrap();
        let refused = folder.save(4, |path| {
            filled(path)?;
            Err(TrainError::io(path, "write")(std::io::Error::other(
                "disk full",
            )))
        });
        assert!(refused.is_err());
        assert_eq!(steps(&folder), [2]);
        assert_eq!(fs::read_dir(root.join(CHECKPOINTS)).unwrap().count(), 1);
        // A kill before the rename, and one in the middle of a removal.
        fs::create_dir(root.join(CHECKPOINTS).join(".step-4.partial")).unwrap();
        fs::create_dir(root.join(CHECKPOINTS).join(".step-1.removed")).unwrap();
        fs::write(root.join(CHECKPOINTS).join("step-9"), "a file").unwrap();
        assert_eq!(steps(&folder), [2]);
        drop(folder);
        let folder = RunFolder::resume(&root).unwrap();
        assert_eq!(steps(&folder), [2]);
        assert_eq!(fs::read_dir(root.join(CHECKPOINTS)).unwrap().count(), 2);
    }

    #[test]
    fn the_last_and_the_best_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&dir.path().join("run"), "").unwrap();
        for step in [10, 2, 4, 8, 6] {
            folder.save(step, filled).unwrap();
        }
        assert_eq!(folder.retire(2, &[4]).unwrap(), [2, 6]);
        assert_eq!(steps(&folder), [4, 8, 10]);
        assert_eq!(folder.retire(0, &[]).unwrap(), [4, 8]);
        assert_eq!(steps(&folder), [10]);
    }
}
