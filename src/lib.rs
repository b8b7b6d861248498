//! candlescope: an interpretability and alignment workbench for language-model checkpoints.
//!
//! One line for each room; a room uses only those below it.

pub mod activations;
pub mod audit;
pub mod cli;
pub mod compare;
pub mod config;
pub mod features;
pub mod files;
pub mod hooks;
pub mod lens;
pub mod model;
pub mod organism;
pub mod pipeline;
pub mod pocket;
pub mod probing;
pub mod steer;
pub mod text;
pub mod train;
pub mod tui;
