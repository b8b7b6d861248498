//! `direction extract`: a candidate direction for every layer and position, on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use serde::Serialize;

use super::found::CandidateArgs;
use crate::{
    cli::{
        Outcome,
        args::ModelArgs,
        output::{Out, Table},
    },
    files::write::{WriteOptions, write_safetensors_file},
    steer::{Candidate, Method},
};

/// Make a candidate direction for every layer and position of the template, and say how well each separates
///
/// One pass over the prompts gives all of them. Each is a vector of `FOLDER/candidates.safetensors`, named
/// METHOD.LAYER.POSITION, at the length that an addition needs; `--ablate FOLDER/candidates.safetensors:means.12.-1` takes one.
/// Separation (AUROC) is on validation prompts. Which of them refusal hangs on, `direction select` finds out.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction extract smollm2-135m-instruct --out candidates/
  candlescope direction extract ./model --method means --method logistic --filter --out candidates/")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The folder to write
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    find: CandidateArgs,
}

/// A candidate in the report.
#[derive(Serialize)]
pub(super) struct Row {
    pub method: Method,
    pub layer: usize,
    pub position: String,
    pub name: String,
    pub norm: f64,
    pub norm_over_harmless: Option<f64>,
    pub auroc: f64,
    pub reliability: Option<f64>,
    /// With the difference of means in the same place.
    pub cosine_with_means: Option<f64>,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    prompts: &'a str,
    train: [usize; 2],
    validation: [usize; 2],
    candidates: &'a [Row],
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let cp = args.model.open(out)?;
    let found = args.find.find(&cp, false, out)?;
    let rows = rows(&found.candidates);
    std::fs::create_dir_all(&args.out)?;
    let file = args.out.join("candidates.safetensors");
    let vectors: BTreeMap<String, Vec<f32>> = (rows.iter().zip(&found.candidates))
        .map(|(row, candidate)| (row.name.clone(), candidate.direction.scaled()))
        .collect();
    let plan: Vec<(String, Vec<usize>)> = (vectors.iter())
        .map(|(name, vector)| (name.clone(), vec![vector.len()]))
        .collect();
    let options = WriteOptions {
        metadata: BTreeMap::from([
            ("schema".to_owned(), "candlescope.direction/1".to_owned()),
            (
                "fingerprint".to_owned(),
                serde_json::to_string(cp.fingerprint()?)?,
            ),
            ("prompts".to_owned(), found.prompts.clone()),
        ]),
        ..WriteOptions::default()
    };
    write_safetensors_file(&file, &plan, &options, |name| {
        let vector = vectors.get(name).map_or(&[][..], Vec::as_slice);
        Tensor::from_slice(vector, vector.len(), &Device::Cpu)
    })?;
    let counts = |at: usize| [found.encoded[0][at].len(), found.encoded[1][at].len()];
    let report = Report {
        model: &args.model.model,
        prompts: &found.prompts,
        train: counts(0),
        validation: counts(1),
        candidates: &rows,
    };
    crate::files::write::write_atomic(
        &args.out.join("candidates.json"),
        serde_json::to_string_pretty(&report)?.as_bytes(),
    )?;
    if out.json {
        out.json("candlescope.direction.extract/1", &report)?;
        return Ok(Outcome::Done);
    }
    show(&report, out)?;
    out.note(&format!("wrote {}", file.display()));
    Ok(Outcome::Done)
}

/// The name of a candidate's vector.
pub(super) fn name(candidate: &Candidate) -> String {
    let place = candidate
        .where_
        .from_end()
        .map_or("instruction".to_owned(), |at| at.to_string());
    format!("{}.{}.{place}", candidate.method.name(), candidate.layer)
}

fn rows(candidates: &[Candidate]) -> Vec<Row> {
    let of = |candidate: &Candidate| {
        let direction = &candidate.direction;
        let means = candidates.iter().find(|other| {
            (other.method, other.layer, other.where_)
                == (Method::Means, candidate.layer, candidate.where_)
        });
        Row {
            method: candidate.method,
            layer: candidate.layer,
            position: candidate.where_.to_string(),
            name: name(candidate),
            norm: direction.norm,
            norm_over_harmless: direction.negative_norm.map(|n| direction.norm / n),
            auroc: candidate.separation,
            reliability: direction.reliability.map(|r| r.full),
            cosine_with_means: means.and_then(|m| direction.cosine(&m.direction).ok()),
        }
    };
    candidates.iter().map(of).collect()
}

/// The best position of each layer and method, and the place of it.
fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let mut best: BTreeMap<(usize, Method), &Row> = BTreeMap::new();
    for row in report.candidates {
        let slot = best.entry((row.layer, row.method)).or_insert(row);
        if row.auroc > slot.auroc {
            *slot = row;
        }
    }
    let mut table = Table::new([
        "layer",
        "method",
        "AUROC",
        "norm",
        "/harmless",
        "reliability",
        "cos(means)",
        "best position",
    ]);
    let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
    for row in best.values() {
        table.row([
            row.layer.to_string(),
            row.method.name().to_owned(),
            format!("{:.3}", row.auroc),
            format!("{:.2}", row.norm),
            number(row.norm_over_harmless),
            number(row.reliability),
            number(row.cosine_with_means),
            row.position.clone(),
        ]);
    }
    table.print(out)?;
    let [harmful, harmless] = report.train;
    let [held_harmful, held_harmless] = report.validation;
    out.line(&format!(
        "\nmade of {harmful} harmful and {harmless} harmless prompts; AUROC on {held_harmful} and {held_harmless} others; {} candidates",
        report.candidates.len()
    ))
}
