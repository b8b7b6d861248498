//! `sae info`: what a dictionary is, and where it belongs.

use std::path::PathBuf;

use candlescope_sae::{About, Activation, Dictionary, Scaling};
use serde::Serialize;

use crate::cli::{
    Outcome,
    output::{Out, Table},
};
use crate::features;

/// Show shape, architecture, format and place of a dictionary in any known format
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae info sae/
  candlescope sae info layer_12/width_16k/average_l0_82/params.npz --json")]
pub struct Args {
    /// A dictionary's folder or file
    dictionary: PathBuf,
}

#[derive(Serialize)]
struct Report<'a> {
    dictionary: &'a str,
    format: &'static str,
    dialect: &'a str,
    files: Vec<String>,
    activation: &'static str,
    /// Of TopK.
    k: Option<usize>,
    /// Smallest and largest of JumpReLU.
    threshold: Option<[f32; 2]>,
    d_in: usize,
    d_out: usize,
    d_sae: usize,
    centred: bool,
    skip: bool,
    scaling: &'static str,
    /// Smallest, mean and largest norm of a decoder row.
    decoder_norm: [f32; 3],
    about: &'a About,
    notes: &'a [String],
    /// Share of latents that the file says never fired.
    dead: Option<f64>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let opened = features::open(&args.dictionary)?;
    let parts = opened.dictionary.parts();
    let found = &opened.found;
    let report = Report {
        dictionary: &opened.name,
        format: found.format.name(),
        dialect: &found.dialect,
        files: found
            .files
            .iter()
            .map(|f| f.display().to_string())
            .collect(),
        activation: parts.activation.name(),
        k: match parts.activation {
            Activation::TopK { k } => Some(k),
            _ => None,
        },
        threshold: match &parts.activation {
            Activation::JumpRelu { threshold } => Some(ends(threshold.iter().copied())),
            _ => None,
        },
        d_in: opened.dictionary.d_in(),
        d_out: opened.dictionary.d_out(),
        d_sae: opened.dictionary.d_sae(),
        centred: parts.centred,
        skip: parts.skip.is_some(),
        scaling: match parts.scaling {
            Scaling::None => "none",
            Scaling::LayerNorm => "layer_norm",
        },
        decoder_norm: norms(&opened.dictionary),
        about: &parts.about,
        notes: &found.notes,
        // SAELens keeps log10(density + 1e-10), so -10 is never.
        dead: found.sparsity.as_ref().map(|logs| {
            let dead = logs.iter().filter(|log| **log <= -9.999).count();
            dead as f64 / logs.len().max(1) as f64
        }),
    };
    if out.json {
        out.json("candlescope.sae.info/1", &report)?;
        return Ok(Outcome::Done);
    }
    show(&report, out)?;
    Ok(Outcome::Done)
}

fn ends(values: impl Iterator<Item = f32>) -> [f32; 2] {
    values.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], v| {
        [low.min(v), high.max(v)]
    })
}

fn norms(dictionary: &Dictionary) -> [f32; 3] {
    let rows = dictionary.parts().decoder.outer_iter();
    let norms: Vec<f32> = rows.map(|row| row.dot(&row).sqrt()).collect();
    let [low, high] = ends(norms.iter().copied());
    [low, norms.iter().sum::<f32>() / norms.len() as f32, high]
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new(["what", "value"]);
    let mut row = |what: &str, value: String| table.row([what.into(), value]);
    let about = report.about;
    let unknown = || "not said".to_owned();
    let list = |points: &[String]| {
        if points.is_empty() {
            unknown()
        } else {
            points.join(", ")
        }
    };
    row("dictionary", report.dictionary.into());
    row("format", format!("{} ({})", report.format, report.dialect));
    row("activation", activation(report));
    row("latents", report.d_sae.to_string());
    let widths = if report.d_in == report.d_out {
        report.d_in.to_string()
    } else {
        format!("{} to {}", report.d_in, report.d_out)
    };
    row(
        "width",
        format!(
            "{widths} ({:.1}x)",
            report.d_sae as f64 / report.d_in as f64
        ),
    );
    row("b_dec taken off what is read", yes(report.centred));
    row("skip", yes(report.skip));
    row("scaling of rows", report.scaling.replace('_', " "));
    let [low, mean, high] = report.decoder_norm;
    row("decoder norm", format!("{mean:.4} ({low:.4} to {high:.4})"));
    row("model", about.model.clone().unwrap_or_else(unknown));
    row("reads", list(&about.reads));
    if !about.writes.is_empty() {
        row("writes", list(&about.writes));
    }
    let number = |n: Option<usize>| n.map_or_else(unknown, |n| n.to_string());
    row("tokens of a context", number(about.context));
    row("dataset", about.dataset.clone().unwrap_or_else(unknown));
    if let Some(dead) = report.dead {
        row(
            "dead latents, by its file",
            format!("{:.1} %", dead * 100.0),
        );
    }
    for file in &report.files {
        row("file", file.clone());
    }
    for note in report.notes {
        row("note", note.clone());
    }
    table.print(out)
}

fn activation(report: &Report) -> String {
    match (report.k, report.threshold) {
        (Some(k), _) => format!("{}, k = {k}", report.activation),
        (None, Some([low, high])) if low == high => {
            format!("{}, threshold {low:.4}", report.activation)
        }
        (None, Some([low, high])) => {
            format!("{}, thresholds {low:.4} to {high:.4}", report.activation)
        }
        (None, None) => report.activation.into(),
    }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.into()
}
