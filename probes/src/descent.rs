//! The least of a smooth function by L-BFGS (Nocedal 1980) with halved steps: for losses that are no plain logistic one.
//!
//! Always: what is given back has a gradient of (numerically) zero, or it is an error; the same start gives the same answer.
//! On a function that is not convex it is a local minimum. Logistic regression has faster ways: [`crate::shared`].

use ndarray::Array1;

use crate::error::ProbeError;
use crate::linalg::norm;

/// Gradient length per item at which a search ends, the most that is accepted, steps allowed, and steps remembered.
const FOUND: f64 = 1e-7;
const ACCEPTED: f64 = 1e-5;
pub(crate) const STEPS: usize = 2000;
pub(crate) const MEMORY: usize = 10;

/// A minimum.
pub(crate) struct Found {
    /// Where it is.
    pub(crate) at: Array1<f64>,
    /// The function there.
    pub(crate) value: f64,
    /// Length of the gradient there, divided by the number of items.
    pub(crate) gradient: f64,
}

/// Goes down from `start`; `loss` gives value and gradient of a sum over `items` items.
///
/// # Errors
/// No point of small gradient is reached.
pub(crate) fn minimise(
    what: &'static str,
    items: usize,
    start: Array1<f64>,
    loss: &dyn Fn(&Array1<f64>) -> (f64, Array1<f64>),
) -> Result<Found, ProbeError> {
    let n = items as f64;
    let mut at = start;
    let (mut value, mut slope) = loss(&at);
    let mut memory: Vec<(Array1<f64>, Array1<f64>)> = Vec::new();
    for _ in 0..STEPS {
        if norm(slope.view()) <= FOUND * n {
            break;
        }
        let step = downhill(&slope, &memory, 1.0 / n);
        let fall = slope.dot(&step);
        let mut times = 1.0;
        let next = loop {
            let trial = &at - &(&step * times);
            let (there, gradient) = loss(&trial);
            if there <= value - 1e-4 * times * fall {
                break Some((trial, there, gradient));
            }
            times *= 0.5;
            if times < 1e-10 {
                break None;
            }
        };
        let Some((trial, there, gradient)) = next else {
            break;
        };
        let (moved, change) = (&trial - &at, &gradient - &slope);
        if moved.dot(&change) > 0.0 {
            if memory.len() == MEMORY {
                memory.remove(0);
            }
            memory.push((moved, change));
        }
        (at, value, slope) = (trial, there, gradient);
    }
    let left = norm(slope.view()) / n;
    if left.is_nan() || left > ACCEPTED {
        return Err(ProbeError::Numerical {
            what,
            reason: format!("gradient {left:e} per item after {STEPS} steps; try a smaller C"),
        });
    }
    Ok(Found {
        at,
        value,
        gradient: left,
    })
}

/// The two loops: an ascent direction, which is gone against. `first` scales it where nothing is remembered.
pub(crate) fn downhill(
    slope: &Array1<f64>,
    memory: &[(Array1<f64>, Array1<f64>)],
    first: f64,
) -> Array1<f64> {
    let mut step = slope.clone();
    let mut shares = Vec::with_capacity(memory.len());
    for (moved, change) in memory.iter().rev() {
        let share = moved.dot(&step) / moved.dot(change);
        step.scaled_add(-share, change);
        shares.push(share);
    }
    step *= memory.last().map_or(first, |(moved, change)| {
        moved.dot(change) / change.dot(change)
    });
    for ((moved, change), share) in memory.iter().zip(shares.iter().rev()) {
        let back = change.dot(&step) / moved.dot(change);
        step.scaled_add(share - back, moved);
    }
    step
}
