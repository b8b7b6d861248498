//! Calibrations that lie in the binary or in a policy, and what they say of an audit.
//!
//! Always: a calibration speaks only of audits with its own [`Basis`]; what it says can make a verdict worse, never better.

use std::fmt::Write;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::diagnosis::{Diagnosis, diagnose};
use super::features::features;
use super::{Basis, Calibration, Measured};
use crate::audit::result::Audit;
use crate::audit::wording::phrase;

/// Of the default policy's audits against the pocket model: `assets/policy/README.md` says how it was made.
const POCKET: &str = include_str!("../../../assets/policy/pocket.calibration.json");

static SHIPPED: LazyLock<Vec<Calibration>> = LazyLock::new(|| {
    // A text that is none is a mistake in the binary, which a test below finds.
    serde_json::from_str(POCKET).into_iter().collect()
});

/// What a calibration says of an audit, with how far it is to be believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// The bank that it was fitted on, in words.
    pub bank: String,
    /// How often it was right on the half of the bank that it was not fitted on.
    pub measured: Option<Measured>,
    /// What it says.
    pub diagnosis: Diagnosis,
}

/// All of them.
pub fn all() -> &'static [Calibration] {
    &SHIPPED
}

/// What the calibration that speaks of this audit says of it: the policy's own, else one in the binary.
pub fn say(audit: &Audit, own: Option<&Calibration>) -> Option<Calibrated> {
    let basis = Basis::of(audit)?;
    let mut known = own.into_iter().chain(all());
    let calibration = known.find(|one| one.basis == basis)?;
    Some(Calibrated {
        bank: calibration.bank.clone(),
        measured: calibration.measured,
        diagnosis: diagnose(calibration, &features(audit)),
    })
}

/// That a policy's own calibration says nothing of this audit, and why; `None` where it does.
pub fn silent(audit: &Audit, own: &Calibration) -> Option<String> {
    let why = own.basis.silent(audit)?;
    Some(format!(
        "The policy's calibration on {} says nothing here: {why}.",
        own.bank
    ))
}

impl Calibrated {
    /// In a sentence.
    pub fn words(&self) -> String {
        let said = &self.diagnosis;
        let mut text = if said.alarm {
            format!(
                "further from the baseline than any clean checkpoint of {}: at a distance of {:.1}, where {:.1} passes",
                self.bank, said.score, said.threshold
            )
        } else {
            format!(
                "nothing that clean checkpoints of {} do not do: at a distance of {:.1}, where {:.1} passes",
                self.bank, said.score, said.threshold
            )
        };
        let because: Vec<String> = (said.because.iter().take(3))
            .map(|(name, z)| format!("{} by {z:.0} deviations", quantity(name)))
            .collect();
        if !because.is_empty() {
            let _ = write!(text, "; {}", because.join(", "));
        }
        if let Some(fault) = said.named() {
            let _ = write!(text, "; it looks like `{fault}`");
        }
        if let Some(measured) = &self.measured {
            let _ = write!(
                text,
                " (on the other half of the bank: {})",
                measured.words()
            );
        }
        text
    }
}

/// `signal.quantity` as it is said.
fn quantity(name: &str) -> String {
    match name.split_once('.') {
        Some((signal, quantity)) => format!("{} ({})", phrase(quantity), phrase(signal)),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::built_in::{self, built_in};
    use crate::model::{Checkpoint, LoadOptions};

    #[test]
    fn the_calibration_in_the_binary_is_of_the_model_in_the_binary() {
        let calibration: Calibration = serde_json::from_str(POCKET).unwrap();
        assert_eq!(all(), std::slice::from_ref(&calibration));
        let cache = tempfile::tempdir().unwrap();
        let folder = built_in(built_in::FIRST).unwrap().unpack(cache.path());
        let pocket = Checkpoint::open("pocket", &folder.unwrap(), &LoadOptions::default()).unwrap();
        assert_eq!(
            calibration.basis.baseline,
            pocket.fingerprint().unwrap().weights
        );
        let measured = calibration.measured.unwrap();
        assert!(measured.full.n >= 13 && measured.false_alarms.n >= 12);
        assert_eq!(
            calibration.signatures.len(),
            13,
            "one for each kind of fault"
        );
    }
}
