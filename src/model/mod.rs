//! A checkpoint as a thing you can run: config, weights, the one decoder, KV cache, sampling.

pub mod fetch;
pub mod files;
