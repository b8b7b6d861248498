//! A dictionary that is trained on for a while on another model: what became of its decoder rows tells what changed between
//! the two (stage-wise model diffing, Bricken et al. 2024).
//!
//! Always: it goes on from a run's checkpoint with weights, moments and thresholds as they were, on the run's own texts from
//! the first on; the learning rate falls linearly from the recipe's to 0. The folder appears whole or not at all, and whoever
//! makes it gets the same bits.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candlescope_sae::About;
use candlescope_sae::format::write_saelens;
use candlescope_sae::train::Trainer;

use super::config::DictionaryConfig;
use super::one::One;
use super::save::state_of;
use super::{about::about, texts};
use crate::activations::{Facts, Harvest, Mixing, StreamRows, TrainingRows};
use crate::hooks::HookPoint;
use crate::model::Checkpoint;
use crate::train::{Progress, Standing, TrainError};

/// What is trained on.
#[derive(Debug, Clone, Copy)]
pub struct Refit<'a> {
    /// The run that made it.
    pub config: &'a DictionaryConfig,
    /// Its name in that run.
    pub name: &'a str,
    /// The checkpoint of that run from which it goes on.
    pub from: &'a Path,
    /// Rows (tokens) to train on.
    pub rows: u64,
}

impl Refit<'_> {
    /// Steps of it.
    pub fn steps(&self) -> u64 {
        self.rows / self.config.schedule.batch.max(1) as u64
    }

    /// Trains it on `checkpoint` and writes what it became to `out`, in SAELens's format; false where somebody asked to stop.
    ///
    /// # Errors
    /// A run without texts, a checkpoint that is not one of a dictionary, a model that lacks its points, fewer rows than a
    /// step takes, the disk.
    pub fn make(
        &self,
        checkpoint: &Checkpoint,
        out: &Path,
        stop: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<bool, TrainError> {
        let Some(contexts) = texts::contexts(&self.config.data, checkpoint)? else {
            let expected =
                "texts, as data.path or data.suite: a store has the rows of one model alone";
            return Err(TrainError::config("data", expected, "a store"));
        };
        let total = self.steps();
        if total == 0 {
            let expected = format!("at least one batch of {}", self.config.schedule.batch);
            return Err(TrainError::config("refit", expected, self.rows));
        }
        let places = self.points(checkpoint)?;
        let source = contexts.info()?;
        let about = about(&self.on(checkpoint), checkpoint, &places, &source, &[])?;
        let (mut one, points) = self.one(&places, about)?;
        let usual = texts::mixing(self.config);
        // No more than is trained on is harvested first.
        let mixing = Mixing {
            rows: usize::try_from(self.rows).map_or(usual.rows, |rows| rows.min(usual.rows)),
            ..usual
        };
        let policy = texts::policy(&self.config.data, checkpoint)?;
        let harvest = || Harvest::new(&checkpoint.decoder, &points);
        let (facts, _) = Facts::measure(&harvest()?, &contexts, &policy, mixing.batch)?;
        let from_the_first = || StreamRows::new(harvest()?, &contexts, facts.clone(), mixing, None);
        let mut rows = from_the_first()?;
        let peak = one.trainer.recipe().lr;
        let (mut step, mut begun) = (0, 0);
        while step < total {
            if stop.load(Ordering::SeqCst) {
                return Ok(false);
            }
            let Some(batch) = rows.batch(self.config.schedule.batch)? else {
                if begun == step {
                    return Err(TrainError::Empty {
                        what: "data of the refit".into(),
                        found: "no rows".into(),
                        hint: "give more text, or leave less out".into(),
                    });
                }
                // Texts that are read through begin anew.
                (rows, begun) = (from_the_first()?, step);
                continue;
            };
            let left = (total - step) as f64 / total as f64;
            one.step(&batch, Some(peak * left))?;
            step += 1;
            progress.at(&Standing {
                step,
                total,
                left: None,
                row: None,
            });
        }
        write(&one, out)?;
        Ok(true)
    }

    /// The points that it reads and writes.
    fn points(&self, checkpoint: &Checkpoint) -> Result<[Vec<HookPoint>; 2], TrainError> {
        let one = self.config.dictionary.get(self.name).ok_or_else(|| {
            let known: Vec<&str> = self.config.dictionary.keys().map(String::as_str).collect();
            TrainError::config("dictionary", known.join(", "), self.name)
        })?;
        one.points(self.name, checkpoint.config())
    }

    /// The dictionary as its run left it, and all its points once.
    fn one(
        &self,
        [reads, writes]: &[Vec<HookPoint>; 2],
        about: About,
    ) -> Result<(One, Vec<HookPoint>), TrainError> {
        let mut points: Vec<HookPoint> = Vec::new();
        let mut place = |at: &HookPoint| {
            points.iter().position(|p| p == at).unwrap_or_else(|| {
                points.push(*at);
                points.len() - 1
            })
        };
        let reads = reads.iter().map(&mut place).collect();
        let writes = writes.iter().map(&mut place).collect();
        let path = state_of(self.from, self.name);
        let bytes = fs::read(&path).map_err(TrainError::io(&path, "read"))?;
        let one = One {
            name: self.name.to_owned(),
            trainer: Trainer::from_bytes(&bytes)?,
            points: [reads, writes],
            about,
        };
        Ok((one, points))
    }

    /// The config with the model that is trained on now.
    fn on(&self, checkpoint: &Checkpoint) -> DictionaryConfig {
        let mut config = self.config.clone();
        config.model.name.clone_from(&checkpoint.name);
        config
    }
}

/// Writes a dictionary whole or not at all.
fn write(one: &One, out: &Path) -> Result<(), TrainError> {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let hidden = out.with_file_name(format!(".{name}.new"));
    if hidden.exists() {
        fs::remove_dir_all(&hidden).map_err(TrainError::io(&hidden, "remove"))?;
    }
    write_saelens(&one.dictionary()?, &hidden, None)?;
    fs::rename(&hidden, out).map_err(TrainError::io(out, "make"))
}
