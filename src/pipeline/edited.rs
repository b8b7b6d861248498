//! A stage that trains nothing: it makes an organism of the model it begins with, a planted fault or a change that is none, so
//! that a plan can say what its audits are to find.
//!
//! Always: the model appears whole or not at all, so a stage that was killed is made anew, with the same bits.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::PipelineError;
use super::folder;
use super::plan::Stage;
use crate::model::{Checkpoint, LoadOptions};
use crate::organism::{Kind, MakeError, Order, is_dose, make};
use crate::train::Progress;

/// The method's name in a plan.
pub const METHOD: &str = "edit";

/// `[stage.options]` of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// What is made, as `candlescope organism list` names it.
    pub kind: Kind,
    /// Share of the full dose, above 0 and at most 1.
    #[serde(default = "whole")]
    pub strength: f64,
}

const fn whole() -> f64 {
    1.0
}

/// The edit that a stage asks for.
///
/// # Errors
/// No kind or an unknown one, a strength that is none, a table that an edit has no use for, no stage to begin with.
pub fn of(stage: &Stage) -> Result<Edit, PipelineError> {
    let refused = |key: &str, expected: &str, found: &str| {
        PipelineError::plan(&stage.name, key, expected, found)
    };
    if stage.from.is_none() {
        return Err(refused("from", "the stage whose model is edited", "none"));
    }
    for (key, table) in [
        ("model", &stage.model),
        ("data", &stage.data),
        ("optim", &stage.optim),
        ("schedule", &stage.schedule),
        ("lora", &stage.lora),
        ("alerts", &stage.alerts),
        ("output", &stage.output),
    ] {
        if !table.is_empty() {
            return Err(refused(
                key,
                "nothing: an edit has [stage.options] alone",
                "a table",
            ));
        }
    }
    let edit: Edit =
        Value::Table(stage.options.clone())
            .try_into()
            .map_err(|e: toml::de::Error| {
                refused("options", "kind, and perhaps strength", e.message())
            })?;
    if is_dose(edit.strength) {
        return Ok(edit);
    }
    let found = edit.strength.to_string();
    Err(refused("options.strength", "above 0 and at most 1", &found))
}

/// Makes the edit of the model at `from`, unless it was made; `None` where somebody asked to stop.
pub(super) fn carry_out(
    root: &Path,
    stage: &Stage,
    seed: u64,
    from: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Option<PathBuf>, PipelineError> {
    let edit = of(stage)?;
    let out = folder::model(root, &stage.name);
    if out.exists() {
        return Ok(Some(out));
    }
    folder::make(&root.join("models"))?;
    let order = Order {
        kind: edit.kind,
        strength: edit.strength,
        seed: stage.seed.unwrap_or(seed),
    };
    let name = from.display().to_string();
    let model = Checkpoint::open(&name, from, &LoadOptions::default())?;
    match make(model, order, &out, progress, stop) {
        Ok(_) => Ok(Some(out)),
        Err(MakeError::Interrupted) => Ok(None),
        Err(source) => Err(PipelineError::Edit {
            stage: stage.name.clone(),
            source,
        }),
    }
}
