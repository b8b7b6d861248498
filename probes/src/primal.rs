//! The logistic fit for at least as many items as features: L-BFGS on the features or on what [`crate::design`] makes of them.

use ndarray::{Array1, Array2, s};

use crate::descent::{MEMORY, STEPS, downhill};
use crate::error::ProbeError;
use crate::linalg::norm;

/// Weights, and an intercept behind them.
pub(crate) type Point = Array1<f64>;

/// The logits of items, intercept included.
pub(crate) fn logits(x: &Array2<f64>, at: &Point) -> Array1<f64> {
    let d = x.ncols();
    x.dot(&at.slice(s![..d])) + at[d]
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gradient(x: &Array2<f64>, labels: &[bool], c: f64, at: &Point, logits: &Array1<f64>) -> Point {
    let d = x.ncols();
    let pull = Array1::from_shape_fn(labels.len(), |i| {
        sigmoid(logits[i]) - f64::from(u8::from(labels[i]))
    });
    let mut slope = Point::zeros(d + 1);
    let mut coefficients = slope.slice_mut(s![..d]);
    coefficients.assign(&x.t().dot(&pull));
    coefficients.scaled_add(1.0 / c, &at.slice(s![..d]));
    slope[d] = pull.sum();
    slope
}

/// The minimum, and the length of the gradient there divided by n.
pub(crate) fn minimise(
    x: &Array2<f64>,
    labels: &[bool],
    c: f64,
    start: Option<&Point>,
    found: f64,
) -> Result<(Point, f64), ProbeError> {
    let n = labels.len() as f64;
    let mut at = start.map_or_else(|| Point::zeros(x.ncols() + 1), Point::clone);
    let mut seen = logits(x, &at);
    let mut slope = gradient(x, labels, c, &at, &seen);
    let mut memory: Vec<(Point, Point)> = Vec::with_capacity(MEMORY);
    for _ in 0..STEPS {
        let length = norm(slope.view());
        if length <= found * n {
            break;
        }
        let mut step = -downhill(&slope, &memory, 1.0);
        // What is remembered of few dimensions is soon dependent, and may point anywhere.
        let steep = step.dot(&slope) / (norm(step.view()) * length);
        if steep.is_nan() || steep > -1e-6 {
            memory.clear();
            step = -&slope;
        }
        // From the step itself: summed up from those remembered, its logits would keep their rounding, not its own.
        let pulls = logits(x, &step);
        let times = along(labels, c, (&at, &seen), (&step, &pulls), memory.is_empty());
        step *= times;
        at += &step;
        seen.scaled_add(times, &pulls);
        let there = gradient(x, labels, c, &at, &seen);
        let change = &there - &slope;
        slope = there;
        let curvature = step.dot(&change);
        if curvature.is_nan() || curvature <= 0.0 {
            // No curvature left in f64: this is as close as the arithmetic gets.
            break;
        }
        if memory.len() == MEMORY {
            memory.remove(0);
        }
        memory.push((step, change));
    }
    let left = norm(slope.view()) / n;
    if left.is_nan() || left > found.max(1e-5) {
        return Err(ProbeError::Numerical {
            what: "logistic regression",
            reason: format!("gradient {left:e} per item after {STEPS} steps; try a smaller C"),
        });
    }
    Ok((at, left))
}

/// How far to go along a step, given with its logits: where the convex loss along it stops falling, to a tenth of its first
/// slope. Costs n a try.
fn along(
    labels: &[bool],
    c: f64,
    (at, logits): (&Point, &Array1<f64>),
    (step, pulls): (&Point, &Array1<f64>),
    first: bool,
) -> f64 {
    // The intercept is not penalised.
    let (step, at) = (step.slice(s![..-1]), at.slice(s![..-1]));
    let (own, cross) = (step.dot(&step) / c, at.dot(&step) / c);
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
