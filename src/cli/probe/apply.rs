//! `probe apply` and `probe eval`: a kept probe on new rows, as scores or as metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use candlescope_probes::fragility::fragility;
use candlescope_probes::{Fragility, FragilityOptions};
use serde::Serialize;

use super::input::{DataArgs, ReadArgs};
use super::kept::{Kept, Scores, Two};
use super::{show, show_kinds};
use crate::cli::{Outcome, args::ModelArgs, output::Out};
use crate::probing::classes::{Classified, classified};
use crate::probing::{Example, HeldOut, Labelled, ProbingError, judge};
use crate::text::suites::Split;

/// Score new rows with a probe: one JSON object a line, with score, probability and whether it is over the threshold; of a softmax the class and all probabilities
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe apply smollm2-135m-instruct --probe harm.safetensors --data prompts.jsonl > scores.jsonl")]
pub struct ApplyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A probe that `probe fit` wrote
    #[arg(long, value_name = "FILE")]
    probe: PathBuf,
    /// JSON lines with `text`, `prompt` or `messages`; labels are not needed
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
}

/// Judge a probe on labelled rows that it has not seen: AUROC, balanced accuracy, its threshold and calibration, and the noise it withstands
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe eval smollm2-135m-instruct --probe harm.safetensors --data held-out.jsonl
  candlescope probe eval smollm2-135m-instruct --probe harm.safetensors --suites harmful,lookalike --json")]
pub struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A probe that `probe fit` wrote
    #[arg(long, value_name = "FILE")]
    probe: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Serialize)]
struct Scored<'a> {
    id: &'a str,
    score: f64,
    probability: f64,
    flagged: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    probe: String,
    data: &'a str,
    data_hash: &'a str,
    rows: usize,
    of: &'a str,
    #[serde(flatten)]
    found: &'a Found,
}

/// What an evaluation found.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    /// Of a probe for two classes.
    Two {
        #[serde(flatten)]
        held_out: Box<HeldOut>,
        /// Of a probe of single vectors: accuracy under noise.
        #[serde(skip_serializing_if = "Option::is_none")]
        fragility: Option<Fragility>,
    },
    /// Of a softmax.
    Classes(Classified),
}

#[derive(Serialize)]
struct Named<'a> {
    id: &'a str,
    called: &'a str,
    probabilities: BTreeMap<&'a str, f64>,
}

pub fn apply(args: &ApplyArgs, out: &Out) -> anyhow::Result<Outcome> {
    let probe = Kept::load(&args.probe)?;
    let data = Labelled::unlabelled(&args.data)?;
    let model = args.model.open(out)?;
    probe.fits(&args.probe, &model)?;
    match (probe.scores(&model, &data.rows, &args.read, out)?, &probe) {
        (Scores::Two(scores, _), probe) => {
            let about = probe.two().context("a probe of two classes")?;
            for (row, score) in data.rows.iter().zip(scores) {
                let scored = Scored {
                    id: &row.id,
                    score,
                    probability: about.calibrated.probability(score),
                    flagged: score > about.threshold,
                };
                out.line(&serde_json::to_string(&scored)?)?;
            }
        }
        (Scores::Classes(logits), Kept::Classes(file)) => {
            for (row, logits) in data.rows.iter().zip(&logits) {
                out.line(&serde_json::to_string(&called(
                    row,
                    logits,
                    &file.about.classes,
                ))?)?;
            }
        }
        (Scores::Classes(_), _) => {}
    }
    Ok(Outcome::Done)
}

/// Which class a row is called, and the share of each.
fn called<'a>(row: &'a Example, logits: &[f64], classes: &'a [String]) -> Named<'a> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = logits.iter().map(|l| (l - top).exp()).collect();
    let sum: f64 = shares.iter().sum();
    let best = (0..logits.len()).find(|&k| logits[k] == top).unwrap_or(0);
    Named {
        id: &row.id,
        called: &classes[best],
        probabilities: (classes.iter().map(String::as_str))
            .zip(shares.iter().map(|s| s / sum))
            .collect(),
    }
}

pub fn eval(args: &EvalArgs, out: &Out) -> anyhow::Result<Outcome> {
    let probe = Kept::load(&args.probe)?;
    let mut data = args.data.read()?;
    let positive = match probe.two() {
        Some(about) => {
            let named = args.data.positive.as_deref();
            Some(data.positive(Some(named.unwrap_or(about.positive)))?)
        }
        None => None,
    };
    let split = data.rows.iter().all(|r| r.split.is_some());
    let of = if split { "test rows" } else { "all rows" };
    let hash = match &probe {
        Kept::Linear(file) => &file.about.data_hash,
        Kept::Attention(file) => &file.about.data_hash,
        Kept::Classes(file) => &file.about.data_hash,
    };
    if split {
        data.rows.retain(|r| r.split == Some(Split::Test));
    } else if data.hash == *hash {
        out.note("note: the probe was fitted on rows of this very data; scores on those are not held out");
    }
    let model = args.model.open(out)?;
    probe.fits(&args.probe, &model)?;
    let found = match (probe.scores(&model, &data.rows, &args.read, out)?, &probe) {
        (Scores::Two(scores, x), probe) => {
            let about = probe.two().context("a probe of two classes")?;
            let labels = data.labels(positive.context("no positive class")?);
            let noisy = match (probe, x) {
                (Kept::Linear(file), Some(x)) => {
                    let noise = noise();
                    Some(fragility(&file.probe, x.view(), &labels, &noise)?)
                }
                _ => None,
            };
            two(&about, (&scores, &labels), noisy)?
        }
        (Scores::Classes(logits), Kept::Classes(file)) => {
            let truth = truth(&data, &file.about.classes)?;
            let (names, level) = (&file.about.classes, file.about.fitting.level);
            Found::Classes(classified(&logits, &truth, names, level)?)
        }
        (Scores::Classes(_), _) => anyhow::bail!("logits of classes from a probe that has none"),
    };
    if out.json {
        let report = Report {
            probe: args.probe.display().to_string(),
            data: &data.name,
            data_hash: &data.hash,
            rows: data.rows.len(),
            of,
            found: &found,
        };
        out.json("candlescope.probe.eval/1", &report)?;
        return Ok(Outcome::Done);
    }
    let what = format!("{of} of {} ({} rows)", data.name, data.rows.len());
    match &found {
        Found::Two {
            held_out,
            fragility,
        } => {
            out.text(&show::held_out(held_out, &what))?;
            if let Some(found) = fragility {
                out.text(&show_kinds::fragility(found, noise().floor))?;
            }
        }
        Found::Classes(found) => out.text(&show_kinds::classified(found, &what, out))?,
    }
    Ok(Outcome::Done)
}

/// As signal 17 of the audit has it.
fn noise() -> FragilityOptions {
    FragilityOptions {
        relative: true,
        ..FragilityOptions::default()
    }
}

fn two(
    about: &Two,
    (scores, labels): (&[f64], &[bool]),
    fragility: Option<Fragility>,
) -> anyhow::Result<Found> {
    let fitting = about.fitting;
    let threshold = Some(about.threshold);
    let mut held_out = judge(scores, labels, threshold, None, fitting.fpr, fitting.level)?;
    about.calibrated.judge(&mut held_out, scores, labels)?;
    Ok(Found::Two {
        held_out: Box::new(held_out),
        fragility,
    })
}

/// The rows' classes by the probe's numbers.
fn truth(data: &Labelled, classes: &[String]) -> Result<Vec<usize>, ProbingError> {
    let number = |row: &Example| {
        let name = row.label.map_or("", |k| data.classes[k].as_str());
        classes
            .iter()
            .position(|c| c == name)
            .ok_or_else(|| ProbingError::Classes {
                data: data.name.clone(),
                what: format!(
                    "the probe knows no class `{name}`; it tells apart {}",
                    classes.join(", ")
                ),
                classes: data.counts(),
            })
    };
    data.rows.iter().map(number).collect()
}
