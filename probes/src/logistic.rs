//! The L2-penalised logistic probe: minimises Σ ln(1 + exp(−y(w·x + b))) + ‖w‖²/(2C), the intercept free, C as in
//! scikit-learn (linfa's α is 1/C). C is fixed or chosen by cross-validation as in SAE-Probes (Kantamneni et al. 2025).
//!
//! linfa's L-BFGS reports no convergence, so its answer is checked: Newton steps go on from it until the gradient is
//! (numerically) zero, and a fit that never gets there is an error. The data are prepared in [`crate::design`].

use linfa::DatasetBase;
use linfa::prelude::Fit;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use serde::{Deserialize, Serialize};

use crate::design::Design;
use crate::error::{ProbeError, both_classes, same_length};
use crate::folds::{Score, stratified_folds};
use crate::linalg::{norm, solve_spd};
use crate::random::{order, stream};
use crate::roc::auroc_value;

/// How strong the penalty is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Penalty {
    /// This C.
    Fixed(f64),
    /// The C with the best mean AUROC over validation folds; among equals the strongest penalty.
    CrossValidated(Vec<f64>),
}

/// How a probe is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogisticOptions {
    /// Fixed C or a grid.
    pub penalty: Penalty,
    /// Centre and scale each feature first (the statistics are stored in the probe).
    pub standardise: bool,
    /// Seed of the folds.
    pub seed: u64,
}

impl Default for LogisticOptions {
    fn default() -> Self {
        Self {
            penalty: Penalty::Fixed(1.0),
            standardise: true,
            seed: 0,
        }
    }
}

impl LogisticOptions {
    /// The grid of SAE-Probes: ten values from 1e-5 to 1e5, evenly spaced in log C.
    pub fn sae_probes() -> Self {
        let grid = (0..10)
            .map(|i| 10_f64.powf(-5.0 + 10.0 * f64::from(i) / 9.0))
            .collect();
        Self {
            penalty: Penalty::CrossValidated(grid),
            ..Self::default()
        }
    }
}

/// What cross-validation found for one C.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ValidatedC {
    /// The value tried.
    pub c: f64,
    /// Mean AUROC over the folds.
    pub auroc: f64,
    /// Number of folds.
    pub folds: usize,
}

/// A fitted logistic probe. Its score is the logit of the positive class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogisticProbe {
    /// Items it was fitted on.
    pub n: usize,
    /// Items labelled true.
    pub n_pos: usize,
    /// Items labelled false.
    pub n_neg: usize,
    /// Weights on standardised features, `[d]`.
    pub weights: Vec<f64>,
    /// Intercept on standardised features.
    pub bias: f64,
    /// What is subtracted from each feature, `[d]`.
    pub mean: Vec<f64>,
    /// What each feature is divided by, `[d]`.
    pub scale: Vec<f64>,
    /// The C that was used.
    pub c: f64,
    /// The validation record, in order of the grid; empty for a fixed C or where n ≤ 3 leaves nothing to validate on.
    pub validation: Vec<ValidatedC>,
    /// Length of the loss gradient divided by n at the answer.
    pub gradient: f64,
}

impl LogisticProbe {
    /// Fits on activations `[n, d]` and labels `[n]`.
    pub fn fit(
        x: ArrayView2<f32>,
        labels: &[bool],
        options: &LogisticOptions,
    ) -> Result<Self, ProbeError> {
        same_length("labels", x.nrows(), labels.len())?;
        both_classes(labels, 1)?;
        Self::fit_design(&Design::new(x, options.standardise)?, labels, options)
    }

    /// Fits on a prepared design; `options.standardise` is ignored, as the design has decided it.
    pub fn fit_design(
        design: &Design,
        labels: &[bool],
        options: &LogisticOptions,
    ) -> Result<Self, ProbeError> {
        same_length("labels", design.n(), labels.len())?;
        let (n_pos, n_neg) = both_classes(labels, 1)?;
        let (c, validation) = match &options.penalty {
            Penalty::Fixed(c) => (checked_c(*c)?, Vec::new()),
            Penalty::CrossValidated(grid) => choose_c(design, labels, grid, options.seed)?,
        };
        let fit = Solution::find(&design.coordinates, labels, c, None, FOUND)?;
        Ok(Self {
            n: labels.len(),
            n_pos,
            n_neg,
            weights: design.weights(fit.theta()).to_vec(),
            bias: fit.bias(),
            mean: design.mean.to_vec(),
            scale: design.scale.to_vec(),
            c,
            validation,
            gradient: fit.gradient,
        })
    }

    /// The weights on raw activations, `[d]`: the direction along which the logit rises.
    pub fn raw_weights(&self) -> Vec<f64> {
        self.weights
            .iter()
            .zip(&self.scale)
            .map(|(w, s)| w / s)
            .collect()
    }
}

impl Score for LogisticProbe {
    fn width(&self) -> usize {
        self.weights.len()
    }

    fn score(&self, activation: ArrayView1<f32>) -> f64 {
        let features = activation.iter().zip(&self.mean).zip(&self.scale);
        let logit: f64 = features
            .zip(&self.weights)
            .map(|(((&x, m), s), w)| (f64::from(x) - m) / s * w)
            .sum();
        logit + self.bias
    }
}

pub(crate) fn checked_c(c: f64) -> Result<f64, ProbeError> {
    if c > 0.0 && c.is_finite() {
        Ok(c)
    } else {
        Err(ProbeError::Range {
            what: "C",
            value: c,
            allowed: "a positive number",
        })
    }
}

/// Training and validation items.
type Fold = (Vec<usize>, Vec<usize>);

/// SAE-Probes' folds by size: none up to 3 items, every pair of one positive and one negative left out up to 12, six
/// stratified folds under 128 (fewer if a class is smaller), else one 80/20 split with at most 100 validation items.
fn validation_folds(labels: &[bool], seed: u64) -> Result<Vec<Fold>, ProbeError> {
    let n = labels.len();
    let (n_pos, n_neg) = both_classes(labels, 1)?;
    let smaller = n_pos.min(n_neg);
    if n <= 3 || smaller < 2 {
        return Ok(Vec::new());
    }
    let split = |held: &dyn Fn(usize) -> bool| -> Fold { (0..n).partition(|&i| !held(i)) };
    if n <= 12 {
        let pairs = (0..n)
            .filter(|&i| labels[i])
            .flat_map(|i| (0..n).filter(|&j| !labels[j]).map(move |j| (i, j)));
        return Ok(pairs
            .map(|(i, j)| split(&|item| item == i || item == j))
            .collect());
    }
    if n < 128 {
        let k = smaller.min(6);
        let folds = stratified_folds(labels, k, seed)?;
        return Ok((0..k)
            .map(|fold| split(&|item| folds[item] == fold))
            .collect());
    }
    let held = (0.2 * n as f64).round().min(100.0);
    let shuffled = order(&mut stream(seed, 0), n);
    let mut validation = vec![false; n];
    for (class, size) in [(true, n_pos), (false, n_neg)] {
        let share = (held * size as f64 / n as f64).round().max(1.0) as usize;
        for &item in shuffled
            .iter()
            .filter(|&&i| labels[i] == class)
            .take(share.min(size - 1))
        {
            validation[item] = true;
        }
    }
    Ok(vec![split(&|item| validation[item])])
}

fn choose_c(
    design: &Design,
    labels: &[bool],
    grid: &[f64],
    seed: u64,
) -> Result<(f64, Vec<ValidatedC>), ProbeError> {
    let mut ascending = grid.to_vec();
    for &c in grid {
        checked_c(c)?;
    }
    ascending.sort_by(f64::total_cmp);
    let Some(&middle) = ascending.get(ascending.len() / 2) else {
        return Err(ProbeError::TooFew {
            what: "values of C",
            needed: 1,
            found: 0,
        });
    };
    let folds = validation_folds(labels, seed)?;
    if folds.is_empty() {
        return Ok((middle, Vec::new()));
    }
    let mut sums = vec![0.0; ascending.len()];
    for (train, held) in &folds {
        let (z, y): (Array2<f64>, Vec<bool>) = (
            design.select(train),
            train.iter().map(|&i| labels[i]).collect(),
        );
        let (z_held, y_held): (_, Vec<bool>) = (
            design.select(held),
            held.iter().map(|&i| labels[i]).collect(),
        );
        let mut warm: Option<Solution> = None;
        for (sum, &c) in sums.iter_mut().zip(&ascending) {
            let fit = Solution::find(&z, &y, c, warm.as_ref(), GOOD_ENOUGH)?;
            *sum += auroc_value(&z_held.dot(&fit.theta()).to_vec(), &y_held)?;
            warm = Some(fit);
        }
    }
    let record = |(&c, sum): (&f64, &f64)| ValidatedC {
        c,
        auroc: sum / folds.len() as f64,
        folds: folds.len(),
    };
    let validation: Vec<ValidatedC> = ascending.iter().zip(&sums).map(record).collect();
    // A later C wins only if it is better by more than rounding: ties go to the strongest penalty.
    let best = validation.iter().fold(validation[0], |best, v| {
        if v.auroc > best.auroc + 1e-12 {
            *v
        } else {
            best
        }
    });
    Ok((best.c, validation))
}

/// A minimiser on coordinates `[n, r]`: r weights, then the intercept.
struct Solution {
    params: Array1<f64>,
    gradient: f64,
}

/// Gradient length per item at which a probe counts as found.
const FOUND: f64 = 1e-9;
/// The same for a fit that is only ranked by in cross-validation.
const GOOD_ENOUGH: f64 = 1e-6;

impl Solution {
    fn theta(&self) -> ArrayView1<'_, f64> {
        self.params.slice(s![..self.params.len() - 1])
    }

    fn bias(&self) -> f64 {
        self.params[self.params.len() - 1]
    }

    /// Fits from zero with linfa, or goes on from a neighbouring C, and finishes with Newton steps.
    fn find(
        z: &Array2<f64>,
        labels: &[bool],
        c: f64,
        warm: Option<&Self>,
        found: f64,
    ) -> Result<Self, ProbeError> {
        let start = match warm {
            Some(neighbour) => neighbour.params.clone(),
            // A line search that gives up (argmin calls that an error) leaves the work to Newton, from zero.
            None => lbfgs(z, labels, c).unwrap_or_else(|| Array1::zeros(z.ncols() + 1)),
        };
        newton(z, labels, c, start, found)
    }
}

/// linfa's answer, oriented so that higher is positive (linfa orients by class size).
fn lbfgs(z: &Array2<f64>, labels: &[bool], c: f64) -> Option<Array1<f64>> {
    let data = DatasetBase::new(z.view(), Array1::from(labels.to_vec()));
    let model = LogisticRegression::default()
        .alpha(1.0 / c)
        .max_iterations(100)
        .gradient_tolerance(1e-4);
    let fitted = model.fit(&data).ok()?;
    let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
    let mut params = Array1::zeros(z.ncols() + 1);
    params.slice_mut(s![..z.ncols()]).assign(fitted.params());
    params[z.ncols()] = fitted.intercept();
    let params = params * sign;
    params.iter().all(|v| v.is_finite()).then_some(params)
}

/// Damped Newton steps on the convex loss until the gradient vanishes.
fn newton(
    z: &Array2<f64>,
    labels: &[bool],
    c: f64,
    mut params: Array1<f64>,
    found: f64,
) -> Result<Solution, ProbeError> {
    let n = labels.len() as f64;
    let mut point = Point::at(z, labels, c, &params);
    for _ in 0..60 {
        if norm(point.gradient.view()) <= found * n {
            break;
        }
        let step = solve_spd(
            point.hessian(z, c),
            point.gradient.clone(),
            "logistic regression",
        )?;
        let slope = point.gradient.dot(&step);
        let mut length = 1.0;
        let next = loop {
            let trial = &params - &(&step * length);
            let there = Point::at(z, labels, c, &trial);
            if there.loss <= point.loss - 1e-4 * length * slope {
                break Some((trial, there));
            }
            length *= 0.5;
            if length < 1e-6 {
                break None;
            }
        };
        // No descent left in f64: this is as close as the arithmetic gets.
        let Some((trial, there)) = next else { break };
        (params, point) = (trial, there);
    }
    let gradient = norm(point.gradient.view()) / n;
    if gradient.is_nan() || gradient > GOOD_ENOUGH {
        return Err(ProbeError::Numerical {
            what: "logistic regression",
            reason: format!(
                "gradient {gradient:e} per item after 60 steps; try a smaller C or standardised features"
            ),
        });
    }
    Ok(Solution { params, gradient })
}

/// The loss and its gradient at one set of parameters.
struct Point {
    loss: f64,
    gradient: Array1<f64>,
    /// p(1 − p) of each item.
    curvature: Array1<f64>,
}

impl Point {
    fn at(z: &Array2<f64>, labels: &[bool], c: f64, params: &Array1<f64>) -> Self {
        let r = z.ncols();
        let theta = params.slice(s![..r]);
        let logits = z.dot(&theta) + params[r];
        let mut loss = 0.5 * theta.dot(&theta) / c;
        let mut residual = Array1::zeros(labels.len());
        let mut curvature = Array1::zeros(labels.len());
        for (i, (&logit, &label)) in logits.iter().zip(labels).enumerate() {
            let margin = if label { logit } else { -logit };
            // ln(1 + e^−m) without overflow for either sign of m.
            loss += (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
            let p = 1.0 / (1.0 + (-logit).exp());
            residual[i] = p - f64::from(u8::from(label));
            curvature[i] = p * (1.0 - p);
        }
        let mut gradient = Array1::zeros(r + 1);
        gradient
            .slice_mut(s![..r])
            .assign(&(z.t().dot(&residual) + &theta / c));
        gradient[r] = residual.sum();
        Self {
            loss,
            gradient,
            curvature,
        }
    }

    /// The Hessian, with a trace of ridge on the intercept, whose curvature vanishes when all items are certain.
    fn hessian(&self, z: &Array2<f64>, c: f64) -> Array2<f64> {
        let r = z.ncols();
        let mut weighted = z.clone();
        for (mut row, &k) in weighted.rows_mut().into_iter().zip(&self.curvature) {
            row *= k;
        }
        let mut h = Array2::zeros((r + 1, r + 1));
        h.slice_mut(s![..r, ..r]).assign(&z.t().dot(&weighted));
        h.slice_mut(s![..r, ..r])
            .diag_mut()
            .mapv_inplace(|v| v + 1.0 / c);
        let border = z.t().dot(&self.curvature);
        h.slice_mut(s![..r, r]).assign(&border);
        h.slice_mut(s![r, ..r]).assign(&border);
        h[[r, r]] = self.curvature.sum() + 1e-10;
        h
    }
}
