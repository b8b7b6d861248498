//! An attention-pooled probe on a model: fitted at the best point over the content's tokens, judged beside the plain mean over
//! them, and kept.
//!
//! Always: fitted on the training rows, point and threshold from the validation rows, reported on the test rows. The file's
//! schema is its own (`query` and `weights` `[width]`): a command that reads linear probes refuses it by name.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candlescope_probes::calibration::Platt;
use candlescope_probes::linear::ChooseC;
use candlescope_probes::pooled::{PooledProbe, Spans};
use candlescope_probes::roc::{AurocDifference, auroc_value, delong_paired, recall_at_fpr};
use candlescope_probes::{Auroc, Kind, NullDistribution, ProbeError, Score, auroc, linear};
use ndarray::{Array2, Axis};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::file::{Calibrated, Fits};
use super::score::{HeldOut, judge};
use super::sweep::Parts;
use super::tensors::{as_weights, numbers, opened, write};
use super::{Fitting, Place, ProbingError, Tokens};
use crate::model::{Checkpoint, Fingerprint};

/// What an attention-pooled probe's file says it is.
pub const ATTENTION: &str = "candlescope.probe.attention/1";

/// What an attention-pooled probe has to beat, on the test rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PooledControls {
    /// The logistic probe of the mean over the same tokens.
    pub mean_pooled: Auroc,
    /// AUROC of attention minus that of the mean, paired.
    pub over_mean: AurocDifference,
    /// The same point and C fitted on shuffled training labels.
    pub shuffled: Option<NullDistribution>,
}

/// All that is known of such a probe but its vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PooledAbout {
    /// The model by the name that was given.
    pub model: String,
    /// The forward pass it reads.
    pub fingerprint: Fingerprint,
    /// Where it reads; its position says which tokens are pooled.
    pub place: Place,
    /// How it was fitted; its kind is that of the mean it is compared with.
    pub fitting: Fitting,
    /// The C that was used.
    pub c: f64,
    /// Added to the product with the weights.
    pub bias: f64,
    /// Score to probability, from the validation rows.
    #[serde(flatten)]
    pub calibrated: Calibrated,
    /// Called positive above it; set on the validation rows' negatives.
    pub threshold: f64,
    /// The data by name.
    pub data: String,
    /// SHA-256 of the data.
    pub data_hash: String,
    /// Rows (train, validation, test).
    pub n: [usize; 3],
    /// The class that scores high.
    pub positive: String,
    /// AUROC on the validation rows: what the choice went by.
    pub validation: Auroc,
    /// Its metrics on the test rows.
    pub test: HeldOut,
    /// What it has to beat.
    pub controls: PooledControls,
}

/// A probe with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PooledFile {
    /// What is known of it.
    pub about: PooledAbout,
    /// The probe.
    pub probe: PooledProbe,
}

/// A fit, before it is known where it goes.
pub struct PooledFit {
    /// Where it reads.
    pub place: Place,
    /// The probe.
    pub probe: PooledProbe,
    /// Score to probability.
    pub platt: Platt,
    /// From the validation rows' negatives.
    pub threshold: f64,
    /// On the validation rows.
    pub validation: Auroc,
    /// Scores of the validation rows, in order.
    pub on_validation: Vec<f64>,
    /// Scores of the test rows, in order.
    pub on_test: Vec<f64>,
    /// On the test rows.
    pub test: HeldOut,
    /// What it has to beat.
    pub controls: PooledControls,
}

/// Fits and judges a probe at the best of these points.
///
/// # Errors
/// A statistic that is refused, by its place; an interruption; no point.
pub fn fit_pooled(
    points: &[Tokens],
    labels: &[bool],
    parts: &Parts,
    fitting: &Fitting,
    shuffles: usize,
    cancel: Option<&AtomicBool>,
) -> Result<PooledFit, ProbingError> {
    let one = |tokens: &Tokens| {
        if cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(ProbingError::Interrupted);
        }
        at(tokens, labels, parts, fitting).map_err(|source| ProbingError::Cell {
            cell: tokens.place.to_string(),
            source,
        })
    };
    let found: Vec<(PooledProbe, Auroc)> = points.par_iter().map(one).collect::<Result<_, _>>()?;
    let better = |best: usize, i: usize| {
        if found[i].1.value > found[best].1.value + 1e-12 {
            i
        } else {
            best
        }
    };
    let index = (1..found.len()).fold(0, better);
    let Some((probe, validation)) = found.into_iter().nth(index) else {
        return Err(ProbingError::Written {
            what: "points",
            expected: "at least one",
            found: String::new(),
        });
    };
    let tokens = &points[index];
    let (y_validation, y_test) = (pick(labels, &parts.validation), pick(labels, &parts.test));
    let on_validation = tokens.scores(&probe, &parts.validation)?;
    let on_test = tokens.scores(&probe, &parts.test)?;
    let platt = Platt::fit(&on_validation, &y_validation)?;
    let threshold =
        recall_at_fpr(&on_validation, &y_validation, fitting.fpr, fitting.level)?.threshold;
    let test = judge(
        &on_test,
        &y_test,
        Some(threshold),
        Some(&platt),
        fitting.fpr,
        fitting.level,
    )?;
    let controls = controls(
        tokens,
        (labels, parts, fitting),
        (&probe, &on_test),
        shuffles,
    )?;
    Ok(PooledFit {
        place: tokens.place,
        probe,
        platt,
        threshold,
        validation,
        on_validation,
        on_test,
        test,
        controls,
    })
}

fn pick(labels: &[bool], rows: &[usize]) -> Vec<bool> {
    rows.iter().map(|&i| labels[i]).collect()
}

/// A probe on the training rows, and its AUROC on the validation rows.
fn at(
    tokens: &Tokens,
    labels: &[bool],
    parts: &Parts,
    fitting: &Fitting,
) -> Result<(PooledProbe, Auroc), ProbeError> {
    let (x, lengths) = tokens.of(&parts.train);
    let (spans, y) = (Spans::new(x.view(), &lengths)?, pick(labels, &parts.train));
    let probe = match fitting.c {
        Some(c) => PooledProbe::fit(spans, &y, c)?,
        None => PooledProbe::fit_chosen(spans, &y, &parts.folds, &fitting.grid)?,
    };
    let scores = tokens.scores(&probe, &parts.validation)?;
    let y = pick(labels, &parts.validation);
    Ok((probe, auroc(&scores, &y, fitting.level)?))
}

fn controls(
    tokens: &Tokens,
    (labels, parts, fitting): (&[bool], &Parts, &Fitting),
    (probe, on_test): (&PooledProbe, &[f64]),
    shuffles: usize,
) -> Result<PooledControls, ProbingError> {
    let (y, y_test) = (pick(labels, &parts.train), pick(labels, &parts.test));
    let means = tokens.means();
    let rows = |rows: &[usize]| means.select(Axis(0), rows);
    let c = fitting.c.map_or(
        ChooseC::Folds {
            folds: &parts.folds,
            grid: &fitting.grid,
        },
        ChooseC::Fixed,
    );
    let mean = linear::fit(Kind::Logistic, rows(&parts.train).view(), &y, c)?;
    let of_mean = mean.scores(rows(&parts.test).view())?;
    let shuffled = (0..shuffles)
        .into_par_iter()
        .map(|draw| {
            let mut rng = ChaCha8Rng::seed_from_u64(fitting.seed);
            rng.set_stream(draw as u64);
            let mut y = y.clone();
            y.shuffle(&mut rng);
            let (x, lengths) = tokens.of(&parts.train);
            let null = PooledProbe::fit(Spans::new(x.view(), &lengths)?, &y, probe.c)?;
            auroc_value(&tokens.scores(&null, &parts.test)?, &y_test)
        })
        .collect::<Result<Vec<f64>, ProbeError>>()?;
    let observed = auroc_value(on_test, &y_test)?;
    let null = (shuffled.len() > 1)
        .then(|| NullDistribution::new(parts.test.len(), observed, shuffled))
        .transpose()?;
    Ok(PooledControls {
        mean_pooled: auroc(&of_mean, &y_test, fitting.level)?,
        over_mean: delong_paired(&of_mean, on_test, &y_test, fitting.level)?,
        shuffled: null,
    })
}

impl Tokens {
    /// The tokens of some rows, one after another, and how many each has.
    pub fn of(&self, rows: &[usize]) -> (Array2<f32>, Vec<usize>) {
        let places: Vec<usize> = (rows.iter())
            .flat_map(|&i| self.starts[i]..self.starts[i + 1])
            .collect();
        let lengths = rows.iter().map(|&i| self.starts[i + 1] - self.starts[i]);
        (self.data.select(Axis(0), &places), lengths.collect())
    }

    /// Scores of some rows.
    ///
    /// # Errors
    /// A probe of another width.
    pub fn scores(&self, probe: &PooledProbe, rows: &[usize]) -> Result<Vec<f64>, ProbeError> {
        let (x, lengths) = self.of(rows);
        probe.scores(Spans::new(x.view(), &lengths)?)
    }

    /// Each row's mean over its tokens, `[row, width]`.
    pub fn means(&self) -> Array2<f32> {
        let rows = self.starts.len() - 1;
        let mut means = Array2::zeros((rows, self.data.ncols()));
        for (row, mut mean) in means.outer_iter_mut().enumerate() {
            let (from, to) = (self.starts[row], self.starts[row + 1]);
            let mut sum = vec![0f64; self.data.ncols()];
            for token in from..to {
                for (s, &v) in sum.iter_mut().zip(self.data.row(token)) {
                    *s += f64::from(v);
                }
            }
            for (m, s) in mean.iter_mut().zip(sum) {
                *m = (s / (to - from) as f64) as f32;
            }
        }
        means
    }
}

impl PooledFile {
    /// Refuses a model on which this probe would read something else.
    ///
    /// # Errors
    /// Another width, another forward pass.
    pub fn fits(&self, file: &Path, model: &Checkpoint) -> Result<(), ProbingError> {
        Fits {
            point: self.about.place.point,
            width: self.probe.weights.len(),
            made_on: &self.about.fingerprint,
        }
        .check(file, model, false)
    }
}

/// Writes a probe, replacing what is there.
///
/// # Errors
/// The disk refuses.
pub fn save_pooled(file: &Path, probe: &PooledFile) -> Result<(), ProbingError> {
    let vectors = [
        ("query", &probe.probe.query),
        ("weights", &probe.probe.weights),
    ];
    let tensors = vectors.map(|(name, values)| (name, vec![values.len()], values.clone()));
    write(file, ATTENTION, &probe.about, &tensors)
}

/// Reads a probe.
///
/// # Errors
/// No such file, another schema, tensors of unlike lengths, a number that is not finite.
pub fn load_pooled(file: &Path) -> Result<PooledFile, ProbingError> {
    let what = "an attention-pooled probe of candlescope";
    let (open, about): (_, PooledAbout) = opened(file, ATTENTION, what)?;
    about.calibrated.check(file)?;
    let vector = |name| numbers(&open, file, name).map(|(_, values)| values);
    let (query, weights) = (vector("query")?, vector("weights")?);
    as_weights(file, "query", query.len(), weights.len())?;
    Ok(PooledFile {
        probe: PooledProbe {
            n: about.n[0],
            query,
            weights,
            bias: about.bias,
            c: about.c,
            loss: 0.0,
            gradient: 0.0,
        },
        about,
    })
}
