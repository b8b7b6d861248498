//! What a sparse dictionary needs: a product of which few numbers are kept, and what goes on with those few.
//!
//! [`keep`] multiplies every row with every latent, and writes down only the products that matter: the `k` largest of each
//! row, or those above a bound. The product itself never exists in memory; a band of rows and a block of latents at a time
//! stay in the cache. What follows costs the number of entries, not the number of latents: [`decode`], [`dots`] (the
//! gradient of the entries) and [`gather`] (the gradient of a matrix, summed by latent in a fixed order).
//!
//! Matrices are rows of adjacent numbers: activations `[rows, width]`, weights `[latents, width]`. A result is the same
//! bits whatever the number of threads.

mod dense;
mod entries;
mod gather;
mod keep;
mod sift;
mod weigh;

pub use entries::Entries;
pub use gather::{ByLatent, gather};
pub use keep::{Keep, Latents, keep};
pub use weigh::{decode, dots, norms, squares};

/// Rows of one task.
const BAND: usize = 256;

#[cfg(test)]
mod tests;
