//! Many L2-penalised logistic fits on the same items: other labels, other C, other folds, one preparation.
//!
//! The minimum of the loss lies in the span of the rows, so a fit needs no more coordinates than there are items
//! ([`crate::design`]): they are made once, and each step of each fit costs 2·n·r instead of 2·n·d. The steps are L-BFGS on
//! those coordinates, which are the steps a solver on w would take, only cheaper. (Steps on coefficients of the rows, through
//! the Gram matrix, would be cheaper still, and are wrong where rows are dependent: what gives no weights grows unseen.) The
//! number of threads never changes a result. Folds and labels share the features' mean and scale, which know no label. Next:
//! [`crate::logistic`] for the slow twin.

use std::collections::VecDeque;

use ndarray::{Array1, Array2, ArrayView2};

use crate::design::Design;
use crate::error::{ProbeError, at_least, both_classes, same_length};
use crate::logistic::{LogisticProbe, ValidatedC, checked_c};
use crate::roc::auroc_value;

/// Gradient length per item at which a fit has converged, and the looser one for fits that are only ranked by.
const FOUND: f64 = 1e-7;
const RANKED: f64 = 1e-5;
/// Steps that L-BFGS remembers, and how many it may take.
const MEMORY: usize = 10;
const STEPS: usize = 2000;

/// Standardised activations, ready for many fits.
#[derive(Debug, Clone)]
pub struct SharedFits {
    design: Design,
}

impl SharedFits {
    /// Prepares activations `[n, d]`: each feature centred and divided by its standard deviation, a constant one by 1.
    ///
    /// # Errors
    /// Fewer than two items, no features, a value that is not finite.
    pub fn new(x: ArrayView2<f32>) -> Result<Self, ProbeError> {
        let design = Design::new(x, true)?;
        Ok(Self { design })
    }

    /// Number of items.
    pub fn n(&self) -> usize {
        self.design.n()
    }

    /// The probe at this C (scikit-learn's), on labels `[n]`.
    ///
    /// # Errors
    /// Labels of another length or one class, a C that is not positive, a fit that does not converge.
    pub fn fit(&self, labels: &[bool], c: f64) -> Result<LogisticProbe, ProbeError> {
        same_length("labels", self.n(), labels.len())?;
        both_classes(labels, 1)?;
        let fit = minimise(&self.design.coordinates, labels, checked_c(c)?, None, FOUND)?;
        Ok(self.probe(labels, c, fit, Vec::new()))
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
        let fit = minimise(&self.design.coordinates, labels, best.c, None, FOUND)?;
        Ok(self.probe(labels, best.c, fit, record))
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
            let (x, held) = (self.design.select(&train), self.design.select(&held));
            let mut warm: Option<Vector> = None;
            for (sum, &c) in sums.iter_mut().zip(&ascending) {
                let fit = minimise(&x, &y, c, warm.as_ref(), RANKED)?;
                *sum += auroc_value(&held.dot(&fit.0.coefficients).to_vec(), &y_held)?;
                warm = Some(fit.0);
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
        (at, gradient): (Vector, f64),
        validation: Vec<ValidatedC>,
    ) -> LogisticProbe {
        let weights = self.design.weights(at.coefficients.view());
        let n_pos = labels.iter().filter(|&&l| l).count();
        LogisticProbe {
            n: labels.len(),
            n_pos,
            n_neg: labels.len() - n_pos,
            weights: weights.to_vec(),
            bias: at.bias,
            mean: self.design.mean.to_vec(),
            scale: self.design.scale.to_vec(),
            c,
            validation,
            gradient,
        }
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

/// Weights and an intercept; a point, a step or a gradient.
#[derive(Debug, Clone)]
struct Vector {
    coefficients: Array1<f64>,
    bias: f64,
}

impl Vector {
    fn zero(width: usize) -> Self {
        Self {
            coefficients: Array1::zeros(width),
            bias: 0.0,
        }
    }

    fn add(&mut self, times: f64, other: &Self) {
        self.coefficients.scaled_add(times, &other.coefficients);
        self.bias += times * other.bias;
    }

    fn scale(&mut self, by: f64) {
        self.coefficients *= by;
        self.bias *= by;
    }

    /// The inner product of weights and intercept.
    fn dot(&self, other: &Self) -> f64 {
        self.coefficients.dot(&other.coefficients) + self.bias * other.bias
    }

    fn length(&self) -> f64 {
        self.dot(self).sqrt()
    }

    /// The logits of items, intercept included.
    fn logits(&self, x: &Array2<f64>) -> Array1<f64> {
        x.dot(&self.coefficients) + self.bias
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gradient(x: &Array2<f64>, labels: &[bool], c: f64, at: &Vector, logits: &Array1<f64>) -> Vector {
    let pull = Array1::from_shape_fn(labels.len(), |i| {
        sigmoid(logits[i]) - f64::from(u8::from(labels[i]))
    });
    let mut coefficients = x.t().dot(&pull);
    coefficients.scaled_add(1.0 / c, &at.coefficients);
    Vector {
        coefficients,
        bias: pull.sum(),
    }
}

/// The minimum, and the length of the gradient there divided by n.
fn minimise(
    x: &Array2<f64>,
    labels: &[bool],
    c: f64,
    start: Option<&Vector>,
    found: f64,
) -> Result<(Vector, f64), ProbeError> {
    let n = labels.len() as f64;
    let mut at = start.map_or_else(|| Vector::zero(x.ncols()), Vector::clone);
    let mut logits = at.logits(x);
    let mut slope = gradient(x, labels, c, &at, &logits);
    let mut memory: VecDeque<(Vector, Vector, f64)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..STEPS {
        if slope.length() <= found * n {
            break;
        }
        let mut step = downhill(&slope, &memory);
        // What is remembered of few dimensions is soon dependent, and may point anywhere.
        let steep = step.dot(&slope) / (step.length() * slope.length());
        if steep.is_nan() || steep > -1e-6 {
            memory.clear();
            step = slope.clone();
            step.scale(-1.0);
        }
        // From the step itself: summed up from those remembered, its logits would keep their rounding, not its own.
        let pulls = step.logits(x);
        let times = along(
            labels,
            c,
            (&at, &logits),
            (&step, &pulls),
            memory.is_empty(),
        );
        step.scale(times);
        at.add(1.0, &step);
        logits.scaled_add(times, &pulls);
        let there = gradient(x, labels, c, &at, &logits);
        let mut change = there.clone();
        change.add(-1.0, &slope);
        slope = there;
        let curvature = step.dot(&change);
        if curvature.is_nan() || curvature <= 0.0 {
            // No curvature left in f64: this is as close as the arithmetic gets.
            break;
        }
        if memory.len() == MEMORY {
            memory.pop_front();
        }
        memory.push_back((step, change, 1.0 / curvature));
    }
    let left = slope.length() / n;
    if left.is_nan() || left > found.max(1e-5) {
        return Err(ProbeError::Numerical {
            what: "logistic regression",
            reason: format!("gradient {left:e} per item after {STEPS} steps; try a smaller C"),
        });
    }
    Ok((at, left))
}

/// The two loops of L-BFGS (Nocedal 1980).
fn downhill(slope: &Vector, memory: &VecDeque<(Vector, Vector, f64)>) -> Vector {
    let mut step = slope.clone();
    let mut shares = Vec::with_capacity(memory.len());
    for (moved, change, rho) in memory.iter().rev() {
        let share = rho * moved.dot(&step);
        step.add(-share, change);
        shares.push(share);
    }
    if let Some((_, change, rho)) = memory.back() {
        step.scale(1.0 / (rho * change.dot(change)));
    }
    for ((moved, change, rho), share) in memory.iter().zip(shares.iter().rev()) {
        let back = rho * change.dot(&step);
        step.add(share - back, moved);
    }
    step.scale(-1.0);
    step
}

/// How far to go along a step, given with its logits: where the convex loss along it stops falling, to a tenth of its first
/// slope. Costs n a try.
fn along(
    labels: &[bool],
    c: f64,
    (at, logits): (&Vector, &Array1<f64>),
    (step, pulls): (&Vector, &Array1<f64>),
    first: bool,
) -> f64 {
    let (own, cross) = (
        step.coefficients.dot(&step.coefficients) / c,
        at.coefficients.dot(&step.coefficients) / c,
    );
    let slope = |t: f64| {
        let (mut first, mut second) = (cross + t * own, own);
        for ((&logit, &pull), &label) in logits.iter().zip(pulls).zip(labels) {
            let p = sigmoid(logit + t * pull);
            first += (p - f64::from(u8::from(label))) * pull;
            second += p * (1.0 - p) * pull * pull;
        }
        (first, second)
    };
    let start = slope(0.0);
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut t = if first { -start.0 / start.1 } else { 1.0 };
    for _ in 0..40 {
        let (value, curvature) = slope(t);
        if value.abs() <= 0.1 * start.0.abs() {
            break;
        }
        if value < 0.0 {
            low = t;
        } else {
            high = t;
        }
        let newton = t - value / curvature;
        let between = if high.is_finite() {
            0.5 * (low + high)
        } else {
            2.0 * t
        };
        let inside = newton > low && newton < high && newton < 4.0 * t;
        t = if inside { newton } else { between };
    }
    t
}
