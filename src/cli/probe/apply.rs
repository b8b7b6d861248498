//! `probe apply` and `probe eval`: a kept probe on new rows, as scores or as metrics.

use std::path::PathBuf;

use candlescope_probes::Score;
use ndarray::Array2;
use serde::Serialize;

use super::input::{DataArgs, ReadArgs};
use super::show;
use crate::cli::{Outcome, args::ModelArgs, output::Out};
use crate::model::Checkpoint;
use crate::probing::file::{ProbeFile, load};
use crate::probing::{Example, HeldOut, Labelled, Plan, encode, judge};
use crate::text::suites::Split;

/// Score new rows with a probe: one JSON object a line, with score, probability and whether it is over the threshold
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

/// Judge a probe on labelled rows that it has not seen: AUROC, balanced accuracy, its threshold and calibration
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
    held_out: &'a HeldOut,
}

/// The rows' activations where the probe reads.
fn activations(
    model: &Checkpoint,
    probe: &ProbeFile,
    rows: &[Example],
    read: &ReadArgs,
    out: &Out,
) -> anyhow::Result<Array2<f32>> {
    let point = probe.about.place.point.to_string();
    let plan = Plan::new(&[&point], &[probe.about.place.position], model.config())?;
    let encoded = encode(model, rows)?;
    let mut harvest = read.harvest(model, &encoded, &plan, out)?;
    Ok(harvest.data.swap_remove(0))
}

pub fn apply(args: &ApplyArgs, out: &Out) -> anyhow::Result<Outcome> {
    let probe = load(&args.probe)?;
    let data = Labelled::unlabelled(&args.data)?;
    let model = args.model.open(out)?;
    probe.fits(&args.probe, &model, false)?;
    let x = activations(&model, &probe, &data.rows, &args.read, out)?;
    for (row, score) in data.rows.iter().zip(probe.probe.scores(x.view())?) {
        let scored = Scored {
            id: &row.id,
            score,
            probability: probe.probability(score),
            flagged: score > probe.about.threshold,
        };
        out.line(&serde_json::to_string(&scored)?)?;
    }
    Ok(Outcome::Done)
}

pub fn eval(args: &EvalArgs, out: &Out) -> anyhow::Result<Outcome> {
    let probe = load(&args.probe)?;
    let mut data = args.data.read()?;
    let named = args.data.positive.as_deref();
    let positive = data.positive(Some(named.unwrap_or(&probe.about.positive)))?;
    let split = data.rows.iter().all(|r| r.split.is_some());
    let of = if split { "test rows" } else { "all rows" };
    if split {
        data.rows.retain(|r| r.split == Some(Split::Test));
    } else if data.hash == probe.about.data_hash {
        out.note("note: the probe was fitted on rows of this very data; scores on those are not held out");
    }
    let model = args.model.open(out)?;
    probe.fits(&args.probe, &model, false)?;
    let x = activations(&model, &probe, &data.rows, &args.read, out)?;
    let fitting = &probe.about.fitting;
    let held_out = judge(
        &probe.probe.scores(x.view())?,
        &data.labels(positive),
        Some(probe.about.threshold),
        Some(&probe.about.platt),
        fitting.fpr,
        fitting.level,
    )?;
    if out.json {
        let report = Report {
            probe: args.probe.display().to_string(),
            data: &data.name,
            data_hash: &data.hash,
            rows: data.rows.len(),
            of,
            held_out: &held_out,
        };
        out.json("candlescope.probe.eval/1", &report)?;
        return Ok(Outcome::Done);
    }
    let what = format!("{of} of {} ({} rows)", data.name, data.rows.len());
    out.text(&show::held_out(&held_out, &what))?;
    Ok(Outcome::Done)
}
