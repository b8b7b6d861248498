//! One stage: from its table in the plan to the config of a run, and from the finished run to a model.

use std::path::{Path, PathBuf};

use candle_core::DType;
use toml::Table;

use super::plan::{Plan, Stage};
use super::refs::{self, WORLD};
use super::{Models, PipelineError, dictionary, folder};
use crate::files::write::write_atomic;
use crate::model::checkpoint::words;
use crate::model::{Checkpoint, LoadOptions, LoraAdapter, Opened, convert};
use crate::pipeline::State;
use crate::train::{self, Config};

/// Where a stage's references lead.
pub(super) struct Sources<'a> {
    /// The pipeline's folder.
    pub root: &'a Path,
    /// What is done.
    pub state: &'a State,
}

impl Sources<'_> {
    /// What a stage made, which passes `there`.
    fn made(
        &self,
        (of, what): (&str, &str),
        stage: &str,
        there: impl Fn(&Path) -> bool,
    ) -> Result<PathBuf, PipelineError> {
        let gone = |path: PathBuf, found: String| PipelineError::Gone {
            stage: stage.to_owned(),
            path,
            found,
        };
        let done = self.state.done(of).ok_or_else(|| {
            let found = "the stage is not done".to_owned();
            gone(folder::run(self.root, of), found)
        })?;
        let path = self.root.join(&done.model);
        if there(&path) {
            Ok(path)
        } else {
            Err(gone(path, format!("no {what} is there any more")))
        }
    }

    /// The model that a stage made.
    pub fn model(&self, of: &str, stage: &str) -> Result<PathBuf, PipelineError> {
        self.made((of, "model"), stage, |path| {
            path.join("config.json").is_file() || LoraAdapter::is_in(path)
        })
    }

    /// The dictionary that a stage made.
    pub fn dictionary(&self, of: &str, stage: &str) -> Result<PathBuf, PipelineError> {
        self.made((of, "dictionary"), stage, dictionary::is_in)
    }

    /// Puts paths in place of a table's references.
    pub fn resolve(&self, table: &mut Table, stage: &str) -> Result<(), PipelineError> {
        refs::resolve(table, &|reference| self.place(reference, stage))
    }

    fn place(
        &self,
        reference: &refs::Reference<'_>,
        stage: &str,
    ) -> Result<PathBuf, PipelineError> {
        let base = if reference.of == WORLD {
            folder::world(self.root)
        } else {
            self.model(reference.of, stage)?
        };
        let path = if reference.rest.is_empty() {
            base
        } else {
            base.join(reference.rest)
        };
        if path.exists() {
            Ok(path)
        } else {
            Err(PipelineError::Gone {
                stage: stage.to_owned(),
                path,
                found: "not there".to_owned(),
            })
        }
    }
}

/// The stage as the config of one run, written to `path`: beside the others, so that `candlescope train` can repeat it alone.
pub(super) fn config(
    plan: &Plan,
    stage: &Stage,
    sources: &Sources<'_>,
    path: &Path,
) -> Result<Config, PipelineError> {
    let from = stage.from.as_ref();
    let name = from
        .map(|from| sources.model(from, &stage.name))
        .transpose()?;
    let mut table = stage.config(plan.seed, name.as_deref());
    sources.resolve(&mut table, &stage.name)?;
    let text = toml::to_string(&table).map_err(|e| PipelineError::Syntax {
        origin: format!("stage `{}`", stage.name),
        message: e.to_string(),
    })?;
    if let Some(parent) = path.parent() {
        folder::make(parent)?;
    }
    write_atomic(path, text.as_bytes())?;
    Config::read(path, &stage.method, &[])
        .map_err(|source| PipelineError::train(&stage.name, source))
}

/// The day that templates were told when the stage's run began.
pub(super) fn date(stage: &Stage, run: &Path) -> Result<Option<String>, PipelineError> {
    let file = run.join(train::folder::CONFIG);
    let before = Config::read(&file, &stage.method, &[]);
    let before = before.map_err(|source| PipelineError::train(&stage.name, source))?;
    Ok(before.data.date)
}

/// The model that a stage trains, where its config says that it is.
pub(super) fn begins(
    stage: &Stage,
    config: &Config,
    models: &dyn Models,
) -> Result<Checkpoint, PipelineError> {
    if config.model.new.is_some() {
        return train::fresh(config).map_err(|source| PipelineError::train(&stage.name, source));
    }
    opened(stage, &config.model.name, models)
}

/// The model of this name.
pub(super) fn opened(
    stage: &Stage,
    name: &str,
    models: &dyn Models,
) -> Result<Checkpoint, PipelineError> {
    models.open(name).map_err(|source| PipelineError::Open {
        stage: stage.name.clone(),
        model: name.to_owned(),
        source,
    })
}

/// What a stage's audits are paired with: another stage's model, or the one that it begins with. A reward model says nothing
/// that a policy could be held against.
pub(super) fn baseline(
    plan: &Plan,
    stage: &Stage,
    sources: &Sources<'_>,
    models: &dyn Models,
) -> Result<Option<Checkpoint>, PipelineError> {
    let Some(name) = stage.baseline.as_ref().or(stage.from.as_ref()) else {
        let mut model = stage.model.clone();
        sources.resolve(&mut model, &stage.name)?;
        let name = model.get("name").and_then(toml::Value::as_str);
        return name.map(|name| opened(stage, name, models)).transpose();
    };
    if stage.is_policy() && !plan.stage(name).is_some_and(Stage::is_policy) {
        return Ok(None);
    }
    let path = sources.model(name, &stage.name)?;
    let opened = Checkpoint::open_any(name, &path, &LoadOptions::default())?;
    Ok(Some(opened))
}

/// The finished run's model: its last checkpoint, or, where that is an adapter, the merged weights.
pub(super) fn model(
    root: &Path,
    stage: &str,
    checkpoint: &Path,
) -> Result<(PathBuf, String), PipelineError> {
    let path = if LoraAdapter::is_in(checkpoint) {
        let merged = folder::model(root, stage);
        if !merged.exists() {
            folder::make(&root.join("models"))?;
            let opened = Opened::at(checkpoint, &LoadOptions::default())?;
            let (tokenizer, template) = words(&opened, checkpoint)?;
            let words = (&tokenizer, template.as_ref());
            convert::opened_to_folder(&opened, words, &merged, DType::F32)?;
        }
        merged
    } else {
        checkpoint.to_path_buf()
    };
    let below = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
    let opened = Opened::at(&path, &LoadOptions::default())?;
    Ok((below, opened.content_hash()?))
}
