//! `reward eval`: pairs scored by one or several reward models, and the report on them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::json;

use super::{
    super::{Outcome, args::FindArgs, failure::Usage, interrupt, output::Out},
    show,
};
use crate::{
    files::write::write_atomic,
    model::{Opened, ScoreModel, checkpoint::words},
    text::{
        ChatTemplate, Tokenizer,
        dataset::{Columns, EncodeOptions, Encoder, Kind, Pair, columns, table},
    },
    train::{
        Report, RunFolder,
        folder::REPORT,
        loss::{calibration::PairScore, interval::Resampling},
        report::{self, LAMBDA, SCHEMA},
    },
};

/// The scores of each pair, beside the report.
const SCORES: &str = "scores.jsonl";

/// Judge reward models on held-out pairs of answers
///
/// Accuracy, mean margin, calibration of σ(margin), and what length has to do with the scores; of several models also how far
/// they agree and what they are worth together (mean, min, UWO). Every number has its n and a 95 % interval.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope reward eval runs/rm --data held-out.jsonl
  candlescope reward eval ./reward-model --data held-out.parquet --max-length 1024 --json
  candlescope reward eval runs/rm-a runs/rm-b runs/rm-c --data held-out.jsonl --report out/")]
pub struct Args {
    /// Folders of reward models (whole, or a LoRA adapter), or of runs that trained one: then their last checkpoints; several are an ensemble
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Pairs of answers: JSON lines, a JSON array or Parquet, with the columns that TRL names; repeatable
    #[arg(long, required = true, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Write report.json, and scores.jsonl with the scores of each pair, into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Most tokens of prompt and answer together; longer pairs are left out, and counted [default: the model's context]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Plain strings become a user's and an assistant's turn; without it they are taken as they are
    #[arg(long)]
    chat: bool,
    /// The file's names of columns that are called otherwise, such as prompt=question,chosen=better
    #[arg(long, value_name = "LIST")]
    columns: Option<String>,
    /// The day that a chat template is told [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<jiff::civil::Date>,
    /// Pairs that are scored side by side; no score depends on it
    #[arg(long, default_value_t = 8, value_name = "N")]
    batch: usize,
    /// Weight of the variance in the UWO of several models
    #[arg(long, value_name = "X")]
    lambda: Option<f64>,
    /// Draws of the bootstrap
    #[arg(long, default_value_t = Resampling::default().draws, value_name = "N")]
    draws: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    found: FindArgs,
}

/// Pairs with where they stand.
struct Pairs {
    items: Vec<Pair>,
    places: Vec<String>,
    left_out: BTreeMap<String, usize>,
}

/// A line of `scores.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    row: &'a str,
    model: &'a str,
    #[serde(flatten)]
    score: &'a PairScore,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    args.check()?;
    let mut first: Option<(Tokenizer, Pairs)> = None;
    let mut models = Vec::new();
    for name in &args.models {
        let (model, tokenizer, template) = args.open(name, out)?;
        let pairs = match &first {
            None => {
                let context = model.decoder().config().max_positions();
                let pairs = args.read((&tokenizer, template.as_ref()), context)?;
                &first.insert((tokenizer, pairs)).1
            }
            Some((words, pairs)) => {
                ensure!(
                    words.hash() == tokenizer.hash(),
                    "{name}: expected the tokenizer of {}, {}, found {}; models that are compared must read the same tokens",
                    args.models[0],
                    words.hash(),
                    tokenizer.hash()
                );
                pairs
            }
        };
        out.note(&format!("{name}: {} pairs", pairs.items.len()));
        models.push((name.clone(), args.score(&model, &pairs.items)?));
    }
    let Some((_, pairs)) = first else {
        return Ok(Outcome::Done);
    };
    for (reason, rows) in &pairs.left_out {
        out.note(&format!("note: {rows} rows are left out: {reason}"));
    }
    let draws = Resampling {
        draws: args.draws,
        seed: args.seed,
    };
    let data = args.data.iter().map(|file| file.display().to_string());
    let lambda = args.lambda.unwrap_or(LAMBDA);
    let report = Report::of(data.collect(), models.clone(), lambda, &draws)?;
    if let Some(folder) = &args.report {
        write(folder, &report, &pairs, &models)?;
        out.note(&format!("wrote {}", folder.join(REPORT).display()));
    }
    if out.json {
        out.json(SCHEMA, &report)?;
    } else {
        show::table(&report, out)?;
    }
    Ok(Outcome::Done)
}

impl Args {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=65_536).contains(&self.batch),
            "--batch: expected 1 to 65536, found {}",
            self.batch
        );
        ensure!(
            (100..=1_000_000).contains(&self.draws),
            "--draws: expected 100 to 1000000, found {}",
            self.draws
        );
        let Some(lambda) = self.lambda else {
            return Ok(());
        };
        ensure!(
            lambda.is_finite() && lambda >= 0.0,
            "--lambda: expected at least 0, found {lambda}"
        );
        if self.models.len() == 1 {
            let hint = "UWO is of several models; name more, or leave --lambda out";
            return Err(Usage::new("--lambda has no effect on one model", hint).into());
        }
        Ok(())
    }

    fn open(
        &self,
        name: &str,
        out: &Out,
    ) -> anyhow::Result<(ScoreModel, Tokenizer, Option<ChatTemplate>)> {
        let how = self.found.exact();
        interrupt::check()?;
        let path = how.path(&last_checkpoint(name)?, out)?;
        let options = how.load_options();
        let opened = Opened::at(&path, &options)?;
        let model = ScoreModel::of(&opened, &options)?;
        let (tokenizer, template) = words(&opened, &path)?;
        Ok((model, tokenizer, template))
    }

    /// All files, as the first model's words have them.
    fn read(
        &self,
        (tokenizer, template): (&Tokenizer, Option<&ChatTemplate>),
        context: usize,
    ) -> anyhow::Result<Pairs> {
        let max_length = self.max_length.unwrap_or(context);
        ensure!(
            (2..=context).contains(&max_length),
            "--max-length: expected 2 to {context}, the model's context, found {max_length}"
        );
        let day = self.date.unwrap_or_else(|| jiff::Zoned::now().date());
        let options = EncodeOptions {
            chat: self.chat,
            now: Some(day.at(12, 0, 0, 0)),
            ..EncodeOptions::up_to(max_length)
        };
        let encoder = Encoder::new(tokenizer, template, options)?;
        let names: Columns = self.columns.as_deref().unwrap_or_default().parse()?;
        let mut pairs = Pairs {
            items: Vec::new(),
            places: Vec::new(),
            left_out: BTreeMap::new(),
        };
        for file in &self.data {
            interrupt::check()?;
            let data = columns::rows(&table::read(file)?, &names, Some(Kind::Preference))?;
            let encoded = encoder.pairs(&data)?;
            let place = |&row: &usize| data.rows[row].place.to_string();
            pairs.places.extend(encoded.rows.iter().map(place));
            pairs.items.extend(encoded.items);
            for (reason, rows) in encoded.dropped.iter() {
                *pairs.left_out.entry(reason.words().to_owned()).or_default() += rows.rows;
            }
        }
        Ok(pairs)
    }

    /// The pairs' scores in their order; rows of like length share a batch.
    fn score(&self, model: &ScoreModel, pairs: &[Pair]) -> anyhow::Result<Vec<PairScore>> {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        let longest = |pair: &Pair| pair.prompt.len() + pair.chosen.len().max(pair.rejected.len());
        order.sort_by_key(|&at| longest(&pairs[at]));
        let mut scores = vec![None; pairs.len()];
        for some in order.chunks(self.batch) {
            interrupt::check()?;
            let batch: Vec<&Pair> = some.iter().map(|&at| &pairs[at]).collect();
            for (&at, score) in some.iter().zip(report::score(model, &batch)?) {
                scores[at] = Some(score);
            }
        }
        Ok(scores.into_iter().flatten().collect())
    }
}

/// The last checkpoint of a run; what is no run is a model itself.
fn last_checkpoint(name: &str) -> anyhow::Result<String> {
    let Ok(run) = RunFolder::open(Path::new(name)) else {
        return Ok(name.to_owned());
    };
    let last = run.checkpoints()?.pop().with_context(|| {
        format!("{name}: this run has no checkpoint yet; wait for one, or name a model")
    })?;
    Ok(last.path.display().to_string())
}

fn write(
    folder: &Path,
    report: &Report,
    pairs: &Pairs,
    models: &[(String, Vec<PairScore>)],
) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    report.write(&folder.join(REPORT))?;
    let mut text = Vec::new();
    for (model, scores) in models {
        for (row, score) in pairs.places.iter().zip(scores) {
            writeln!(text, "{}", json!(Line { row, model, score }))?;
        }
    }
    Ok(write_atomic(&folder.join(SCORES), &text)?)
}
