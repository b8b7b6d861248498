//! The benchmark with known ground truth: rows made of planted features, and how many of these a dictionary found.
//!
//! [`Planted`] makes rows `bias + Σ strength · feature + noise` and says which features fired (`world.rs` plants, `draw.rs`
//! draws, `tree.rs` says whose child a feature is). [`score`] judges any dictionary by it: `recovery.rs` by directions,
//! `firing.rs` by what fires when, both over `matching.rs`.

mod draw;
mod firing;
mod matching;
mod random;
mod recovery;
mod score;
#[cfg(test)]
mod tests;
mod tree;
mod world;

pub use firing::{Absorption, Counts, Firing};
pub use matching::{Matched, Matching};
pub use recovery::{Recovery, RecoveryOptions};
pub use score::{Score, ScoreOptions, score};
pub use tree::Trees;
pub use world::{Correlation, Planted, PlantedSpec, PowerLaw};
