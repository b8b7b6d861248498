//! `probe fit`: one probe to a file, at a given place or at the one that a sweep chooses on the validation rows. More than two
//! classes: `fit_classes.rs`; pairs: `fit_pairs.rs`; pooled tokens: `fit_attention.rs`.

use std::path::PathBuf;

use anyhow::Context;
use candlescope_probes::{Kind, Score};
use clap::ValueEnum;
use ndarray::Axis;
use serde::Serialize;

use super::input::{SubjectArgs, Wanted, told};
use super::{fit_attention, fit_classes, fit_pairs, show, show_kinds};
use crate::cli::{Outcome, failure::Usage, interrupt, output::Out};
use crate::probing::file::{About, Calibrated, ProbeFile, save};
use crate::probing::{Labelled, Position, Splits, SweepOptions, sweep};

/// Fit a probe and keep it: weights, calibration, threshold, its test scores, and what it was made on
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe fit smollm2-135m-instruct --suites harmful,harmless --points resid_post.12 --out harm.safetensors
  candlescope probe fit smollm2-135m-instruct --data rows.jsonl --out probe.safetensors
  candlescope probe fit smollm2-135m-instruct --suites harmful,harmless,neutral --kind softmax --out classes.safetensors")]
pub struct Args {
    #[command(flatten)]
    pub(super) subject: SubjectArgs,
    /// From score to probability, on the validation rows: platt (a sigmoid, for few rows) or isotonic (steps, for many)
    /// [default: platt]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) calibrate: Option<Calibrate>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

/// How scores become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Calibrate {
    /// Platt's sigmoid
    Platt,
    /// A step function
    Isotonic,
}

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    #[serde(flatten)]
    about: &'a About,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let data = args.subject.data.read()?;
    let named = args.subject.data.positive.is_some();
    match args.subject.fit.wanted(data.classes.len(), named) {
        Wanted::Linear(Kind::Ccs) => fit_pairs::run(args, &data, out),
        Wanted::Linear(kind) => linear(args, kind, &data, out),
        Wanted::Softmax if named => Err(Usage::new(
            "--positive has no effect on softmax: it tells every class from every other",
            "leave it out, or choose `--kind logistic` for that class against the rest",
        )
        .into()),
        Wanted::Softmax => fit_classes::run(args, &data, out),
        Wanted::Attention => fit_attention::run(args, &data, out),
    }
}

impl Args {
    /// Refuses `--calibrate` where nothing is calibrated.
    pub(super) fn no_calibration(&self, kind: &str) -> anyhow::Result<()> {
        match self.calibrate {
            None => Ok(()),
            Some(_) => Err(Usage::new(
                format!("--calibrate has no effect on {kind}"),
                "leave it out: the probabilities of a softmax are those that it was fitted for",
            )
            .into()),
        }
    }

    /// What `--calibrate` asks for, from scores of validation rows; the sigmoid is always there.
    pub(super) fn calibrated(
        &self,
        platt: candlescope_probes::Platt,
        scores: &[f64],
        labels: &[bool],
    ) -> anyhow::Result<Calibrated> {
        Ok(Calibrated {
            platt,
            isotonic: match self.calibrate {
                Some(Calibrate::Isotonic) => Some(candlescope_probes::calibration::Isotonic::fit(
                    scores, labels,
                )?),
                _ => None,
            },
        })
    }
}

fn linear(args: &Args, kind: Kind, data: &Labelled, out: &Out) -> anyhow::Result<Outcome> {
    let subject = &args.subject;
    let fitting = subject.fit.linear(kind)?;
    let positive = data.positive(subject.data.positive.as_deref())?;
    let splits = Splits::of(data, positive, fitting.seed)?;
    let model = subject.model.open(out)?;
    let positions = subject.positions(&[Position::FromEnd(1)]);
    let (encoded, harvest) = subject.harvest(&model, data, &positions, out)?;
    let options = SweepOptions {
        fitting: fitting.clone(),
        shuffles: 0,
        controls: 0,
        progress: None,
        cancel: Some(interrupt::flag()),
    };
    let mut found = sweep(data, positive, &splits, &encoded, &harvest, &options).map_err(told)?;
    let mut cell = found.cells.swap_remove(found.chosen);
    let probe = cell.probe.context("the sweep kept no probe")?;
    let x = harvest
        .at(cell.place)
        .context("the sweep chose a place that was not read")?;
    let labels = data.labels(positive);
    let on = |rows: &[usize]| -> anyhow::Result<(Vec<f64>, Vec<bool>)> {
        let scores = probe.scores(x.select(Axis(0), rows).view())?;
        Ok((scores, rows.iter().map(|&i| labels[i]).collect()))
    };
    let (scores, truth) = on(&splits.validation)?;
    let calibrated = args.calibrated(cell.platt, &scores, &truth)?;
    let (scores, truth) = on(&splits.test)?;
    calibrated.judge(&mut cell.test, &scores, &truth)?;
    let file = ProbeFile {
        about: About {
            model: model.name.clone(),
            fingerprint: model.fingerprint()?.clone(),
            place: cell.place,
            fitting,
            c: probe.c,
            bias: probe.bias,
            calibrated,
            threshold: cell.threshold,
            data: data.name.clone(),
            data_hash: data.hash.clone(),
            n: found.n,
            positive: found.positive.clone(),
            classes: data.classes.clone(),
            test: cell.test,
            pairs: None,
        },
        probe,
    };
    keep(args, &file, out)
}

/// Writes a linear probe and tells of it.
pub(super) fn keep(args: &Args, file: &ProbeFile, out: &Out) -> anyhow::Result<Outcome> {
    save(&args.out, file)?;
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
    if let Some(pairs) = &file.about.pairs {
        out.text(&show_kinds::pairs(pairs))?;
    }
    out.text(&show::held_out(&file.about.test, "its test rows"))?;
    if file.about.calibrated.isotonic.is_some() {
        out.line("  probabilities by isotonic steps from the validation rows")?;
    }
    Ok(Outcome::Done)
}
