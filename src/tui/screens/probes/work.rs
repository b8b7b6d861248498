//! What the probes screen has done on the worker: a sweep of all points on the built-in prompts, the prompt's score by token.
//!
//! Always: what goes wrong comes back as a value; fitted on train rows, everything shown is of test rows. Texts of harmful
//! prompts are cut before they leave the worker.

use std::collections::BTreeMap;

use candlescope_probes::{Auroc, LinearProbe, Score};
use ndarray::{Array2, Axis};

use crate::audit::result::{excerpt, harmful_excerpt};
use crate::hooks::{Edit, HookPoint, Hooks, Point};
use crate::model::{Batch, Checkpoint, LogitsAt, ModelError};
use crate::probing::transfer::matrix;
use crate::probing::{
    Fitting, Harvest, HarvestOptions, Labelled, Plan, Position, ProbingError, Splits, SweepOptions,
    encode, harvest, sweep,
};
use crate::text::suites::Split;
use crate::tui::work::Ticket;

/// Points that are read, in the order of the pass.
pub(super) const POINTS: [Point; 5] = [
    Point::ResidPre,
    Point::AttnOut,
    Point::ResidMid,
    Point::MlpOut,
    Point::ResidPost,
];
/// Prompts of each class in train, validation and test.
pub(super) const ROWS: [usize; 3] = [48, 24, 48];
/// C of every probe: choosing it for each would cost thirty times as much.
pub(super) const C: f64 = 0.01;
/// Shuffles of the labels, and control tasks.
pub(super) const SHUFFLES: usize = 5;
pub(super) const CONTROLS: usize = 2;
/// The suites, the positive class first.
pub(super) const SUITES: [&str; 2] = ["harmful", "harmless"];

/// A probe and what it is worth.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Where it reads.
    pub point: HookPoint,
    /// On the test rows.
    pub test: Auroc,
    /// On the validation rows: what a choice may go by.
    pub validation: f64,
    /// Correct at score 0 among test rows, the mean of both classes.
    pub balanced: f64,
    /// Mean test AUROC of probes fitted on shuffled labels, and their standard deviation.
    pub shuffled: Option<(f64, f64)>,
    /// Mean test AUROC on control tasks.
    pub control: Option<f64>,
    /// AUROC at the same C minus that.
    pub selectivity: Option<f64>,
    /// A score for each test row.
    pub scores: Vec<f64>,
    /// The probe itself.
    pub probe: LinearProbe,
}

/// A test row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its id.
    pub id: String,
    /// Whether it is of the positive class.
    pub positive: bool,
    /// Its beginning.
    pub text: String,
}

/// A sweep.
#[derive(Debug, Clone)]
pub(super) struct Swept {
    /// The points that this model has.
    pub points: Vec<Point>,
    /// Blocks.
    pub n_layers: usize,
    /// Layer by layer within a point.
    pub cells: Vec<Cell>,
    /// Rows (train, validation, test).
    pub n: [usize; 3],
    /// The positive class.
    pub positive: String,
    /// Test rows.
    pub rows: Vec<Row>,
    /// The cell with the best validation AUROC.
    pub chosen: usize,
    /// Test AUROC of the bag of words.
    pub words: f64,
    /// What control tasks are made of, or why there are none.
    pub types: String,
    /// For each point `[from layer][to layer]` the test AUROC.
    pub transfer: Vec<Vec<Vec<f32>>>,
}

impl Swept {
    /// The cell of a layer and a column.
    pub(super) fn cell(&self, layer: usize, column: usize) -> Option<&Cell> {
        let at = HookPoint::new(*self.points.get(column)?, layer);
        self.cells.iter().find(|cell| cell.point == at)
    }
}

/// The prompt's score at each token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strip {
    /// Of this state of prompt and interventions.
    pub version: u64,
    /// By the probe there.
    pub point: HookPoint,
    /// One for each token.
    pub scores: Vec<f64>,
    /// The tokens.
    pub tokens: Vec<String>,
}

/// What comes back.
pub(super) enum Answer {
    Swept(Box<Swept>),
    /// A job ended without a result; why, if it failed.
    Ended(Option<String>),
    /// Scores of the prompt, or why there are none for this state and point.
    Strip((u64, HookPoint), Result<Strip, String>),
}

/// An answer with the request it belongs to.
pub(super) struct Told {
    pub model: usize,
    /// Which job; jobs alone have one.
    pub job: Option<u64>,
    pub answer: Answer,
}

pub(super) fn run(checkpoint: &Checkpoint, ticket: &Ticket) -> Answer {
    match swept(checkpoint, ticket) {
        Ok(swept) => Answer::Swept(Box::new(swept)),
        Err(_) if ticket.cancelled() => Answer::Ended(None),
        Err(error) => Answer::Ended(Some(error.to_string())),
    }
}

/// The first rows of each class and split.
fn few(mut data: Labelled) -> Labelled {
    let mut taken: BTreeMap<(Option<usize>, Option<Split>), usize> = BTreeMap::new();
    data.rows.retain(|row| {
        let most = match row.split {
            Some(Split::Train) => ROWS[0],
            Some(Split::Validation) => ROWS[1],
            _ => ROWS[2],
        };
        let count = taken.entry((row.label, row.split)).or_default();
        *count += 1;
        *count <= most
    });
    data
}

fn swept(checkpoint: &Checkpoint, ticket: &Ticket) -> Result<Swept, ProbingError> {
    let data = few(Labelled::suites(&SUITES)?);
    let positive = data.positive(Some(SUITES[0]))?;
    let labels = data.labels(positive);
    let fitting = Fitting {
        c: Some(C),
        ..Fitting::default()
    };
    let splits = Splits::of(&data, positive, fitting.seed)?;
    let config = checkpoint.config();
    let there = |point: &Point| point.info().exists.missing(config).is_none();
    let points: Vec<Point> = POINTS.into_iter().filter(there).collect();
    let patterns: Vec<String> = points
        .iter()
        .map(|point| format!("{}.*", point.info().name))
        .collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let plan = Plan::new(&patterns, &[Position::FromEnd(1)], config)?;
    let encoded = encode(checkpoint, &data.rows)?;
    let reading = |done: usize, total: usize| {
        let note = format!("reading {done} of {total} prompts");
        ticket.progress(0.6 * done as f64 / total.max(1) as f64, &note);
    };
    let read = harvest(
        &checkpoint.decoder,
        &encoded,
        &plan,
        &HarvestOptions {
            progress: Some(&reading),
            cancel: Some(ticket.cancel().flag()),
            ..HarvestOptions::default()
        },
    )?;
    let probing = |done: usize, total: usize| {
        let note = format!("fitting {done} of {total} probes");
        ticket.progress(0.6 + 0.35 * done as f64 / total.max(1) as f64, &note);
    };
    let options = SweepOptions {
        fitting,
        shuffles: SHUFFLES,
        controls: CONTROLS,
        progress: Some(&probing),
        cancel: Some(ticket.cancel().flag()),
    };
    let found = sweep(&data, positive, &splits, &encoded, &read, &options)?;
    let test = &splits.test;
    let rows = test.iter().map(|&i| row(&data, i, labels[i])).collect();
    let mut cells = Vec::new();
    for (result, x) in found.cells.iter().zip(&read.data) {
        let Some(probe) = result.probe.clone() else {
            continue;
        };
        cells.push(Cell {
            point: result.place.point,
            scores: probe.scores(x.select(Axis(0), test).view())?,
            test: result.test.auroc,
            validation: result.validation.value,
            balanced: result.test.balanced_accuracy.value,
            shuffled: result.null.as_ref().map(|null| (null.mean, null.sd)),
            control: result.control,
            selectivity: result.selectivity,
            probe,
        });
    }
    let y: Vec<bool> = test.iter().map(|&i| labels[i]).collect();
    let transfer = points
        .iter()
        .map(|&point| carried(point, &cells, &read, test, &y, ticket))
        .collect::<Result<_, _>>()?;
    Ok(Swept {
        points,
        n_layers: config.n_layers,
        n: found.n,
        positive: found.positive,
        rows,
        chosen: found.chosen,
        words: found.over_bag_of_words.first,
        types: found.control_types,
        transfer,
        cells,
    })
}

fn row(data: &Labelled, at: usize, positive: bool) -> Row {
    let example = &data.rows[at];
    let words = example.content.words();
    Row {
        id: example.id.clone(),
        positive,
        text: if positive {
            harmful_excerpt(&words)
        } else {
            excerpt(&words)
        },
    }
}

/// Every layer's probe of a point on every layer's test rows.
fn carried(
    point: Point,
    cells: &[Cell],
    read: &Harvest,
    test: &[usize],
    y: &[bool],
    ticket: &Ticket,
) -> Result<Vec<Vec<f32>>, ProbingError> {
    if ticket.cancelled() {
        return Err(ProbingError::Interrupted);
    }
    let of = cells.iter().filter(|cell| cell.point.point == point);
    let probes: Vec<(String, LinearProbe)> = of
        .map(|cell| (cell.point.to_string(), cell.probe.clone()))
        .collect();
    let places = read.places.iter().zip(&read.data);
    let sets: Vec<(String, Array2<f32>)> = places
        .filter(|(place, _)| place.point.point == point)
        .map(|(place, x)| (place.point.to_string(), x.select(Axis(0), test)))
        .collect();
    let views: Vec<_> = sets
        .iter()
        .map(|(name, x)| (name.clone(), x.view(), y))
        .collect();
    let found = matrix(&probes, &views, 0.95)?;
    let value = |row: Vec<Auroc>| row.iter().map(|auroc| auroc.value as f32).collect();
    Ok(found.auroc.into_iter().map(value).collect())
}

/// The probe on every token of the prompt, under these edits.
pub(super) fn strip(
    checkpoint: &Checkpoint,
    (version, point): (u64, HookPoint),
    ids: &[u32],
    edits: Vec<Edit>,
    probe: &LinearProbe,
) -> Answer {
    let read = || -> Result<Vec<f64>, ProbingError> {
        let batch = Batch::single(ids)?;
        let hooks = Hooks::new().edits(edits).capture(point);
        let output = checkpoint.decoder.forward(&batch, &hooks, LogitsAt::None)?;
        let tensor = output
            .captured
            .get(&point)
            .ok_or_else(|| ProbingError::Point {
                point: point.to_string(),
                reason: "the pass did not reach it".into(),
            })?;
        let flat: Vec<f32> = tensor
            .flatten_all()
            .and_then(|t| t.to_dtype(candle_core::DType::F32)?.to_vec1())
            .map_err(ModelError::from)?;
        let width = flat.len() / ids.len().max(1);
        let x = Array2::from_shape_vec((ids.len(), width), flat).map_err(|error| {
            ProbingError::Point {
                point: point.to_string(),
                reason: error.to_string(),
            }
        })?;
        Ok(probe.scores(x.view())?)
    };
    let result = read().map_err(|error| error.to_string());
    let tokens = ids.iter().map(|&id| checkpoint.tokenizer.token(id));
    Answer::Strip(
        (version, point),
        result.map(|scores| Strip {
            version,
            point,
            scores,
            tokens: tokens.collect(),
        }),
    )
}
