//! A probe for every (hook point, layer, position): fitted on the training rows, the place chosen on the validation rows,
//! everything reported on the test rows, beside what it has to beat.
//!
//! Always: no number about a test row was used to choose anything; among equal places the earliest wins; the number of
//! threads changes nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use candlescope_probes::calibration::Platt;
use candlescope_probes::folds::balanced_group_folds;
use candlescope_probes::linear::{Cell, ChooseC};
use candlescope_probes::roc::{AurocDifference, auroc_value, delong_paired, recall_at_fpr};
use candlescope_probes::{Auroc, Kind, LinearProbe, NullDistribution, ProbeError, Score, auroc};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::controls::{Controls, Nulls};
use super::score::{HeldOut, judge};
use super::{
    Baseline, Encoded, Harvest, Labelled, Place, Position, ProbingError, Splits, baselines,
};

/// How probes are fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitting {
    /// What a probe is.
    pub kind: Kind,
    /// A C, or none to choose it by cross-validation inside the training rows.
    pub c: Option<f64>,
    /// Values of C to choose from.
    pub grid: Vec<f64>,
    /// Folds to choose on; units of the split stay whole.
    pub folds: usize,
    /// The C of fits on shuffled labels and control tasks, and theirs only.
    pub null_c: f64,
    /// False-positive rate of the threshold.
    pub fpr: f64,
    /// Level of all intervals.
    pub level: f64,
    /// Seed of folds, shuffles and control tasks.
    pub seed: u64,
}

impl Default for Fitting {
    fn default() -> Self {
        Self {
            kind: Kind::Logistic,
            c: None,
            grid: (-4..=2).map(|e| 10f64.powi(e)).collect(),
            folds: 5,
            null_c: 0.01,
            fpr: 0.01,
            level: 0.95,
            seed: 0,
        }
    }
}

/// How a sweep runs.
#[derive(Clone)]
pub struct SweepOptions<'a> {
    /// How probes are fitted.
    pub fitting: Fitting,
    /// Shuffles of the labels.
    pub shuffles: usize,
    /// Control tasks.
    pub controls: usize,
    /// Called with (done, total) cells.
    pub progress: Option<&'a (dyn Fn(usize, usize) + Sync)>,
    /// Set to true to stop at the next cell.
    pub cancel: Option<&'a AtomicBool>,
}

impl Default for SweepOptions<'_> {
    fn default() -> Self {
        Self {
            fitting: Fitting::default(),
            shuffles: 20,
            controls: 5,
            progress: None,
            cancel: None,
        }
    }
}

/// The rows of each part, and the folds of the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// Rows fitted on.
    pub train: Vec<usize>,
    /// Rows chosen on.
    pub validation: Vec<usize>,
    /// Rows reported on.
    pub test: Vec<usize>,
    /// The fold of each training row, in the order of `train`.
    pub folds: Vec<usize>,
}

impl Parts {
    /// Of a split; the units of the split stay whole in the folds too.
    ///
    /// # Errors
    /// Fewer units than folds.
    pub fn of(splits: &Splits, labels: &[bool], fitting: &Fitting) -> Result<Self, ProbeError> {
        let units: Vec<usize> = splits.train.iter().map(|&i| splits.units[i]).collect();
        let y: Vec<bool> = splits.train.iter().map(|&i| labels[i]).collect();
        Ok(Self {
            train: splits.train.clone(),
            validation: splits.validation.clone(),
            test: splits.test.clone(),
            folds: balanced_group_folds(&units, &y, fitting.folds, fitting.seed)?,
        })
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// Where it reads.
    pub place: Place,
    /// The C that was used.
    pub c: Option<f64>,
    /// AUROC on the validation rows: what the choice goes by.
    pub validation: Auroc,
    /// On the test rows.
    pub test: HeldOut,
    /// Test AUROC at the fixed C beside the shuffled labels' test AUROCs.
    pub null: Option<NullDistribution>,
    /// Test AUROC at the fixed C minus the mean on the control tasks.
    pub selectivity: Option<f64>,
    /// Mean test AUROC on the control tasks.
    pub control: Option<f64>,
    /// The raw draws.
    #[serde(skip)]
    pub draws: Option<Nulls>,
    /// The probe.
    #[serde(skip)]
    pub probe: Option<LinearProbe>,
    /// Its sigmoid, from the validation rows.
    pub platt: Platt,
    /// Its threshold, from the validation rows' negatives.
    pub threshold: f64,
}

/// A sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The positive class.
    pub positive: String,
    /// Rows (train, validation, test).
    pub n: [usize; 3],
    /// Positive rows in each.
    pub n_positive: [usize; 3],
    /// How probes were fitted.
    pub fitting: Fitting,
    /// The cells, point by point.
    pub cells: Vec<CellResult>,
    /// The cell with the best validation AUROC.
    pub chosen: usize,
    /// The chosen cell's test AUROC beside those that the same choice among cells finds on shuffled labels.
    pub choice_null: Option<NullDistribution>,
    /// What control-task types are, or why there are none.
    pub control_types: String,
    /// What needs no model.
    pub baselines: Vec<Baseline>,
    /// AUROC of the chosen cell minus that of the bag of words, paired.
    pub over_bag_of_words: AurocDifference,
    /// See [`Splits::near_repeats_across`].
    pub near_repeats_across: usize,
}

/// Fits and judges a probe for each place of the harvest.
///
/// # Errors
/// A cell's statistic that is refused, by the cell's name; folds that cannot be made; an interruption.
pub fn sweep(
    data: &Labelled,
    positive: usize,
    splits: &Splits,
    encoded: &[Encoded],
    harvest: &Harvest,
    options: &SweepOptions,
) -> Result<Sweep, ProbingError> {
    let labels = data.labels(positive);
    let fitting = &options.fitting;
    let parts = Parts::of(splits, &labels, fitting)?;
    let draws = (options.shuffles, options.controls);
    let controls = Controls::draw(data, encoded, &labels, &parts, draws, fitting.seed);
    let (done, total) = (AtomicUsize::new(0), harvest.places.len());
    let cells = harvest
        .places
        .par_iter()
        .zip(&harvest.data)
        .map(|(&place, x)| {
            if options
                .cancel
                .is_some_and(|flag| flag.load(Ordering::Relaxed))
            {
                return Err(ProbingError::Interrupted);
            }
            let result = cell(place, x.view(), &labels, &parts, &controls, fitting);
            let done = 1 + done.fetch_add(1, Ordering::Relaxed);
            if let Some(progress) = options.progress {
                progress(done, total);
            }
            result.map_err(|source| ProbingError::Cell {
                cell: place.to_string(),
                source,
            })
        })
        .collect::<Result<Vec<CellResult>, _>>()?;
    let best = |score: &dyn Fn(&CellResult) -> f64| {
        let better = |best: usize, i: usize| {
            if score(&cells[i]) > score(&cells[best]) + 1e-12 {
                i
            } else {
                best
            }
        };
        (0..cells.len()).fold(0, better)
    };
    let chosen = best(&|cell| cell.validation.value);
    let of_draw = |draw: usize| {
        let at = |cell: &CellResult| cell.draws.as_ref().map_or((0.5, 0.5), |d| d.shuffled[draw]);
        at(&cells[best(&|cell| at(cell).0)]).1
    };
    let choice_null = (options.shuffles > 1)
        .then(|| {
            let found = (0..options.shuffles).map(of_draw).collect();
            NullDistribution::new(parts.test.len(), cells[chosen].test.auroc.value, found)
        })
        .transpose()?;
    let positions: Vec<Position> = positions(harvest);
    let spec = (fitting.seed, fitting.level);
    let baselines = baselines(data, encoded, &labels, &parts, &positions, spec)?;
    let y_test = pick(&labels, &parts.test);
    let chosen_scores = scores(&cells[chosen], harvest, &parts.test)?;
    let count = |rows: &[usize]| rows.iter().filter(|&&i| labels[i]).count();
    Ok(Sweep {
        positive: data.classes[positive].clone(),
        n: [parts.train.len(), parts.validation.len(), parts.test.len()],
        n_positive: [&parts.train, &parts.validation, &parts.test].map(|rows| count(rows)),
        fitting: fitting.clone(),
        over_bag_of_words: delong_paired(
            &baselines[0].scores,
            &chosen_scores,
            &y_test,
            fitting.level,
        )?,
        cells,
        chosen,
        choice_null,
        control_types: controls.types_are,
        baselines,
        near_repeats_across: splits.near_repeats_across,
    })
}

fn positions(harvest: &Harvest) -> Vec<Position> {
    let mut positions = Vec::new();
    for place in &harvest.places {
        if !positions.contains(&place.position) {
            positions.push(place.position);
        }
    }
    positions
}

fn scores(cell: &CellResult, harvest: &Harvest, rows: &[usize]) -> Result<Vec<f64>, ProbeError> {
    match (&cell.probe, harvest.at(cell.place)) {
        (Some(probe), Some(x)) => probe.scores(x.select(Axis(0), rows).view()),
        _ => Ok(Vec::new()),
    }
}

fn pick(labels: &[bool], rows: &[usize]) -> Vec<bool> {
    rows.iter().map(|&i| labels[i]).collect()
}

fn cell(
    place: Place,
    x: ArrayView2<f32>,
    labels: &[bool],
    parts: &Parts,
    controls: &Controls,
    fitting: &Fitting,
) -> Result<CellResult, ProbeError> {
    let take = |rows: &[usize]| -> Array2<f32> { x.select(Axis(0), rows) };
    let (train, validation, test) = (
        take(&parts.train),
        take(&parts.validation),
        take(&parts.test),
    );
    let prepared = Cell::new(fitting.kind, train.view())?;
    let c = fitting.c.map_or(
        ChooseC::Folds {
            folds: &parts.folds,
            grid: &fitting.grid,
        },
        ChooseC::Fixed,
    );
    let probe = prepared.fit(&pick(labels, &parts.train), c)?;
    let (y_validation, y_test) = (pick(labels, &parts.validation), pick(labels, &parts.test));
    let on_validation = probe.scores(validation.view())?;
    let on_test = probe.scores(test.view())?;
    let platt = Platt::fit(&on_validation, &y_validation)?;
    let threshold =
        recall_at_fpr(&on_validation, &y_validation, fitting.fpr, fitting.level)?.threshold;
    // A test AUROC of a probe fitted on other labels at the fixed C.
    let under = |all: &[bool]| -> Result<LinearProbe, ProbeError> {
        prepared.fit(&pick(all, &parts.train), ChooseC::Fixed(fitting.null_c))
    };
    let at_fixed_c = auroc_value(&under(labels)?.scores(test.view())?, &y_test)?;
    let shuffled = controls
        .shuffled
        .iter()
        .map(|all| {
            let probe = under(all)?;
            let chosen_by = pick(all, &parts.validation);
            Ok((
                auroc_value(&probe.scores(validation.view())?, &chosen_by)?,
                auroc_value(&probe.scores(test.view())?, &y_test)?,
            ))
        })
        .collect::<Result<Vec<(f64, f64)>, ProbeError>>()?;
    let control = controls
        .tasks
        .iter()
        .map(|all| auroc_value(&under(all)?.scores(test.view())?, &pick(all, &parts.test)))
        .collect::<Result<Vec<f64>, ProbeError>>()?;
    let null = (shuffled.len() > 1)
        .then(|| {
            let found = shuffled.iter().map(|(_, test)| *test).collect();
            NullDistribution::new(parts.test.len(), at_fixed_c, found)
        })
        .transpose()?;
    let mean = |v: &[f64]| (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64);
    let control_mean = mean(&control);
    Ok(CellResult {
        place,
        c: probe.c,
        validation: auroc(&on_validation, &y_validation, fitting.level)?,
        test: judge(
            &on_test,
            &y_test,
            Some(threshold),
            Some(&platt),
            fitting.fpr,
            fitting.level,
        )?,
        null,
        selectivity: control_mean.map(|c| at_fixed_c - c),
        control: control_mean,
        draws: Some(Nulls {
            shuffled,
            control,
            at_fixed_c,
        }),
        probe: Some(probe),
        platt,
        threshold,
    })
}
