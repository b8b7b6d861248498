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
}

/// Reads the audits of a pipeline.
///
/// # Errors
/// An audit that is gone or cannot be read.
pub fn course(root: &Path, state: &State) -> Result<Course, PipelineError> {
    let audits: Vec<(&Audited, Audit)> = state
        .audits
        .iter()
        .map(|audited| Ok((audited, json::load(&root.join(&audited.audit))?)))
        .collect::<Result<_, PipelineError>>()?;
    Ok(of(&audits))
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
    /// What was measured, if it was.
    pub value: Option<Value>,
}

/// A signal's quantities, each over the checkpoints of a pipeline.
///
/// # Errors
/// An audit that is gone or cannot be read.
pub fn along(
    root: &Path,
    state: &State,
    id: &str,
) -> Result<Vec<(String, Vec<Along>)>, PipelineError> {
    let mut quantities: Vec<(String, Vec<Along>)> = Vec::new();
    for (i, audited) in state.audits.iter().enumerate() {
        let audit = json::load(&root.join(&audited.audit))?;
        let Some(signal) = audit.signal(id) else {
            continue;
        };
        for value in &signal.values {
            let at = quantities.iter().position(|(name, _)| *name == value.name);
            let at = at.unwrap_or_else(|| {
                quantities.push((value.name.clone(), Vec::new()));
                quantities.len() - 1
            });
            let line = &mut quantities[at].1;
            // Checkpoints that lack it are there all the same.
            for missed in &state.audits[line.len()..i] {
                line.push(Along {
                    stage: missed.stage.clone(),
                    step: missed.step,
                    value: None,
                });
            }
            line.push(Along {
                stage: audited.stage.clone(),
                step: audited.step,
                value: Some(value.clone()),
            });
        }
    }
    Ok(quantities)
}
