//! What can go wrong in a pipeline, by name.

use std::path::PathBuf;

use crate::audit::policy::PolicyError;
use crate::audit::report::ReportError;
use crate::audit::runner::RunError;
use crate::features::FeatureError;
use crate::files::FileError;
use crate::model::ModelError;
use crate::pocket::write::WriteError;
use crate::train::TrainError;

/// Errors of pipelines.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The operating system refused.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A plan that is no TOML, or has a key that is not known.
    #[error("{origin}: {message}")]
    Syntax {
        /// The file.
        origin: String,
        /// What the parser said.
        message: String,
    },
    /// A plan that cannot be carried out.
    #[error("{}: expected {expected}, found {found}", place(stage, key))]
    Plan {
        /// The stage, empty for the plan itself.
        stage: String,
        /// The key.
        key: String,
        /// What can be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A stage that names what no earlier stage makes.
    #[error(
        "stage `{stage}`: `{key}` names `{found}`, which is made by no stage before it (there are: {known})"
    )]
    Reference {
        /// The stage.
        stage: String,
        /// The key.
        key: String,
        /// The name.
        found: String,
        /// What earlier stages make.
        known: String,
    },
    /// A folder that already has a pipeline.
    #[error("{}: holds {found}; go on with `--resume`, or choose another folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A folder that is no pipeline's.
    #[error("{}: not a pipeline's folder: it has no {missing}", path.display())]
    NotAPipeline {
        /// The folder.
        path: PathBuf,
        /// The file it lacks.
        missing: &'static str,
    },
    /// A folder that is no run's, of whatever kind.
    #[error(
        "{}: neither a pipeline's folder (no pipeline.toml and pipeline.json) nor a training run's (no run.toml and checkpoints/)",
        path.display()
    )]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A run without a checkpoint to look at.
    #[error("{}: expected {expected}", path.display())]
    NoStation {
        /// The folder.
        path: PathBuf,
        /// What there should be, and what there is.
        expected: &'static str,
    },
    /// Another process works in this folder.
    #[error("{}: another process runs a pipeline in this folder", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A pipeline that was begun by another plan.
    #[error("{}: the pipeline was begun with another plan: {field} was {was}, is {is}", path.display())]
    Changed {
        /// The folder's plan.
        path: PathBuf,
        /// What differs.
        field: String,
        /// In the folder.
        was: String,
        /// Now.
        is: String,
    },
    /// What an earlier stage made is gone or was changed since.
    #[error("stage `{stage}`: {}: {found}; the stage that made it has to be run again in a new folder", path.display())]
    Gone {
        /// The stage that needs it.
        stage: String,
        /// What.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A model cannot be had.
    #[error("stage `{stage}`: cannot open `{model}`: {source}")]
    Open {
        /// The stage.
        stage: String,
        /// The model's name.
        model: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stage's edit.
    #[error("stage `{stage}`: {source}")]
    Edit {
        /// The stage.
        stage: String,
        /// Why.
        source: crate::organism::MakeError,
    },
    /// A dictionary that audits cannot read through.
    #[error("{}: {source}", through(dictionary, stage))]
    Dictionary {
        /// The stage whose audits were to read through it; empty where none can.
        stage: String,
        /// What `[audit] dictionary` names.
        dictionary: String,
        /// Why.
        source: FeatureError,
    },
    /// A stage's training.
    #[error("stage `{stage}`: {source}")]
    Train {
        /// The stage.
        stage: String,
        /// Why.
        source: TrainError,
    },
    /// An audit could not start.
    #[error("audit of {checkpoint}: {source}")]
    Audit {
        /// The checkpoint.
        checkpoint: String,
        /// Why.
        source: RunError,
    },
    /// The audit's policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A model's files.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Files of the pipeline.
    #[error(transparent)]
    File(#[from] FileError),
    /// The pocket world.
    #[error(transparent)]
    World(#[from] WriteError),
}

fn through(dictionary: &str, stage: &str) -> String {
    if stage.is_empty() {
        format!(
            "`audit.dictionary` names `{dictionary}`, which is neither a stage nor a dictionary"
        )
    } else {
        format!("audits of stage `{stage}` cannot read through dictionary `{dictionary}`")
    }
}

fn place(stage: &str, key: &str) -> String {
    if stage.is_empty() {
        format!("`{key}`")
    } else {
        format!("stage `{stage}`: `{key}`")
    }
}

impl PipelineError {
    /// A stage's training.
    pub(super) fn train(stage: &str, source: TrainError) -> Self {
        Self::Train {
            stage: stage.to_owned(),
            source,
        }
    }

    pub(super) fn io(
        path: &std::path::Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    pub(super) fn plan(
        stage: &str,
        key: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Plan {
            stage: stage.to_owned(),
            key: key.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}
