//! `probe transfer`: train suite against test suite, layer against layer, or an old checkpoint's probes on a new one.

use std::path::{Path, PathBuf};

use candlescope_probes::linear::{Cell, ChooseC};
use candlescope_probes::{LinearProbe, ProbeError};
use ndarray::{Array2, Axis};
use serde::Serialize;

use super::input::{FitArgs, ReadArgs, points, told};
use super::show;
use crate::cli::{Outcome, args::ModelArgs, failure::Usage, output::Out};
use crate::model::Checkpoint;
use crate::probing::file::load;
use crate::probing::transfer::{Carried, Matrix, carry, matrix};
use crate::probing::{
    Fitting, Harvest, Labelled, Parts, Place, Plan, Position, ProbingError, Splits, encode,
};

/// Carry probes to another suite (several --set), another layer (several points), or another checkpoint (--to, --probe)
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe transfer smollm2-135m-instruct --set harmful,harmless --set lookalike,harmless --points resid_post.12
  candlescope probe transfer smollm2-135m-instruct --set harmful,harmless --points resid_post.4,8,12,16
  candlescope probe transfer smollm2-135m-instruct --set harmful,harmless --points resid_post.* --to runs/sft/final
  candlescope probe transfer runs/sft/final --set harmful,harmless --probe harm.safetensors")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Labelled data: a JSONL file, or built-in suites such as harmful,harmless; repeatable
    #[arg(long, value_name = "DATA", required = true)]
    set: Vec<String>,
    /// The class that counts as positive [default: true, 1 or harmful, else the last by name]
    #[arg(long, value_name = "LABEL")]
    positive: Option<String>,
    /// Hook points [default: the residual stream before block 0 and after each]
    #[arg(long, value_name = "POINTS", conflicts_with = "probe")]
    points: Vec<String>,
    /// The position: last, -K (from the end), instruction-end, mean or content
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "last",
        allow_hyphen_values = true,
        conflicts_with = "probe"
    )]
    position: Position,
    /// Carry the probes to this checkpoint: frozen, re-aligned without labels, refitted
    #[arg(long, value_name = "MODEL", conflicts_with = "probe")]
    to: Option<String>,
    /// Carry this probe, made on another checkpoint, to MODEL
    #[arg(long, value_name = "FILE")]
    probe: Option<PathBuf>,
    #[command(flatten)]
    fit: FitArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// One place of a transfer between checkpoints.
#[derive(Serialize)]
pub struct CarriedAt {
    /// Where.
    pub place: Place,
    /// What came of it.
    #[serde(flatten)]
    pub carried: Carried,
}

#[derive(Serialize)]
struct Report<'a> {
    from: &'a str,
    to: &'a str,
    carried: &'a [CarriedAt],
}

/// A set of rows with its split and its activations.
struct Set {
    name: String,
    labels: Vec<bool>,
    parts: Parts,
    harvest: Harvest,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let fitting = args.fit.fitting()?;
    let between = args.to.is_some() || args.probe.is_some();
    if between && args.set.len() > 1 {
        return Err(Usage::new(
            "more than one --set between checkpoints",
            "give one --set with --to or --probe",
        )
        .into());
    }
    let data = args
        .set
        .iter()
        .map(|spec| read(spec))
        .collect::<Result<Vec<_>, _>>()?;
    let model = args.model.open(out)?;
    if let Some(file) = &args.probe {
        return frozen(args, file, &data[0], &model, &fitting, out);
    }
    let plan = Plan::new(&points(&args.points), &[args.position], model.config())?;
    if data.len() > 1 && plan.points.len() > 1 {
        return Err(Usage::new(
            format!("{} sets and {} points", data.len(), plan.points.len()),
            "several --set need one point, several points one --set",
        )
        .into());
    }
    let sets = data
        .iter()
        .map(|data| harvested(data, args, &model, &plan, &fitting, out))
        .collect::<anyhow::Result<Vec<Set>>>()?;
    let Some(other) = &args.to else {
        return within(&sets, &fitting, out);
    };
    let other = args.model.how.open(other, out)?;
    let there = harvested(&data[0], args, &other, &plan, &fitting, out)?;
    let here = &sets[0];
    let mut carried = Vec::new();
    for (i, &place) in plan.places().iter().enumerate() {
        let old = fitted(here, i, &fitting).map_err(|source| at(place, source))?;
        let x = there.harvest.data[i].view();
        let found = carry(&old, x, &there.labels, &there.parts, &fitting)
            .map_err(|source| at(place, source))?;
        carried.push(CarriedAt {
            place,
            carried: found,
        });
    }
    shown(&model.name, &other.name, &carried, out)
}

fn at(place: Place, source: ProbeError) -> ProbingError {
    ProbingError::Cell {
        cell: place.to_string(),
        source,
    }
}

fn read(spec: &str) -> Result<Labelled, ProbingError> {
    if Path::new(spec).exists() {
        return Labelled::from_jsonl(Path::new(spec));
    }
    Labelled::suites(&spec.split(',').collect::<Vec<_>>())
}

fn harvested(
    data: &Labelled,
    args: &Args,
    model: &Checkpoint,
    plan: &Plan,
    fitting: &Fitting,
    out: &Out,
) -> anyhow::Result<Set> {
    let positive = data.positive(args.positive.as_deref())?;
    let labels = data.labels(positive);
    let splits = Splits::of(data, positive, fitting.seed)?;
    let parts = Parts::of(&splits, &labels, fitting).map_err(ProbingError::from)?;
    let encoded = encode(model, &data.rows)?;
    Ok(Set {
        name: data.name.clone(),
        labels,
        parts,
        harvest: args.read.harvest(model, &encoded, plan, out)?,
    })
}

fn fitted(set: &Set, place: usize, fitting: &Fitting) -> Result<LinearProbe, ProbeError> {
    let train = set.harvest.data[place].select(Axis(0), &set.parts.train);
    let y: Vec<bool> = set.parts.train.iter().map(|&i| set.labels[i]).collect();
    let c = fitting.c.map_or(
        ChooseC::Folds {
            folds: &set.parts.folds,
            grid: &fitting.grid,
        },
        ChooseC::Fixed,
    );
    Cell::new(fitting.kind, train.view())?.fit(&y, c)
}

/// Suite against suite, or layer against layer.
fn within(sets: &[Set], fitting: &Fitting, out: &Out) -> anyhow::Result<Outcome> {
    // (name, set, place): several sets at one place, or one set at several.
    let cells: Vec<(String, &Set, usize)> = if sets.len() > 1 {
        sets.iter().map(|s| (s.name.clone(), s, 0)).collect()
    } else {
        let places = sets[0].harvest.places.iter().enumerate();
        places
            .map(|(i, p)| (p.point.to_string(), &sets[0], i))
            .collect()
    };
    let mut probes = Vec::new();
    let mut tests: Vec<(String, Array2<f32>, Vec<bool>)> = Vec::new();
    for (name, set, place) in &cells {
        crate::cli::interrupt::check()?;
        let found = fitted(set, *place, fitting).map_err(|source| {
            told(ProbingError::Cell {
                cell: name.clone(),
                source,
            })
        })?;
        probes.push((name.clone(), found));
        tests.push((
            name.clone(),
            set.harvest.data[*place].select(Axis(0), &set.parts.test),
            set.parts.test.iter().map(|&i| set.labels[i]).collect(),
        ));
    }
    let views: Vec<_> = tests
        .iter()
        .map(|(name, x, y)| (name.clone(), x.view(), y.as_slice()))
        .collect();
    let found: Matrix = matrix(&probes, &views, fitting.level)?;
    if out.json {
        out.json("candlescope.probe.matrix/1", &found)?;
    } else {
        out.text(&show::matrix(&found, out))?;
    }
    Ok(Outcome::Done)
}

/// A kept probe on this model.
fn frozen(
    args: &Args,
    file: &Path,
    data: &Labelled,
    model: &Checkpoint,
    fitting: &Fitting,
    out: &Out,
) -> anyhow::Result<Outcome> {
    let probe = load(file)?;
    probe.fits(file, model, true)?;
    let place = probe.about.place;
    let plan = Plan::new(
        &[&place.point.to_string()],
        &[place.position],
        model.config(),
    )?;
    let set = harvested(data, args, model, &plan, fitting, out)?;
    let carried = carry(
        &probe.probe,
        set.harvest.data[0].view(),
        &set.labels,
        &set.parts,
        fitting,
    )?;
    let carried = [CarriedAt { place, carried }];
    shown(&file.display().to_string(), &model.name, &carried, out)
}

fn shown(from: &str, to: &str, carried: &[CarriedAt], out: &Out) -> anyhow::Result<Outcome> {
    if out.json {
        let report = Report { from, to, carried };
        out.json("candlescope.probe.transfer/1", &report)?;
    } else {
        out.text(&show::carried(from, to, carried, out))?;
    }
    Ok(Outcome::Done)
}
