//! Auditing a checkpoint: signals, statistics, gate, report.

mod about;
pub mod bundle;
pub mod calibrate;
pub mod catalogue;
pub mod charts;
mod cost;
pub mod detect;
pub mod effect;
pub mod evidence;
pub mod inputs;
pub mod measure;
pub mod pairs;
pub mod policy;
pub mod questions;
pub mod report;
pub mod result;
pub mod runner;
pub mod signal;
pub mod signals;
pub mod traits;
pub mod verdict;
pub mod waivers;
pub mod wording;
pub mod work;
