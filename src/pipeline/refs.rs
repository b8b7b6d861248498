//! How a stage names what was made before it: `@sft` is the model that the stage `sft` ended with, `@world/pairs.jsonl` a
//! file of the world's data.
//!
//! Always: a reference names an earlier stage that makes a model, so a plan has no circles; a text that begins with `@` anywhere in a stage's
//! tables is a reference.

use std::path::PathBuf;

use toml::{Table, Value};

use super::PipelineError;
use super::plan::{Plan, Stage};

/// The data of the pocket world.
pub(super) const WORLD: &str = "world";

/// A reference: whose, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// The stage, or [`WORLD`].
    pub of: &'a str,
    /// A path below it.
    pub rest: &'a str,
}

/// What a text refers to, if it is a reference.
pub(super) fn parse(text: &str) -> Option<Reference<'_>> {
    let name = text.strip_prefix('@')?;
    let (of, rest) = name.split_once('/').unwrap_or((name, ""));
    Some(Reference { of, rest })
}

/// Every reference of a plan names an earlier stage, and no path leaves its folder.
pub(super) fn check(plan: &Plan) -> Result<(), PipelineError> {
    for (i, stage) in plan.stages.iter().enumerate() {
        let models = plan.stages[..i].iter().filter(|s| !s.is_dictionary());
        let earlier: Vec<&str> = models.map(|s| s.name.as_str()).collect();
        let known = |of: &str| earlier.contains(&of) || (of == WORLD && plan.world.is_some());
        let unknown = |key: &str, found: &str| PipelineError::Reference {
            stage: stage.name.clone(),
            key: key.to_owned(),
            found: found.to_owned(),
            known: listed(&earlier, plan.world.is_some()),
        };
        for (key, name) in [("from", &stage.from), ("baseline", &stage.baseline)] {
            if let Some(name) = name
                && !earlier.contains(&name.as_str())
            {
                return Err(unknown(key, name));
            }
        }
        // A reward model says no next token, so there is nothing to read in it.
        if let Some(from) = stage.from.as_deref().filter(|_| stage.is_dictionary())
            && !plan.stage(from).is_some_and(Stage::is_policy)
        {
            let expected = "a stage that makes a model that answers";
            return Err(PipelineError::plan(&stage.name, "from", expected, from));
        }
        for (key, text) in texts(stage) {
            let Some(reference) = parse(&text) else {
                continue;
            };
            if !known(reference.of) {
                return Err(unknown(&key, &text));
            }
            if reference.rest.split('/').any(|part| part == "..") {
                let expected = "a path below what is named";
                return Err(PipelineError::plan(&stage.name, &key, expected, text));
            }
        }
    }
    Ok(())
}

fn listed(earlier: &[&str], world: bool) -> String {
    let mut names: Vec<&str> = earlier.to_vec();
    if world {
        names.push(WORLD);
    }
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Every text in a stage's tables with its key.
fn texts(stage: &Stage) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let tables = [
        ("options", &stage.options),
        ("model", &stage.model),
        ("data", &stage.data),
        ("schedule", &stage.schedule),
        ("output", &stage.output),
    ];
    for (name, table) in tables {
        gather(name, &Value::Table(table.clone()), &mut found);
    }
    found
}

fn gather(key: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((key.to_owned(), text.clone())),
        Value::Array(items) => {
            for item in items {
                gather(key, item, found);
            }
        }
        Value::Table(table) => {
            for (name, value) in table {
                gather(&format!("{key}.{name}"), value, found);
            }
        }
        _ => {}
    }
}

/// Puts paths in place of references.
///
/// # Errors
/// What `place` says of a name.
pub(super) fn resolve(
    table: &mut Table,
    place: &dyn Fn(&Reference<'_>) -> Result<PathBuf, PipelineError>,
) -> Result<(), PipelineError> {
    for (_, value) in table.iter_mut() {
        resolve_value(value, place)?;
    }
    Ok(())
}

fn resolve_value(
    value: &mut Value,
    place: &dyn Fn(&Reference<'_>) -> Result<PathBuf, PipelineError>,
) -> Result<(), PipelineError> {
    match value {
        Value::String(text) => {
            if let Some(reference) = parse(text) {
                *text = place(&reference)?.display().to_string();
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| resolve_value(item, place)),
        Value::Table(table) => resolve(table, place),
        _ => Ok(()),
    }
}
