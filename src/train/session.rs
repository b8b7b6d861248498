//! One sitting of a run: the folder with its log, and the way from memory to a checkpoint and back.
//!
//! Always: a checkpoint is whole on disk before its row stands in the log; what is read back gives the next step the same
//! bits as if nothing had stopped. The loop is `run.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::json;

use super::{
    Bench, Config, Manifest, Method, Report, RunFolder, TrainError,
    alerts::Alerts,
    checkpoint::{self, Best, RngState, SCHEMA, STATE, State},
    folder::Saved,
    log::{Events, Kind, Row, Writer},
};
use crate::text::{ChatTemplate, Tokenizer};

/// Before the names of a method's own tensors in a checkpoint.
const OWN: &str = "method:";

/// What a run is made of, in memory.
pub struct Parts {
    /// The resolved config.
    pub config: Config,
    /// Provenance.
    pub manifest: Manifest,
    /// Weights, optimiser, place in the data.
    pub bench: Bench,
    /// Data and losses.
    pub method: Box<dyn Method>,
    /// The model's words.
    pub tokenizer: Tokenizer,
    /// Its chat template.
    pub template: Option<ChatTemplate>,
}

/// One sitting.
pub struct Session {
    pub(super) parts: Parts,
    pub(super) folder: RunFolder,
    pub(super) alerts: Alerts,
    pub(super) best: Option<Best>,
    /// Step of the last checkpoint on disk.
    pub(super) saved: Option<u64>,
    /// What was said of the finished model.
    pub(super) report: Option<Report>,
    log: Writer,
    events: Option<Events>,
}

impl Session {
    /// A new run in `root`.
    ///
    /// # Errors
    /// Something is there; the disk.
    pub fn begin(root: &Path, parts: Parts) -> Result<Self, TrainError> {
        let folder = RunFolder::create(root, &parts.config.to_toml()?)?;
        parts.manifest.write(&folder.manifest_path())?;
        let log = Writer::create(&folder.log_path())?;
        let mut session = Self::of(parts, folder, log);
        session.begun(Row::new(Kind::Started, 0))?;
        Ok(session)
    }

    /// Goes on with the run in `root` from its last checkpoint, or from the beginning if it has none.
    ///
    /// # Errors
    /// A checkpoint of another model, config or data, naming what differs; another process in the folder.
    pub fn resume(root: &Path, parts: Parts) -> Result<Self, TrainError> {
        let folder = RunFolder::resume(root)?;
        let path = folder.manifest_path();
        if path.exists() {
            parts.manifest.expect(&path, &Manifest::read(&path)?)?;
        } else {
            parts.manifest.write(&path)?;
        }
        let last = folder.checkpoints()?.pop();
        let log = if folder.log_path().exists() {
            Writer::resume(&folder.log_path())?.0
        } else {
            Writer::create(&folder.log_path())?
        };
        let mut session = Self::of(parts, folder, log);
        if let Some(last) = &last {
            session.restore(last)?;
        }
        let step = session.parts.bench.step();
        session.begun(Row::new(Kind::Resumed, step))?;
        Ok(session)
    }

    /// The method's last preparations, and the row of the beginning.
    fn begun(&mut self, row: Row) -> Result<(), TrainError> {
        let Parts { bench, method, .. } = &mut self.parts;
        let fields = method.ready(bench, &self.folder)?;
        let mut row = self.described(row);
        row.fields.extend(fields);
        self.note(&row)
    }

    fn of(parts: Parts, folder: RunFolder, log: Writer) -> Self {
        Self {
            parts,
            folder,
            alerts: Alerts::default(),
            best: None,
            saved: None,
            report: None,
            log,
            events: None,
        }
    }

    fn described(&self, row: Row) -> Row {
        let manifest = &self.parts.manifest;
        row.with("method", self.parts.method.name())
            .with("model", manifest.model.as_str())
            .with("steps", self.parts.bench.total())
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("numerical_path", manifest.numerical_path.as_str())
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// What `report.json` says, once the run has finished with a model that is reported on.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// What the run is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Writes a row to the log, and its numbers to TensorBoard's file.
    pub(super) fn note(&mut self, row: &Row) -> Result<(), TrainError> {
        self.log.append(row)?;
        if !self.parts.config.output.tensorboard {
            return Ok(());
        }
        let events = match &mut self.events {
            Some(events) => events,
            // Of the first row of this sitting: where TensorBoard has later steps, they are done again.
            none => {
                let folder = self.folder.tensorboard_path();
                let first = self.parts.bench.step() + 1;
                none.insert(Events::create(&folder, first, row.wall)?)
            }
        };
        events.add(row)
    }

    /// Makes the log durable.
    pub(super) fn sync(&self) -> Result<(), TrainError> {
        self.log.sync()
    }

    /// Writes a checkpoint of the present step.
    pub(super) fn checkpoint(&mut self) -> Result<Saved, TrainError> {
        let step = self.parts.bench.step();
        let state = self.state();
        let saved = self
            .folder
            .save(step, |path| self.parts.fill(path, &state))?;
        self.saved = Some(step);
        let row = Row::new(Kind::Checkpoint, step).with("path", relative(&saved.path));
        self.note(&row)?;
        self.sync()?;
        let best: Vec<u64> = self.best.iter().map(|best| best.step).collect();
        self.folder
            .retire(self.parts.config.output.keep_last, &best)?;
        Ok(saved)
    }

    fn state(&self) -> State {
        let Parts {
            config,
            manifest,
            bench,
            method,
            ..
        } = &self.parts;
        State {
            schema: SCHEMA.to_owned(),
            method: method.name().to_owned(),
            config: config.decisive(),
            weights: manifest.weights.clone(),
            step: bench.step(),
            tokens: bench.tokens,
            rng: RngState::of(&bench.rng),
            sampler: json!(bench.sampler),
            state: method.state(),
            alerts: json!(self.alerts),
            best: self.best,
        }
    }

    fn restore(&mut self, last: &Saved) -> Result<(), TrainError> {
        let state = State::read(&last.path)?;
        let config = self.parts.config.decisive();
        let (method, weights) = (self.parts.method.name(), &self.parts.manifest.weights);
        state.expect(&last.path, (method, weights, &config))?;
        let file = last.path.join(STATE);
        let malformed = |field: &str, found: &dyn ToString| {
            TrainError::mismatch(&file, field, "what this version writes", found.to_string())
        };
        let rng = state
            .rng
            .generator()
            .ok_or_else(|| malformed("rng", &"no generator's state"))?;
        let moments = checkpoint::read_tensors(&last.path)?;
        self.parts.bench.policy.reload(&last.path)?;
        let bench = &mut self.parts.bench;
        bench.sampler =
            serde_json::from_value(state.sampler).map_err(|e| malformed("sampler", &e))?;
        let (own, moments): (Vec<_>, Vec<_>) = moments
            .into_iter()
            .partition(|(name, _)| name.starts_with(OWN));
        bench.restore((state.step, state.tokens), rng, moments)?;
        self.parts.method.restore(&state.state)?;
        let own = own.into_iter();
        let own = own.map(|(name, tensor)| (name[OWN.len()..].to_owned(), tensor));
        self.parts.method.restore_tensors(own.collect())?;
        self.alerts = serde_json::from_value(state.alerts).map_err(|e| malformed("alerts", &e))?;
        self.best = state.best;
        self.saved = Some(state.step);
        Ok(())
    }
}

impl Parts {
    /// Everything of a checkpoint.
    fn fill(&self, folder: &Path, state: &State) -> Result<(), TrainError> {
        self.bench.policy.write(folder, DType::F32)?;
        self.tokenizer.save(folder)?;
        if let Some(template) = &self.template {
            template.save(folder)?;
        }
        let mut moments: BTreeMap<String, Tensor> = self.bench.moments()?.into_iter().collect();
        let own = self.method.tensors()?.into_iter();
        moments.extend(own.map(|(name, tensor)| (format!("{OWN}{name}"), tensor)));
        checkpoint::write_tensors(folder, &moments)?;
        // Last, as everything that reads a checkpoint begins with it.
        state.write(folder)
    }
}

/// `checkpoints/step-N`, for the log: a run's folder may be moved.
fn relative(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("checkpoints/{name}")
}
