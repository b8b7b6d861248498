//! A checkpoint as a thing you can run: config, weights, the one decoder, KV cache, sampling.
//!
//! `config/` says what a model is, `files/` reads tensors, `names.rs` and `weights.rs` put them in place, `decoder.rs` runs
//! it, `generate.rs` samples from it, `checkpoint.rs` opens one with its tokenizer and template, `fetch/` gets one by name.

mod batch;
pub mod cache;
pub mod check;
pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod decoder;
mod error;
pub mod fetch;
pub mod files;
pub mod generate;
pub mod load;
pub mod names;
pub mod sample;
pub mod self_check;
pub mod weights;

pub use batch::Batch;
pub use cache::KvCache;
pub use checkpoint::{Checkpoint, Fingerprint};
pub use config::ModelConfig;
pub use decoder::{Decoder, LogitsAt, Output};
pub use error::ModelError;
pub use load::{LoadOptions, Opened};
