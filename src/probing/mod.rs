//! Probing: labelled text through a model into linear probes, with the numbers that say whether to believe them.
//!
//! `data.rs` reads rows and `split.rs` parts them, `place.rs` and `harvest.rs` read activations, `score.rs` judges one probe
//! on rows it has not seen, `controls.rs` and `baselines.rs` are what it has to beat, `sweep.rs` does all that for every
//! layer, point and position, `file.rs` keeps a probe, `transfer.rs` carries it elsewhere, `tokens.rs` reads it at every
//! token of a text. Other probes than one direction for two classes: `classes.rs` (kept by `class_file.rs`), `pairs.rs`,
//! `pooled.rs`.
//! Always: fitted on the training rows, chosen on the validation rows, reported on the test rows. Nothing here prints.

mod baselines;
pub mod class_file;
pub mod classes;
mod controls;
mod data;
mod error;
pub mod file;
mod harvest;
pub mod pairs;
mod place;
pub mod pooled;
mod score;
mod split;
mod sweep;
mod tensors;
mod tokens;
pub mod transfer;

pub use baselines::{Baseline, baselines};
pub use controls::{Controls, Nulls};
pub use data::{Content, Example, Labelled};
pub use error::ProbingError;
pub use harvest::{Harvest, HarvestOptions, Place, Plan, Tokens, harvest, harvest_tokens};
pub use place::{Encoded, Position, encode};
pub use score::{HeldOut, Threshold, calibrated, judge};
pub use split::Splits;
pub use sweep::{CellResult, Fitting, Parts, Sweep, SweepOptions, sweep};
pub use tokens::token_scores;
