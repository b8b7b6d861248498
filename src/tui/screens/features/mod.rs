//! Features: what a sparse dictionary sees, and what its latents do while the model generates.

pub mod scope;
