//! The run: harvest, step, log, evaluate, checkpoint, until the rows are trained on or somebody asks to stop.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candlescope_sae::train::{StepReport, Trainer};
use ndarray::Array2;

use super::config::{DictionaryConfig, OneDictionary};
use super::one::{One, beside};
use super::save::{self, Made};
use super::through::{self, Behind};
use super::{about::about, texts};
use crate::activations::{
    Facts, Harvest, PairedRows, SourceInfo, Store, StoreRows, StreamRows, TrainingRows,
    training::mixed,
};
use crate::hooks::HookPoint;
use crate::model::Checkpoint;
use crate::train::TrainError;
use crate::train::folder::{RunFolder, Saved};
use crate::train::log::{Events, Kind, Numbers, Row, Writer};

/// What is known before the first step.
#[derive(Debug, Clone)]
pub struct Begun {
    /// What the first contexts say; none where the data is a store.
    pub facts: Option<Facts>,
    /// Tokens a second through the model, of the same.
    pub harvest_rate: Option<f64>,
    /// Share of a batch whose context occurs in it again, on average; none where all rows are shuffled at once.
    pub shared: Option<f64>,
    /// Bytes of weights, gradients and moments of all dictionaries.
    pub memory: u64,
    /// Steps in all, and those that are done.
    pub steps: [u64; 2],
}

/// Who is told.
pub trait Watch {
    /// Before the first step.
    fn begins(&self, begun: &Begun);
    /// After each step and evaluation: steps done, steps in all, time left, and the row that was logged.
    fn at(&self, step: u64, total: u64, left: Option<Duration>, row: Option<&Row>);
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Its last checkpoint.
    pub saved: Saved,
    /// All steps are done, or the data ended.
    pub finished: bool,
    /// Rows trained on.
    pub rows: u64,
    /// The data ended before the rows were reached.
    pub data_ended: bool,
    /// Numbers of each dictionary on the rows held out, where they were evaluated.
    pub evaluated: Vec<(String, Numbers)>,
}

/// Trains, from the beginning or from the last checkpoint of `root`.
///
/// # Errors
/// What made it impossible to begin or to go on; the last checkpoint stands.
pub fn train(
    config: &DictionaryConfig,
    checkpoint: &Checkpoint,
    root: &Path,
    resume: bool,
    stop: &AtomicBool,
    watch: &dyn Watch,
) -> Result<Finished, TrainError> {
    let places = config
        .dictionary
        .iter()
        .map(|(name, one)| Ok((name, one, one.points(name, checkpoint.config())?)))
        .collect::<Result<Vec<_>, TrainError>>()?;
    let mut points: Vec<HookPoint> = Vec::new();
    for at in places.iter().flat_map(|(_, _, of)| of.iter().flatten()) {
        if !points.contains(at) {
            points.push(*at);
        }
    }
    if let Some(contexts) = texts::contexts(&config.data, checkpoint)? {
        let harvest = Harvest::new(&checkpoint.decoder, &points)?;
        let mixing = texts::mixing(config);
        let policy = texts::policy(&config.data, checkpoint)?;
        let (facts, rate) = Facts::measure(&harvest, &contexts, &policy, mixing.batch)?;
        let source = contexts.info()?;
        let each = source.packing.as_ref().map_or(1, |p| p.length as u64);
        let begun = Begun {
            shared: Some(mixed(mixing.rows, mixing.keep, each, config.schedule.batch)),
            harvest_rate: Some(rate),
            facts: Some(facts.clone()),
            memory: 0,
            steps: [config.steps(), 0],
        };
        let behind = config.end_to_end.map(|plan| Behind {
            model: &checkpoint.decoder,
            contexts: &contexts,
            policy: policy.clone(),
            facts: facts.clone(),
            plan,
            length: each as usize,
            skip: mixing.rows as u64 / each + 1,
            pass: mixing.batch,
            next: Cell::new(None),
        });
        if behind.is_some() {
            for (name, one, points) in &places {
                through::check(name, one, points)?;
            }
        }
        let rows = StreamRows::new(harvest, &contexts, facts, mixing, None)?;
        let setup = Setup {
            config,
            checkpoint,
            places,
            points,
            source: source.clone(),
            data: source.sha256,
            stores: Vec::new(),
            behind,
        };
        return setup.run(root, resume, Box::new(rows), begun, stop, watch);
    }
    let (rows, source, stores) = stored(config, checkpoint, &points)?;
    let begun = Begun {
        shared: None,
        harvest_rate: None,
        facts: None,
        memory: 0,
        steps: [config.steps(), 0],
    };
    let data = source.sha256.clone();
    let setup = Setup {
        config,
        checkpoint,
        places,
        points,
        source,
        data,
        stores,
        behind: None,
    };
    setup.run(root, resume, rows, begun, stop, watch)
}

/// The rows of one store, or of several side by side; what they are of; of several, the checkpoints they were made on.
type Stored = (Box<dyn TrainingRows>, SourceInfo, Vec<serde_json::Value>);

fn stored(
    config: &DictionaryConfig,
    checkpoint: &Checkpoint,
    points: &[HookPoint],
) -> Result<Stored, TrainError> {
    let data = &config.data;
    let own = checkpoint.fingerprint()?;
    // Epochs enough for all rows; the loop ends before they do. Only the first store is of the run's model.
    let open = |folder: &Path, made_on| {
        let store = Store::open(folder)?;
        StoreRows::open(store, points, made_on, config.seed, u64::MAX)
    };
    if data.stores.is_empty() {
        let rows = open(data.store.as_deref().unwrap_or(Path::new("")), Some(own))?;
        let source = rows.store().manifest().source.clone();
        return Ok((Box::new(rows), source, Vec::new()));
    }
    let mut all = Vec::new();
    for (i, folder) in data.stores.iter().enumerate() {
        all.push(open(folder, (i == 0).then_some(own))?);
    }
    let rows = PairedRows::new(all)?;
    let made_on = |rows: &StoreRows| {
        let manifest = rows.store().manifest();
        serde_json::json!({ "model": manifest.model, "fingerprint": manifest.fingerprint })
    };
    let made_on = rows.stores().map(made_on).collect();
    let first = rows.stores().next().map(|rows| rows.store().manifest());
    let source = first.map(|manifest| manifest.source.clone());
    let source = source.ok_or_else(|| TrainError::config("data.stores", "two or more", "none"))?;
    Ok((Box::new(rows), source, made_on))
}

struct Setup<'a> {
    config: &'a DictionaryConfig,
    checkpoint: &'a Checkpoint,
    places: Vec<(&'a String, &'a OneDictionary, [Vec<HookPoint>; 2])>,
    points: Vec<HookPoint>,
    source: SourceInfo,
    data: String,
    /// What the stores were made on, where there are several.
    stores: Vec<serde_json::Value>,
    behind: Option<Behind<'a>>,
}

impl Setup<'_> {
    fn run(
        &self,
        root: &Path,
        resume: bool,
        mut rows: Box<dyn TrainingRows + '_>,
        mut begun: Begun,
        stop: &AtomicBool,
        watch: &dyn Watch,
    ) -> Result<Finished, TrainError> {
        let decisive = self.config.decisive();
        let model = self.checkpoint.fingerprint()?.id();
        let made = Made {
            config: &decisive,
            model: &model,
            data: &self.data,
        };
        // The rows held out are the first, in a run that goes on as in one that begins.
        let Some(held) = rows.batch(self.config.schedule.held_out)? else {
            return Err(TrainError::Empty {
                what: "data".into(),
                found: "no rows".into(),
                hint: "give more text, or leave less out".into(),
            });
        };
        let mut all = self.dictionaries(&held)?;
        let folder = if resume {
            RunFolder::resume(root)?
        } else {
            RunFolder::create(root, &self.config.to_toml()?)?
        };
        let mut step = 0;
        let mut last = None;
        if resume && let Some(saved) = folder.checkpoints()?.pop() {
            step = save::read(&saved.path, &made, rows.as_mut(), &mut all)?;
            last = Some(saved);
        }
        begun.steps[1] = step;
        begun.memory = all.iter().map(One::memory).sum();
        watch.begins(&begun);
        let (log, torn) = if resume && folder.log_path().exists() {
            Writer::resume(&folder.log_path())?
        } else {
            (Writer::create(&folder.log_path())?, 0)
        };
        let events = Events::create(
            &folder.tensorboard_path(),
            step,
            Row::new(Kind::Step, 0).wall,
        )?;
        let kind = if resume { Kind::Resumed } else { Kind::Started };
        let mut training = Training {
            setup: self,
            made,
            folder,
            log,
            events,
            rows,
            all,
            held,
            step,
            last,
            evaluated: Vec::new(),
        };
        let mut row = Row::new(kind, step)
            .with("method", "dictionary")
            .with("model", self.config.model.name.clone())
            .with("steps", self.config.steps());
        if torn > 0 {
            row = row.with("torn", torn);
        }
        training.note(&row)?;
        let ended = training.steps(stop, watch);
        let (reason, message) = match &ended {
            Ok(finished) if finished.finished => ("finished", None),
            Ok(_) => ("interrupted", None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        let mut row = Row::new(Kind::Stopped, training.step).with("reason", reason);
        if let Some(message) = message {
            row = row.with("message", message);
        }
        match training.note(&row).and_then(|()| training.log.sync()) {
            Err(error) if ended.is_ok() => Err(error),
            _ => ended,
        }
    }

    /// The dictionaries with their first weights; biases and scales look at the rows held out.
    fn dictionaries(&self, held: &[Array2<f32>]) -> Result<Vec<One>, TrainError> {
        let mut all = Vec::new();
        for (name, one, points) in &self.places {
            // Of each store in turn, as its rows lie one behind the other.
            let of = |points: &[HookPoint]| -> Vec<usize> {
                let place = |at: &HookPoint| self.points.iter().position(|p| p == at);
                let each: Vec<usize> = points.iter().filter_map(place).collect();
                let store = |i: usize| each.iter().map(move |at| i * self.points.len() + at);
                (0..self.stores.len().max(1)).flat_map(store).collect()
            };
            let places = [of(&points[0]), of(&points[1])];
            let [reads, writes] = &places;
            let widths =
                |of: &[usize]| -> Vec<usize> { of.iter().map(|&i| held[i].ncols()).collect() };
            let shape = one.shape(&widths(reads), &widths(writes));
            let first = beside(held, if writes.is_empty() { reads } else { writes })?;
            let scale = if one.unit_scale {
                Trainer::unit_scale(beside(held, reads)?.view())?
            } else {
                1.0
            };
            all.push(One {
                name: (*name).clone(),
                trainer: Trainer::new(one.recipe.clone(), shape, first.view(), scale)?,
                points: places,
                about: about(
                    self.config,
                    self.checkpoint,
                    points,
                    &self.source,
                    &self.stores,
                )?,
            });
        }
        Ok(all)
    }
}

struct Training<'a> {
    setup: &'a Setup<'a>,
    made: Made<'a>,
    folder: RunFolder,
    log: Writer,
    events: Events,
    rows: Box<dyn TrainingRows + 'a>,
    all: Vec<One>,
    held: Vec<Array2<f32>>,
    step: u64,
    last: Option<Saved>,
    evaluated: Vec<(String, Numbers)>,
}

impl Training<'_> {
    fn note(&mut self, row: &Row) -> Result<(), TrainError> {
        self.log.append(row)?;
        self.events.add(row)
    }

    fn steps(&mut self, stop: &AtomicBool, watch: &dyn Watch) -> Result<Finished, TrainError> {
        let plan = &self.setup.config.schedule;
        let output = &self.setup.config.output;
        let total = self.setup.config.steps();
        let begun = (Instant::now(), self.step);
        let left = |step: u64| {
            let done = step - begun.1;
            let each = begun.0.elapsed().as_secs_f64() / done.max(1) as f64;
            (done > 0).then(|| Duration::from_secs_f64(each * (total - step) as f64))
        };
        let mut data_ended = false;
        while self.step < total {
            if stop.load(Ordering::SeqCst) {
                return self.finish(false, false);
            }
            let started = Instant::now();
            let (reports, harvested) = if self.step < plan.steps() {
                let Some(batch) = self.rows.batch(plan.batch)? else {
                    data_ended = true;
                    break;
                };
                let harvested = started.elapsed().as_secs_f64();
                let each = self
                    .all
                    .iter_mut()
                    .map(|one| Ok((one.step(&batch, None)?, None)));
                (
                    each.collect::<Result<Vec<_>, TrainError>>()?,
                    Some(harvested),
                )
            } else {
                (self.train_through()?, None)
            };
            self.step += 1;
            let due = self.step.is_multiple_of(output.log_every) || self.step == total;
            let whole = started.elapsed().as_secs_f64();
            let row = due.then(|| self.step_row(&reports, harvested, whole));
            if let Some(row) = &row {
                self.note(row)?;
            }
            watch.at(self.step, total, left(self.step), row.as_ref());
            if self.step.is_multiple_of(output.eval_every) || self.step == total {
                let row = self.evaluate()?;
                self.note(&row)?;
                watch.at(self.step, total, left(self.step), Some(&row));
            }
            if self.step.is_multiple_of(output.checkpoint_every) || self.step == total {
                self.checkpoint()?;
            }
        }
        if data_ended {
            let message = format!(
                "the data ended after {} of {} steps; give more text, or fewer rows",
                self.step, total
            );
            let row = Row::new(Kind::Alert, self.step)
                .with("alert", "data_ended")
                .with("message", message);
            self.note(&row)?;
            let row = self.evaluate()?;
            self.note(&row)?;
        }
        self.finish(true, data_ended)
    }

    fn finish(&mut self, finished: bool, data_ended: bool) -> Result<Finished, TrainError> {
        if self
            .last
            .as_ref()
            .is_none_or(|saved| saved.step != self.step)
        {
            self.checkpoint()?;
        }
        if finished && self.evaluated.is_empty() {
            // A run that was finished before: nothing new for the log.
            self.evaluate()?;
        }
        let saved = self.last.clone().ok_or_else(|| TrainError::NotARun {
            path: self.folder.path().to_path_buf(),
            why: "it has no checkpoint".into(),
        })?;
        Ok(Finished {
            saved,
            finished,
            rows: self
                .all
                .iter()
                .map(|one| one.trainer.rows())
                .max()
                .unwrap_or_default(),
            data_ended,
            evaluated: std::mem::take(&mut self.evaluated),
        })
    }

    /// A step of each through the model; with their KL.
    fn train_through(&mut self) -> Result<Vec<(StepReport, Option<f64>)>, TrainError> {
        let config = self.setup.config;
        let number = self.step - config.schedule.steps();
        let left = 1.0 - number as f64 / config.end_to_end.map_or(1, |p| p.steps()) as f64;
        let places = self.setup.places.iter().map(|(.., points)| points[0][0]);
        let behind = self.setup.behind.as_ref();
        let each = self.all.iter_mut().zip(places).filter_map(|(one, at)| {
            let stepped = behind?.step(&mut one.trainer, at, number, left);
            Some(stepped.map(|(report, kl)| (report, Some(kl))))
        });
        each.collect()
    }

    /// `NAME/` before each number, where there are several dictionaries.
    fn prefix(&self, name: &str) -> String {
        if self.all.len() == 1 {
            String::new()
        } else {
            format!("{name}/")
        }
    }

    fn step_row(
        &self,
        reports: &[(StepReport, Option<f64>)],
        harvested: Option<f64>,
        whole: f64,
    ) -> Row {
        let mut numbers = Numbers::new();
        for (one, (report, kl)) in self.all.iter().zip(reports) {
            let prefix = self.prefix(&one.name);
            let mut set = |name: &str, value: f64| numbers.set(&format!("{prefix}{name}"), value);
            set("loss", report.loss);
            for (name, loss) in &report.losses {
                set(&format!("loss/{name}"), *loss);
            }
            if let Some(kl) = kl {
                set("kl", *kl);
            }
            set("l0", report.l0);
            set("fvu", report.fvu);
            set("dead", report.dead as f64);
            set("grad_norm", report.grad_norm);
            set("learning_rate", report.lr);
            if let Some(threshold) = report.threshold {
                set("threshold", threshold);
            }
        }
        let rows = self.all.iter().map(|one| one.trainer.rows()).max();
        numbers.set("num_tokens", rows.unwrap_or_default() as f64);
        numbers.set("time/step_s", whole);
        if let Some(harvested) = harvested {
            numbers.set("time/harvest_s", harvested);
        }
        Row::new(Kind::Step, self.step).with_numbers(&numbers)
    }

    /// The dictionaries as they would be used, on the rows held out.
    fn evaluate(&mut self) -> Result<Row, TrainError> {
        let mut row = Row::new(Kind::Eval, self.step);
        let mut evaluated = Vec::new();
        for one in &self.all {
            let numbers = one.evaluated(&self.held)?;
            row = row.with_numbers(&numbers.clone().prefixed(&self.prefix(&one.name)));
            evaluated.push((one.name.clone(), numbers));
        }
        self.evaluated = evaluated;
        Ok(row)
    }

    fn checkpoint(&mut self) -> Result<(), TrainError> {
        let saved = self.folder.save(self.step, |folder| {
            save::write(folder, self.step, &self.made, self.rows.as_ref(), &self.all)
        })?;
        self.folder
            .retire(self.setup.config.output.keep_last, &[])?;
        let row =
            Row::new(Kind::Checkpoint, self.step).with("path", saved.path.display().to_string());
        self.note(&row)?;
        self.log.sync()?;
        self.last = Some(saved);
        Ok(())
    }
}
