//! `steer condition`: fit a condition of prompts that meet it and prompts that do not; say how often it errs on others.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    counted,
    generate::told,
    prompts::{SplitArg, drawn},
};
use crate::{
    cli::{
        Outcome,
        args::ModelArgs,
        failure::Usage,
        output::{Out, Table},
    },
    model::Checkpoint,
    steer::{
        condition::{
            self, Condition, ConditionOptions, Errors, LayerFit, Method, Score, Side, errors, fit,
        },
        content, encode_all, mean_states,
    },
    text::suites::{PromptRow, Split, content_hash},
};

/// Conditions for steering: directions with a threshold that say of a prompt whether it is about something
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope steer condition fit toy --positive harmful --negative harmless --out harmful.safetensors
  candlescope steer condition eval toy harmful.safetensors --positive harmful --negative lookalike")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Fit(FitArgs),
    Eval(EvalArgs),
}

/// Fit a condition on training prompts and tell its errors on held-out ones
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope steer condition fit toy --positive harmful --negative harmless --score signed --out harmful.safetensors")]
struct FitArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    classes: Classes,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How the direction is made
    #[arg(long, value_enum, default_value = "difference", value_name = "METHOD")]
    method: MethodArg,
    /// How a prompt's state is compared with it
    #[arg(long, value_enum, default_value = "projected", value_name = "SCORE")]
    score: ScoreArg,
    /// Layers to choose among, such as 4-20 [default: all]
    #[arg(long, value_name = "LIST", default_value = "*")]
    layers: String,
    /// Most training prompts of a class
    #[arg(long, default_value_t = 64, value_name = "N")]
    train: usize,
}

/// Tell how often a condition errs on prompts
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope steer condition eval toy harmful.safetensors --positive harmful --negative lookalike --json")]
struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The condition
    file: PathBuf,
    #[command(flatten)]
    classes: Classes,
    /// Which part of the suites
    #[arg(long, value_enum, default_value = "test", value_name = "SPLIT")]
    split: SplitArg,
    /// Use a condition that was made on another model, or on this one before a change
    #[arg(long)]
    accept_foreign_direction: bool,
}

#[derive(clap::Args, Debug)]
struct Classes {
    /// Prompts that meet the condition: a built-in suite or a suite file
    #[arg(long, default_value = "harmful", value_name = "SUITE")]
    positive: String,
    /// Prompts that do not
    #[arg(long, default_value = "harmless", value_name = "SUITE")]
    negative: String,
    /// Most held-out prompts of a class
    #[arg(short, default_value_t = 64, value_name = "N")]
    n: usize,
    /// Draws the prompts
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Prompts of one batch; no number depends on it
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// Difference of the class means
    Difference,
    /// First component of pairs' differences, uncentred
    Pca,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScoreArg {
    /// cos(h, tanh of its projection), as published
    Projected,
    /// cos(h minus the middle of the classes, direction)
    Signed,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    condition: String,
    layer: usize,
    method: Method,
    score: Score,
    threshold: f64,
    side: Side,
    /// Of training prompts, out of fold.
    f1_train: f64,
    n_train: (usize, usize),
    held_out: Errors,
    /// Every layer that was tried; empty for `eval`.
    layers: Vec<LayerFit>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Fit(args) => fit_one(args, out),
        Command::Eval(args) => eval(args, out),
    }
}

fn fit_one(args: &FitArgs, out: &Out) -> anyhow::Result<Outcome> {
    let classes = &args.classes;
    let train = classes.rows(Split::Train, args.train)?;
    let test = classes.rows(Split::Test, classes.n)?;
    disjoint(&train, &test)?;
    let model = args.model.open(out)?;
    let points = crate::hooks::expand(&format!("resid_pre.{}", args.layers), model.config())?;
    let layers: Vec<usize> = points.into_iter().map(|at| at.layer).collect();
    let positive = classes.states(&train.0, &layers, &model, "states of training prompts", out)?;
    let negative = classes.states(&train.1, &layers, &model, "states of training prompts", out)?;
    let options = ConditionOptions {
        method: match args.method {
            MethodArg::Difference => Method::Difference,
            MethodArg::Pca => Method::PairwisePca,
        },
        score: match args.score {
            ScoreArg::Projected => Score::Projected,
            ScoreArg::Signed => Score::Signed,
        },
        seed: classes.seed,
    };
    let mut fitted = fit(&layers, &positive, &negative, &options)?;
    let all: Vec<PromptRow> = train.0.iter().chain(&train.1).cloned().collect();
    fitted.condition.prompts = content_hash(&all);
    fitted.condition.fingerprint = Some(model.fingerprint()?.clone());
    let held_out = classes.held_out(&fitted.condition, &test, &model, out)?;
    condition::save(&args.out, &fitted.condition)?;
    out.note(&format!("wrote {}", args.out.display()));
    tell(
        &fitted.condition,
        (&args.out, &model),
        held_out,
        fitted.layers,
        out,
    )
}

fn eval(args: &EvalArgs, out: &Out) -> anyhow::Result<Outcome> {
    let condition = condition::load(&args.file)?;
    let test = args.classes.rows(args.split.into(), args.classes.n)?;
    let model = args.model.open(out)?;
    fits(
        &condition,
        &model,
        &args.file,
        args.accept_foreign_direction,
    )?;
    let held_out = args.classes.held_out(&condition, &test, &model, out)?;
    tell(&condition, (&args.file, &model), held_out, Vec::new(), out)
}

/// Refuses a condition of another width or forward pass.
pub(super) fn fits(
    condition: &Condition,
    model: &Checkpoint,
    file: &Path,
    foreign: bool,
) -> anyhow::Result<()> {
    let width = model.config().d_model;
    if condition.direction.len() != width || condition.layer >= model.config().n_layers {
        return Err(Usage::new(
            format!(
                "{}: expected a condition of width {width} and a layer below {}, found {} and {}",
                file.display(),
                model.config().n_layers,
                condition.direction.len(),
                condition.layer
            ),
            "a condition fits only models of the size it was made on",
        )
        .into());
    }
    if let (Some(made_on), false) = (&condition.fingerprint, foreign) {
        model
            .fingerprint()?
            .expect(made_on, &file.display().to_string())?;
    }
    Ok(())
}

type Pair = (Vec<PromptRow>, Vec<PromptRow>);

impl Classes {
    fn rows(&self, split: Split, n: usize) -> anyhow::Result<Pair> {
        Ok((
            drawn(&self.positive, split, n, self.seed)?,
            drawn(&self.negative, split, n, self.seed)?,
        ))
    }

    fn states(
        &self,
        rows: &[PromptRow],
        layers: &[usize],
        model: &Checkpoint,
        what: &str,
        out: &Out,
    ) -> anyhow::Result<Vec<ndarray::Array2<f32>>> {
        let rows: Vec<&PromptRow> = rows.iter().collect();
        let prompts = encode_all(model, &rows)?;
        let content = content(model, &rows, &prompts)?;
        counted(what, prompts.len(), self.batch, out, |options| {
            mean_states(model, &prompts, &content, layers, options)
        })
    }

    fn held_out(
        &self,
        condition: &Condition,
        (positive, negative): &Pair,
        model: &Checkpoint,
        out: &Out,
    ) -> anyhow::Result<Errors> {
        let scores = |rows: &[PromptRow]| -> anyhow::Result<Vec<f64>> {
            let what = "states of held-out prompts";
            let states = self.states(rows, &[condition.layer], model, what, out)?;
            Ok(condition.scores(states[0].view()))
        };
        Ok(errors(condition, &scores(positive)?, &scores(negative)?)?)
    }
}

/// A prompt that a condition was made of says nothing about it.
fn disjoint(train: &Pair, test: &Pair) -> anyhow::Result<()> {
    let seen: std::collections::BTreeSet<&str> = train
        .0
        .iter()
        .chain(&train.1)
        .map(|row| row.prompt.trim())
        .collect();
    let twice: Vec<&str> = test
        .0
        .iter()
        .chain(&test.1)
        .filter(|row| seen.contains(row.prompt.trim()))
        .map(|row| row.id.as_str())
        .collect();
    if twice.is_empty() {
        return Ok(());
    }
    let listed = twice
        .iter()
        .take(10)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    Err(Usage::new(
        format!(
            "{} held-out prompts are training prompts too: {listed}",
            twice.len()
        ),
        "take them out of one of the splits",
    )
    .into())
}

fn tell(
    condition: &Condition,
    (file, model): (&Path, &Checkpoint),
    held_out: Errors,
    layers: Vec<LayerFit>,
    out: &Out,
) -> anyhow::Result<Outcome> {
    let report = Report {
        model: &model.name,
        condition: file.display().to_string(),
        layer: condition.layer,
        method: condition.method,
        score: condition.score,
        threshold: condition.threshold,
        side: condition.side,
        f1_train: condition.f1,
        n_train: condition.n_train,
        held_out,
        layers,
    };
    if out.json {
        out.json("candlescope.steer.condition/1", &report)?;
        return Ok(Outcome::Done);
    }
    let mut best: Vec<&LayerFit> = report.layers.iter().collect();
    best.sort_by(|a, b| {
        (b.f1, b.margin)
            .partial_cmp(&(a.f1, a.margin))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    if !best.is_empty() {
        let mut table = Table::new(["layer", "F1 (out of fold)", "AUROC", "fires", "gap"]);
        for fit in best.iter().take(5) {
            table.row([
                fit.layer.to_string(),
                format!("{:.3}", fit.f1),
                format!("{:.3}", fit.auroc),
                fires(fit.side, fit.threshold),
                format!("{:.3}", fit.margin),
            ]);
        }
        table.print(out)?;
    }
    out.line(&format!(
        "layer {}, fires {}; F1 {:.3} of {} + {} training prompts, out of fold",
        report.layer,
        fires(report.side, report.threshold),
        report.f1_train,
        report.n_train.0,
        report.n_train.1
    ))?;
    out.line(&format!(
        "held out: missed {}; fires falsely {}; F1 {:.3}, AUROC {:.3} (95 % Wilson intervals)",
        told(&held_out.missed),
        told(&held_out.false_fires),
        held_out.f1,
        held_out.auroc
    ))?;
    Ok(Outcome::Done)
}

fn fires(side: Side, threshold: f64) -> String {
    let word = match side {
        Side::Above => "above",
        Side::Below => "below",
    };
    format!("{word} {threshold:.4}")
}
