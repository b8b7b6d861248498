//! Training a dictionary: one file for each architecture, with gradients written out by hand on the entries that fire.
//!
//! [`Recipe`] says what is trained, [`Trainer`] takes a batch of rows at a time, and what it holds between two batches is
//! [`Trainer::to_bytes`]: a trainer restored from it goes on with the same bits. The dense twin of every loss, through
//! another implementation's autograd and in f64, is in the tests.

mod auxk;
mod batch_topk;
mod decoder;
mod gated;
mod init;
mod jumprelu;
mod matryoshka;
mod params;
mod pass;
mod recipe;
mod relu;
mod resample;
mod schedule;
mod state;
mod through;
mod topk;
mod trainer;

pub use recipe::{
    Architecture, Bias, Dead, DecoderNorm, Levels, Recipe, Shape, Sparsity, TopKOptions,
};
pub use schedule::{Schedule, Warmup};
pub use through::{Balanced, Through, Weight};
pub use trainer::{StepReport, Trainer};

#[cfg(test)]
mod tests;
