//! A pipeline's folder.
//!
//! ```text
//! pipeline.toml          the plan, as it was begun
//! pipeline.json          what is done, rewritten after every stage and audit
//! policies/              the texts of the policies that the plan names, as they were then
//! world/                 the pocket world's data, where the plan asks for it
//! configs/STAGE.toml     each stage as the config of one run
//! stages/STAGE/          the run of a stage, as `candlescope train` or `candlescope sae train` makes it
//! models/STAGE/          its model, where the run ends with an adapter
//! refits/STAGE/          a dictionary stage's dictionary, trained on for a while on the model that STAGE ended with
//! audits/STAGE/step-N/   the audit of a checkpoint
//! ```
//!
//! Always: one process works here at a time; the state is written whole; what it calls done has its files on the disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PipelineError;
use super::plan::Plan;
use super::policies::Texts;
use crate::audit::verdict::Verdict;
use crate::files::{lock, write::write_atomic};

/// The plan.
pub const PLAN: &str = "pipeline.toml";
/// The state.
pub const STATE: &str = "pipeline.json";
/// The state's layout.
pub const SCHEMA: &str = "candlescope.pipeline/1";
const LOCK: &str = ".lock";

/// What is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The stages that are done, in their order.
    pub done: Vec<Done>,
    /// The audits that are done, in the order of the checkpoints.
    pub audits: Vec<Audited>,
}

/// A stage that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// The stage.
    pub stage: String,
    /// Its steps.
    pub steps: u64,
    /// Its model, or its dictionary, below the pipeline's folder.
    pub model: PathBuf,
    /// The hash of its weights.
    pub weights: String,
    /// Seconds that its training took, over all sittings.
    pub seconds: f64,
}

/// A checkpoint that was audited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audited {
    /// The stage.
    pub stage: String,
    /// The checkpoint's step.
    pub step: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// The audit, below the pipeline's folder.
    pub audit: PathBuf,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The folder, locked by this process.
#[derive(Debug)]
pub struct PipelineFolder {
    root: PathBuf,
    // Held while this process works here.
    _lock: File,
}

impl PipelineFolder {
    /// Makes a folder for a new pipeline, and locks it.
    ///
    /// # Errors
    /// Something is there; another process; a policy that cannot be read.
    pub fn create(root: &Path, plan: &Plan) -> Result<Self, PipelineError> {
        let policies = Texts::read(&plan.audit)?;
        fs::create_dir_all(root).map_err(PipelineError::io(root, "make"))?;
        let folder = Self::locked(root)?;
        let mut entries = fs::read_dir(root).map_err(PipelineError::io(root, "list"))?;
        let there = entries.find_map(|entry| {
            let name = entry.ok()?.file_name().to_string_lossy().into_owned();
            (!name.starts_with('.')).then_some(name)
        });
        if let Some(name) = there {
            let found = if is_pipeline(root) {
                "a pipeline".to_owned()
            } else {
                format!("`{name}`")
            };
            return Err(PipelineError::Occupied {
                path: root.to_path_buf(),
                found,
            });
        }
        policies.write(root)?;
        folder.write_state(&State {
            schema: SCHEMA.to_owned(),
            ..State::default()
        })?;
        // Last: until it is there, the folder is no pipeline's.
        write_atomic(&root.join(PLAN), plan.to_toml()?.as_bytes())?;
        Ok(folder)
    }

    /// Opens a pipeline to go on with it.
    ///
    /// # Errors
    /// There is none, another process works in it, its state cannot be read.
    pub fn resume(root: &Path) -> Result<(Self, Plan, State), PipelineError> {
        let (plan, _) = look(root)?;
        let folder = Self::locked(root)?;
        // Again under the lock: another process may just have ended.
        let (_, state) = look(root)?;
        Ok((folder, plan, state))
    }

    fn locked(root: &Path) -> Result<Self, PipelineError> {
        let path = root.join(LOCK);
        let lock = lock::hold(&path).map_err(PipelineError::io(&path, "lock"))?;
        let lock = lock.ok_or_else(|| PipelineError::Busy {
            path: root.to_path_buf(),
        })?;
        Ok(Self {
            root: root.to_path_buf(),
            _lock: lock,
        })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes what is done.
    ///
    /// # Errors
    /// The disk.
    pub fn write_state(&self, state: &State) -> Result<(), PipelineError> {
        let path = self.root.join(STATE);
        let text = serde_json::to_string_pretty(state).map_err(|e| PipelineError::Syntax {
            origin: path.display().to_string(),
            message: e.to_string(),
        })?;
        write_atomic(&path, format!("{text}\n").as_bytes())?;
        Ok(())
    }
}

/// Makes a folder in a pipeline's.
pub(super) fn make(folder: &Path) -> Result<(), PipelineError> {
    std::fs::create_dir_all(folder).map_err(PipelineError::io(folder, "make"))
}

/// The world's data.
pub fn world(root: &Path) -> PathBuf {
    root.join("world")
}

/// A stage's config.
pub fn config(root: &Path, stage: &str) -> PathBuf {
    root.join("configs").join(format!("{stage}.toml"))
}

/// A stage's run.
pub fn run(root: &Path, stage: &str) -> PathBuf {
    root.join("stages").join(stage)
}

/// Where a model lies that no run has as a checkpoint: merged weights, an edit.
pub(super) fn model(root: &Path, stage: &str) -> PathBuf {
    root.join("models").join(stage)
}

/// Where the texts of the policies lie.
pub(super) fn policies(root: &Path) -> PathBuf {
    root.join("policies")
}

/// Where the dictionary lies that was trained on for a while on a stage's model.
pub(super) fn refit(root: &Path, stage: &str) -> PathBuf {
    root.join("refits").join(stage)
}

/// Where an audit lies.
pub fn audit(root: &Path, stage: &str, step: u64) -> PathBuf {
    root.join("audits").join(stage).join(format!("step-{step}"))
}

/// Whether a folder is a pipeline's.
pub fn is_pipeline(root: &Path) -> bool {
    root.join(PLAN).is_file() && root.join(STATE).is_file()
}

/// The plan and what is done, without a lock: to look at it.
///
/// # Errors
/// There is none; a state of another layout.
pub fn look(root: &Path) -> Result<(Plan, State), PipelineError> {
    for missing in [PLAN, STATE] {
        if !root.join(missing).is_file() {
            return Err(PipelineError::NotAPipeline {
                path: root.to_path_buf(),
                missing,
            });
        }
    }
    let plan = Plan::read(&root.join(PLAN))?;
    let path = root.join(STATE);
    let text = fs::read_to_string(&path).map_err(PipelineError::io(&path, "read"))?;
    let malformed = |message: String| PipelineError::Syntax {
        origin: path.display().to_string(),
        message,
    };
    let state: State = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    if state.schema != SCHEMA {
        let message = format!("schema `{}`, expected `{SCHEMA}`", state.schema);
        return Err(malformed(message));
    }
    Ok((plan, state))
}

impl State {
    /// The stage, if it is done.
    pub fn done(&self, stage: &str) -> Option<&Done> {
        self.done.iter().find(|done| done.stage == stage)
    }

    /// The audit of a checkpoint, if there is one.
    pub fn audited(&self, stage: &str, step: u64) -> Option<&Audited> {
        let mut audits = self.audits.iter();
        audits.find(|audited| audited.stage == stage && audited.step == step)
    }

    /// Seconds of training and of audits.
    pub fn seconds(&self) -> (f64, f64) {
        let trained = self.done.iter().map(|done| done.seconds).sum();
        let audited = self.audits.iter().map(|audited| audited.seconds).sum();
        (trained, audited)
    }
}
