//! Many L2-penalised logistic fits on the same items: other labels, other C, other folds, one preparation.
//!
//! The minimum of the loss lies in the span of the rows, so w = Xᵀα, and everything a fit needs of X is the Gram matrix XXᵀ.
//! It is made once, in f32 (features are standardised, so an entry errs by some 1e-6 of its size); each step of each fit then
//! costs n² instead of 2·n·d. The steps are L-BFGS in the inner product of w, so they are the steps a solver on w would
//! take, only cheaper. With n > 2d the same steps are taken on w itself. The number of threads never changes a result.
//! Folds and labels share the features' mean and scale, which know no label. Next: [`crate::logistic`] for the slow twin.

use std::collections::VecDeque;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::design::moments;
use crate::error::{ProbeError, at_least, both_classes, finite_rows, same_length};
use crate::linalg::standardised;
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
    mean: Array1<f64>,
    scale: Array1<f64>,
    x: Array2<f32>,
    map: Map,
}

impl SharedFits {
    /// Prepares activations `[n, d]`: each feature centred and divided by its standard deviation, a constant one by 1.
    ///
    /// # Errors
    /// Fewer than two items, no features, a value that is not finite.
    pub fn new(x: ArrayView2<f32>) -> Result<Self, ProbeError> {
        at_least("activations", 2, x.nrows())?;
        at_least("features", 1, x.ncols())?;
        finite_rows("activations", x)?;
        let (mean, scale) = moments(x);
        if x.nrows() > 2 * x.ncols() {
            let x = standardised(x, &mean, &scale);
            return Ok(Self {
                mean,
                scale,
                x: Array2::zeros((0, 0)),
                map: Map::Rows(x),
            });
        }
        let mut z = x.to_owned();
        let (centre, inverse) = (mean.mapv(|m| m as f32), scale.mapv(|s| (1.0 / s) as f32));
        for mut row in z.rows_mut() {
            row -= &centre;
            row *= &inverse;
        }
        let gram = z.dot(&z.t()).mapv(f64::from);
        Ok(Self {
            // As they were used, so that the probe's scores are those of the fit.
            mean: centre.mapv(f64::from),
            scale: inverse.mapv(|i| 1.0 / f64::from(i)),
            x: z,
            map: Map::Gram(gram),
        })
    }

    /// Number of items.
    pub fn n(&self) -> usize {
        self.map.items()
    }

    /// The probe at this C (scikit-learn's), on labels `[n]`.
    ///
    /// # Errors
    /// Labels of another length or one class, a C that is not positive, a fit that does not converge.
    pub fn fit(&self, labels: &[bool], c: f64) -> Result<LogisticProbe, ProbeError> {
        same_length("labels", self.n(), labels.len())?;
        both_classes(labels, 1)?;
        let fit = minimise(&self.map, labels, checked_c(c)?, None, FOUND)?;
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
        let fit = minimise(&self.map, labels, best.c, None, FOUND)?;
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
            let (map, held) = self.map.split(&train, &held);
            let mut warm: Option<Vector> = None;
            for (sum, &c) in sums.iter_mut().zip(&ascending) {
                let fit = minimise(&map, &y, c, warm.as_ref(), RANKED)?;
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
        let weights = match &self.map {
            Map::Rows(_) => at.coefficients,
            Map::Gram(_) => {
                let mut sum = Array1::<f64>::zeros(self.x.ncols());
                for (row, &a) in self.x.rows().into_iter().zip(&at.coefficients) {
                    sum.zip_mut_with(&row, |s, &v| *s += a * f64::from(v));
                }
                sum
            }
        };
        let n_pos = labels.iter().filter(|&&l| l).count();
        LogisticProbe {
            n: labels.len(),
            n_pos,
            n_neg: labels.len() - n_pos,
            weights: weights.to_vec(),
            bias: at.bias,
            mean: self.mean.to_vec(),
            scale: self.scale.to_vec(),
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

/// What takes coefficients to logits.
#[derive(Debug, Clone)]
enum Map {
    /// XXᵀ `[n, n]`; coefficients are α with w = Xᵀα.
    Gram(Array2<f64>),
    /// X `[n, d]`; coefficients are w.
    Rows(Array2<f64>),
}

impl Map {
    fn matrix(&self) -> &Array2<f64> {
        match self {
            Self::Gram(m) | Self::Rows(m) => m,
        }
    }

    fn items(&self) -> usize {
        self.matrix().nrows()
    }

    /// The gradient of the loss that pulls on logits by `pull` `[n]`: coefficients and their logits.
    fn gradient(&self, pull: Array1<f64>) -> (Array1<f64>, Array1<f64>) {
        match self {
            Self::Gram(k) => {
                let logits = k.dot(&pull);
                (pull, logits)
            }
            Self::Rows(x) => {
                let w = x.t().dot(&pull);
                let logits = x.dot(&w);
                (w, logits)
            }
        }
    }

    /// The inner product of weights.
    fn dot(&self, a: &Vector, b: &Vector) -> f64 {
        let other = match self {
            Self::Gram(_) => &b.logits,
            Self::Rows(_) => &b.coefficients,
        };
        a.coefficients.dot(other)
    }

    /// The map of some items, and the matrix that takes its coefficients to the logits of others.
    fn split(&self, train: &[usize], held: &[usize]) -> (Self, Array2<f64>) {
        let (rows, others) = (
            self.matrix().select(Axis(0), train),
            self.matrix().select(Axis(0), held),
        );
        match self {
            Self::Gram(_) => (
                Self::Gram(rows.select(Axis(1), train)),
                others.select(Axis(1), train),
            ),
            Self::Rows(_) => (Self::Rows(rows), others),
        }
    }
}

/// Weights with their logits, and an intercept; a point, a step or a gradient.
#[derive(Debug, Clone)]
struct Vector {
    coefficients: Array1<f64>,
    /// Xw of the items, without the intercept.
    logits: Array1<f64>,
    bias: f64,
}

impl Vector {
    fn zero(map: &Map) -> Self {
        Self {
            coefficients: Array1::zeros(map.matrix().ncols()),
            logits: Array1::zeros(map.items()),
            bias: 0.0,
        }
    }

    fn add(&mut self, times: f64, other: &Self) {
        self.coefficients.scaled_add(times, &other.coefficients);
        self.logits.scaled_add(times, &other.logits);
        self.bias += times * other.bias;
    }

    fn scale(&mut self, by: f64) {
        self.coefficients *= by;
        self.logits *= by;
        self.bias *= by;
    }

    /// The inner product of weights and intercept.
    fn dot(&self, other: &Self, map: &Map) -> f64 {
        map.dot(self, other) + self.bias * other.bias
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gradient(map: &Map, labels: &[bool], c: f64, at: &Vector) -> Vector {
    let pull = Array1::from_shape_fn(labels.len(), |i| {
        sigmoid(at.logits[i] + at.bias) - f64::from(u8::from(labels[i]))
    });
    let bias = pull.sum();
    let (mut coefficients, mut logits) = map.gradient(pull);
    coefficients.scaled_add(1.0 / c, &at.coefficients);
    logits.scaled_add(1.0 / c, &at.logits);
    Vector {
        coefficients,
        logits,
        bias,
    }
}

/// The minimum, and the length of the gradient there divided by n.
fn minimise(
    map: &Map,
    labels: &[bool],
    c: f64,
    start: Option<&Vector>,
    found: f64,
) -> Result<(Vector, f64), ProbeError> {
    let n = labels.len() as f64;
    let mut at = start.map_or_else(|| Vector::zero(map), Vector::clone);
    let mut slope = gradient(map, labels, c, &at);
    let length = |v: &Vector| v.dot(v, map).max(0.0).sqrt() / n;
    let mut memory: VecDeque<(Vector, Vector, f64)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..STEPS {
        if length(&slope) <= found {
            break;
        }
        let mut step = downhill(map, &slope, &memory);
        let times = along(map, labels, c, &at, &step, memory.is_empty());
        step.scale(times);
        at.add(1.0, &step);
        let there = gradient(map, labels, c, &at);
        let mut change = there.clone();
        change.add(-1.0, &slope);
        slope = there;
        let curvature = step.dot(&change, map);
        if curvature.is_nan() || curvature <= 0.0 {
            // No curvature left in f64: this is as close as the arithmetic gets.
            break;
        }
        if memory.len() == MEMORY {
            memory.pop_front();
        }
        memory.push_back((step, change, 1.0 / curvature));
    }
    let left = length(&slope);
    if left.is_nan() || left > found.max(1e-5) {
        return Err(ProbeError::Numerical {
            what: "logistic regression",
            reason: format!("gradient {left:e} per item after {STEPS} steps; try a smaller C"),
        });
    }
    Ok((at, left))
}

/// The two loops of L-BFGS (Nocedal 1980).
fn downhill(map: &Map, slope: &Vector, memory: &VecDeque<(Vector, Vector, f64)>) -> Vector {
    let mut step = slope.clone();
    let mut shares = Vec::with_capacity(memory.len());
    for (moved, change, rho) in memory.iter().rev() {
        let share = rho * moved.dot(&step, map);
        step.add(-share, change);
        shares.push(share);
    }
    if let Some((_, change, rho)) = memory.back() {
        step.scale(1.0 / (rho * change.dot(change, map)));
    }
    for ((moved, change, rho), share) in memory.iter().zip(shares.iter().rev()) {
        let back = rho * change.dot(&step, map);
        step.add(share - back, moved);
    }
    step.scale(-1.0);
    step
}

/// How far to go along `step`: where the convex loss along it stops falling, to a tenth of its first slope. Costs n a try.
fn along(map: &Map, labels: &[bool], c: f64, at: &Vector, step: &Vector, first: bool) -> f64 {
    let (own, cross) = (map.dot(step, step) / c, map.dot(at, step) / c);
    let slope = |t: f64| {
        let (mut first, mut second) = (cross + t * own, own);
        for (i, &label) in labels.iter().enumerate() {
            let pull = step.logits[i] + step.bias;
            let p = sigmoid(at.logits[i] + at.bias + t * pull);
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
