//! What a selection has measured so far, so that one that was interrupted goes on behind its last candidate.
//!
//! Always: numbers are kept for each prompt, not as means, so that a selection that went on gives the bits of one that ran
//! through. What the numbers belong to (model, prompts, candidates) is for the keeper to check.

use serde::{Deserialize, Serialize};

use super::{Candidate, Method, SteerError, Where};

/// What trying one candidate gave, a number for each prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Layer of the candidate.
    pub layer: usize,
    /// Its position.
    pub where_: Where,
    /// How it was made.
    pub method: Method,
    /// Refusal scores of harmful prompts under ablation.
    pub bypass: Vec<f64>,
    /// Refusal scores of harmless prompts under addition.
    pub induce: Vec<f64>,
    /// KL(base ‖ ablated) of harmless prompts, nats.
    pub kl: Vec<f64>,
}

impl Measures {
    /// Whether they are of this candidate.
    pub fn is_of(&self, candidate: &Candidate) -> bool {
        (self.layer, self.where_, self.method)
            == (candidate.layer, candidate.where_, candidate.method)
    }
}

/// Where measures are kept.
pub trait Ledger {
    /// What is known of a candidate.
    fn known(&self, candidate: &Candidate) -> Option<Measures>;
    /// Keeps the measures of a candidate.
    ///
    /// # Errors
    /// The keeper's, in words.
    fn note(&mut self, measures: &Measures) -> Result<(), SteerError>;
    /// Mean KL of each random direction, where they have been tried.
    fn random(&self) -> Option<Vec<f64>>;
    /// Keeps the mean KL of each random direction.
    ///
    /// # Errors
    /// The keeper's, in words.
    fn note_random(&mut self, kl: &[f64]) -> Result<(), SteerError>;
}

/// Knows nothing and keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwritten;

impl Ledger for Unwritten {
    fn known(&self, _: &Candidate) -> Option<Measures> {
        None
    }

    fn note(&mut self, _: &Measures) -> Result<(), SteerError> {
        Ok(())
    }

    fn random(&self) -> Option<Vec<f64>> {
        None
    }

    fn note_random(&mut self, _: &[f64]) -> Result<(), SteerError> {
        Ok(())
    }
}
