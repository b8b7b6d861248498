//! `data sample`: a model's answers to prompts as a file of training data.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::super::{
    Outcome,
    args::ModelArgs,
    failure::Usage,
    interrupt,
    output::{Out, Table},
};
use crate::{
    files::write::write_atomic,
    text::dataset::{Columns, EncodeOptions, Encoder, columns, table},
    train::{
        candidates::{Collected, Counts, Keep, Wish, collect},
        rollout::Sampling,
        scorer::{Monitor, RewardSource},
    },
};

/// Draw a model's answers to prompts as training data: pairs by a reward, the best of n, or all of them
///
/// Several answers are drawn to each prompt and scored by a reward: a TOML file with what [method.ppo.reward] may hold (models,
/// rules or a command). As pairs, the best is preferred to the worst; --noise turns that round for a share of them, as annotators
/// do. Each row keeps its scores in columns of their own, which training does not read.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope data sample smollm2-135m-instruct prompts.jsonl --chat --keep all -n 50 --out answers.jsonl
  candlescope data sample runs/base/checkpoints/step-400 prompts.jsonl --reward gold.toml -n 3000 --noise 0.25 --out pairs.jsonl
  candlescope data sample runs/sft/checkpoints/step-200 prompts.jsonl --reward rm.toml --keep best --answers 16 --out best.jsonl
  # rm.toml:    models = [\"runs/rm/checkpoints/step-100\"]
  # gold.toml:  rules = [{ kind = \"values\", each = { cat = 1.0, dog = -1.0 } }, { kind = \"repeats\", free = 5, weight = -4.0 }]")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Rows with a prompt: JSON lines, a JSON array or Parquet; other columns are not read
    prompts: PathBuf,
    /// Where the rows go, as JSON lines; a file that is there is not replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What scores answers: a TOML file with models, rules or a command
    #[arg(long, value_name = "FILE")]
    reward: Option<PathBuf>,
    /// What the answers to a prompt become
    #[arg(long, value_enum, default_value = "pairs", value_name = "WHAT")]
    keep: KeepName,
    /// Rows of the file; prompts are gone through again until there are as many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    rows: usize,
    /// Answers drawn to each prompt
    #[arg(long, value_name = "K", default_value_t = 2)]
    answers: usize,
    /// Share of pairs, 0 to 0.5, whose label is wrong
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    noise: f64,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_new: usize,
    /// Of drawing
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Keep answers that ran into --max-new; training would end them all the same
    #[arg(long)]
    unfinished: bool,
    /// Of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Answers drawn side by side; the rows do not depend on it
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Plain prompts become a user's turn
    #[arg(long)]
    chat: bool,
    /// The file's names of columns that are called otherwise, such as prompt=question
    #[arg(long, value_name = "LIST")]
    columns: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeepName {
    /// prompt, chosen, rejected: the best and the worst
    Pairs,
    /// prompt, completion: the best
    Best,
    /// prompt, completion: each
    All,
}

#[derive(Serialize)]
struct Report {
    model: String,
    prompts: String,
    out: String,
    seed: u64,
    noise: f64,
    #[serde(flatten)]
    counts: Counts,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    if args.out.exists() {
        let message = format!("--out: {} is there already", args.out.display());
        return Err(Usage::new(message, "name another file, or remove that one").into());
    }
    let wish = args.wish();
    let source = args.source()?;
    wish.check(source.is_some())?;
    let data = {
        let names: Columns = args.columns.as_deref().unwrap_or_default().parse()?;
        columns::rows(&table::read(&args.prompts)?, &names, None)?
    };
    let model = args.model.open(out)?;
    let context = model.config().max_positions();
    let room = context.saturating_sub(args.max_new);
    if room == 0 {
        let message = format!(
            "--max-new: expected below the model's context of {context}, found {}",
            args.max_new
        );
        return Err(Usage::new(message, "the prompt needs room too").into());
    }
    let options = EncodeOptions {
        chat: args.chat,
        now: Some(super::today()),
        ..EncodeOptions::up_to(room)
    };
    let encoder = Encoder::new(&model.tokenizer, model.template.as_ref(), options)?;
    let encoded = encoder.prompts(&data)?;
    let prompts = encoded.rows.iter().zip(encoded.items);
    let prompts: Vec<_> = prompts
        .filter_map(|(&row, item)| Some((data.rows[row].body.prompt()?, item.prompt)))
        .collect();
    let mut reward = source
        .map(|source| Monitor::of("reward", &source, &model.tokenizer, args.batch))
        .transpose()?;
    let words = (&model.decoder, &model.tokenizer);
    let go_on = &mut |_| !interrupt::requested();
    let found = collect(words, &prompts, reward.as_mut(), &wish, go_on)?;
    interrupt::check()?;
    args.write(&found)?;
    let report = Report {
        model: args.model.model.clone(),
        prompts: args.prompts.display().to_string(),
        out: args.out.display().to_string(),
        seed: args.seed,
        noise: args.noise,
        counts: found.counts,
    };
    if out.json {
        out.json("candlescope.data.sample/1", &report)?;
    } else {
        show(&report, out)?;
    }
    Ok(Outcome::Done)
}

impl Args {
    fn wish(&self) -> Wish {
        Wish {
            keep: match self.keep {
                KeepName::Pairs => Keep::Pairs,
                KeepName::Best => Keep::Best,
                KeepName::All => Keep::All,
            },
            rows: self.rows,
            answers: self.answers,
            noise: self.noise,
            unfinished: self.unfinished,
            seed: self.seed,
            sampling: Sampling {
                temperature: self.temperature,
                response_length: self.max_new,
                batch: self.batch,
                ..Sampling::default()
            },
        }
    }

    fn source(&self) -> anyhow::Result<Option<RewardSource>> {
        let Some(path) = &self.reward else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot read it", path.display()))?;
        let source: RewardSource = toml::from_str(&text)
            .with_context(|| format!("{}: expected models, rules or a command", path.display()))?;
        source.check("reward")?;
        Ok(Some(source))
    }

    fn write(&self, found: &Collected) -> anyhow::Result<()> {
        let mut lines = String::new();
        for row in &found.rows {
            lines.push_str(&row.to_string());
            lines.push('\n');
        }
        Ok(write_atomic(&self.out, lines.as_bytes())?)
    }
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let counts = &report.counts;
    let mut table = Table::new(["", "", ""]);
    let mut row = |name: &str, value: String, note: &str| {
        table.row([name.to_owned(), value, note.to_owned()]);
    };
    row("rows", counts.rows.to_string(), &report.out);
    row(
        "prompts",
        counts.prompts.to_string(),
        "each time one was answered",
    );
    row("answers", counts.answers.to_string(), "drawn");
    row(
        "tokens",
        format!("{:.1}", counts.tokens),
        "of an answer in the mean",
    );
    if let Some(score) = counts.score {
        row("score", format!("{score:.3}"), "of an answer in the mean");
    }
    for (name, count, note) in [
        ("flipped", counts.flipped, "pairs with a wrong label"),
        ("unfinished", counts.unfinished, "answers left out"),
        ("empty", counts.empty, "answers left out"),
        (
            "tied",
            counts.tied,
            "prompts left out: their answers score the same",
        ),
        (
            "lacking",
            counts.lacking,
            "prompts left out: too few answers",
        ),
    ] {
        if count > 0 {
            row(name, count.to_string(), note);
        }
    }
    table.print(out)
}
