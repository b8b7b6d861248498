//! Progress and interruption of an audit.
//!
//! Always: work is counted in passes over a prompt, a measure that knows nothing of the machine; the time left is
//! estimated from the share of it that is done. A stage that is interrupted returns a reason, never half of its result.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::evidence::{Part, answers};
use crate::steer::{Options, SteerError};

/// Where an audit stands.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The checkpoint's name.
    pub checkpoint: &'a str,
    /// The stage, such as `completions`.
    pub stage: &'a str,
    /// Prompts of this stage done.
    pub done: usize,
    /// Prompts of this stage; 0 for a stage that is not counted.
    pub total: usize,
    /// Share of the whole audit that is done, 0 to 1.
    pub overall: f64,
    /// Time left, once there is something to estimate it from.
    pub eta: Option<Duration>,
}

/// Who is told.
pub trait Progress: Sync {
    /// Called at the start of each stage and after each batch.
    fn step(&self, step: &Step);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: &Step) {}
}

/// How long a stage took.
#[derive(Clone, Debug, PartialEq)]
pub struct StageTime {
    /// The checkpoint's name.
    pub checkpoint: String,
    /// The stage.
    pub stage: String,
    /// Seconds.
    pub seconds: f64,
}

/// The work of one audit.
pub struct Work<'a> {
    progress: &'a dyn Progress,
    cancel: &'a AtomicBool,
    started: Instant,
    /// Passes of the whole audit, as planned.
    planned: f64,
    done: Cell<f64>,
    checkpoint: RefCell<String>,
    stages: RefCell<Vec<StageTime>>,
}

/// A completion costs about this many passes over its prompt, batched decoding included.
const COMPLETION: f64 = 4.0;

impl<'a> Work<'a> {
    /// Work of about `planned` passes over a prompt.
    pub fn new(progress: &'a dyn Progress, cancel: &'a AtomicBool, planned: f64) -> Self {
        Self {
            progress,
            cancel,
            started: Instant::now(),
            planned,
            done: Cell::new(0.0),
            checkpoint: RefCell::default(),
            stages: RefCell::default(),
        }
    }

    /// What follows is on this checkpoint.
    pub fn on(&self, checkpoint: &str) {
        checkpoint.clone_into(&mut self.checkpoint.borrow_mut());
    }

    /// Whether somebody asked to stop.
    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// How long each stage took so far.
    pub fn stages(&self) -> Vec<StageTime> {
        self.stages.borrow().clone()
    }

    /// Runs a stage of `total` passes.
    pub fn stage<T>(
        &self,
        name: &str,
        total: usize,
        run: impl FnOnce(&Stage) -> Part<T>,
    ) -> Part<T> {
        let stage = Stage {
            work: self,
            name,
            total,
            done: Cell::new(0),
        };
        let from = self.done.get();
        let clock = Instant::now();
        stage.tell(0);
        let result = run(&stage);
        self.done.set(from + stage.cost(total));
        self.stages.borrow_mut().push(StageTime {
            checkpoint: self.checkpoint.borrow().clone(),
            stage: name.to_owned(),
            seconds: clock.elapsed().as_secs_f64(),
        });
        result
    }

    /// Runs something small that only listens for the interruption.
    pub fn quiet<T>(&self, run: impl FnOnce(&Options) -> Result<T, SteerError>) -> Part<T> {
        let options = Options {
            cancel: Some(self.cancel),
            ..Options::default()
        };
        run(&options).map_err(|error| error.to_string())
    }
}

/// A stage in progress.
pub struct Stage<'a> {
    work: &'a Work<'a>,
    name: &'a str,
    total: usize,
    done: Cell<usize>,
}

impl Stage<'_> {
    /// Runs `passes` of the stage's passes with options that report them.
    pub fn run<T>(
        &self,
        passes: usize,
        run: impl FnOnce(&Options) -> Result<T, SteerError>,
    ) -> Part<T> {
        let from = self.done.get();
        let step = |done: usize, _: usize| self.tell(from + done);
        let options = Options {
            progress: Some(&step),
            cancel: Some(self.work.cancel),
            ..Options::default()
        };
        let result = run(&options).map_err(|error| error.to_string());
        self.done.set(from + passes);
        result
    }

    /// So many passes of the stage are done.
    pub fn at(&self, done: usize) {
        self.done.set(done);
        self.tell(done.min(self.total));
    }

    /// As [`Work::quiet`].
    pub fn quiet<T>(&self, run: impl FnOnce(&Options) -> Result<T, SteerError>) -> Part<T> {
        self.work.quiet(run)
    }

    fn cost(&self, passes: usize) -> f64 {
        passes as f64 * stage_cost(self.name)
    }

    fn tell(&self, done: usize) {
        let work = self.work;
        let spent = work.done.get() + self.cost(done.min(self.total));
        let overall = if work.planned > 0.0 {
            (spent / work.planned).min(1.0)
        } else {
            0.0
        };
        let elapsed = work.started.elapsed();
        // Below two per cent the estimate says more about the start than about the rest.
        let eta = (overall > 0.02).then(|| elapsed.mul_f64((1.0 - overall) / overall));
        work.progress.step(&Step {
            checkpoint: &work.checkpoint.borrow(),
            stage: self.name,
            done,
            total: self.total,
            overall,
            eta,
        });
    }
}

/// Passes that one item of this stage costs.
pub fn stage_cost(name: &str) -> f64 {
    match name {
        "completions" | answers::STAGE => COMPLETION,
        // A pass for the score, and a completion.
        "frames" | "earlier talk" | "wordings" => 1.0 + COMPLETION,
        _ => 1.0,
    }
}
