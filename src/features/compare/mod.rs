//! What a fine-tune changed, read through a dictionary on two checkpoints and the same tokens.
//!
//! `pairs.rs` runs both models over the contexts and keeps the tokens that both keep. `frozen.rs` puts one dictionary on both:
//! quality, births, deaths and shifts of its latents, tested context by context in `counts.rs`. `crosscoder.rs` reads a
//! dictionary over both at once: which latents only one model has, and whether that is so. `examples.rs` keeps the tokens
//! that show it; `signals.rs` makes a release gate's numbers of it.

pub mod counts;
pub mod crosscoder;
pub mod examples;
pub mod frozen;
pub mod pairs;
pub mod signals;

use candlescope_probes::BootstrapOptions;
use candlescope_sae::measure::Floors;

use crate::activations::Policy;

pub use counts::{Counts, Crossings, LatentChange, ShiftNull};
pub use crosscoder::{CrossLatent, Crosscoded, Reading, compare_crosscoder};
pub use examples::{Example, Examples};
pub use frozen::{Frozen, FrozenContexts, compare_frozen, frozen_contexts};
pub use pairs::{PairedContext, Pairs};

/// How two checkpoints are compared.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Tokens that are left out; one that is left out on either model is on both.
    pub policy: Policy,
    /// Contexts of one pass.
    pub batch: usize,
    /// What counts as silent, alive and shifted.
    pub floors: Floors,
    /// Examples of a latent.
    pub examples: usize,
    /// Latents with examples.
    pub top: usize,
    /// From which ratio on latent scaling finds a latent in the other model.
    pub scaling_limit: f64,
    /// Draws of the null in which the models change places at random.
    pub draws: usize,
    /// Of the interval of FVU; its seed is that of the draws too.
    pub bootstrap: BootstrapOptions,
}

impl CompareOptions {
    /// The defaults: births and deaths at 1e-5 and 1e-6 of the tokens, shifts by a factor of 2, ratios from 0.2 on.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            batch: 4,
            floors: Floors::default(),
            examples: 4,
            top: 20,
            scaling_limit: 0.2,
            draws: 200,
            bootstrap: BootstrapOptions::default(),
        }
    }
}
