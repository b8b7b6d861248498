//! What can go wrong in a search for the step at which a signal broke, by name.

use std::path::PathBuf;

use crate::audit::runner::RunError;
use crate::files::FileError;
use crate::model::ModelError;
use crate::pipeline::PipelineError;
use crate::steer::SteerError;
use crate::text::TextError;
use crate::text::dataset::DataError;
use crate::train::TrainError;

/// Errors of a search.
#[derive(Debug, thiserror::Error)]
pub enum BisectError {
    /// No signal or quantity has this name.
    #[error("no {what} is called `{found}`; there are: {known}")]
    Unknown {
        /// `signal`, `quantity of ...` or `stage`.
        what: String,
        /// The name.
        found: String,
        /// Those there are.
        known: String,
    },
    /// A stage that no audit looks at.
    #[error(
        "stage `{stage}` is by `{method}`, which makes no model that answers; give --stage one of {known}"
    )]
    NoPolicy {
        /// The stage.
        stage: String,
        /// Its method.
        method: String,
        /// The stages that do.
        known: String,
    },
    /// What broke it has no steps.
    #[error(
        "`{signal}` broke in stage `{stage}`, which is an edit: there are no steps to halve and no rows to rank"
    )]
    Edited {
        /// The signal.
        signal: String,
        /// The stage.
        stage: String,
    },
    /// No audit on the way asked the signal.
    #[error(
        "no audit on the way to stage `{stage}` asked `{signal}`; they asked {known}. A policy in [audit] of the plan has to \
         enable it before the pipeline runs"
    )]
    NeverMeasured {
        /// The stage.
        stage: String,
        /// The signal.
        signal: String,
        /// What was asked.
        known: String,
    },
    /// The policy has no limit on the quantity.
    #[error(
        "no limit of the policy is on `{signal}`, so no verdict breaks; give --below or --above with a number"
    )]
    NoLimit {
        /// Signal and quantity.
        signal: String,
    },
    /// It never got worse.
    #[error("`{signal}` never broke on the way to stage `{stage}`: {course}. Broken is: {rule}")]
    NeverBroke {
        /// The signal.
        signal: String,
        /// The stage.
        stage: String,
        /// Checkpoints with what was found.
        course: String,
        /// What counts as broken.
        rule: String,
    },
    /// There is no good checkpoint to begin at.
    #[error(
        "`{signal}` is broken from the first audited checkpoint on, {first}, and never gets worse: {course}. Broken is: {rule}"
    )]
    BrokenFromTheFirst {
        /// The signal.
        signal: String,
        /// The first checkpoint.
        first: String,
        /// Checkpoints with what was found.
        course: String,
        /// What counts as broken.
        rule: String,
    },
    /// The good end is not good when asked as the bad one is.
    #[error(
        "{checkpoint} is broken already when it is asked by the policy of {bad} ({found}): {why}"
    )]
    GoodEnd {
        /// The good end.
        checkpoint: String,
        /// The bad end.
        bad: String,
        /// What was found.
        found: String,
        /// What that means.
        why: String,
    },
    /// The policy of the stored audit is not to be had any more.
    #[error(
        "{checkpoint} was audited by a policy with hash {hash}, which [audit] of the plan does not lead to any more: the file \
         was changed since; put it back, or run the pipeline again"
    )]
    Policy {
        /// The checkpoint.
        checkpoint: String,
        /// Hash of its policy.
        hash: String,
    },
    /// The bad end is not bad when it is asked alone.
    #[error(
        "{checkpoint} is not broken when `{signal}` is asked alone ({found}), though its audit says so ({stored}); it was \
         audited by another version, or the verdict hangs on other signals"
    )]
    BadEnd {
        /// The bad end.
        checkpoint: String,
        /// The signal.
        signal: String,
        /// What was found.
        found: String,
        /// What the stored audit says.
        stored: String,
    },
    /// A replay that is another training.
    #[error(
        "the replay of stage `{stage}` has other weights at step {step} than the pipeline had (expected {expected}, found \
         {found}): data, models or the version of candlescope changed since, so steps found in it would be of another training"
    )]
    Differs {
        /// The stage.
        stage: String,
        /// The step.
        step: u64,
        /// Hash of the pipeline's.
        expected: String,
        /// Hash of the replay's.
        found: String,
    },
    /// Steps that are no part of what is looked at.
    #[error("--window {found}: expected A..B with steps {from} to {to} of stage `{stage}`")]
    Window {
        /// What was given.
        found: String,
        /// The stage.
        stage: String,
        /// First step.
        from: u64,
        /// Last step.
        to: u64,
    },
    /// A mark of guilty rows that no row carries.
    #[error("--guilty {found}: {why}")]
    Guilty {
        /// What was given.
        found: String,
        /// What is wrong.
        why: String,
    },
    /// Another process searches here.
    #[error("{}: another process searches in this folder", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody asked to stop.
    #[error("interrupted; what was audited is kept in {}, and the same command goes on", path.display())]
    Interrupted {
        /// The folder of the search.
        path: PathBuf,
    },
    /// The pipeline.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The training that is replayed.
    #[error("replay of stage `{stage}`: {source}")]
    Train {
        /// The stage.
        stage: String,
        /// Why.
        source: TrainError,
    },
    /// An audit.
    #[error("audit of {checkpoint}: {source}")]
    Audit {
        /// The checkpoint.
        checkpoint: String,
        /// Why.
        source: RunError,
    },
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An answer.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// Words.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Rows.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Statistics of a ranking.
    #[error(transparent)]
    Statistic(#[from] candlescope_probes::error::ProbeError),
    /// What cannot be written as JSON.
    #[error("cannot write {what}: {source}")]
    Json {
        /// The file.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl BisectError {
    pub(super) fn train(stage: &str) -> impl FnOnce(TrainError) -> Self {
        let stage = stage.to_owned();
        move |source| Self::Train { stage, source }
    }
}
