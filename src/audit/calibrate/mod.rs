//! How well an audit finds faults: limits fitted on one half of a bank of checkpoints whose faults are known, and error
//! rates measured on the other.
//!
//! `features.rs` turns an audit into numbers, `fit.rs` fits what clean checkpoints do and what each fault looks like,
//! `diagnosis.rs` says of one audit whether something is wrong and what, `report.rs` counts how often that is right,
//! `shipped.rs` holds what lies in the binary and is applied to every audit that it speaks of.
//!
//! Always: nothing here runs a model; a half that fitted a limit never reports on it; a rate comes with its interval.

pub mod diagnosis;
pub mod features;
pub mod fit;
pub mod report;
pub mod shipped;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use diagnosis::Diagnosis;
pub use features::Features;
pub use fit::{Calibration, fit};
pub use report::{Measured, Report};

use super::result::{Audit, SuiteUsed};

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

/// What two audits must have in common, so that what one shows can be the measure of the other: what they are changes from,
/// and how it was asked. Limits are not in it, since they do not change what is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Hash of the baseline's weights.
    pub baseline: String,
    /// The seed of every random choice.
    pub seed: u64,
    /// How answers were decoded.
    pub decoding: String,
    /// The prompts, with how many of them.
    pub suites: Vec<SuiteUsed>,
}

impl Basis {
    /// That of an audit; `None` for one without a baseline, of which nothing here speaks.
    pub fn of(audit: &Audit) -> Option<Self> {
        Some(Self {
            baseline: audit.baseline.as_ref()?.weights_hash.clone(),
            seed: audit.provenance.seed,
            decoding: audit.provenance.decoding.clone(),
            suites: audit.provenance.suites.clone(),
        })
    }

    /// Why nothing can be said of an audit by what has this basis; `None` where something can.
    pub fn silent(&self, audit: &Audit) -> Option<String> {
        match Self::of(audit) {
            None => {
                Some("this audit has no baseline, and a calibration speaks of changes".to_owned())
            }
            Some(basis) => {
                let what = self.parted(&basis)?;
                Some(format!("this audit was made with {what}"))
            }
        }
    }

    /// What another was made with, where that differs.
    pub fn parted(&self, other: &Self) -> Option<&'static str> {
        [
            ("another baseline", self.baseline == other.baseline),
            ("another seed", self.seed == other.seed),
            ("another decoding", self.decoding == other.decoding),
            ("other prompts", self.suites == other.suites),
        ]
        .into_iter()
        .find_map(|(what, same)| (!same).then_some(what))
    }
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
