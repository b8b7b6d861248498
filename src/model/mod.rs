//! A checkpoint as a thing you can run: weights, the one decoder, KV cache, sampling.
//!
//! `crate::config` says what a model is, `crate::files` reads tensors, `names.rs` and `weights.rs` put them in place,
//! `decoder.rs` runs it, `generate.rs` samples from it, `session.rs` does so step by step and back, `checkpoint.rs` opens one
//! with its tokenizer and template, `fetch/` gets one by name, `built_in.rs` out of this binary, `toy/` makes one in memory.
//! `trainable.rs` has its weights trained, `lora/` puts an adapter on it, `score.rs` a score head.

mod batch;
pub mod built_in;
pub mod cache;
mod cancel;
pub mod check;
pub mod checkpoint;
pub mod convert;
pub mod decoder;
pub mod describe;
mod error;
pub mod fetch;
mod forward;
pub mod fresh;
pub mod generate;
pub mod listing;
pub mod load;
pub mod lora;
pub mod names;
pub mod sample;
pub mod score;
pub mod self_check;
pub mod session;
mod slots;
pub mod toy;
pub mod trainable;
pub mod weights;

pub use batch::Batch;
pub use cache::KvCache;
pub use cancel::Cancel;
pub use checkpoint::{Checkpoint, Fingerprint};
pub use decoder::{Decoder, LogitsAt, Output};
pub use error::ModelError;
pub use load::{LoadOptions, Opened};
pub use lora::{LoraAdapter, LoraSpec, Targets};
pub use score::ScoreModel;
pub use session::{Session, Step};
pub use trainable::{Param, Trainable};
