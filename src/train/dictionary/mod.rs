//! Training sparse dictionaries on a model's activations: the run around `candlescope_sae::train`.
//!
//! `config.rs` is what a run is, `texts.rs` turns its data into contexts, `one.rs` is one dictionary of it, `run.rs` harvests, trains, evaluates and saves; `through.rs` is
//! for its last steps, where a dictionary learns from what the model says; `refit.rs` trains one on for a while on another model. All dictionaries of a run are trained from one harvest. Folder, log and checkpoints are those of every other run, so the
//! workbench and `runs` show it. A run that goes on from a checkpoint gives the same bits as one that was never stopped.

mod about;
mod config;
mod one;
mod refit;
mod run;
mod save;
mod texts;
mod through;

pub use config::{DictionaryConfig, EndToEnd, OneDictionary};
pub use refit::Refit;
pub use run::{Begun, Finished, Watch, train};
