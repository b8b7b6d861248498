//! `sae bench`: architectures on rows whose features are known. The benchmark is `crate::features::planted`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use candlescope_sae::bench::Kind;
use candlescope_sae::synthetic::{Correlation, PlantedSpec, PowerLaw, Trees};
use candlescope_sae::train::Bias;
use clap::ValueEnum;
use serde::Serialize;

use crate::cli::{
    Outcome,
    failure::Usage,
    interrupt::{self, Interrupted},
    output::{Out, Table},
    progress::Bar,
};
use crate::features::planted::{Bench, BenchOptions, Number, Standing, bench, write};
use crate::model::fetch::Progress as _;

/// Train each architecture on planted features and say what it finds of them
///
/// Rows are sums of known unit vectors that fire at known rates, more of them than dimensions, some only where their parents
/// do. Every architecture is trained on the same rows and scored on rows it has not seen, over several seeds. Where a penalty
/// decides how many latents fire, its coefficient is searched for on a world of its own, so that all are compared at one L0.
/// --write puts the rows and the recipe into files (NumPy's .npy), for running another program on the very same.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae bench
  candlescope sae bench --architectures topk,batch-topk,matryoshka --latents 256 --k 4 --repeats 3
  candlescope sae bench --d 32 --features 64 --trees none --noise 0.05 --steps 1000 --json
  candlescope sae bench --write planted/")]
pub struct Args {
    /// Which architectures [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    architectures: Vec<Which>,
    /// Width of a row
    #[arg(long, value_name = "N", default_value_t = 64)]
    d: usize,
    /// Features that are planted
    #[arg(long, value_name = "N", default_value_t = 128)]
    features: usize,
    /// Latents of a dictionary [default: as many as features]
    #[arg(long, value_name = "N")]
    latents: Option<usize>,
    /// Latents that are to fire in a row [default: as many as features do]
    #[arg(long, value_name = "N")]
    k: Option<usize>,
    /// Worlds, each of the next seed; intervals are over these
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeats: usize,
    /// Seed of the first world
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Steps of training
    #[arg(long, value_name = "N", default_value_t = 2000)]
    steps: u64,
    /// Rows of a step
    #[arg(long, value_name = "N", default_value_t = 512)]
    batch: usize,
    /// Rows that are drawn; training goes over them again and again
    #[arg(long, value_name = "N", default_value_t = 262_144)]
    rows: usize,
    /// Rows that are scored on
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    held: usize,
    /// Learning rate
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    lr: f64,
    /// Where the decoder's bias starts; planted rows have no offset but with --bias
    #[arg(long, value_enum, default_value = "zero", value_name = "WHERE")]
    b_dec: Start,
    /// Coefficient of ReLU's penalty [default: searched for]
    #[arg(long, value_name = "X")]
    l1: Option<f64>,
    /// Coefficient of Gated's penalty [default: searched for]
    #[arg(long, value_name = "X")]
    gated_l1: Option<f64>,
    /// Coefficient of JumpReLU's penalty [default: searched for]
    #[arg(long, value_name = "X")]
    l0: Option<f64>,
    /// Dictionaries trained to find a coefficient, at most
    #[arg(long, value_name = "N", default_value_t = 6)]
    tries: usize,
    /// From this cosine on a feature counts as found
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    found_at: f32,
    /// How often the first and the last feature fire; between them Zipf's law
    #[arg(long, value_name = "HIGH,LOW", default_value = "0.2,0.02", value_parser = two)]
    rates: [f64; 2],
    /// Features that fire only where their parents do: none, or ROOTS,CHILDREN,DEPTH
    #[arg(long, value_name = "TREES", default_value = "8,4,1", value_parser = trees)]
    trees: Wood,
    /// Of siblings only one fires
    #[arg(long)]
    exclusive: bool,
    /// Features that fire together: RANK,SHARE of the variance that is common
    #[arg(long, value_name = "RANK,SHARE", value_parser = two)]
    correlation: Option<[f64; 2]>,
    /// Standard deviation of the noise on each coordinate
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    noise: f64,
    /// Norm of a vector that every row carries
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    bias: f64,
    /// Also write rows, truth and recipe into this folder
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Relu,
    Topk,
    BatchTopk,
    Matryoshka,
    Jumprelu,
    Gated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Start {
    Zero,
    Mean,
    GeometricMedian,
}

/// Trees or none.
#[derive(Clone, Copy, Debug)]
struct Wood(Option<[usize; 3]>);

fn parts<T: std::str::FromStr, const N: usize>(text: &str) -> Result<[T; N], String> {
    let numbers: Option<Vec<T>> = text
        .split(',')
        .map(|part| part.trim().parse().ok())
        .collect();
    let numbers = numbers.and_then(|n| n.try_into().ok());
    numbers.ok_or_else(|| format!("expected {N} numbers with commas between, found `{text}`"))
}

fn two(text: &str) -> Result<[f64; 2], String> {
    parts(text)
}

fn trees(text: &str) -> Result<Wood, String> {
    if text == "none" {
        return Ok(Wood(None));
    }
    parts(text).map(|trees| Wood(Some(trees)))
}

#[derive(Serialize)]
struct Report<'a> {
    options: &'a BenchOptions,
    #[serde(flatten)]
    bench: &'a Bench,
    /// Definitions of the numbers, in their order.
    definitions: Vec<&'static str>,
    written: Option<String>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let options = args.options()?;
    let found = measured(&options, out)?;
    if let Some(folder) = &args.write {
        let files = write(folder, &options, &found)?;
        out.note(&format!("{} files in {}", files.len(), folder.display()));
    }
    let report = Report {
        options: &options,
        bench: &found,
        definitions: Number::ALL.iter().map(|number| number.meaning()).collect(),
        written: args.write.as_ref().map(|path| path.display().to_string()),
    };
    if out.json {
        out.json("candlescope.sae.bench/1", &report)?;
        return Ok(Outcome::Done);
    }
    show(&report, out)?;
    Ok(Outcome::Done)
}

fn measured(options: &BenchOptions, out: &Out) -> anyhow::Result<Bench> {
    let bar = Bar::counting(out);
    let mut shown = String::new();
    let found = bench(options, &mut |doing| {
        if shown != doing.what {
            doing.what.clone_into(&mut shown);
            bar.note(doing.what);
        }
        let [done, all] = doing.steps;
        if done == 1 {
            bar.start("training steps", Some(all));
        }
        bar.expect(all);
        bar.advance(1);
        if interrupt::requested() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    bar.done();
    found?.ok_or_else(|| Interrupted.into())
}

impl Args {
    fn options(&self) -> anyhow::Result<BenchOptions> {
        for (name, count) in [
            ("--repeats", self.repeats),
            ("--batch", self.batch),
            ("--held", self.held),
            ("--tries", self.tries),
        ] {
            if count == 0 {
                return Err(Usage::new(format!("{name} is 0"), "give 1 or more").into());
            }
        }
        if self.rows < self.batch {
            let what = format!("{} rows do not fill a batch of {}", self.rows, self.batch);
            return Err(Usage::new(what, "give more --rows, or a smaller --batch").into());
        }
        let d_sae = self.latents.unwrap_or(self.features);
        Ok(BenchOptions {
            world: self.world(),
            repeats: self.repeats,
            d_sae,
            k: self.k,
            kinds: self.kinds(),
            batch: self.batch,
            batches: self.rows / self.batch,
            steps: self.steps,
            lr: self.lr,
            b_dec: match self.b_dec {
                Start::Zero => Bias::Zero,
                Start::Mean => Bias::Mean,
                Start::GeometricMedian => Bias::GeometricMedian,
            },
            held: self.held,
            found_at: self.found_at,
            tries: self.tries,
        })
    }

    fn world(&self) -> PlantedSpec {
        let [highest, lowest] = self.rates;
        PlantedSpec {
            d: self.d,
            features: self.features,
            seed: self.seed,
            rates: PowerLaw {
                highest,
                lowest,
                exponent: 1.0,
            },
            trees: self.trees.0.map(|[roots, children, depth]| Trees {
                roots,
                children,
                depth,
                exclusive: self.exclusive,
            }),
            correlation: self.correlation.map(|[rank, common]| Correlation {
                // A rank that is no number of features is refused where the world is planted.
                rank: rank as usize,
                common,
            }),
            noise: self.noise,
            bias: self.bias,
            ..PlantedSpec::default()
        }
    }

    fn kinds(&self) -> Vec<(Kind, Option<f64>)> {
        let all = Which::value_variants();
        let asked = if self.architectures.is_empty() {
            all
        } else {
            &self.architectures
        };
        let one = |which: &Which| match which {
            Which::Relu => (Kind::Relu, self.l1),
            Which::Topk => (Kind::TopK, None),
            Which::BatchTopk => (Kind::BatchTopK, None),
            Which::Matryoshka => (Kind::Matryoshka, None),
            Which::Jumprelu => (Kind::JumpRelu, self.l0),
            Which::Gated => (Kind::Gated, self.gated_l1),
        };
        asked.iter().map(one).collect()
    }
}

/// The numbers of the tables; how many features fire stands above them.
const FIRST: [Number; 5] = [
    Number::L0,
    Number::Fvu,
    Number::Mcc,
    Number::Mmcs,
    Number::Found,
];
const SECOND: [Number; 4] = [
    Number::Precision,
    Number::Recall,
    Number::F1,
    Number::Absorption,
];
const THIRD: [Number; 4] = [
    Number::Real,
    Number::Unique,
    Number::Duplicates,
    Number::Dead,
];

fn at(number: Number) -> usize {
    let place = Number::ALL.iter().position(|n| *n == number);
    place.unwrap_or_default()
}

/// A table of `COLUMNS`, the first of which is the architecture.
fn table<const COLUMNS: usize>(bench: &Bench, numbers: &[Number], out: &Out) -> anyhow::Result<()> {
    let column = |i: usize| i.checked_sub(1).map(|i| numbers[i]);
    let header = |i: usize| column(i).map_or("architecture", Number::name);
    let mut table = Table::new(std::array::from_fn::<_, COLUMNS, _>(header));
    for standing in &bench.standings {
        let name = standing.architecture.name();
        let cell = |i: usize| column(i).map_or_else(|| name.to_owned(), |n| cell(standing, n));
        table.row(std::array::from_fn::<_, COLUMNS, _>(cell));
    }
    table.print(out)?;
    out.line("")
}

fn cell(standing: &Standing, number: Number) -> String {
    let found = standing.summary[at(number)];
    match (found.mean, found.interval) {
        (Some(mean), Some([low, high])) => format!("{mean:.3} ±{:.3}", (high - low) / 2.0),
        (Some(mean), None) => format!("{mean:.3}"),
        _ => "-".to_owned(),
    }
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let (options, bench) = (report.options, report.bench);
    let first = bench.standings.first();
    let fired = first.and_then(|s| s.summary[at(Number::TrueL0)].mean);
    out.line(&format!(
        "{} features in {} dimensions, {} firing in a row; {} latents, {} to fire; {} steps of {} rows; means over {} seeds, \
         with 95 % intervals",
        options.world.features,
        options.world.d,
        number(fired),
        options.d_sae,
        bench.k,
        options.steps,
        options.batch,
        options.repeats
    ))?;
    table::<6>(bench, &FIRST, out)?;
    table::<5>(bench, &SECOND, out)?;
    table::<5>(bench, &THIRD, out)?;
    for standing in &bench.standings {
        let Some(coefficient) = standing.coefficient else {
            continue;
        };
        let found = standing.tuned.map_or_else(
            || "given".to_owned(),
            |t| format!("L0 {:.2} in training after {} tries", t.l0, t.tries),
        );
        let name = standing.architecture.name();
        out.line(&format!("{name}: coefficient {coefficient:.4}, {found}"))?;
    }
    for number in FIRST.iter().chain(&SECOND).chain(&THIRD) {
        out.note(&format!("{}: {}", number.name(), number.meaning()));
    }
    Ok(())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{v:.2}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_of_numbers_are_read_or_refused() {
        assert_eq!(two("0.3, 0.01"), Ok([0.3, 0.01]));
        assert!(two("0.3").unwrap_err().contains("expected 2 numbers"));
        assert!(trees("none").unwrap().0.is_none());
        assert_eq!(trees("8,4,1").unwrap().0, Some([8, 4, 1]));
        assert!(trees("8,-4,1").is_err());
    }
}
