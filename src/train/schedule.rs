//! The learning rate over the steps of a run: constant, linear, cosine, after a warm-up.
//!
//! Always: the factors are those of transformers' `get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup` and
//! `get_cosine_schedule_with_warmup`; the first step after a warm-up of w steps begins at 0, as there.

use serde::{Deserialize, Serialize};

/// Shape after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Stays.
    Constant,
    /// Falls to the floor in a straight line.
    #[default]
    Linear,
    /// Falls to the floor along half a cosine.
    Cosine,
}

/// Factors on the learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// After the warm-up.
    pub shape: Shape,
    /// Steps of the run.
    pub total: u64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Where linear and cosine end, as a factor.
    pub floor: f64,
}

impl Schedule {
    /// The factor of the step after `done` steps.
    pub fn factor(&self, done: u64) -> f64 {
        if done < self.warmup {
            return done as f64 / self.warmup as f64;
        }
        let rest = self.total.saturating_sub(self.warmup).max(1) as f64;
        let past = ((done - self.warmup) as f64 / rest).min(1.0);
        let fall = match self.shape {
            Shape::Constant => return 1.0,
            Shape::Linear => 1.0 - past,
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * past).cos()),
        };
        self.floor + (1.0 - self.floor) * fall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(shape: Shape, floor: f64) -> Vec<f64> {
        let schedule = Schedule {
            shape,
            total: 10,
            warmup: 4,
            floor,
        };
        (0..=10).map(|done| schedule.factor(done)).collect()
    }

    fn near(found: &[f64], expected: &[f64]) {
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-12, "{i}: {found} {expected}");
        }
    }

    /// By hand from the definitions in transformers/optimization.py, 4 steps of warm-up out of 10.
    #[test]
    fn factors_are_those_of_transformers() {
        let warm = [0.0, 0.25, 0.5, 0.75];
        let linear = [1.0, 5.0 / 6.0, 4.0 / 6.0, 0.5, 2.0 / 6.0, 1.0 / 6.0, 0.0];
        near(&factors(Shape::Linear, 0.0), &[&warm[..], &linear].concat());
        // cos of 0, 30, ... 180 degrees.
        let (a, b) = (3f64.sqrt() / 4.0, 0.25);
        let cosine = [1.0, 0.5 + a, 0.5 + b, 0.5, 0.5 - b, 0.5 - a, 0.0];
        near(&factors(Shape::Cosine, 0.0), &[&warm[..], &cosine].concat());
        near(
            &factors(Shape::Constant, 0.0),
            &[&warm[..], &[1.0; 7]].concat(),
        );
    }

    #[test]
    fn a_floor_is_where_it_ends() {
        let factors = factors(Shape::Cosine, 0.1);
        assert!((factors[10] - 0.1).abs() < 1e-12 && (factors[4] - 1.0).abs() < 1e-12);
    }
}
