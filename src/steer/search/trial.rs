//! What was measured of one edit: a number for each prompt, and the two that a search trades against each other.
//!
//! Always: both are means of numbers that are never negative, so what is known of some of the prompts bounds the mean over all
//! of them from below, exactly.

use serde::{Deserialize, Serialize};

use super::Point;

/// Numbers for the first prompts of a bench; for all of them when a trial was not cut short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Refusal scores of harmful prompts.
    pub scores: Vec<f64>,
    /// KL(unedited ‖ edited) of harmless prompts, nats a token over the unedited model's own answer.
    pub kl: Vec<f64>,
}

impl Measured {
    /// Refusal and damage, or what they are at least: the mean of what scores exceed `floor` by, and the mean KL. Prompts that
    /// have not been run count 0.
    pub fn values(&self, floor: f64, [harmful, harmless]: [usize; 2]) -> [f64; 2] {
        let above: f64 = self.scores.iter().map(|s| (s - floor).max(0.0)).sum();
        let kl: f64 = self.kl.iter().sum();
        [above / harmful.max(1) as f64, kl / harmless.max(1) as f64]
    }
}

/// Answers that were read by a judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Harmful prompts whose answer declines.
    pub refused: u64,
    /// Of so many.
    pub harmful: u64,
    /// Harmless prompts whose answer ends in a loop.
    pub loops: u64,
    /// Of so many.
    pub harmless: u64,
}

/// What is measured of trials that were not cut short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extras {
    /// Refusal scores of safe prompts that look dangerous.
    pub lookalike: Vec<f64>,
    /// Judged answers, where they were asked for.
    pub answers: Option<Answers>,
}

/// One edit that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// From 0.
    pub number: usize,
    /// Which edit.
    pub point: Point,
    /// Numbers by prompt.
    pub measured: Measured,
    /// Of a trial that was run to its end; `None` where it was cut short because another is better in both whatever the rest
    /// would have given.
    pub extras: Option<Extras>,
}

impl Trial {
    /// Whether it was run to its end.
    pub fn whole(&self) -> bool {
        self.extras.is_some()
    }
}
