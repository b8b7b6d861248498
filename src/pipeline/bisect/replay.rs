//! Part of a stage's training once more, in a scratch folder, with checkpoints closer together.
//!
//! Always: the config is the stage's own but for `[output]`, which decides no weight, so a replay goes through the same bits;
//! that it did is checked by hash where the pipeline's weights are known. A replay that was stopped goes on from its last
//! checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BisectError, Halt, Note};
use crate::pipeline::plan::Stage;
use crate::pipeline::stage::{self, Sources};
use crate::pipeline::{Models, PipelineError, Plan, folder};
use crate::train::{Progress, RunFolder, Saved, Session, Standing, prepare};

/// What replays a stage.
pub(super) struct Replay<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The stage.
    pub stage: &'a Stage,
    /// Where its references lead.
    pub sources: Sources<'a>,
    /// Who opens models by name.
    pub models: &'a dyn Models,
    /// Where it may write.
    pub scratch: PathBuf,
    /// Who is told, and who may stop it.
    pub halt: Halt<'a>,
}

impl Replay<'_> {
    /// A sitting in `place`, standing at a checkpoint or at the stage's beginning, that saves every so many steps.
    pub fn session(
        &self,
        place: &Path,
        from: Option<&Saved>,
        every: u64,
    ) -> Result<Session, BisectError> {
        let failed = |source| BisectError::train(&self.stage.name)(source);
        let path = self.scratch.join("config.toml");
        let mut config = stage::config(self.plan, self.stage, &self.sources, &path)?;
        let stored = folder::run(self.sources.root, &self.stage.name);
        config.data.date = stage::date(self.stage, &stored)?;
        let output = &mut config.output;
        output.checkpoint_every = every;
        // None is retired, and nothing is measured that decides no weight.
        output.keep_last = usize::MAX;
        (output.keep_best, output.best_is_highest, output.eval_every) = (None, false, None);
        output.samples = output.samples.map(|_| 0);
        output.tensorboard = false;
        let begun = RunFolder::open(place).is_ok();
        if let Some(from) = from {
            if !begun {
                let text = config.to_toml().map_err(failed)?;
                drop(RunFolder::create(place, &text).map_err(failed)?);
            }
            link(from, &place.join("checkpoints"))?;
        }
        let checkpoint = stage::begins(self.stage, &config, self.models)?;
        let parts = prepare(config, checkpoint).map_err(failed)?;
        let session = if begun || from.is_some() {
            Session::resume(place, parts)
        } else {
            Session::begin(place, parts)
        };
        session.map_err(failed)
    }

    /// The checkpoints of the steps from one to another, saved every so many steps and at the last.
    pub fn run(
        &self,
        place: &Path,
        from: Option<&Saved>,
        (to, every): (u64, u64),
    ) -> Result<Vec<Saved>, BisectError> {
        let failed = |source| BisectError::train(&self.stage.name)(source);
        let there = |place: &Path| -> Result<Vec<Saved>, BisectError> {
            match RunFolder::open(place) {
                Ok(folder) => folder.checkpoints().map_err(failed),
                Err(_) => Ok(Vec::new()),
            }
        };
        let known = there(place)?;
        if known.iter().any(|saved| saved.step == to) {
            return Ok(known);
        }
        let first = from.map_or(0, |saved| saved.step);
        self.halt.watcher.said(&Note::Replaying {
            stage: &self.stage.name,
            from: first,
            to,
            every,
        });
        let mut session = self.session(place, from, every)?;
        let halt = AtomicBool::new(false);
        let until = Until {
            inner: self.halt.watcher.training(),
            to,
            asked: self.halt.stop,
            halt: &halt,
        };
        let ended = session.run(&halt, &until, &mut []);
        ended.map_err(failed)?;
        let saved = there(place)?;
        if saved.iter().any(|saved| saved.step == to) {
            Ok(saved)
        } else {
            Err(self.halt.interrupted())
        }
    }
}

/// Stops a session at a step.
struct Until<'a> {
    inner: &'a dyn Progress,
    to: u64,
    /// Somebody asked to stop.
    asked: &'a AtomicBool,
    /// What the session hears.
    halt: &'a AtomicBool,
}

impl Progress for Until<'_> {
    fn at(&self, standing: &Standing<'_>) {
        self.inner.at(standing);
        if standing.step >= self.to || self.asked.load(Ordering::SeqCst) {
            self.halt.store(true, Ordering::SeqCst);
        }
    }
}

/// A checkpoint in another run's folder, whole or not at all; its files are not written again, so they are shared where the
/// disk can.
fn link(from: &Saved, checkpoints: &Path) -> Result<(), BisectError> {
    let to = checkpoints.join(format!("step-{}", from.step));
    if to.is_dir() {
        return Ok(());
    }
    let hidden = checkpoints.join(format!(".step-{}.linked", from.step));
    if hidden.exists() {
        fs::remove_dir_all(&hidden).map_err(PipelineError::io(&hidden, "remove"))?;
    }
    fs::create_dir_all(&hidden).map_err(PipelineError::io(&hidden, "make"))?;
    let files = fs::read_dir(&from.path).map_err(PipelineError::io(&from.path, "list"))?;
    for file in files {
        let file = file.map_err(PipelineError::io(&from.path, "list"))?.path();
        let name = file.file_name().unwrap_or_default();
        let copy = hidden.join(name);
        if fs::hard_link(&file, &copy).is_err() {
            fs::copy(&file, &copy).map_err(PipelineError::io(&copy, "write"))?;
        }
    }
    fs::rename(&hidden, &to).map_err(PipelineError::io(&to, "make"))?;
    Ok(())
}
