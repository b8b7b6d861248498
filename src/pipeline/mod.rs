//! A pipeline: stages of training one after the other, in one folder, with an audit after each checkpoint.
//!
//! `plan.rs` is the file a user writes, `refs.rs` how a stage names what earlier stages made, `folder.rs` where it all lies and
//! what is done, `stations.rs` the checkpoints that are there, `stage.rs` one stage from its table to its model, `edited.rs` one
//! that trains nothing, `dictionary.rs` one that trains a dictionary, `fits.rs` whether dictionaries fit, `observe.rs` the
//! audits, `policies.rs` what they ask, `given.rs` and `reading.rs` what they are given, `run.rs` the order of things, `bisect/` where in
//! it a signal broke, `picture.rs` quantities over a run.
//!
//! Always: a pipeline that is stopped anywhere, by a kill or by its own policy, goes on from its last checkpoint with the same
//! bits; a checkpoint is never trained past before it was audited; one process works in a folder at a time.

pub mod bisect;
pub mod course;
pub mod dictionary;
pub mod edited;
pub mod error;
mod fits;
pub mod folder;
mod given;
pub mod observe;
pub mod picture;
pub mod plan;
pub mod policies;
pub mod reading;
mod refs;
pub mod run;
mod stage;
pub mod stations;

pub use error::PipelineError;
pub use folder::{Audited, Done, PipelineFolder, State};
pub use plan::Plan;
pub use run::{Ended, Models, Options, Watcher, run};
