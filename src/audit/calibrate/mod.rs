//! How well an audit finds faults: limits fitted on one half of a bank of checkpoints whose faults are known, and error
//! rates measured on the other.
//!
//! `features.rs` turns an audit into numbers, `fit.rs` fits what clean checkpoints do and what each fault looks like,
//! `diagnosis.rs` says of one audit whether something is wrong and what, `report.rs` counts how often that is right.
//!
//! Always: nothing here runs a model; a half that fitted a limit never reports on it; a rate comes with its interval.

pub mod diagnosis;
pub mod features;
pub mod fit;
pub mod report;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use diagnosis::Diagnosis;
pub use features::Features;
pub use fit::{Calibration, fit};
pub use report::Report;

/// One checkpoint of a bank with what its audit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name in the bank.
    pub name: String,
    /// The fault; `None` for a clean twin.
    pub fault: Option<String>,
    /// What it is, clean twins too.
    pub kind: String,
    /// Share of the full dose.
    pub strength: f64,
    /// True in the half that limits are fitted on.
    pub fits: bool,
    /// What the audit measured.
    pub features: Features,
}

/// Why a bank cannot calibrate anything.
#[derive(thiserror::Error, Debug)]
pub enum CalibrateError {
    /// Too few clean checkpoints to say what clean ones do.
    #[error(
        "{found} clean checkpoints in the half that is fitted; expected at least {needed}, or nothing could be called unusual"
    )]
    Clean {
        /// There are.
        found: usize,
        /// There must be.
        needed: usize,
    },
    /// No faulty checkpoint.
    #[error("the bank has no faulty checkpoint in the half that is fitted")]
    Faults,
    /// No quantity that all audits have.
    #[error(
        "no quantity was measured on every clean checkpoint; were the audits made by one policy and baseline?"
    )]
    Features,
    /// An interval.
    #[error(transparent)]
    Statistic(#[from] candlescope_probes::error::ProbeError),
}
