//! Harvesting activations from a model onto disk, streamed and bounded in memory, and reading them back.
//!
//! `source.rs` turns texts into rows of token ids, `plan.rs` lays out the whole store before anything runs, `capture.rs`
//! runs the model and writes `shard.rs` after shard, `manifest.rs` says what a folder holds, `store.rs` reads one.

pub mod capture;
mod error;
pub mod manifest;
pub mod plan;
mod shard;
pub mod source;
pub mod store;

pub use capture::{Capture, Estimate, Outcome, Progress};
pub use error::StoreError;
pub use manifest::{Manifest, Origin, SourceInfo};
pub use plan::{CaptureSpec, Kept, RowIter, Rows, StoreDtype};
pub use source::{Column, Source, TextOptions, TextRows};
pub use store::{ShardReader, Store};
