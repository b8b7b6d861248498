//! The logistic fit for at least as many items as features: L-BFGS on the features or on what [`crate::design`] makes of them.

use std::collections::VecDeque;

use ndarray::{Array1, Array2};

use crate::error::ProbeError;

/// Steps that L-BFGS remembers, and how many it may take.
const MEMORY: usize = 10;
const STEPS: usize = 2000;

/// Weights and an intercept; a point, a step or a gradient.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) coefficients: Array1<f64>,
    pub(crate) bias: f64,
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
pub(crate) fn minimise(
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
