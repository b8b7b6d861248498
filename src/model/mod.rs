//! A checkpoint as a thing you can run: weights, the one decoder, KV cache, sampling.
//!
//! `crate::config` says what a model is, `crate::files` reads tensors, `names.rs` and `weights.rs` put them in place,
//! `decoder.rs` runs it, `generate.rs` samples from it, `checkpoint.rs` opens one with its tokenizer and template, `fetch/`
//! gets one by name, `toy/` makes one in memory.

mod batch;
pub mod cache;
mod cancel;
pub mod check;
pub mod checkpoint;
pub mod convert;
pub mod decoder;
mod error;
pub mod fetch;
pub mod generate;
pub mod load;
pub mod names;
pub mod sample;
pub mod self_check;
pub mod toy;
pub mod weights;

pub use batch::Batch;
pub use cache::KvCache;
pub use cancel::Cancel;
pub use checkpoint::{Checkpoint, Fingerprint};
pub use decoder::{Decoder, LogitsAt, Output};
pub use error::ModelError;
pub use load::{LoadOptions, Opened};
