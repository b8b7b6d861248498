//! Harvesting activations from a model: streamed and bounded in memory, onto disk or straight into training.
//!
//! In: `source.rs` turns texts into rows of token ids, `contexts.rs` packs documents into contexts of one length. Onto disk:
//! `plan.rs` lays out the whole store before anything runs, `capture.rs` runs the model and writes `shard.rs` after shard,
//! `codec.rs` in one of several number formats; `manifest.rs` says what a folder holds, `store.rs` reads one. Into training:
//! `training.rs` is what a trainer sees, `stream_rows.rs` harvests while it trains, `store_rows.rs` reads a store in a random
//! order, `paired_rows.rs` several stores of the same tokens, side by side. What training leaves out is decided in `policy.rs` by the numbers of `facts.rs`.

pub mod capture;
pub mod codec;
pub mod contexts;
mod error;
pub mod facts;
pub mod harvest;
mod items;
mod lines;
pub mod manifest;
pub mod paired_rows;
mod permutation;
pub mod plan;
pub mod policy;
mod shard;
pub mod source;
pub mod store;
pub mod store_rows;
pub mod stream_rows;
pub mod training;

pub use capture::{Capture, Estimate, Outcome, Progress};
pub use codec::Lost;
pub use contexts::{Contexts, Cursor, PackedContexts, Packing};
pub use error::StoreError;
pub use facts::{Facts, PointFacts};
pub use harvest::Harvest;
pub use manifest::{Manifest, Origin, SourceInfo};
pub use paired_rows::PairedRows;
pub use plan::{CaptureSpec, Kept, RowIter, Rows, StoreDtype};
pub use policy::{Policy, Reason, Tally};
pub use source::{Column, Source, TextOptions, TextRows};
pub use store::{ShardReader, Store};
pub use store_rows::StoreRows;
pub use stream_rows::{Mixing, StreamRows};
pub use training::TrainingRows;
