//! `probe fit`: one probe to a file, at a given place or at the one that a sweep chooses on the validation rows.

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::input::{DataArgs, FitArgs, ReadArgs, told};
use super::show;
use crate::cli::{Outcome, args::ModelArgs, interrupt, output::Out};
use crate::probing::file::{About, ProbeFile, save};
use crate::probing::{Plan, Position, Splits, SweepOptions, encode, sweep};

/// Fit a probe and keep it: weights, calibration, threshold, its test scores, and what it was made on
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe fit smollm2-135m-instruct --suites harmful,harmless --points resid_post.12 --out harm.safetensors
  candlescope probe fit smollm2-135m-instruct --data rows.jsonl --out probe.safetensors")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// The hook point; of several the best on validation rows [default: the residual stream before block 0 and after each]
    #[arg(long, value_name = "POINTS")]
    points: Vec<String>,
    /// Positions: last, -K (from the end), instruction-end, mean, content; of several the best on validation rows
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "last",
        allow_hyphen_values = true
    )]
    positions: Vec<Position>,
    #[command(flatten)]
    fit: FitArgs,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    #[serde(flatten)]
    about: &'a About,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let fitting = args.fit.fitting()?;
    let data = args.data.read()?;
    let positive = data.positive(args.data.positive.as_deref())?;
    let splits = Splits::of(&data, positive, fitting.seed)?;
    let model = args.model.open(out)?;
    let plan = Plan::new(
        &super::input::points(&args.points),
        &args.positions,
        model.config(),
    )?;
    let encoded = encode(&model, &data.rows)?;
    let harvest = args.read.harvest(&model, &encoded, &plan, out)?;
    let options = SweepOptions {
        fitting: fitting.clone(),
        shuffles: 0,
        controls: 0,
        progress: None,
        cancel: Some(interrupt::flag()),
    };
    let mut found = sweep(&data, positive, &splits, &encoded, &harvest, &options).map_err(told)?;
    let cell = found.cells.swap_remove(found.chosen);
    let probe = cell.probe.context("the sweep kept no probe")?;
    let file = ProbeFile {
        about: About {
            model: model.name.clone(),
            fingerprint: model.fingerprint()?.clone(),
            place: cell.place,
            fitting,
            c: probe.c,
            bias: probe.bias,
            platt: cell.platt,
            threshold: cell.threshold,
            data: data.name.clone(),
            data_hash: data.hash.clone(),
            n: found.n,
            positive: found.positive.clone(),
            classes: data.classes.clone(),
            test: cell.test,
        },
        probe,
    };
    save(&args.out, &file)?;
    if out.json {
        let report = Report {
            file: args.out.display().to_string(),
            about: &file.about,
        };
        out.json("candlescope.probe.fit/1", &report)?;
        return Ok(Outcome::Done);
    }
    out.line(&format!(
        "{}: {} probe at {}, `{}` scores high; {} training rows",
        args.out.display(),
        file.about.fitting.kind.name(),
        file.about.place,
        file.about.positive,
        file.about.n[0]
    ))?;
    out.text(&show::held_out(&file.about.test, "its test rows"))?;
    Ok(Outcome::Done)
}
