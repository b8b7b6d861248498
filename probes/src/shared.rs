//! Many L2-penalised logistic fits on the same items: other labels, other C, other folds, one preparation.
//!
//! The minimum of the loss lies in the span of the rows. With fewer items than features a fit therefore needs one number for
//! each item and the Gram matrix alone, which is made once ([`crate::dual`]); with more, it runs on the features themselves
//! ([`crate::primal`]), as it does where the first gives up (a C so large that no factor exists in f64). The
//! number of threads never changes a result. Folds and labels share the features' mean and scale, which know no label. Next:
//! [`crate::logistic`] for the slow twin.

use ndarray::{ArrayView2, s};

use crate::design::Design;
use crate::dual::{Dual, Point};
use crate::error::{ProbeError, at_least, both_classes, same_length};
use crate::kernels::{Rows, lines, numbers};
use crate::lanes::{Line, run};
use crate::logistic::{LogisticProbe, ValidatedC, checked_c};
use crate::primal::{self, minimise};
use crate::roc::auroc_value;
use crate::standard::Standardised;

/// Gradient length per item at which a fit has converged, and the looser one for fits that are only ranked by.
const FOUND: f64 = 1e-7;
const RANKED: f64 = 1e-5;

/// Standardised activations, ready for many fits.
#[derive(Debug, Clone)]
pub struct SharedFits {
    items: Items,
}

#[derive(Debug, Clone)]
enum Items {
    /// More features than items.
    Few(Standardised),
    Many(Design),
}

/// Weights on standardised features, intercept, and length of the gradient per item.
struct Fit {
    weights: Vec<f64>,
    bias: f64,
    gradient: f64,
}

impl SharedFits {
    /// Prepares activations `[n, d]`: each feature centred and divided by its standard deviation, a constant one by 1.
    ///
    /// # Errors
    /// Fewer than two items, no features, a value that is not finite.
    pub fn new(x: ArrayView2<f32>) -> Result<Self, ProbeError> {
        at_least("activations", 2, x.nrows())?;
        let items = if x.nrows() < x.ncols() {
            Items::Few(Standardised::new(x)?)
        } else {
            Items::Many(Design::new(x, true)?)
        };
        Ok(Self { items })
    }

    /// Number of items.
    pub fn n(&self) -> usize {
        match &self.items {
            Items::Few(items) => items.n(),
            Items::Many(design) => design.n(),
        }
    }

    /// The probe at this C (scikit-learn's), on labels `[n]`.
    ///
    /// # Errors
    /// Labels of another length or one class, a C that is not positive, a fit that does not converge.
    pub fn fit(&self, labels: &[bool], c: f64) -> Result<LogisticProbe, ProbeError> {
        same_length("labels", self.n(), labels.len())?;
        both_classes(labels, 1)?;
        Ok(self.probe(labels, c, self.fit_all(labels, c)?, Vec::new()))
    }

    /// The probe at the C with the best mean AUROC over the folds (a fold number for each item; ties go to the strongest
    /// penalty), fitted on all items.
    ///
    /// # Errors
    /// Those of [`Self::fit`], an empty grid, a fold in which the labels are constant.
    pub fn fit_chosen(
        &self,
        labels: &[bool],
        folds: &[usize],
        grid: &[f64],
    ) -> Result<LogisticProbe, ProbeError> {
        let record = self.validate(labels, folds, grid)?;
        let best = record[1..].iter().fold(record[0], |best, v| {
            if v.auroc > best.auroc + 1e-12 {
                *v
            } else {
                best
            }
        });
        Ok(self.probe(labels, best.c, self.fit_all(labels, best.c)?, record))
    }

    fn fit_all(&self, labels: &[bool], c: f64) -> Result<Fit, ProbeError> {
        let c = checked_c(c)?;
        let by_features = |design: &Design| {
            let (at, gradient) = minimise(&design.coordinates, labels, c, None, FOUND)?;
            Ok(Fit {
                weights: design.weights(at.slice(s![..-1])).to_vec(),
                bias: at[at.len() - 1],
                gradient,
            })
        };
        match &self.items {
            Items::Many(design) => by_features(design),
            Items::Few(items) => match dual(&items.gram, labels, c, FOUND, None) {
                Some((at, gradient)) => Ok(Fit {
                    weights: items.weights(&at.shares),
                    bias: at.bias,
                    gradient,
                }),
                None => by_features(&reduced(items)),
            },
        }
    }

    /// What each C is worth on held-out folds, in ascending order of C.
    fn validate(
        &self,
        labels: &[bool],
        folds: &[usize],
        grid: &[f64],
    ) -> Result<Vec<ValidatedC>, ProbeError> {
        same_length("labels", self.n(), labels.len())?;
        same_length("fold ids", self.n(), folds.len())?;
        at_least("values of C", 1, grid.len())?;
        let mut ascending = grid.to_vec();
        for &c in grid {
            checked_c(c)?;
        }
        ascending.sort_by(f64::total_cmp);
        let k = folds.iter().max().map_or(0, |last| last + 1);
        at_least("folds", 2, k)?;
        let mut sums = vec![0.0; ascending.len()];
        for fold in 0..k {
            let (held, train): (Vec<usize>, Vec<usize>) =
                (0..self.n()).partition(|&i| folds[i] == fold);
            let of = |items: &[usize]| items.iter().map(|&i| labels[i]).collect::<Vec<bool>>();
            let (y, y_held) = (of(&train), of(&held));
            for part in [&y, &y_held] {
                constant_in_fold(fold, part)?;
            }
            let parts = Parts {
                train,
                held,
                labels: y,
            };
            let scores = match &self.items {
                Items::Few(items) => match parts.by_items(items, &ascending) {
                    Some(scores) => scores,
                    None => parts.by_features(&reduced(items), &ascending)?,
                },
                Items::Many(design) => parts.by_features(design, &ascending)?,
            };
            for (sum, scores) in sums.iter_mut().zip(&scores) {
                *sum += auroc_value(scores, &y_held)?;
            }
        }
        let record = |(&c, sum): (&f64, &f64)| ValidatedC {
            c,
            auroc: sum / k as f64,
            folds: k,
        };
        Ok(ascending.iter().zip(&sums).map(record).collect())
    }

    fn probe(
        &self,
        labels: &[bool],
        c: f64,
        fit: Fit,
        validation: Vec<ValidatedC>,
    ) -> LogisticProbe {
        let n_pos = labels.iter().filter(|&&l| l).count();
        let (mean, scale) = match &self.items {
            Items::Few(items) => (items.mean.clone(), items.scale.clone()),
            Items::Many(design) => (design.mean.to_vec(), design.scale.to_vec()),
        };
        LogisticProbe {
            n: labels.len(),
            n_pos,
            n_neg: labels.len() - n_pos,
            weights: fit.weights,
            bias: fit.bias,
            mean,
            scale,
            c,
            validation,
            gradient: fit.gradient,
        }
    }
}

/// A fit with one number for each item; `None` where it was not found.
fn dual(
    gram: &Rows,
    labels: &[bool],
    c: f64,
    found: f64,
    start: Option<&Point>,
) -> Option<(Point, f64)> {
    let targets: Vec<Line> = lines(labels.iter().map(|&l| f64::from(u8::from(l))), 0.5);
    run(Dual {
        gram,
        targets: &targets,
        c,
        found,
        start,
    })
}

/// The same items for the solver on features.
fn reduced(items: &Standardised) -> Design {
    let (mean, scale) = items.moments();
    Design::of_standardised(items.features(), mean, scale)
}

/// The items of a fold and the labels of those to fit on.
struct Parts {
    train: Vec<usize>,
    held: Vec<usize>,
    labels: Vec<bool>,
}

impl Parts {
    /// Scores of the held-out items (without the intercept) at each C, each fit going on from the last.
    fn by_items(&self, items: &Standardised, ascending: &[f64]) -> Option<Vec<Vec<f64>>> {
        let gram = items.gram_of(&self.train);
        let mut warm: Option<Point> = None;
        let mut out = Vec::with_capacity(ascending.len());
        for &c in ascending {
            let (at, _) = dual(&gram, &self.labels, c, RANKED, warm.as_ref())?;
            let shares: Vec<f64> = numbers(&at.shares, self.train.len()).collect();
            let score = |&item: &usize| {
                let row = self.train.iter().map(|&other| items.gram.at(item, other));
                row.zip(&shares).map(|(k, a)| k * a).sum()
            };
            out.push(self.held.iter().map(score).collect());
            warm = Some(at);
        }
        Some(out)
    }

    /// The same on features or what stands for them.
    fn by_features(&self, design: &Design, ascending: &[f64]) -> Result<Vec<Vec<f64>>, ProbeError> {
        let (x, held) = (design.select(&self.train), design.select(&self.held));
        let mut warm: Option<primal::Point> = None;
        let mut out = Vec::with_capacity(ascending.len());
        for &c in ascending {
            let (at, _) = minimise(&x, &self.labels, c, warm.as_ref(), RANKED)?;
            out.push(held.dot(&at.slice(s![..-1])).to_vec());
            warm = Some(at);
        }
        Ok(out)
    }
}

fn constant_in_fold(fold: usize, labels: &[bool]) -> Result<(), ProbeError> {
    match both_classes(labels, 1) {
        Ok(_) => Ok(()),
        Err(_) => Err(ProbeError::ConstantFold {
            fold,
            label: labels.first().copied().unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ndarray::Array2;

    use super::*;
    use crate::random::{normal, stream};

    #[test]
    fn items_and_features_give_held_out_items_the_same_scores() {
        let mut rng = stream(4, 0);
        let x = Array2::from_shape_simple_fn((50, 90), || normal(&mut rng) as f32);
        let items = Standardised::new(x.view()).unwrap();
        let (held, train): (Vec<usize>, Vec<usize>) = (0..50).partition(|i| i % 4 == 1);
        let labels = train.iter().map(|i| i % 3 == 0).collect();
        let parts = Parts {
            train,
            held,
            labels,
        };
        let grid = [1e-4, 1e-2, 1.0, 100.0];
        let fast = parts.by_items(&items, &grid).unwrap();
        let slow = parts.by_features(&reduced(&items), &grid).unwrap();
        for (fast, slow) in fast.iter().zip(&slow) {
            assert_eq!(fast.len(), 13);
            let size = slow.iter().fold(0.0f64, |top, v| top.max(v.abs()));
            assert!(
                fast.iter()
                    .zip(slow)
                    .all(|(a, b)| (a - b).abs() < 0.02 * size)
            );
        }
    }
}
