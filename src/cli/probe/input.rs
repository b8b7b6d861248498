//! What the probe commands share: labelled data, how probes are fitted, and a harvest that shows how far it is.

use std::cell::Cell;
use std::path::PathBuf;

use candlescope_probes::Kind;

use crate::cli::{
    args::ModelArgs,
    failure::Usage,
    interrupt::{self, Interrupted},
    output::Out,
    progress::Bar,
};
use crate::model::{Checkpoint, fetch::Progress as _};
use crate::probing::{
    Encoded, Fitting, Harvest, HarvestOptions, Labelled, Plan, Position, ProbingError, Tokens,
    encode, harvest, harvest_tokens,
};

/// What fits and sweeps are of: a model, labelled rows, and where they are read.
#[derive(clap::Args, Debug)]
#[group(skip)]
pub struct SubjectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub data: DataArgs,
    /// Hook points (see `candlescope hooks MODEL`); repeatable; of several the best on validation rows is chosen [default: the
    /// residual stream before block 0 and after each]
    #[arg(long, value_name = "POINTS")]
    points: Vec<String>,
    /// Positions: last, -K (from the end), instruction-end, mean, content (mean over the content's tokens); of several the best
    /// is chosen [default: last; for a sweep instruction-end too]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    positions: Vec<Position>,
    #[command(flatten)]
    pub fit: FitArgs,
    #[command(flatten)]
    pub read: ReadArgs,
}

impl SubjectArgs {
    /// The hook points asked for.
    pub fn points(&self) -> Vec<&str> {
        points(&self.points)
    }

    /// The positions asked for, without any these.
    pub fn positions(&self, without: &[Position]) -> Vec<Position> {
        if self.positions.is_empty() {
            return without.to_vec();
        }
        self.positions.clone()
    }

    /// Reads the rows at every point and position.
    pub fn harvest(
        &self,
        model: &Checkpoint,
        data: &Labelled,
        positions: &[Position],
        out: &Out,
    ) -> anyhow::Result<(Vec<Encoded>, Harvest)> {
        let plan = Plan::new(&self.points(), positions, model.config())?;
        let encoded = encode(model, &data.rows)?;
        let harvest = self.read.harvest(model, &encoded, &plan, out)?;
        Ok((encoded, harvest))
    }
}

/// Rows with labels.
#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("labelled_rows").required(true).args(["data", "suites"]))]
pub struct DataArgs {
    /// JSON lines with `text`, `prompt` or `messages`, and `label`; `group`, `topic` and `split` if you like
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Built-in suites, each a class: harmful, harmless, lookalike, neutral
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub suites: Vec<String>,
    /// The class that counts as positive [default: true, 1 or harmful, else the last by name]
    #[arg(long, value_name = "LABEL")]
    pub positive: Option<String>,
}

impl DataArgs {
    /// Reads them.
    pub fn read(&self) -> Result<Labelled, ProbingError> {
        match &self.data {
            Some(file) => Labelled::from_jsonl(file),
            None => {
                let names: Vec<&str> = self.suites.iter().map(String::as_str).collect();
                Labelled::suites(&names)
            }
        }
    }
}

/// How probes are fitted.
#[derive(clap::Args, Debug)]
pub struct FitArgs {
    /// What a probe is: difference-of-means, mass-mean, logistic, lda, k-sparse:K; of `probe fit` also softmax (each class with
    /// weights of its own), ccs (pairs of a statement and its negation, without their labels) and attention (pools the
    /// content's tokens) [default: logistic; softmax for more than two labels without --positive]
    #[arg(long, value_name = "KIND", value_parser = Wanted::parse)]
    pub kind: Option<Wanted>,
    /// This C instead of the best of 1e-4 to 1e2 by cross-validation inside the training rows
    #[arg(long, value_name = "C")]
    pub c: Option<f64>,
    /// Draws splits, folds, shuffles and control tasks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// What `--kind` can name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// One direction against a threshold.
    Linear(Kind),
    /// A direction for each class.
    Softmax,
    /// One direction, over pooled tokens.
    Attention,
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "softmax" => Ok(Self::Softmax),
            "attention" => Ok(Self::Attention),
            text => Kind::parse(text).map(Self::Linear).ok_or_else(|| {
                let names = Kind::NAMES.join(", ");
                format!("expected one of {names}, softmax, attention")
            }),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Linear(kind) => kind.name(),
            Self::Softmax => "softmax".to_owned(),
            Self::Attention => "attention".to_owned(),
        }
    }
}

impl FitArgs {
    /// What is to be fitted on rows of so many classes, of which one may have been named.
    pub fn wanted(&self, classes: usize, named: bool) -> Wanted {
        match self.kind {
            Some(kind) => kind,
            None if classes > 2 && !named => Wanted::Softmax,
            None => Wanted::Linear(Kind::Logistic),
        }
    }

    /// For the library, where only linear probes of rows can be had.
    pub fn fitting(&self) -> anyhow::Result<Fitting> {
        match self.wanted(2, false) {
            Wanted::Linear(kind) if kind != Kind::Ccs => self.linear(kind),
            other => Err(Usage::new(
                format!("--kind {}: only `probe fit` fits it", other.name()),
                "candlescope probe fit MODEL --kind softmax --data rows.jsonl --out probe.safetensors",
            )
            .into()),
        }
    }

    /// For the library, of this kind.
    pub fn linear(&self, kind: Kind) -> anyhow::Result<Fitting> {
        if self.c.is_some() && !kind.has_penalty() {
            return Err(Usage::new(
                format!("--c has no effect on {}", kind.name()),
                "--c belongs to logistic, k-sparse, softmax and attention probes",
            )
            .into());
        }
        Ok(Fitting {
            kind,
            c: self.c,
            seed: self.seed,
            ..Fitting::default()
        })
    }
}

/// How the model is read.
#[derive(clap::Args, Debug)]
pub struct ReadArgs {
    /// Prompts of one pass
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub batch: usize,
    /// The most memory that activations may take, in GB
    #[arg(long, value_name = "GB", default_value_t = 4.0)]
    pub memory_gb: f64,
}

impl ReadArgs {
    /// Reads activations, showing how far it is.
    pub fn harvest(
        &self,
        model: &Checkpoint,
        rows: &[Encoded],
        plan: &Plan,
        out: &Out,
    ) -> anyhow::Result<Harvest> {
        let cells = plan.points.len() * plan.positions.len();
        let size = crate::cli::output::bytes(plan.bytes(rows.len()));
        let what = format!("{cells} places, {size}");
        self.reading(rows, &what, out, |options| {
            harvest(&model.decoder, rows, plan, options)
        })
    }

    /// Reads every token of the position at each point, showing how far it is.
    pub fn tokens(
        &self,
        model: &Checkpoint,
        rows: &[Encoded],
        plan: &Plan,
        out: &Out,
    ) -> anyhow::Result<Vec<Tokens>> {
        let what = format!("{} points", plan.points.len());
        self.reading(rows, &what, out, |options| {
            harvest_tokens(&model.decoder, rows, plan, options)
        })
    }

    fn reading<T>(
        &self,
        rows: &[Encoded],
        what: &str,
        out: &Out,
        read: impl FnOnce(&HarvestOptions) -> Result<T, ProbingError>,
    ) -> anyhow::Result<T> {
        let bar = Bar::counting(out);
        let tokens: usize = rows.iter().map(|r| r.ids.len()).sum();
        let what = format!("reading {} prompts ({tokens} tokens; {what})", rows.len());
        bar.start(&what, Some(rows.len() as u64));
        let before = Cell::new(0);
        let progress = |done: usize, _| {
            bar.advance((done - before.get()) as u64);
            before.set(done);
        };
        let read = read(&HarvestOptions {
            batch: self.batch.clamp(1, 4096),
            memory: (self.memory_gb.max(0.0) * 1e9) as u64,
            progress: Some(&progress),
            cancel: Some(interrupt::flag()),
        });
        bar.done();
        read.map_err(told)
    }
}

/// The patterns asked for; without any, the residual stream before the first block and after each.
pub fn points(given: &[String]) -> Vec<&str> {
    match given {
        [] => vec!["resid_pre.0", "resid_post.*"],
        given => given.iter().map(String::as_str).collect(),
    }
}

/// An interruption in the words of the command line.
pub fn told(error: ProbingError) -> anyhow::Error {
    match error {
        ProbingError::Interrupted => Interrupted.into(),
        other => other.into(),
    }
}
