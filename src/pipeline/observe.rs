//! The audit of each checkpoint, and what follows from its verdict.
//!
//! Always: an audit is on the disk before the state calls it done; a checkpoint that was audited is not audited again; the
//! baseline is opened once for a stage.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::folder::{self, Audited, PipelineFolder, State};
use super::plan::{Auditing, React};
use super::policies::Policies;
use super::reading::{Looked, Reading};
use super::{PipelineError, Watcher};
use crate::audit::inputs::Inputs;
use crate::audit::result::Audit;
use crate::audit::runner::Kept;
use crate::audit::verdict::Verdict;
use crate::audit::{report, runner, signals};
use crate::model::{Checkpoint, LoadOptions};
use crate::train::log::Numbers;
use crate::train::{At, CheckpointObserver};

/// Why an observer ended a run.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The policy says so.
    #[error("{} step {}: {}", .0.stage, .0.step, .0.verdict.word())]
    Halted(Audited),
    /// Somebody asked to stop.
    #[error("interrupted during an audit")]
    Interrupted,
    /// The audit failed.
    #[error(transparent)]
    Failed(#[from] PipelineError),
}

/// Audits the checkpoints of a stage.
pub struct Auditor<'a> {
    /// The stage.
    pub stage: &'a str,
    /// Steps of the stage: the last is audited by the policy of the end.
    pub total: u64,
    /// What each audit is paired with.
    pub baseline: Option<&'a Checkpoint>,
    /// What is asked.
    pub policies: &'a Policies,
    /// What follows.
    pub auditing: &'a Auditing,
    /// Where it goes.
    pub folder: &'a PipelineFolder,
    /// What is done.
    pub state: &'a RefCell<State>,
    /// Who is told.
    pub watcher: &'a dyn Watcher,
    /// Set to true to stop.
    pub cancel: &'a AtomicBool,
    /// What is known of the baseline after the first audit.
    pub kept: Kept,
    /// What else audits are given.
    pub inputs: Inputs,
    /// What they read checkpoints through.
    pub reading: Option<Reading>,
}

impl Auditor<'_> {
    /// Audits a checkpoint unless it was; its numbers for the run's log.
    ///
    /// # Errors
    /// A verdict that halts the pipeline, an interruption, an audit that cannot be made.
    pub fn look(&self, step: u64, path: &Path) -> Result<Numbers, Stop> {
        if self.state.borrow().audited(self.stage, step).is_some() {
            return Ok(Numbers::new());
        }
        let last = step == self.total;
        let policy = if last {
            self.policies.end.as_ref()
        } else {
            self.policies.checkpoint.as_ref()
        };
        let Some(policy) = policy else {
            return Ok(Numbers::new());
        };
        let clock = Instant::now();
        let name = format!("{} step-{step}", self.stage);
        let subject = Checkpoint::open_any(&name, path, &LoadOptions::default())
            .map_err(PipelineError::from)?;
        if !runner::applies(policy, subject.is_scored()) {
            return Ok(Numbers::new());
        }
        let suites = runner::suites_for(&subject).map_err(|source| failed(&name, source))?;
        let trials = runner::trials_for(&subject).map_err(|source| failed(&name, source))?;
        let looked = Looked {
            models: (&subject, self.baseline),
            refit: last.then(|| folder::refit(self.folder.path(), self.stage)),
            control: None,
            stop: self.cancel,
            progress: self.watcher.training(),
        };
        let given = match &self.reading {
            Some(reading) => reading.given(policy, &looked)?,
            None => None,
        };
        let outcome = runner::run(
            &subject,
            self.baseline,
            policy,
            &runner::Options {
                suites: &suites,
                trials: &trials,
                seed: None,
                refusal_phrases: &[],
                command: &format!(
                    "candlescope pipeline run, stage {}, step {step}",
                    self.stage
                ),
                dictionaries: given.as_deref(),
                inputs: Some(&self.inputs),
                progress: self.watcher.auditing(),
                cancel: self.cancel,
                kept: Some(&self.kept),
            },
        );
        let outcome = outcome.map_err(|source| failed(&name, source))?;
        if outcome.interrupted {
            return Err(Stop::Interrupted);
        }
        let audited = self.keep(step, &outcome.audit, clock)?;
        self.watcher.audited(&audited, &outcome.audit);
        let numbers = numbers(&outcome.audit);
        match self.reaction(audited.verdict) {
            React::Halt => Err(Stop::Halted(audited)),
            React::Warn | React::GoOn => Ok(numbers),
        }
    }

    /// Writes the audit, then that it is done.
    fn keep(&self, step: u64, audit: &Audit, clock: Instant) -> Result<Audited, PipelineError> {
        let place = folder::audit(self.folder.path(), self.stage, step);
        report::write_all(&place, audit, &signals::pages())?;
        let below = place.strip_prefix(self.folder.path());
        let audited = Audited {
            stage: self.stage.to_owned(),
            step,
            verdict: audit.verdict,
            audit: below.unwrap_or(&place).join("audit.json"),
            seconds: clock.elapsed().as_secs_f64(),
        };
        let mut state = self.state.borrow_mut();
        state.audits.push(audited.clone());
        self.folder.write_state(&state)?;
        Ok(audited)
    }

    fn reaction(&self, verdict: Verdict) -> React {
        match verdict {
            Verdict::Block => self.auditing.on_block,
            Verdict::Review | Verdict::Underpowered => self.auditing.on_review,
            Verdict::Pass => React::GoOn,
        }
    }
}

impl CheckpointObserver for Auditor<'_> {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn checkpoint(
        &mut self,
        at: &At<'_>,
    ) -> Result<Numbers, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.look(at.step, at.path)?)
    }
}

fn failed(name: &str, source: runner::RunError) -> Stop {
    Stop::Failed(PipelineError::Audit {
        checkpoint: name.to_owned(),
        source,
    })
}

/// Every quantity of an audit, as `audit/SIGNAL.QUANTITY`.
fn numbers(audit: &Audit) -> Numbers {
    let mut numbers = Numbers::new();
    for signal in &audit.signals {
        for value in &signal.values {
            if let Some(number) = value.value {
                numbers.set(&format!("audit/{}.{}", signal.id, value.name), number);
            }
        }
    }
    numbers
}
