//! Whether the dictionaries of a plan fit the models that they are trained on and read, before anything runs.
//!
//! Always: a model's shape is that of the stage its lineage begins with, since no method changes it; a new model whose shape
//! cannot be says so in its own stage, as ever.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::plan::{Plan, Stage};
use super::{Models, PipelineError, dictionary, reading, refs, stage};
use crate::config::ModelConfig;
use crate::features::{FeatureError, Opened, Splice, splice};
use crate::hooks::HookPoint;
use crate::train::config::New;

/// Words of a model whose tokenizer is still to be made; no dictionary reads logits by them.
const WORDS: usize = 256;

/// Refuses dictionaries that do not fit.
///
/// # Errors
/// A file that is no dictionary, a point that a model lacks or that has another width there, several points, a model that cannot
/// be opened.
pub(super) fn check(plan: &Plan, models: &dyn Models) -> Result<(), PipelineError> {
    let mut shapes = Shapes {
        plan,
        models,
        known: BTreeMap::new(),
    };
    for stage in plan.stages.iter().filter(|stage| stage.is_dictionary()) {
        if let Some(shape) = shapes.of(stage)? {
            points(plan, stage, &shape)?;
        }
    }
    let Some(name) = &plan.audit.dictionary else {
        return Ok(());
    };
    let read = match plan.stage(name) {
        Some(made) => match shapes.of(made)? {
            Some(own) => Read::of(plan, made, &own)?,
            None => return Ok(()),
        },
        None => Read::File(Box::new(reading::opened("", Path::new(name))?)),
    };
    let audited =
        |stage: &&Stage| stage.audit && stage.is_policy() && reading::is_there(plan, stage);
    for stage in plan.stages.iter().filter(audited) {
        let Some(shape) = shapes.of(stage)? else {
            continue;
        };
        read.fits(&shape)
            .map_err(|source| PipelineError::Dictionary {
                stage: stage.name.clone(),
                dictionary: name.clone(),
                source,
            })?;
    }
    Ok(())
}

/// The points that a stage's dictionary reads and writes in a model.
fn points(
    plan: &Plan,
    stage: &Stage,
    shape: &ModelConfig,
) -> Result<[Vec<HookPoint>; 2], PipelineError> {
    let config = dictionary::of(stage, plan.seed)?;
    let one = config.dictionary.get(&stage.name);
    let found = one.map(|one| one.points(&stage.name, shape));
    let found = found.unwrap_or_else(|| Ok([Vec::new(), Vec::new()]));
    found.map_err(|source| PipelineError::train(&stage.name, source))
}

/// What audits read through.
enum Read {
    /// A stage's dictionary: the points with their widths where it is trained.
    Stage(String, Vec<(HookPoint, usize)>),
    /// A file's.
    File(Box<Opened>),
}

impl Read {
    fn of(plan: &Plan, made: &Stage, own: &ModelConfig) -> Result<Self, PipelineError> {
        let [reads, writes] = points(plan, made, own)?;
        if reads.len() != 1 || writes.len() > 1 {
            let found = format!("{} read, {} written", reads.len(), writes.len());
            let expected = "one hook point, as audits read through it";
            return Err(PipelineError::plan(&made.name, "options", expected, found));
        }
        let with_width = |at: HookPoint| Ok((at, splice::width(at, own)?));
        let both = reads.into_iter().chain(writes).map(with_width);
        let both: Result<_, FeatureError> = both.collect();
        let both = both.map_err(|source| PipelineError::Dictionary {
            stage: made.name.clone(),
            dictionary: made.name.clone(),
            source,
        })?;
        Ok(Self::Stage(made.name.clone(), both))
    }

    fn fits(&self, shape: &ModelConfig) -> Result<(), FeatureError> {
        match self {
            Self::Stage(name, points) => {
                for &(at, found) in points {
                    let expected = splice::width(at, shape)?;
                    if expected != found {
                        return Err(FeatureError::Width {
                            artefact: name.clone(),
                            side: "reads",
                            at,
                            expected,
                            found,
                        });
                    }
                }
                Ok(())
            }
            Self::File(opened) => {
                let points = [opened.read()?, opened.write()?];
                let dictionary = Arc::new(opened.dictionary.clone());
                Splice::new(dictionary, &opened.name, points, shape).map(|_| ())
            }
        }
    }
}

/// Shapes of models by the stage that their lineage begins with.
struct Shapes<'a> {
    plan: &'a Plan,
    models: &'a dyn Models,
    known: BTreeMap<&'a str, Option<ModelConfig>>,
}

impl<'a> Shapes<'a> {
    /// Of what a stage trains or is trained on; `None` for a new model that cannot be.
    fn of(&mut self, stage: &'a Stage) -> Result<Option<ModelConfig>, PipelineError> {
        let mut root = stage;
        while let Some(before) = begins_with(root).and_then(|name| self.plan.stage(name)) {
            root = before;
        }
        if let Some(known) = self.known.get(root.name.as_str()) {
            return Ok(known.clone());
        }
        let found = match root.model.get("name").and_then(toml::Value::as_str) {
            Some(name) => {
                let model = stage::opened(root, name, self.models)?;
                Some(model.config().clone())
            }
            None => fresh(root),
        };
        self.known.insert(&root.name, found.clone());
        Ok(found)
    }
}

/// The stage that a stage begins with, by `from` or by a reference in its model's name.
fn begins_with(stage: &Stage) -> Option<&str> {
    let named = || refs::parse(stage.model.get("name")?.as_str()?);
    let from = stage.from.as_deref();
    from.or_else(|| named().map(|reference| reference.of))
}

/// The shape of a new model.
fn fresh(root: &Stage) -> Option<ModelConfig> {
    let new: New = root.model.get("new")?.clone().try_into().ok()?;
    let words = new.vocab.unwrap_or(WORDS);
    new.shape(words, None, None).config().ok()
}
