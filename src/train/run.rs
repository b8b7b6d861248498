//! The loop: step, log, alerts, evaluation, checkpoint, until the steps are done or somebody asks to stop.
//!
//! Always: the order within a step is the same whether or not the run was interrupted, so that its rows and weights are; a
//! stop is heard between steps, and saves first. A loss that is no number stops the run before it changes a weight.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{
    TrainError, alerts,
    checkpoint::Best,
    folder::Saved,
    log::{Kind, Numbers, Row},
    observer::{At, CheckpointObserver, Progress, Standing},
    samples,
    session::Session,
};

/// By this step every parameter should have received a gradient: an adapter's first half does so from the second on.
const ALIVE_BY: u64 = 3;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All steps are done.
    Finished(Saved),
    /// Somebody asked to stop; it goes on from here.
    Interrupted(Saved),
}

impl Session {
    /// Trains until the end or until `stop` is set.
    ///
    /// # Errors
    /// What made it impossible to go on; the log says so too, and the last checkpoint stands.
    pub fn run(
        &mut self,
        stop: &AtomicBool,
        progress: &dyn Progress,
        observers: &mut [Box<dyn CheckpointObserver + '_>],
    ) -> Result<Ended, TrainError> {
        let begun = (Instant::now(), self.parts.bench.step());
        let ended = self.steps(stop, progress, observers, begun);
        let (reason, message) = match &ended {
            Ok(Ended::Finished(_)) => ("finished", None),
            Ok(Ended::Interrupted(_)) => ("interrupted", None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        let mut row = Row::new(Kind::Stopped, self.parts.bench.step()).with("reason", reason);
        if let Some(message) = message {
            row = row.with("message", message);
        }
        match self.note(&row).and_then(|()| self.sync()) {
            // What ended the run is the news; a full disk refuses this row too.
            Err(_) if ended.is_err() => ended,
            Err(error) => Err(error),
            Ok(()) => ended,
        }
    }

    fn steps(
        &mut self,
        stop: &AtomicBool,
        progress: &dyn Progress,
        observers: &mut [Box<dyn CheckpointObserver + '_>],
        begun: (Instant, u64),
    ) -> Result<Ended, TrainError> {
        let total = self.parts.bench.total();
        while self.parts.bench.step() < total {
            if stop.load(Ordering::SeqCst) {
                return Ok(Ended::Interrupted(self.save_now()?));
            }
            let row = self.step()?;
            progress.at(&self.standing(row.as_ref(), begun));
            let evaluated = self.evaluate_if_due()?;
            if let Some(row) = &evaluated {
                progress.at(&self.standing(Some(row), begun));
            }
            let step = self.parts.bench.step();
            let every = self.parts.config.output.checkpoint_every;
            if step.is_multiple_of(every) || step == total {
                self.note_best(evaluated.as_ref())?;
                self.note_samples()?;
                self.note_answers()?;
                let saved = self.checkpoint()?;
                self.observe(&saved, observers)?;
            }
        }
        let saved = self.save_now()?;
        self.write_report()?;
        Ok(Ended::Finished(saved))
    }

    /// One step, its row if one is due, its alerts.
    fn step(&mut self) -> Result<Option<Row>, TrainError> {
        let parts = &mut self.parts;
        let lr = parts.bench.learning_rate();
        let began = Instant::now();
        let mut metrics = match parts.method.step(&mut parts.bench) {
            Ok(metrics) => metrics,
            Err(error) => return Err(self.failed(error)),
        };
        let bench = &mut parts.bench;
        bench.advance();
        let step = bench.step();
        let rows = parts.method.facts().rows;
        metrics.set("time/step_s", began.elapsed().as_secs_f64());
        metrics.set("learning_rate", lr);
        metrics.set("epoch", bench.sampler.epochs(rows));
        metrics.set("num_tokens", bench.tokens as f64);
        let alerts = self.alerts.look(step, &metrics, &parts.config.alerts);
        let every = parts.config.output.log_every;
        let due = step.is_multiple_of(every) || step == bench.total();
        let dead = if step == ALIVE_BY {
            bench.dead()
        } else {
            Vec::new()
        };
        let row = due.then(|| Row::new(Kind::Step, step).with_numbers(&metrics));
        for row in row.iter().chain(&alerts) {
            self.note(row)?;
        }
        if !dead.is_empty() {
            self.note(&alerts::dead(step, &dead))?;
        }
        Ok(row)
    }

    /// Keeps the batch of a loss that is no number, and says where.
    fn failed(&mut self, error: TrainError) -> TrainError {
        if matches!(error, TrainError::Reward { .. }) {
            // The step has not begun, so nothing of the run need be lost.
            return self.save_now().err().unwrap_or(error);
        }
        let TrainError::NotFinite {
            step,
            what,
            value,
            rows,
            batch,
        } = &error
        else {
            return error;
        };
        let kept = self.folder.keep_failed(*step, batch);
        let mut row = Row::new(Kind::Alert, *step)
            .with("alert", "not_finite")
            .with("message", error.to_string())
            .with("what", *what)
            .with("value", super::log::number(*value))
            .with("rows", rows.clone());
        if let Ok(kept) = &kept {
            row = row.with("batch", kept.display().to_string());
        }
        match self.note(&row).and(kept.map(drop)) {
            Ok(()) => error,
            Err(disk) => disk,
        }
    }

    fn evaluate_if_due(&mut self) -> Result<Option<Row>, TrainError> {
        let output = &self.parts.config.output;
        let Some(every) = output.eval_every else {
            return Ok(None);
        };
        let (step, total) = (self.parts.bench.step(), self.parts.bench.total());
        let checkpoint = output.keep_best.is_some() && step.is_multiple_of(output.checkpoint_every);
        if !step.is_multiple_of(every) && step != total && !checkpoint {
            return Ok(None);
        }
        let metrics = self.parts.method.evaluate(&mut self.parts.bench)?;
        let row = Row::new(Kind::Eval, step).with_numbers(&metrics.prefixed("eval_"));
        self.note(&row)?;
        self.note_samples()?;
        Ok(Some(row))
    }

    /// Writes what is to be said of the finished model.
    fn write_report(&mut self) -> Result<(), TrainError> {
        let parts = &mut self.parts;
        self.report = parts.method.report(&parts.bench)?;
        match &self.report {
            Some(report) => report.write(&self.folder.report_path()),
            None => Ok(()),
        }
    }

    /// What the policy has said of late.
    fn note_samples(&mut self) -> Result<(), TrainError> {
        let step = self.parts.bench.step();
        for fields in self.parts.method.samples() {
            let mut row = Row::new(Kind::Sample, step);
            row.fields = fields;
            self.note(&row)?;
        }
        Ok(())
    }

    /// What the model answers to prompts of the evaluation data.
    pub(super) fn note_answers(&mut self) -> Result<(), TrainError> {
        let parts = &self.parts;
        let most = parts.config.output.samples.unwrap_or(0);
        if most == 0 {
            return Ok(());
        }
        let step = parts.bench.step();
        let prompts = samples::spread(&parts.method.asked(), most);
        let said = samples::answers(parts.bench.policy.decoder(), &prompts, &parts.tokenizer)?;
        for fields in said {
            let mut row = Row::new(Kind::Sample, step);
            row.fields = fields;
            self.note(&row)?;
        }
        Ok(())
    }

    fn note_best(&mut self, evaluated: Option<&Row>) -> Result<(), TrainError> {
        let output = &self.parts.config.output;
        let (Some(name), Some(row)) = (&output.keep_best, evaluated) else {
            return Ok(());
        };
        let value = row.number(name).ok_or_else(|| {
            let there: Vec<&str> = row.numbers().map(|(name, _)| name).collect();
            let expected = format!("one of {}", there.join(", "));
            TrainError::config("output.keep_best", expected, name)
        })?;
        let better = |best: Best| {
            if output.best_is_highest {
                value > best.value
            } else {
                value < best.value
            }
        };
        if value.is_finite() && self.best.is_none_or(better) {
            let step = row.step;
            self.best = Some(Best { step, value });
        }
        Ok(())
    }

    /// A checkpoint of the present step: the one there is, or a new one.
    fn save_now(&mut self) -> Result<Saved, TrainError> {
        let step = self.parts.bench.step();
        if self.saved == Some(step) {
            let there = self.folder.checkpoints()?;
            if let Some(saved) = there.into_iter().find(|saved| saved.step == step) {
                return Ok(saved);
            }
        }
        self.checkpoint()
    }

    fn observe(
        &mut self,
        saved: &Saved,
        observers: &mut [Box<dyn CheckpointObserver + '_>],
    ) -> Result<(), TrainError> {
        for observer in observers {
            let parts = &self.parts;
            let at = At {
                step: saved.step,
                path: &saved.path,
                model: parts.bench.policy.decoder(),
                tokenizer: &parts.tokenizer,
                template: parts.template.as_ref(),
            };
            let seen = observer.checkpoint(&at);
            let metrics: Numbers = seen.map_err(|source| TrainError::Observer {
                observer: observer.name().to_owned(),
                source,
            })?;
            let row = Row::new(Kind::Eval, saved.step).with_numbers(&metrics);
            self.note(&row)?;
        }
        Ok(())
    }

    fn standing<'a>(&self, row: Option<&'a Row>, (begun, from): (Instant, u64)) -> Standing<'a> {
        let (step, total) = (self.parts.bench.step(), self.parts.bench.total());
        let done = step - from;
        let left = (done > 0).then(|| {
            let pace = begun.elapsed().as_secs_f64() / done as f64;
            Duration::from_secs_f64(pace * (total - step) as f64)
        });
        Standing {
            step,
            total,
            left,
            row,
        }
    }
}
