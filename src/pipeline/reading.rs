//! What the audits of a stage read checkpoints through: the dictionary that `[audit] dictionary` names, frozen, and at a stage's end
//! what becomes of it when it is trained on for `[audit] refit` tokens, on the checkpoint and on its baseline.
//!
//! Always: an audit that is made before the dictionary is there has none, and says so as one that was given none; a policy that
//! asks nothing of dictionaries opens and trains none; a refit that is there is not made again.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::dictionary;
use super::observe::Stop;
use super::plan::{Plan, Stage};
use super::policies::{Policies, asks};
use super::stage::Sources;
use super::{PipelineError, folder};
use crate::audit::catalogue::Artefact;
use crate::audit::evidence::dictionary::Given;
use crate::audit::policy::Policy;
use crate::features::{self, Opened};
use crate::model::Checkpoint;
use crate::train::Progress;
use crate::train::dictionary::{DictionaryConfig, Refit};

/// What a stage's audits read through.
pub struct Reading {
    given: Given,
    fresh: Option<Fresh>,
}

/// How the dictionary is trained on.
struct Fresh {
    config: DictionaryConfig,
    name: String,
    from: PathBuf,
    rows: u64,
    /// The refit on the stage's baseline, which is that of the stage that made it.
    control: Option<PathBuf>,
}

/// A checkpoint that is about to be audited.
pub(super) struct Looked<'a> {
    /// It, and what it is paired with.
    pub models: (&'a Checkpoint, Option<&'a Checkpoint>),
    /// Where the refit on it lies, if there is to be one.
    pub refit: Option<PathBuf>,
    /// Where the refit on the baseline is made, where that is not its place in the pipeline's folder.
    pub control: Option<PathBuf>,
    /// Set to true to stop.
    pub stop: &'a AtomicBool,
    /// Who is told of steps.
    pub progress: &'a dyn Progress,
}

/// What the audits of `stage` read through, if anything.
pub(super) fn of(
    plan: &Plan,
    stage: &Stage,
    policies: &Policies,
    sources: &Sources<'_>,
) -> Result<Option<Reading>, PipelineError> {
    let Some(name) = &plan.audit.dictionary else {
        return Ok(None);
    };
    let asked = stage.audit && stage.is_policy() && policies.ask(Artefact::Dictionary);
    if !asked || !is_there(plan, stage) {
        return Ok(None);
    }
    let made = plan.stage(name);
    let path = match made {
        Some(made) => sources.dictionary(&made.name, &stage.name)?,
        None => PathBuf::from(name),
    };
    let fresh = match (plan.audit.refit, made) {
        (Some(rows), Some(made)) if policies.ask(Artefact::Refit) => {
            Some(Fresh::of(plan, (stage, made), &path, rows, sources)?)
        }
        _ => None,
    };
    Ok(Some(Reading {
        given: Given {
            dictionary: Some(opened(&stage.name, &path)?),
            ..Given::default()
        },
        fresh,
    }))
}

/// Whether the dictionary is there when the stage is audited: a stage's is behind that stage, a file's always.
pub(super) fn is_there(plan: &Plan, stage: &Stage) -> bool {
    let place = |name: &str| plan.stages.iter().position(|one| one.name == name);
    let made = plan.audit.dictionary.as_deref().and_then(place);
    made.is_none() || made < place(&stage.name)
}

/// A dictionary of a file, or the one in this binary.
pub(super) fn opened(stage: &str, path: &Path) -> Result<Opened, PipelineError> {
    features::open(path).map_err(|source| PipelineError::Dictionary {
        stage: stage.to_owned(),
        dictionary: path.display().to_string(),
        source,
    })
}

impl Fresh {
    fn of(
        plan: &Plan,
        (stage, made): (&Stage, &Stage),
        path: &Path,
        rows: u64,
        sources: &Sources<'_>,
    ) -> Result<Self, PipelineError> {
        let baseline = stage.baseline.as_ref().or(stage.from.as_ref());
        let baseline = baseline.and_then(|name| plan.stage(name));
        let baseline = baseline.filter(|stage| stage.is_policy());
        Ok(Self {
            config: dictionary::made_with(plan, made, sources)?,
            name: made.name.clone(),
            from: path.parent().unwrap_or(path).to_path_buf(),
            rows,
            control: baseline.map(|stage| folder::refit(sources.root, &stage.name)),
        })
    }

    /// The dictionary trained on a model, made unless it is there; `None` where somebody asked to stop.
    fn on(
        &self,
        model: &Checkpoint,
        place: &Path,
        looked: &Looked<'_>,
    ) -> Result<Option<Opened>, PipelineError> {
        let failed = |source| PipelineError::train(&self.name, source);
        if !place.exists() {
            if let Some(parent) = place.parent() {
                folder::make(parent)?;
            }
            let refit = Refit {
                config: &self.config,
                name: &self.name,
                from: &self.from,
                rows: self.rows,
            };
            let made = refit.make(model, place, looked.stop, looked.progress);
            if !made.map_err(failed)? {
                return Ok(None);
            }
        }
        opened(&self.name, place).map(Some)
    }
}

impl Reading {
    /// What the audit of a checkpoint by this policy is given; `None` where the policy asks nothing of dictionaries.
    pub(super) fn given(
        &self,
        policy: &Policy,
        looked: &Looked<'_>,
    ) -> Result<Option<Cow<'_, Given>>, Stop> {
        if !asks(policy, Artefact::Dictionary) {
            return Ok(None);
        }
        let (Some(fresh), Some(place)) = (&self.fresh, &looked.refit) else {
            return Ok(Some(Cow::Borrowed(&self.given)));
        };
        if !asks(policy, Artefact::Refit) {
            return Ok(Some(Cow::Borrowed(&self.given)));
        }
        let (subject, baseline) = looked.models;
        let made = |model: &Checkpoint, place: &Path| -> Result<Opened, Stop> {
            fresh.on(model, place, looked)?.ok_or(Stop::Interrupted)
        };
        let kept = fresh.control.as_ref().filter(|place| place.exists());
        let control = match (
            baseline,
            kept.or(looked.control.as_ref()).or(fresh.control.as_ref()),
        ) {
            (Some(baseline), Some(place)) => Some(made(baseline, place)?),
            _ => None,
        };
        Ok(Some(Cow::Owned(Given {
            refit: Some(made(subject, place)?),
            control,
            ..self.given.clone()
        })))
    }
}
