//! A pipeline's audits as one course: checkpoints down, signals across.
//!
//! Always: what stands in a cell is read from the audit's file, so it is what the report of that checkpoint says; a signal
//! that an audit did not ask is empty, never passed.

use std::path::Path;

use serde::Serialize;

use super::PipelineError;
use super::folder::{Audited, State};
use crate::audit::catalogue::SIGNALS;
use crate::audit::measure::Value;
use crate::audit::report::json;
use crate::audit::result::Audit;
use crate::audit::verdict::Verdict;

/// The audits of a pipeline in their order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Course {
    /// Ids of the signals that any audit asked, by number.
    pub signals: Vec<&'static str>,
    /// One for each audited checkpoint.
    pub checkpoints: Vec<Checkpoint>,
}

/// What was found on a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkpoint {
    /// The stage.
    pub stage: String,
    /// The step.
    pub step: u64,
    /// The verdict on the whole.
    pub verdict: Verdict,
    /// Of each signal of the course, in its order; `None` where it was not asked.
    pub cells: Vec<Option<Cell>>,
}

/// What a signal said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Its verdict.
    pub verdict: Verdict,
    /// Its deciding quantity.
    pub value: Option<Value>,
    /// The reason in a sentence.
    pub reason: String,
    /// All its quantities; the audit's file has them for machines.
    #[serde(skip)]
    pub values: Vec<Value>,
}

/// Reads the audits of a pipeline.
///
/// # Errors
/// An audit that is gone or cannot be read.
pub fn course(root: &Path, state: &State) -> Result<Course, PipelineError> {
    Ok(of(&read(root, state)?))
}

/// The audits of a pipeline, in the order in which they were made.
///
/// # Errors
/// An audit that is gone or cannot be read.
pub fn read<'a>(root: &Path, state: &'a State) -> Result<Vec<(&'a Audited, Audit)>, PipelineError> {
    let audits = state.audits.iter();
    audits
        .map(|audited| Ok((audited, json::load(&root.join(&audited.audit))?)))
        .collect()
}

/// The course of audits that were read.
pub fn of(audits: &[(&Audited, Audit)]) -> Course {
    let asked = |id: &str| audits.iter().any(|(_, audit)| audit.signal(id).is_some());
    let signals: Vec<&'static str> = SIGNALS
        .iter()
        .map(|entry| entry.id)
        .filter(|id| asked(id))
        .collect();
    let checkpoints = audits
        .iter()
        .map(|(audited, audit)| Checkpoint {
            stage: audited.stage.clone(),
            step: audited.step,
            verdict: audited.verdict,
            cells: signals
                .iter()
                .map(|id| {
                    audit.signal(id).map(|signal| Cell {
                        verdict: signal.verdict,
                        value: signal.headline().cloned(),
                        reason: signal.reason.clone(),
                        values: signal.values.clone(),
                    })
                })
                .collect(),
        })
        .collect();
    Course {
        signals,
        checkpoints,
    }
}

/// One quantity over the checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Along {
    /// The stage.
    pub stage: String,
    /// The step.
    pub step: u64,
    /// Whether the audit asked the signal: of a reward model, or between the ends of stages, some are not.
    pub asked: bool,
    /// What was measured, if it was.
    pub value: Option<Value>,
}

/// A signal's quantities, each over all the checkpoints of a pipeline.
pub fn lines(audits: &[(&Audited, Audit)], id: &str) -> Vec<(String, Vec<Along>)> {
    let signals = || audits.iter().filter_map(|(_, audit)| audit.signal(id));
    let mut names: Vec<&str> = Vec::new();
    for value in signals().flat_map(|signal| &signal.values) {
        if !names.contains(&value.name.as_str()) {
            names.push(&value.name);
        }
    }
    names
        .into_iter()
        .map(|name| (name.to_owned(), line(audits, id, name)))
        .collect()
}

/// One quantity over the checkpoints; those that lack it are there all the same.
pub fn line(audits: &[(&Audited, Audit)], id: &str, name: &str) -> Vec<Along> {
    let along = |(audited, audit): &(&Audited, Audit)| {
        let signal = audit.signal(id);
        Along {
            stage: audited.stage.clone(),
            step: audited.step,
            asked: signal.is_some(),
            value: signal.and_then(|signal| signal.value(name)).cloned(),
        }
    };
    audits.iter().map(along).collect()
}
