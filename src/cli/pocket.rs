//! `pocket`: the pocket world: its data, and the exam that a model of it sits. The world is `crate::pocket`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome,
    args::ModelArgs,
    failure::Usage,
    output::{Out, Table},
};
use crate::audit::wording::number;
use crate::model::{Checkpoint, LoadOptions};
use crate::pipeline::{Done, State, folder};
use crate::pocket::exam::{self, Answer, Figures};
use crate::pocket::pack;
use crate::pocket::promises::{self, Kept, Promises};
use crate::pocket::write::{self, Sizes};

/// The pocket world: a town with known truths that a tiny model learns in minutes
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope pocket data --out world/
  candlescope pocket exam runs/pocket/stages/ppo/checkpoints/step-40")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write the world's data: texts, conversations, pairs, prompts, tokenizer
    #[command(after_help = "Example:\n  candlescope pocket data --out world/ --seed 2")]
    Data {
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The seed of what is drawn; the world's truths are always the same
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Ask a model of the world what no training asked, and grade it by the answer key
    #[command(after_help = "Example:\n  candlescope pocket exam runs/pocket/models/dpo --show 2")]
    Exam(ExamArgs),
    /// Pack the models of a finished recipe as this binary holds them: bf16, with their figures
    #[command(after_help = "Example:\n  candlescope pocket pack runs/pocket --out packed/")]
    Pack {
        /// The pipeline's folder
        run: PathBuf,
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Conversations of each kind in the exam whose figures are kept
        #[arg(long, default_value_t = 64, value_name = "N")]
        each: usize,
    },
    /// Check a pipeline's models against what its recipe promises
    ///
    /// Every stage that the promises name sits the exam. Exit code 0 when all are kept, 1 when one is broken.
    #[command(after_help = "Example:
  candlescope pocket check runs/pocket --promises examples/pocket/promises.toml")]
    Check {
        /// The pipeline's folder
        run: PathBuf,
        /// The promises
        #[arg(long, value_name = "FILE")]
        promises: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
struct ExamArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Conversations of each kind
    #[arg(long, default_value_t = 64, value_name = "N")]
    each: usize,
    /// Show this many answers of each kind that the key does not agree with
    #[arg(long, default_value_t = 0, value_name = "N")]
    show: usize,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Data { out: root, seed } => {
            let files = write::write(root, &Sizes::default(), *seed)?;
            for file in files {
                out.line(&file.display().to_string())?;
            }
            Ok(Outcome::Done)
        }
        Command::Exam(args) => examine(args, out),
        Command::Pack {
            run,
            out: root,
            each,
        } => packed(run, root, *each, out),
        Command::Check { run, promises } => check(run, promises, out),
    }
}

#[derive(Serialize)]
struct Report {
    model: String,
    figures: Figures,
}

fn examine(args: &ExamArgs, out: &Out) -> anyhow::Result<Outcome> {
    let model = args.model.open(out)?;
    let answers = exam::sit(&model, args.each)?;
    let figures = exam::figures(&answers);
    if out.json {
        let report = Report {
            model: model.name,
            figures,
        };
        out.json("candlescope.pocket.exam/1", &report)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["kind", "n", "right", "wrong", "words"]);
    for (kind, figure) in &figures {
        let name = serde_json::to_value(kind)?;
        table.row([
            name.as_str().unwrap_or_default().to_owned(),
            figure.n.to_string(),
            number("fraction", figure.right_share()),
            number("fraction", figure.wrong_share()),
            format!("{:.1}", figure.words as f64 / figure.n.max(1) as f64),
        ]);
    }
    table.print(out)?;
    for answer in shown(&answers, args.show) {
        let asked: Vec<&str> = answer
            .case
            .messages
            .iter()
            .map(|m| m.content.as_str())
            .collect();
        out.line(&format!(
            "{}\n  said: {}\n  key:  {}",
            asked.join(" / "),
            answer.text,
            answer.case.good
        ))?;
    }
    Ok(Outcome::Done)
}

/// The first answers of each kind that are not right.
fn shown(answers: &[Answer], most: usize) -> Vec<&Answer> {
    let mut shown: Vec<&Answer> = Vec::new();
    for answer in answers.iter().filter(|answer| !answer.right) {
        let same = shown
            .iter()
            .filter(|other| other.case.kind == answer.case.kind);
        if same.count() < most {
            shown.push(answer);
        }
    }
    shown
}

fn packed(run: &Path, root: &Path, each: usize, out: &Out) -> anyhow::Result<Outcome> {
    let (_, state) = folder::look(run)?;
    let mut stages = Vec::with_capacity(pack::STAGES.len());
    for stage in pack::STAGES {
        stages.push((stage, run.join(&done(&state, stage, run)?.model)));
    }
    let about = pack::pack(&stages, state.seconds(), each, root)?;
    if out.json {
        out.json("candlescope.pocket.pack/1", &about)?;
    } else {
        out.line(&format!("{}", root.display()))?;
    }
    Ok(Outcome::Done)
}

/// A stage that is done.
fn done<'a>(state: &'a State, stage: &str, run: &Path) -> anyhow::Result<&'a Done> {
    let done = state.done(stage).ok_or_else(|| {
        Usage::new(
            format!("stage `{stage}` of {} is not done", run.display()),
            "`pipeline run --resume` goes on with it",
        )
    })?;
    Ok(done)
}

#[derive(Serialize)]
struct Checked {
    stage: String,
    #[serde(flatten)]
    kept: Kept,
}

fn check(run: &Path, file: &Path, out: &Out) -> anyhow::Result<Outcome> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Usage::new(
            format!("{}: {e}", file.display()),
            "--promises names a file",
        )
    })?;
    let promises: Promises = toml::from_str(&text).map_err(|e| {
        Usage::new(
            format!("{}: {e}", file.display()),
            "expected `each` and [stages.STAGE.KIND]",
        )
    })?;
    let (_, state) = folder::look(run)?;
    let mut all = Vec::new();
    for (stage, bounds) in &promises.stages {
        let path = run.join(&done(&state, stage, run)?.model);
        let model = Checkpoint::open(stage, &path, &LoadOptions::default())?;
        let figures = exam::figures(&exam::sit(&model, promises.each)?);
        all.extend(
            promises::held(bounds, &figures)
                .into_iter()
                .map(|kept| Checked {
                    stage: stage.clone(),
                    kept,
                }),
        );
    }
    let broken = all.iter().any(|one| !one.kept.kept);
    if out.json {
        out.json("candlescope.pocket.check/1", &all)?;
    } else {
        let mut table = Table::new(["stage", "kind", "promised", "found", "kept"]);
        for one in &all {
            let kind = serde_json::to_value(one.kept.kind)?;
            table.row([
                one.stage.clone(),
                kind.as_str().unwrap_or_default().to_owned(),
                one.kept.promise.clone(),
                number("fraction", one.kept.found),
                if one.kept.kept { "yes" } else { "no" }.to_owned(),
            ]);
        }
        table.print(out)?;
    }
    Ok(if broken {
        Outcome::NotPassed
    } else {
        Outcome::Done
    })
}
