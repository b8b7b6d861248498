//! Sparse dictionaries over activations: sparse autoencoders (SAEs), transcoders and crosscoders.
//!
//! This crate knows no language model: activations come in as rows of f32 `[n, d_in]`, and hook points and model names are
//! words in [`About`]. [`Dictionary`] is what training ends in, files are read into, and everything else works with; its
//! [`Dictionary::encode`] gives [`Codes`], the few latents that fired in each row.

mod about;
mod activation;
pub mod bench;
mod codes;
mod dictionary;
pub mod diff;
mod error;
pub mod format;
pub mod measure;
pub mod synthetic;
pub mod train;

pub use about::About;
pub use activation::Activation;
pub use codes::{Codes, dense};
pub use dictionary::{Dictionary, Parts, Scaling};
pub use error::SaeError;
