//! What the probe commands share: labelled data, how probes are fitted, and a harvest that shows how far it is.

use std::cell::Cell;
use std::path::PathBuf;

use candlescope_probes::Kind;

use crate::cli::{
    failure::Usage,
    interrupt::{self, Interrupted},
    output::Out,
    progress::Bar,
};
use crate::model::{Checkpoint, fetch::Progress as _};
use crate::probing::{
    Encoded, Fitting, Harvest, HarvestOptions, Labelled, Plan, ProbingError, harvest,
};

/// Rows with labels.
#[derive(clap::Args, Debug)]
#[group(skip)]
pub struct DataArgs {
    /// JSON lines with `text`, `prompt` or `messages`, and `label`; `group`, `topic` and `split` if you like
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "suites",
        conflicts_with = "suites"
    )]
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
    /// What a probe is: difference-of-means, mass-mean, logistic, lda, or k-sparse:K
    #[arg(long, value_name = "KIND", default_value = "logistic", value_parser = kind)]
    pub kind: Kind,
    /// This C instead of the best of 1e-4 to 1e2 by cross-validation inside the training rows
    #[arg(long, value_name = "C")]
    pub c: Option<f64>,
    /// Draws splits, folds, shuffles and control tasks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| format!("expected one of {}", Kind::NAMES.join(", ")))
}

impl FitArgs {
    /// For the library.
    pub fn fitting(&self) -> anyhow::Result<Fitting> {
        if self.c.is_some() && !self.kind.has_penalty() {
            return Err(Usage::new(
                format!("--c has no effect on {}", self.kind.name()),
                "--c belongs to logistic and k-sparse probes",
            )
            .into());
        }
        Ok(Fitting {
            kind: self.kind,
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
        let bar = Bar::counting(out);
        let tokens: usize = rows.iter().map(|r| r.ids.len()).sum();
        let cells = plan.points.len() * plan.positions.len();
        let size = crate::cli::output::bytes(plan.bytes(rows.len()));
        let what = format!(
            "reading {cells} places of {} prompts ({tokens} tokens, {size})",
            rows.len()
        );
        bar.start(&what, Some(rows.len() as u64));
        let before = Cell::new(0);
        let progress = |done: usize, _| {
            bar.advance((done - before.get()) as u64);
            before.set(done);
        };
        let options = HarvestOptions {
            batch: self.batch.clamp(1, 4096),
            memory: (self.memory_gb.max(0.0) * 1e9) as u64,
            progress: Some(&progress),
            cancel: Some(interrupt::flag()),
        };
        let read = harvest(&model.decoder, rows, plan, &options);
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
