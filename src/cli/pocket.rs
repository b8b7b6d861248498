//! `pocket`: the pocket world: its data, and the exam that a model of it sits. The world is `crate::pocket`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome,
    args::ModelArgs,
    output::{Out, Table},
};
use crate::audit::wording::number;
use crate::pocket::exam::{self, Answer, Figures};
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
