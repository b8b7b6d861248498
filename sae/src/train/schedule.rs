//! Learning rates and coefficients over time. Steps count from 0.

use serde::{Deserialize, Serialize};

/// A learning rate that rises linearly, stays, and falls linearly to a fraction of its peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Steps of the rise.
    pub warmup: u64,
    /// Steps of the fall at the end; needs `steps`.
    pub decay: u64,
    /// Steps in all; 0 where the fall has no end to reckon from.
    pub steps: u64,
    /// What is left at the end, as a fraction.
    pub floor: f64,
}

impl Schedule {
    /// The factor of the peak at a step.
    pub fn factor(&self, step: u64) -> f64 {
        let rise = if step < self.warmup {
            (step + 1) as f64 / self.warmup as f64
        } else {
            1.0
        };
        let begins = self.steps.saturating_sub(self.decay);
        if self.decay == 0 || self.steps == 0 || step < begins {
            return rise;
        }
        let left = self.steps.saturating_sub(step) as f64 / self.decay as f64;
        rise * (self.floor + (1.0 - self.floor) * left.min(1.0))
    }
}

/// Steps over which a coefficient rises linearly from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Warmup(pub u64);

impl Warmup {
    /// The factor at a step.
    pub fn factor(self, step: u64) -> f64 {
        if step < self.0 {
            step as f64 / self.0 as f64
        } else {
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_stays_and_falls() {
        let schedule = Schedule {
            warmup: 4,
            decay: 10,
            steps: 100,
            floor: 0.1,
        };
        let at = |step| schedule.factor(step);
        assert_eq!([at(0), at(3), at(50), at(90)], [0.25, 1.0, 1.0, 1.0]);
        assert!((at(95) - 0.55).abs() < 1e-12 && (at(100) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::default().factor(1 << 40), 1.0);
        assert_eq!(
            [
                Warmup(4).factor(0),
                Warmup(4).factor(2),
                Warmup(0).factor(0)
            ],
            [0.0, 0.5, 1.0]
        );
    }
}
