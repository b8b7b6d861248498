//! More than two classes: a softmax probe at the best place and C, judged class by class, beside what it has to beat.
//!
//! Always: fitted on the training rows, place and C chosen by log loss on the validation rows (of equal ones the earliest place
//! and the strongest penalty), reported on the test rows. A macro AUROC would not do for the choice: it looks at each class's
//! logit alone, and under a strong penalty these rank well and are out of level. Two classes have more: [`super::sweep`].

use std::sync::atomic::{AtomicBool, Ordering};

use candlescope_probes::lexical::{BagOfWords, words};
use candlescope_probes::roc::auroc_value;
use candlescope_probes::softmax::{SoftmaxProbe, macro_auroc};
use candlescope_probes::{
    Auroc, Interval, LogisticOptions, NullDistribution, ProbeError, Proportion,
};
use ndarray::{Array2, Axis};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::controls::{shared_types, types};
use super::{Encoded, Harvest, Labelled, Place, ProbingError, Splits};

/// The C of fits on shuffled labels and control tasks, and of the one beside them: as [`super::Fitting`] has it.
const NULL_C: f64 = 0.01;

/// How softmax probes are fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFitting {
    /// A C, or none to choose it on the validation rows.
    pub c: Option<f64>,
    /// Values of C to choose from, ascending.
    pub grid: Vec<f64>,
    /// Level of all intervals.
    pub level: f64,
    /// Shuffles of the training labels.
    pub shuffles: usize,
    /// Control tasks.
    pub controls: usize,
    /// Seed of both.
    pub seed: u64,
}

impl Default for ClassFitting {
    fn default() -> Self {
        Self {
            c: None,
            grid: (-4..=2).map(|e| 10f64.powi(e)).collect(),
            level: 0.95,
            shuffles: 20,
            controls: 5,
            seed: 0,
        }
    }
}

/// One class on held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Its name.
    pub class: String,
    /// Its own logit, against all other rows.
    pub auroc: Auroc,
    /// The share of its rows that are called by its name.
    pub recall: Proportion,
}

/// A softmax probe on held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classified {
    /// Number of rows.
    pub n: usize,
    /// Mean of the classes' AUROCs.
    pub macro_auroc: f64,
    /// Mean of the classes' recalls; 1 over the number of classes is chance.
    pub balanced_accuracy: f64,
    /// From the classes' Wilson intervals by squares and sums (MOVER).
    pub balanced_interval: Interval,
    /// Class by class.
    pub classes: Vec<ClassScore>,
    /// Rows of each class (outer) that were called each class (inner).
    pub confusion: Vec<Vec<u64>>,
}

/// Judges logits `[row][class]` against classes `[row]`; a row is called by its largest logit, of equal ones the first.
///
/// # Errors
/// A class without rows, lengths that differ, a logit that is not finite.
pub fn classified(
    logits: &[Vec<f64>],
    truth: &[usize],
    names: &[String],
    level: f64,
) -> Result<Classified, ProbeError> {
    let (macro_auroc, areas) = macro_auroc(logits, truth, level)?;
    let mut confusion = vec![vec![0u64; names.len()]; names.len()];
    for (row, &class) in logits.iter().zip(truth) {
        let better = |best: usize, k: usize| if row[k] > row[best] { k } else { best };
        confusion[class][(0..row.len()).fold(0, better)] += 1;
    }
    let score = |(k, auroc): (usize, Auroc)| -> Result<ClassScore, ProbeError> {
        Ok(ClassScore {
            class: names[k].clone(),
            auroc,
            recall: Proportion::wilson(confusion[k][k], confusion[k].iter().sum(), level)?,
        })
    };
    let classes = areas
        .into_iter()
        .enumerate()
        .map(score)
        .collect::<Result<Vec<ClassScore>, _>>()?;
    let k = classes.len() as f64;
    let value = classes.iter().map(|c| c.recall.rate).sum::<f64>() / k;
    let reach = |of: &dyn Fn(&Proportion) -> f64| {
        let squares = classes
            .iter()
            .map(|c| (c.recall.rate - of(&c.recall)).powi(2));
        squares.sum::<f64>().sqrt() / k
    };
    Ok(Classified {
        n: truth.len(),
        macro_auroc,
        balanced_accuracy: value,
        balanced_interval: Interval {
            low: value - reach(&|r| r.interval.low),
            high: value + reach(&|r| r.interval.high),
            level,
        },
        classes,
        confusion,
    })
}

/// A softmax probe and what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassFit {
    /// Where it reads.
    pub place: Place,
    /// The probe.
    pub probe: SoftmaxProbe,
    /// Rows (train, validation, test).
    pub n: [usize; 3],
    /// Macro AUROC on the validation rows; the choice went by log loss.
    pub validation: f64,
    /// On the test rows.
    pub test: Classified,
    /// What it has to beat.
    pub controls: ClassControls,
}

/// Macro AUROCs on the test rows that a softmax probe has to beat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassControls {
    /// The same place at a fixed C, beside fits of this C on shuffled training labels.
    pub shuffled: Option<NullDistribution>,
    /// Mean over control tasks: one random class for each type, in training and test alike.
    pub control: Option<f64>,
    /// What the types are, or why there are none.
    pub control_types: String,
    /// Bags of words, each class against the rest.
    pub bag_of_words: f64,
    /// The number of tokens, each class against the rest, the better way round in training.
    pub length: f64,
}

/// Fits and judges a softmax probe at the best place of the harvest.
///
/// # Errors
/// A statistic that is refused, by its place; a C that does not converge where it was given; an interruption.
pub fn fit_classes(
    data: &Labelled,
    splits: &Splits,
    encoded: &[Encoded],
    harvest: &Harvest,
    fitting: &ClassFitting,
    cancel: Option<&AtomicBool>,
) -> Result<ClassFit, ProbingError> {
    let truth: Vec<usize> = data.rows.iter().map(|r| r.label.unwrap_or(0)).collect();
    let count = data.classes.len();
    let pick = |rows: &[usize]| rows.iter().map(|&i| truth[i]).collect::<Vec<usize>>();
    let (y_train, y_validation) = (pick(&splits.train), pick(&splits.validation));
    let grid = fitting.c.map_or_else(|| fitting.grid.clone(), |c| vec![c]);
    let at = |(&place, x): (&Place, &Array2<f32>)| {
        if cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(ProbingError::Interrupted);
        }
        let (train, validation) = (
            x.select(Axis(0), &splits.train),
            x.select(Axis(0), &splits.validation),
        );
        let mut best: Option<(f64, SoftmaxProbe)> = None;
        let mut failed = None;
        for &c in &grid {
            let probe = match SoftmaxProbe::fit(train.view(), &y_train, count, c) {
                Ok(probe) => probe,
                // A C of the grid that leads nowhere is no candidate; the only one must say why.
                Err(why @ ProbeError::Numerical { .. }) => {
                    failed = Some(why);
                    continue;
                }
                Err(why) => return Err(cell(place, why)),
            };
            let logits = probe
                .logits(validation.view())
                .map_err(|e| cell(place, e))?;
            let value = -log_loss(&logits, &y_validation);
            if best.as_ref().is_none_or(|(top, _)| value > top + 1e-12) {
                best = Some((value, probe));
            }
        }
        match (best, failed) {
            (Some((value, probe)), _) => Ok((place, value, probe)),
            (None, Some(why)) => Err(cell(place, why)),
            (None, None) => Err(cell(
                place,
                ProbeError::TooFew {
                    what: "values of C",
                    needed: 1,
                    found: 0,
                },
            )),
        }
    };
    let found = (harvest.places.par_iter().zip(&harvest.data))
        .map(at)
        .collect::<Result<Vec<_>, _>>()?;
    let better = |best: usize, i: usize| {
        if found[i].1 > found[best].1 + 1e-12 {
            i
        } else {
            best
        }
    };
    let index = (1..found.len()).fold(0, better);
    let Some((place, _, probe)) = found.into_iter().nth(index) else {
        return Err(ProbingError::Written {
            what: "points",
            expected: "at least one",
            found: String::new(),
        });
    };
    let x = &harvest.data[index];
    let on_validation = probe.logits(x.select(Axis(0), &splits.validation).view())?;
    let (validation, _) = macro_auroc(&on_validation, &y_validation, fitting.level)?;
    let logits = probe.logits(x.select(Axis(0), &splits.test).view())?;
    let test = classified(&logits, &pick(&splits.test), &data.classes, fitting.level)?;
    let task = Task {
        data,
        encoded,
        splits,
        truth: &truth,
        fitting,
    };
    Ok(ClassFit {
        controls: task.controls(x)?,
        place,
        probe,
        n: [
            splits.train.len(),
            splits.validation.len(),
            splits.test.len(),
        ],
        validation,
        test,
    })
}

/// Mean of −ln p(the class) over rows.
fn log_loss(logits: &[Vec<f64>], truth: &[usize]) -> f64 {
    let of = |(row, &class): (&Vec<f64>, &usize)| {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|l| (l - top).exp()).sum();
        sum.ln() + top - row[class]
    };
    logits.iter().zip(truth).map(of).sum::<f64>() / truth.len().max(1) as f64
}

fn cell(place: Place, source: ProbeError) -> ProbingError {
    ProbingError::Cell {
        cell: place.to_string(),
        source,
    }
}

/// What the controls are drawn from.
struct Task<'a> {
    data: &'a Labelled,
    encoded: &'a [Encoded],
    splits: &'a Splits,
    truth: &'a [usize],
    fitting: &'a ClassFitting,
}

impl Task<'_> {
    fn controls(&self, x: &Array2<f32>) -> Result<ClassControls, ProbingError> {
        let (fitting, test) = (self.fitting, &self.splits.test);
        let truth = |rows: &[usize]| Self::on(rows, self.truth);
        let observed = self.fitted(x, &truth(&self.splits.train), &truth(test))?;
        let shuffled = (0..fitting.shuffles)
            .into_par_iter()
            .map(|draw| {
                let mut rng = ChaCha8Rng::seed_from_u64(fitting.seed);
                rng.set_stream(draw as u64);
                let mut labels: Vec<usize> = Self::on(&self.splits.train, self.truth);
                labels.shuffle(&mut rng);
                self.fitted(x, &labels, &Self::on(test, self.truth))
            })
            .collect::<Result<Vec<f64>, ProbeError>>()?;
        let null = (shuffled.len() > 1)
            .then(|| NullDistribution::new(test.len(), observed, shuffled))
            .transpose()?;
        let (types, control_types) = types(self.data, self.encoded);
        let (usable, control_types) =
            shared_types(&types, (&self.splits.train, test), control_types);
        let mut found = Vec::new();
        for draw in 0..20 * fitting.controls as u64 {
            if !usable || found.len() == fitting.controls {
                break;
            }
            let labels = self.control_task(&types, fitting.seed.wrapping_add(draw));
            let (train, test) = (
                Self::on(&self.splits.train, &labels),
                Self::on(test, &labels),
            );
            let all = |rows: &[usize]| (0..self.data.classes.len()).all(|k| rows.contains(&k));
            if all(&train) && all(&test) {
                found.push(self.fitted(x, &train, &test)?);
            }
        }
        let mean = |v: &[f64]| (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64);
        Ok(ClassControls {
            shuffled: null,
            control: mean(&found),
            control_types,
            bag_of_words: self.bag_of_words()?,
            length: self.length()?,
        })
    }

    fn on(rows: &[usize], labels: &[usize]) -> Vec<usize> {
        rows.iter().map(|&i| labels[i]).collect()
    }

    /// Test macro AUROC of a fit on these training labels.
    fn fitted(&self, x: &Array2<f32>, train: &[usize], test: &[usize]) -> Result<f64, ProbeError> {
        let rows = |rows: &[usize]| x.select(Axis(0), rows);
        let count = self.data.classes.len();
        let probe = SoftmaxProbe::fit(rows(&self.splits.train).view(), train, count, NULL_C)?;
        let logits = probe.logits(rows(&self.splits.test).view())?;
        Ok(macro_auroc(&logits, test, self.fitting.level)?.0)
    }

    /// One random class for each type.
    fn control_task(&self, types: &[String], seed: u64) -> Vec<usize> {
        let mut drawn: std::collections::BTreeMap<&String, usize> =
            types.iter().map(|kind| (kind, 0)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for class in drawn.values_mut() {
            *class = rng.random_range(0..self.data.classes.len());
        }
        types.iter().map(|kind| drawn[kind]).collect()
    }

    /// The mean over classes of one against the rest.
    fn against_rest(
        &self,
        score: &dyn Fn(&[bool]) -> Result<Vec<f64>, ProbeError>,
    ) -> Result<f64, ProbeError> {
        let count = self.data.classes.len();
        let mut sum = 0.0;
        for k in 0..count {
            let of = |rows: &[usize]| -> Vec<bool> {
                rows.iter().map(|&i| self.truth[i] == k).collect()
            };
            let scores = score(&of(&self.splits.train))?;
            sum += auroc_value(&scores, &of(&self.splits.test))?;
        }
        Ok(sum / count as f64)
    }

    fn bag_of_words(&self) -> Result<f64, ProbeError> {
        let of = |rows: &[usize]| -> Vec<Vec<String>> {
            let words = |i: &usize| match words(&self.data.rows[*i].content.words()) {
                none if none.is_empty() => vec![String::new()],
                words => words,
            };
            rows.iter().map(words).collect()
        };
        let (train, test) = (of(&self.splits.train), of(&self.splits.test));
        let options = LogisticOptions {
            seed: self.fitting.seed,
            ..LogisticOptions::sae_probes()
        };
        self.against_rest(&|labels| BagOfWords::fit(&train, labels, &options)?.scores(&test))
    }

    fn length(&self) -> Result<f64, ProbeError> {
        let of = |rows: &[usize], sign: f64| -> Vec<f64> {
            let length = |i: &usize| sign * self.encoded[*i].ids.len() as f64;
            rows.iter().map(length).collect()
        };
        self.against_rest(&|labels| {
            let forward = auroc_value(&of(&self.splits.train, 1.0), labels)? >= 0.5;
            Ok(of(&self.splits.test, if forward { 1.0 } else { -1.0 }))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn log_loss_by_hand() {
        // p = (1/4, 3/4) and (1/2, 1/2): (ln 4/3 + ln 2) / 2.
        let logits = [vec![0.0, 3f64.ln()], vec![7.0, 7.0]];
        let expected = (4.0f64 / 3.0).ln().midpoint(2f64.ln());
        assert!((log_loss(&logits, &[1, 0]) - expected).abs() < 1e-12);
    }

    #[test]
    fn by_hand() {
        // Called: a, a, c | b | c, b. The second row ties: the first class wins.
        let logits = vec![
            vec![2.0, 0.0, 1.0],
            vec![1.0, 1.0, 0.0],
            vec![0.0, 0.5, 3.0],
            vec![0.0, 2.0, 1.0],
            vec![0.0, 1.0, 2.0],
            vec![0.0, 1.5, 1.0],
        ];
        let truth = [0, 0, 0, 1, 2, 2];
        let names = ["a", "b", "c"].map(String::from);
        let found = classified(&logits, &truth, &names, 0.95).unwrap();
        assert_eq!(found.confusion, [[2, 0, 1], [0, 1, 0], [0, 1, 1]]);
        // (2/3 + 1 + 1/2) / 3
        assert!((found.balanced_accuracy - 13.0 / 18.0).abs() < 1e-12);
        // b: 2.0 is above all five others. a: of 3 x 3 pairs 2, 2 win all, 0.0 ties with three: 6 + 1.5 of 9.
        // c: 2.0 and 1.0 against 1, 0, 3, 1: (3 + 1 + 2 halves) of 8.
        let areas: Vec<f64> = found.classes.iter().map(|c| c.auroc.value).collect();
        assert_eq!(areas, [7.5 / 9.0, 1.0, 5.0 / 8.0]);
        assert!((found.macro_auroc - (7.5 / 9.0 + 1.0 + 0.625) / 3.0).abs() < 1e-12);
        // Wilson 95 %, by the formula: 2/3 [0.2077, 0.9385], 1/1 [0.2065, 1], 1/2 [0.0945, 0.9055].
        let low = ((2.0f64 / 3.0 - 0.2077).powi(2)
            + (1.0 - 0.2065f64).powi(2)
            + (0.5 - 0.0945f64).powi(2))
        .sqrt()
            / 3.0;
        assert!(
            (found.balanced_interval.low - (13.0 / 18.0 - low)).abs() < 1e-3,
            "{low} {:?}",
            found.balanced_interval
        );
    }
}
