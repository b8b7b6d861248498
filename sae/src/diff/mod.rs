//! What two models share and what only one has, read through one crosscoder; and how far a refit turned a dictionary.
//!
//! A crosscoder writes the rows of several models side by side, a block of its decoder for each. `norms.rs` compares a
//! latent's blocks (Lindsey et al. 2024, Sparse Crosscoders), `scaling.rs` asks of the data whether a latent that one model
//! seems to lack is really missing there (Minder et al. 2025, arXiv 2504.02922), `rotation.rs` compares a dictionary with
//! what became of it on another model (stage-wise diffing). Sums are f64 in a fixed order.

mod norms;
mod rotation;
mod scaling;
#[cfg(test)]
mod tests;

pub use norms::{Class, DecoderPair, RELATIVE_BINS, decoder_pairs, relative_histogram};
pub use rotation::{Rotation, rotations, stage_wise};
pub use scaling::{LatentScaling, Presence, Scaled};

use std::ops::Range;

use crate::{Dictionary, SaeError};

/// The columns of two blocks of what a dictionary writes. `blocks` are the widths of all of them.
fn sides(
    dictionary: &Dictionary,
    blocks: &[usize],
    pair: [usize; 2],
) -> Result<[Range<usize>; 2], SaeError> {
    let written = blocks
        .iter()
        .try_fold(0_usize, |sum, n| sum.checked_add(*n));
    if written != Some(dictionary.d_out()) {
        return Err(SaeError::Shape {
            what: "blocks of a crosscoder".into(),
            expected: vec![dictionary.d_out()],
            found: blocks.to_vec(),
        });
    }
    let [a, b] = pair;
    if a == b || a.max(b) >= blocks.len() {
        return Err(SaeError::Range {
            what: "models of a crosscoder to compare",
            found: format!("{a} and {b}"),
            allowed: format!("two of its {}, counted from 0", blocks.len()),
        });
    }
    Ok(pair.map(|block| {
        let from = blocks[..block].iter().sum();
        from..from + blocks[block]
    }))
}

fn dot<'a>(a: impl IntoIterator<Item = &'a f32>, b: impl IntoIterator<Item = &'a f32>) -> f64 {
    let pairs = a.into_iter().zip(b);
    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
