//! Runs seen from outside: what lies in a folder, and how each stands.
//!
//! Always: reading changes nothing and needs no model; a folder that is no run is passed over, a run whose files are broken
//! is listed with what is wrong.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    RunFolder, TrainError,
    log::{self, Kind, Row, standing},
};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A process trains in it now.
    Running,
    /// All steps are done.
    Finished,
    /// Stopped by the user; it can go on.
    Interrupted,
    /// Stopped by an error.
    Failed,
    /// Its process ended without a word; it can go on from its last checkpoint.
    Killed,
}

impl Status {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Its folder.
    pub path: PathBuf,
    /// How it stands.
    pub status: Status,
    /// `sft`, ...
    pub method: String,
    /// What the user called the model.
    pub model: String,
    /// Steps in the log.
    pub step: u64,
    /// Steps planned.
    pub steps: u64,
    /// When it began, in seconds since 1970.
    pub begun: f64,
    /// When its last row was written.
    pub last: f64,
    /// The last loss.
    pub loss: Option<f64>,
    /// The last `eval_loss`.
    pub eval_loss: Option<f64>,
    /// Alerts so far.
    pub alerts: usize,
    /// Steps of the checkpoints on disk.
    pub checkpoints: Vec<u64>,
    /// Why it stopped, where it failed.
    pub message: Option<String>,
}

/// A run with the rows of its log that stand.
///
/// # Errors
/// No run there, a log that cannot be read.
pub fn summary(root: &Path) -> Result<(Summary, Vec<Row>), TrainError> {
    let folder = RunFolder::open(root)?;
    let busy = folder.busy();
    let rows = standing(log::read(&folder.log_path())?.rows);
    let checkpoints = folder.checkpoints()?;
    let first = rows.first();
    let last = rows.last();
    let steps = rows.iter().rev().filter(|row| row.kind == Kind::Step);
    let number = |name: &str| rows.iter().rev().find_map(|row| row.number(name));
    let stopped = last.filter(|row| row.kind == Kind::Stopped);
    let status = match stopped.and_then(|row| row.text("reason")) {
        _ if busy => Status::Running,
        Some("finished") => Status::Finished,
        Some("interrupted") => Status::Interrupted,
        Some(_) => Status::Failed,
        None => Status::Killed,
    };
    let described = |name: &str| {
        let found = rows.iter().rev().find_map(|row| row.text(name));
        found.unwrap_or_default().to_owned()
    };
    let summary = Summary {
        path: root.to_path_buf(),
        status,
        method: described("method"),
        model: described("model"),
        step: steps.map(|row| row.step).next().unwrap_or(0),
        steps: number("steps").unwrap_or_default() as u64,
        begun: first.map_or(0.0, |row| row.wall),
        last: last.map_or(0.0, |row| row.wall),
        loss: number("loss"),
        eval_loss: number("eval_loss"),
        alerts: rows.iter().filter(|row| row.kind == Kind::Alert).count(),
        checkpoints: checkpoints.iter().map(|saved| saved.step).collect(),
        message: stopped
            .and_then(|row| row.text("message"))
            .map(str::to_owned),
    };
    Ok((summary, rows))
}

/// The runs in a folder and those in the folders in it, the latest first; the folder itself where it is a run.
///
/// # Errors
/// A folder that cannot be listed.
pub fn list(root: &Path) -> Result<Vec<Summary>, TrainError> {
    if RunFolder::open(root).is_ok() {
        return Ok(vec![summary(root)?.0]);
    }
    let mut found = Vec::new();
    let entries = std::fs::read_dir(root).map_err(TrainError::io(root, "list"))?;
    for entry in entries {
        let path = entry.map_err(TrainError::io(root, "list"))?.path();
        if RunFolder::open(&path).is_ok() {
            found.push(summary(&path)?.0);
        }
    }
    found.sort_by(|a, b| b.begun.total_cmp(&a.begun).then(a.path.cmp(&b.path)));
    Ok(found)
}
