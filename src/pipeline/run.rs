//! The order of things: world, then each stage with its audits, until the plan is done, somebody asks to stop, or a verdict
//! halts it.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::folder::{self, Audited, Done, PipelineFolder, State};
use super::observe::{Auditor, Stop};
use super::plan::{Plan, Stage};
use super::policies::Policies;
use super::reading::{self, Reading};
use super::stage::{self, Sources};
use super::{PipelineError, dictionary, edited, fits, given};
use crate::audit;
use crate::audit::inputs::Inputs;
use crate::audit::result::Audit;
use crate::model::Checkpoint;
use crate::pocket;
use crate::train::log::{Kind, Row, standing};
use crate::train::{
    self, CheckpointObserver, Config, Progress, RunFolder, Saved, Session, TrainError, prepare,
    summary,
};

/// Why a model could not be had.
pub type OpenError = Box<dyn std::error::Error + Send + Sync>;

/// Who opens models by name; fetching them may be a part of it.
pub trait Models {
    /// The model with this name, in f32.
    ///
    /// # Errors
    /// Its own.
    fn open(&self, name: &str) -> Result<Checkpoint, OpenError>;
}

/// Who is told how far a pipeline is.
pub trait Watcher {
    /// A stage begins, goes on, or was done before.
    fn stage(&self, stage: &Stage, at: usize, of: usize, standing: Begins);

    /// Who is told of a stage's steps.
    fn training(&self) -> &dyn Progress;

    /// Who is told of an audit's.
    fn auditing(&self) -> &dyn audit::work::Progress;

    /// A checkpoint was audited.
    fn audited(&self, audited: &Audited, audit: &Audit);
}

/// How a stage begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// From its first step.
    Fresh,
    /// From the last checkpoint of an earlier sitting.
    Resumed,
    /// It was done in an earlier sitting.
    Done,
}

/// What a pipeline runs with.
pub struct Options<'a> {
    /// Who opens models.
    pub models: &'a dyn Models,
    /// Who is told.
    pub watcher: &'a dyn Watcher,
    /// Set to true to stop; it goes on from there.
    pub stop: &'a AtomicBool,
}

/// How a sitting ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// Every stage is done.
    Finished(State),
    /// Somebody asked to stop in this stage.
    Interrupted(String),
    /// A verdict halted it.
    Halted(Audited),
}

/// Runs a plan in a new folder, or goes on with the one that was begun there.
///
/// # Errors
/// A folder that is taken or locked, a plan that differs from the one begun, a stage that cannot run.
pub fn run(
    root: &Path,
    plan: Option<&Plan>,
    resume: bool,
    options: &Options<'_>,
) -> Result<Ended, PipelineError> {
    let (folder, plan, state) = match (plan, resume) {
        (Some(plan), false) => {
            let plan = plan.anchored()?;
            fits::check(&plan, options.models)?;
            let folder = PipelineFolder::create(root, &plan)?;
            let (_, state) = folder::look(root)?;
            (folder, plan, state)
        }
        (given, _) => {
            let (folder, begun, state) = PipelineFolder::resume(root)?;
            if let Some(plan) = given {
                same(root, &begun, &plan.anchored()?)?;
            }
            (folder, begun, state)
        }
    };
    let sitting = Sitting {
        policies: Policies::of(root, &plan.audit)?,
        plan: &plan,
        folder: &folder,
        state: RefCell::new(state),
        options,
    };
    sitting.world()?;
    let of = plan.stages.len();
    for (i, stage) in plan.stages.iter().enumerate() {
        match sitting.stage(stage, i + 1, of)? {
            None => {}
            Some(ended) => return Ok(ended),
        }
    }
    Ok(Ended::Finished(sitting.state.into_inner()))
}

/// Names what differs between the plan that was begun and the one given.
fn same(root: &Path, begun: &Plan, given: &Plan) -> Result<(), PipelineError> {
    let (was, is) = (begun.to_toml()?, given.to_toml()?);
    if was == is {
        return Ok(());
    }
    let differs = was.lines().zip(is.lines()).find(|(a, b)| a != b);
    let (was, is) = differs.unwrap_or(("fewer lines", "more lines"));
    let field = was.split('=').next().unwrap_or(was).trim().to_owned();
    Err(PipelineError::Changed {
        path: root.join(folder::PLAN),
        field: format!("`{field}`"),
        was: was.to_owned(),
        is: is.to_owned(),
    })
}

struct Sitting<'a> {
    plan: &'a Plan,
    policies: Policies,
    folder: &'a PipelineFolder,
    state: RefCell<State>,
    options: &'a Options<'a>,
}

impl Sitting<'_> {
    fn world(&self) -> Result<(), PipelineError> {
        let Some(sizes) = &self.plan.world else {
            return Ok(());
        };
        let place = folder::world(self.folder.path());
        if place.exists() {
            return Ok(());
        }
        // Whole or not at all: a kill leaves the hidden folder, which is written anew.
        let hidden = self.folder.path().join(".world");
        pocket::write::write(&hidden, sizes, self.plan.seed)?;
        std::fs::rename(&hidden, &place).map_err(PipelineError::io(&place, "make"))?;
        Ok(())
    }

    /// Runs a stage, or goes on with it; `None` when it is done.
    fn stage(&self, stage: &Stage, at: usize, of: usize) -> Result<Option<Ended>, PipelineError> {
        let root = self.folder.path();
        if self.state.borrow().done(&stage.name).is_some() {
            self.options.watcher.stage(stage, at, of, Begins::Done);
            return Ok(None);
        }
        if stage.method == edited::METHOD {
            return self.edit(stage, at, of);
        }
        if stage.is_dictionary() {
            return self.dictionary(stage, at, of);
        }
        let config = {
            let state = self.state.borrow();
            let sources = Sources {
                root,
                state: &state,
            };
            let path = folder::config(root, &stage.name);
            stage::config(self.plan, stage, &sources, &path)?
        };
        let baseline = self.baseline(stage)?;
        let given = self.given(stage, Some(&config))?;
        let place = folder::run(root, &stage.name);
        let begun = RunFolder::open(&place).is_ok();
        let begins = if begun {
            Begins::Resumed
        } else {
            Begins::Fresh
        };
        self.options.watcher.stage(stage, at, of, begins);
        let failed = |source| PipelineError::train(&stage.name, source);
        let mut session = self.session(stage, config, &place, begun)?;
        let total = session.parts().bench.total();
        let auditor = self.auditor((stage, total), baseline.as_ref(), given);
        let observed = stage.audit;
        if observed {
            // A kill between a checkpoint and the end of its audit leaves one without.
            for saved in session.folder().checkpoints().map_err(failed)? {
                match auditor.look(saved.step, &saved.path) {
                    Ok(_) => {}
                    Err(stop) => return stopped(stop, stage).map(Some),
                }
            }
        }
        if self.options.stop.load(Ordering::SeqCst) {
            return Ok(Some(Ended::Interrupted(stage.name.clone())));
        }
        let mut observers: Vec<Box<dyn CheckpointObserver + '_>> = Vec::new();
        if observed {
            observers.push(Box::new(auditor));
        }
        let ended = session.run(
            self.options.stop,
            self.options.watcher.training(),
            &mut observers,
        );
        drop(observers);
        match ended {
            Ok(train::Ended::Finished(saved)) => {
                self.finished(stage, &place, &saved)?;
                Ok(None)
            }
            Ok(train::Ended::Interrupted(_)) => Ok(Some(Ended::Interrupted(stage.name.clone()))),
            Err(TrainError::Observer { observer, source }) => match source.downcast::<Stop>() {
                Ok(stop) => stopped(*stop, stage).map(Some),
                Err(source) => Err(failed(TrainError::Observer { observer, source })),
            },
            Err(error) => Err(failed(error)),
        }
    }

    fn auditor<'b>(
        &'b self,
        (stage, total): (&'b Stage, u64),
        baseline: Option<&'b Checkpoint>,
        (inputs, reading): (Inputs, Option<Reading>),
    ) -> Auditor<'b> {
        Auditor {
            stage: &stage.name,
            total,
            baseline,
            policies: &self.policies,
            auditing: &self.plan.audit,
            folder: self.folder,
            state: &self.state,
            watcher: self.options.watcher,
            cancel: self.options.stop,
            kept: audit::runner::Kept::default(),
            inputs,
            reading,
        }
    }

    /// A stage that trains a dictionary, which no audit asks.
    fn dictionary(
        &self,
        stage: &Stage,
        at: usize,
        of: usize,
    ) -> Result<Option<Ended>, PipelineError> {
        let made = {
            let state = self.state.borrow();
            let sources = Sources {
                root: self.folder.path(),
                state: &state,
            };
            dictionary::carry_out(self.plan, stage, &sources, (at, of), self.options)?
        };
        match made {
            None => Ok(Some(Ended::Interrupted(stage.name.clone()))),
            Some(done) => self.done(done).map(|()| None),
        }
    }

    /// A stage that trains nothing; its one checkpoint is its end.
    fn edit(&self, stage: &Stage, at: usize, of: usize) -> Result<Option<Ended>, PipelineError> {
        let root = self.folder.path();
        self.options.watcher.stage(stage, at, of, Begins::Fresh);
        let clock = Instant::now();
        let from = stage.from.as_deref().unwrap_or_default();
        let from = {
            let state = self.state.borrow();
            let sources = Sources {
                root,
                state: &state,
            };
            sources.model(from, &stage.name)?
        };
        let progress = self.options.watcher.training();
        let stop = self.options.stop;
        let made = edited::carry_out(root, stage, self.plan.seed, &from, progress, stop)?;
        let Some(path) = made else {
            return Ok(Some(Ended::Interrupted(stage.name.clone())));
        };
        let seconds = clock.elapsed().as_secs_f64();
        let baseline = self.baseline(stage)?;
        let given = self.given(stage, None)?;
        if stage.audit
            && let Err(stop) = self
                .auditor((stage, 0), baseline.as_ref(), given)
                .look(0, &path)
        {
            return stopped(stop, stage).map(Some);
        }
        let (model, weights) = stage::model(root, &stage.name, &path)?;
        self.done(Done {
            stage: stage.name.clone(),
            steps: 0,
            model,
            weights,
            seconds,
        })?;
        Ok(None)
    }

    fn done(&self, done: Done) -> Result<(), PipelineError> {
        let mut state = self.state.borrow_mut();
        state.done.push(done);
        self.folder.write_state(&state)
    }

    fn session(
        &self,
        stage: &Stage,
        mut config: Config,
        place: &Path,
        begun: bool,
    ) -> Result<Session, PipelineError> {
        let failed = |source| PipelineError::train(&stage.name, source);
        if begun {
            config.data.date = stage::date(stage, place)?;
        }
        let checkpoint = stage::begins(stage, &config, self.options.models)?;
        let parts = prepare(config, checkpoint).map_err(failed)?;
        let session = if begun {
            Session::resume(place, parts)
        } else {
            Session::begin(place, parts)
        };
        session.map_err(failed)
    }

    /// What the stage's audits are paired with.
    fn baseline(&self, stage: &Stage) -> Result<Option<Checkpoint>, PipelineError> {
        let asked = self.policies.checkpoint.is_some() || self.policies.end.is_some();
        if !asked || !stage.audit {
            return Ok(None);
        }
        let state = self.state.borrow();
        let sources = Sources {
            root: self.folder.path(),
            state: &state,
        };
        stage::baseline(self.plan, stage, &sources, self.options.models)
    }

    /// What the stage's audits are given beside their prompts.
    fn given(
        &self,
        stage: &Stage,
        config: Option<&Config>,
    ) -> Result<(Inputs, Option<Reading>), PipelineError> {
        if !stage.audit {
            return Ok((Inputs::default(), None));
        }
        let state = self.state.borrow();
        let sources = Sources {
            root: self.folder.path(),
            state: &state,
        };
        Ok((
            given::inputs(self.plan, (stage, config), &self.policies, &sources)?,
            reading::of(self.plan, stage, &self.policies, &sources)?,
        ))
    }

    fn finished(&self, stage: &Stage, place: &Path, saved: &Saved) -> Result<(), PipelineError> {
        let (model, weights) = stage::model(self.folder.path(), &stage.name, &saved.path)?;
        let (_, rows) =
            summary::summary(place).map_err(|source| PipelineError::train(&stage.name, source))?;
        self.done(Done {
            stage: stage.name.clone(),
            steps: saved.step,
            model,
            weights,
            seconds: seconds(rows),
        })
    }
}

/// Seconds of the steps that stand, whatever sittings they were made in.
fn seconds(rows: Vec<Row>) -> f64 {
    let steps = standing(rows);
    let steps = steps.iter().filter(|row| row.kind == Kind::Step);
    steps.filter_map(|row| row.number("time/step_s")).sum()
}

fn stopped(stop: Stop, stage: &Stage) -> Result<Ended, PipelineError> {
    match stop {
        Stop::Halted(audited) => Ok(Ended::Halted(audited)),
        Stop::Interrupted => Ok(Ended::Interrupted(stage.name.clone())),
        Stop::Failed(error) => Err(error),
    }
}
