//! A stage that trains a dictionary on what an earlier stage's model computes, as `candlescope sae train` does, for the audits of
//! the stages behind it.
//!
//! Always: it is one dictionary, named as the stage; it goes on after a kill with the same bits, since the run is that of
//! `crate::train::dictionary`; it is no model, so no stage begins with it and no audit asks it.

use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::folder::{self, Done};
use super::plan::{Plan, Stage};
use super::run::{Begins, Options};
use super::stage::{self, Sources};
use super::{PipelineError, refs};
use crate::files::hash::sha256_file;
use crate::files::write::write_atomic;
use crate::train::dictionary::{Begun, DictionaryConfig, Watch, train};
use crate::train::log::{Kind, Row};
use crate::train::{Progress, RunFolder, Standing, folder::CONFIG, summary};

/// The method's name in a plan.
pub const METHOD: &str = "dictionary";

/// The key of `[stage.options]` that is a section of its own in a config of `sae train`.
const END_TO_END: &str = "end_to_end";
/// What a dictionary's weights are called in SAELens's format.
const WEIGHTS: &str = "sae_weights.safetensors";

/// The stage's table as the config of a run, on the model `name`.
fn table(stage: &Stage, seed: u64, name: Option<&str>) -> Table {
    let mut table = Table::new();
    let seed = stage.seed.unwrap_or(seed);
    table.insert("seed".to_owned(), Value::Integer(seed.cast_signed()));
    let mut model = stage.model.clone();
    if let Some(name) = name {
        model.insert("name".to_owned(), Value::String(name.to_owned()));
    }
    let mut one = stage.options.clone();
    if let Some(through) = one.remove(END_TO_END) {
        table.insert(END_TO_END.to_owned(), through);
    }
    let dictionary = Table::from_iter([(stage.name.clone(), Value::Table(one))]);
    for (section, content) in [
        ("model", model),
        ("data", stage.data.clone()),
        ("schedule", stage.schedule.clone()),
        ("output", stage.output.clone()),
        ("dictionary", dictionary),
    ] {
        if !content.is_empty() {
            table.insert(section.to_owned(), Value::Table(content));
        }
    }
    table
}

/// The run that a stage asks for; its references are not resolved.
///
/// # Errors
/// No model or two, a table that a dictionary has no use for, what `sae train` refuses.
pub fn of(stage: &Stage, seed: u64) -> Result<DictionaryConfig, PipelineError> {
    let refused = |key: &str, expected: &str, found: &str| {
        Err(PipelineError::plan(&stage.name, key, expected, found))
    };
    match (&stage.from, stage.model.contains_key("name")) {
        (None, false) => {
            let expected = "`from` with an earlier stage, or a [stage.model] with a name";
            return refused("from", expected, "neither");
        }
        (Some(from), true) => {
            let expected = "`from` or a [stage.model] with a name, not both";
            return refused("from", expected, from);
        }
        _ => {}
    }
    if let Some(baseline) = &stage.baseline {
        return refused("baseline", "nothing: a dictionary is not audited", baseline);
    }
    for (key, table) in [
        ("optim", &stage.optim),
        ("lora", &stage.lora),
        ("alerts", &stage.alerts),
    ] {
        if !table.is_empty() {
            let expected = "nothing: a dictionary has [stage.data], [stage.schedule], [stage.output] and [stage.options]";
            return refused(key, expected, "a table");
        }
    }
    let text = rendered(&table(stage, seed, stage.from.as_deref()), stage)?;
    DictionaryConfig::parse("its tables", &text, &[])
        .map_err(|source| PipelineError::train(&stage.name, source))
}

fn rendered(table: &Table, stage: &Stage) -> Result<String, PipelineError> {
    toml::to_string(table).map_err(|e| PipelineError::Syntax {
        origin: format!("stage `{}`", stage.name),
        message: e.to_string(),
    })
}

/// The run's config with references resolved, as `candlescope sae train` reads it.
fn resolved(plan: &Plan, stage: &Stage, sources: &Sources<'_>) -> Result<String, PipelineError> {
    let from = stage.from.as_ref();
    let from = from
        .map(|from| sources.model(from, &stage.name))
        .transpose()?;
    let name = from.map(|path| path.display().to_string());
    let mut table = table(stage, plan.seed, name.as_deref());
    sources.resolve(&mut table, &stage.name)?;
    rendered(&table, stage)
}

/// The config of a new run, written beside those of the other stages.
fn config(
    plan: &Plan,
    stage: &Stage,
    sources: &Sources<'_>,
) -> Result<DictionaryConfig, PipelineError> {
    let text = resolved(plan, stage, sources)?;
    let path = folder::config(sources.root, &stage.name);
    if let Some(parent) = path.parent() {
        folder::make(parent)?;
    }
    write_atomic(&path, text.as_bytes())?;
    let config = DictionaryConfig::read(&path, &[]);
    config.map_err(|source| PipelineError::train(&stage.name, source))
}

/// The config of a run that was begun: its day and its data, and what it took of the pipeline's folder where that lies now.
pub(super) fn made_with(
    plan: &Plan,
    stage: &Stage,
    sources: &Sources<'_>,
) -> Result<DictionaryConfig, PipelineError> {
    let failed = |source| PipelineError::train(&stage.name, source);
    let run = folder::run(sources.root, &stage.name).join(CONFIG);
    let begun = DictionaryConfig::read(&run, &[]).map_err(failed)?;
    let text = resolved(plan, stage, sources)?;
    let mut config = DictionaryConfig::parse("its tables", &text, &[]).map_err(failed)?;
    config.data.date = begun.data.date;
    let own = |key: &str| match stage.data.get(key) {
        Some(Value::String(text)) => refs::parse(text).is_none(),
        _ => true,
    };
    if own("path") {
        config.data.path = begun.data.path;
    }
    if own("store") {
        config.data.store = begun.data.store;
    }
    Ok(config)
}

/// Trains the stage's dictionary, from its first step or from where it was; `None` where somebody asked to stop.
pub(super) fn carry_out(
    plan: &Plan,
    stage: &Stage,
    sources: &Sources<'_>,
    (at, of): (usize, usize),
    options: &Options<'_>,
) -> Result<Option<Done>, PipelineError> {
    let failed = |source| PipelineError::train(&stage.name, source);
    let place = folder::run(sources.root, &stage.name);
    let begun = RunFolder::open(&place).is_ok();
    let (config, begins) = if begun {
        (made_with(plan, stage, sources)?, Begins::Resumed)
    } else {
        (config(plan, stage, sources)?, Begins::Fresh)
    };
    options.watcher.stage(stage, at, of, begins);
    let checkpoint = stage::opened(stage, &config.model.name, options.models)?;
    let told = Told(options.watcher.training());
    let ended = train(&config, &checkpoint, &place, begun, options.stop, &told);
    let ended = ended.map_err(failed)?;
    if !ended.finished {
        return Ok(None);
    }
    let made = ended.saved.path.join(&stage.name);
    let weights = sha256_file(&made.join(WEIGHTS))?;
    let (_, rows) = summary::summary(&place).map_err(failed)?;
    Ok(Some(Done {
        stage: stage.name.clone(),
        steps: ended.saved.step,
        model: made
            .strip_prefix(sources.root)
            .unwrap_or(&made)
            .to_path_buf(),
        weights,
        seconds: seconds(&rows) * ended.saved.step as f64,
    }))
}

/// Seconds of a step, on average over those that were logged and stand.
fn seconds(rows: &[Row]) -> f64 {
    let steps = rows.iter().filter(|row| row.kind == Kind::Step);
    let each: Vec<f64> = steps.filter_map(|row| row.number("time/step_s")).collect();
    each.iter().sum::<f64>() / each.len().max(1) as f64
}

/// Passes on how far it is.
struct Told<'a>(&'a dyn Progress);

impl Watch for Told<'_> {
    fn begins(&self, _: &Begun) {}

    fn at(&self, step: u64, total: u64, left: Option<Duration>, row: Option<&Row>) {
        self.0.at(&Standing {
            step,
            total,
            left,
            row,
        });
    }
}

/// Whether a path in a run's checkpoint is a dictionary.
pub(super) fn is_in(path: &Path) -> bool {
    path.join(WEIGHTS).is_file()
}
