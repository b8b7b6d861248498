//! Checkpoints beside each other: how their weights differ, what each says of one and the same text, where their answers part.
//!
//! `moment.rs` is what one checkpoint says at one place, layer by layer: small enough to be kept for every checkpoint of a run.
//! `weights.rs` holds matrix against matrix, `tokens.rs` next token against next token, `parting.rs` answer against answer,
//! `latents.rs` latent against latent.
//!
//! Always: two checkpoints read the very same token ids, which the caller has encoded once; a checkpoint beside itself has no
//! change, no divergence and no parting. Results hold ids and plain numbers, no tensors.

mod error;
pub mod latents;
pub mod moment;
pub mod parting;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod weights;

pub use error::CompareError;
pub use latents::{Crossed, Latent, latents_on};
pub use moment::{Layer, Moment, MomentOptions, moment};
pub use parting::{Fork, Parting, parting};
pub use tokens::{TokenChange, token_changes};
pub use weights::{WeightChange, weight_changes};

use crate::config::ModelConfig;

/// Refuses two checkpoints whose vocabularies differ in size: the ids of one would mean nothing to the other.
fn same_words(a: &ModelConfig, b: &ModelConfig) -> Result<(), CompareError> {
    if a.vocab_size == b.vocab_size {
        return Ok(());
    }
    Err(CompareError::Vocabulary {
        expected: a.vocab_size,
        found: b.vocab_size,
    })
}
