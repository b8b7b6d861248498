//! Conditions: is this prompt about that? Conditional activation steering (Lee et al. 2024, arXiv 2409.05907).
//!
//! A condition is a direction at one layer with a threshold on how far a prompt's own mean state lies along it. It is
//! looked at once for each prompt, before anything is edited, and holds for the whole answer. Always: each row of a batch is
//! decided by itself. `fit.rs` makes one, `file.rs` keeps it, `rule.rs` combines several, `apply.rs` steers by them.

mod apply;
mod file;
mod fit;
mod rule;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

pub use apply::{Fired, Steered, conditional, fired, firing};
pub use file::{load, save};
pub use fit::{ConditionOptions, Errors, Fitted, LayerFit, errors, fit};
pub use rule::{Expression, Rule};

use crate::model::Fingerprint;

/// How the direction of a condition is made of prompts that meet it and prompts that do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Difference of the class means.
    #[default]
    Difference,
    /// First principal component of ±(h⁺ − h⁻)/2 over pairs in their order, not centred: a centring PCA of the differences
    /// would take the mean difference out first, which is the signal.
    PairwisePca,
}

/// How a mean state h is scored against the direction c.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// cos(h, tanh(ĉ ĉᵀ h)), as published; blind to the sign of ĉᵀh up to the tanh.
    #[default]
    Projected,
    /// cos(h − m, c), m half-way between the class means: signed, and free of what all prompts share.
    Signed,
}

impl Score {
    /// The score of one state, in f64.
    pub fn of(self, state: &[f32], direction: &[f32], centre: &[f32]) -> f64 {
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
        let (h, c) = (wide(state), wide(direction));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = |a: &[f64], b: &[f64]| {
            let lengths = (dot(a, a) * dot(b, b)).sqrt();
            if lengths > 0.0 {
                dot(a, b) / lengths
            } else {
                0.0
            }
        };
        match self {
            Self::Projected => {
                let along = dot(&h, &c) / dot(&c, &c).max(f64::MIN_POSITIVE);
                let projected: Vec<f64> = c.iter().map(|c| (along * c).tanh()).collect();
                cosine(&h, &projected)
            }
            Self::Signed => {
                let moved: Vec<f64> = h.iter().zip(wide(centre)).map(|(h, m)| h - m).collect();
                cosine(&moved, &c)
            }
        }
    }
}

/// On which side of the threshold a condition fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Scores above it.
    Above,
    /// Scores below it.
    Below,
}

/// A condition as it is kept and used.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// `[d_model]`, unit length.
    pub direction: Vec<f32>,
    /// `[d_model]`, half-way between the class means; only [`Score::Signed`] reads it.
    pub centre: Vec<f32>,
    /// The block at whose input it looks.
    pub layer: usize,
    /// How it scores.
    pub score: Score,
    /// How the direction was made.
    pub method: Method,
    /// Compared with the score.
    pub threshold: f64,
    /// Which side fires.
    pub side: Side,
    /// F1 of training prompts, none of them scored by a direction that it helped to make.
    pub f1: f64,
    /// Training prompts (that meet it, that do not).
    pub n_train: (usize, usize),
    /// Content hash of the training prompts.
    pub prompts: String,
    /// The forward pass it was made on.
    pub fingerprint: Option<Fingerprint>,
}

impl Condition {
    /// The score of a mean state `[d_model]`.
    pub fn score(&self, state: &[f32]) -> f64 {
        self.score.of(state, &self.direction, &self.centre)
    }

    /// Whether a score is on the firing side; one at the threshold is not.
    pub fn fires(&self, score: f64) -> bool {
        match self.side {
            Side::Above => score > self.threshold,
            Side::Below => score < self.threshold,
        }
    }

    /// The scores of mean states `[prompt, d_model]`.
    pub fn scores(&self, states: ArrayView2<f32>) -> Vec<f64> {
        states
            .rows()
            .into_iter()
            .map(|row| self.score(&row.to_vec()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        // ĉ = (1, 0), h = (3, 4): tanh((3, 0)) points along the first axis, so the cosine is 3/5.
        let found = Score::Projected.of(&[3.0, 4.0], &[2.0, 0.0], &[0.0, 0.0]);
        assert!((found - 0.6).abs() < 1e-12, "{found}");
        // ĉ = (1, 1)/√2, h = (1, 0): the projection is (1/2, 1/2), its tanh (t, t), the cosine 1/√2.
        let found = Score::Projected.of(&[1.0, 0.0], &[1.0, 1.0], &[0.0, 0.0]);
        assert!((found - 0.5f64.sqrt()).abs() < 1e-12, "{found}");
        // ĉ = (0.6, 0.8), h = (1, 2): ĉᵀh = 2.2, tanh((1.32, 1.76)) = (0.866 784, 0.942 503), computed with Python.
        let found = Score::Projected.of(&[1.0, 2.0], &[3.0, 4.0], &[0.0, 0.0]);
        assert!((found - 0.961_076_237).abs() < 1e-9, "{found}");
        // h − m = (−3, 4), c = (1, 0).
        let found = Score::Signed.of(&[0.0, 5.0], &[7.0, 0.0], &[3.0, 1.0]);
        assert!((found + 0.6).abs() < 1e-12, "{found}");
        assert_eq!(Score::Signed.of(&[1.0], &[1.0], &[1.0]), 0.0);
    }
}
