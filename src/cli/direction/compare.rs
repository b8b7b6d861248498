//! `direction compare`: cosines between directions, with what noise in them hides and what chance would give.

use candlescope_probes::direction::cosine;
use candlescope_probes::similarity::disattenuate;
use serde::Serialize;

use crate::{
    cli::{
        Outcome,
        failure::Usage,
        output::{Out, Table},
    },
    steer::file::{self, DirectionFile},
};

/// Say how alike directions are
///
/// The cosine of two noisy directions is smaller than that of what they estimate: where both files carry a reliability, the
/// cosine is divided by the root of their product too (Spearman 1904). Chance is what two directions without relation reach in
/// this width: a standard deviation of 1/√d.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope direction compare before/direction.safetensors after/direction.safetensors")]
pub struct Args {
    /// Safetensors files with a vector `direction`, or FILE:TENSOR; two or more
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    files: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    width: usize,
    /// Standard deviation of the cosine of unrelated directions.
    chance: f64,
    pairs: Vec<Pair>,
}

#[derive(Serialize)]
struct Pair {
    first: String,
    second: String,
    cosine: f64,
    /// In standard deviations of chance.
    z: f64,
    disattenuated: Option<f64>,
    same_model: Option<bool>,
    norm_ratio: Option<f64>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let mut read: Vec<(&str, DirectionFile)> = Vec::new();
    for spec in &args.files {
        let (path, tensor) = file::parse(spec);
        read.push((spec, file::load(&path, tensor)?));
    }
    let width = read.first().map_or(0, |(_, d)| d.vector.len());
    if let Some((spec, other)) = read.iter().find(|(_, d)| d.vector.len() != width) {
        return Err(Usage::new(
            format!(
                "{spec}: expected {width} numbers, as the first has, found {}",
                other.vector.len()
            ),
            "directions can be compared where the models have one width",
        )
        .into());
    }
    let chance = 1.0 / (width.max(1) as f64).sqrt();
    let mut pairs = Vec::new();
    for (i, (first, a)) in read.iter().enumerate() {
        for (second, b) in &read[i + 1..] {
            let cosine = cosine(&a.vector, &b.vector)?;
            let reliable = a.reliability.zip(b.reliability);
            pairs.push(Pair {
                first: (*first).to_owned(),
                second: (*second).to_owned(),
                cosine,
                z: cosine / chance,
                disattenuated: reliable.and_then(|(p, q)| disattenuate(cosine, p, q)),
                same_model: (a.fingerprint.as_ref())
                    .zip(b.fingerprint.as_ref())
                    .map(|(p, q)| p == q),
                norm_ratio: a.norm.zip(b.norm).map(|(p, q)| q / p),
            });
        }
    }
    let report = Report {
        width,
        chance,
        pairs,
    };
    if out.json {
        out.json("candlescope.direction.compare/1", &report)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new([
        "cosine",
        "z",
        "without noise",
        "norm ratio",
        "model",
        "directions",
    ]);
    let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
    for pair in &report.pairs {
        table.row([
            format!("{:.3}", pair.cosine),
            format!("{:.1}", pair.z),
            number(pair.disattenuated),
            number(pair.norm_ratio),
            match pair.same_model {
                Some(true) => "same",
                Some(false) => "another",
                None => "unknown",
            }
            .to_owned(),
            format!("{} and {}", pair.first, pair.second),
        ]);
    }
    table.print(out)?;
    out.line(&format!(
        "\nz is in standard deviations of unrelated directions of width {width}, {chance:.3}"
    ))?;
    Ok(Outcome::Done)
}
