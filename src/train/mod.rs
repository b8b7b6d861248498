//! Post-training: the loop that every method stands on, its run folder, its event log.
//!
//! `config/` says what a run is, `prepare.rs` makes it ready, `run.rs` is the loop, `session.rs` goes from memory to a
//! checkpoint and back, `method.rs` is what a method must be, `bench.rs` what it works with, `folder.rs` where it all lies,
//! `log/` what happened. `sft.rs`, `reward.rs`, `dpo.rs`, `kto.rs`, `ppo/`, `rloo.rs` and `lm.rs` are methods, `rollout/` and `scorer/` draw
//! and score the answers of PPO and RLOO, `loss/` has every loss as a pure function, `report.rs` judges reward models,
//! `examples.rs` and `influence.rs` ask what single examples do to a model. Nothing here prints; progress goes to a
//! trait, as do checkpoints.

mod alerts;
mod bench;
pub mod candidates;
pub mod checkpoint;
pub mod config;
mod data;
pub mod dictionary;
mod dpo;
mod error;
pub mod examples;
pub mod folder;
pub mod influence;
mod kept;
mod kto;
mod lm;
pub mod log;
pub mod loss;
mod manifest;
mod method;
pub mod observer;
pub mod origins;
mod pairs;
pub mod ppo;
mod preflight;
mod prepare;
pub mod reference;
pub mod report;
mod reward;
mod rloo;
pub mod rollout;
mod run;
mod samples;
mod schedule;
pub mod scorer;
mod session;
mod sft;
pub mod states;
pub mod summary;
mod targets;

pub use bench::{Applied, Bench};
pub use config::Config;
pub use error::TrainError;
pub use examples::Examples;
pub use folder::{RunFolder, Saved};
pub use lm::fresh;
pub use manifest::{DataFile, Manifest};
pub use method::{Facts, Method};
pub use observer::{At, CheckpointObserver, Progress, Silent, Standing};
pub use preflight::{Memory, Preflight};
pub use prepare::prepare;
pub use reference::Reference;
pub use report::Report;
pub use run::Ended;
pub use schedule::{Schedule, Shape};
pub use session::{Parts, Session};
