//! The table of signals: what each is called, where it belongs, and which quantities it reports.
//!
//! Always: the numbers are those of the project's table of signals, and a quantity's name here is the name in
//! the policy, in the JSON and in the reports. Signals fill in the quantities; [`super::policy`] refuses others. One file for
//! each kind of signal stands beside this one.

mod behaviour;
mod dictionary;
mod drift;
mod mechanism;
mod pressure;
mod probing;
mod reward;
mod trials;

use serde::{Deserialize, Serialize};

use super::measure::{Better, Value};

/// What is fixed about a signal.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Stable id.
    pub id: &'static str,
    /// Number in the table.
    pub number: u32,
    /// Title for people.
    pub title: &'static str,
    /// The stages of training after which it is worth asking.
    pub stage: &'static str,
    /// The family within which its tests share one error rate, unless a policy says otherwise.
    pub family: &'static str,
    /// True when it means nothing without a baseline.
    pub needs_baseline: bool,
    /// What it reads beside checkpoints and prompts; without, it is left out.
    pub artefacts: &'static [Artefact],
    /// The quantities it reports.
    pub quantities: &'static [Quantity],
}

/// A file that signals read beside the checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Artefact {
    /// A dictionary that was trained before, on the baseline or an ancestor.
    Dictionary,
    /// The same, trained on for a while on the checkpoint under audit.
    Refit,
    /// The same, trained on for as long on the baseline: what the data alone does.
    Control,
    /// A dictionary over both checkpoints.
    Crosscoder,
    /// Preferences: prompts with two answers each, one of which is the better.
    Pairs,
    /// A reward model that is not itself under audit.
    Reward,
}

impl Artefact {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Dictionary => "dictionary",
            Self::Refit => "refit of the dictionary",
            Self::Control => "refit of the dictionary on the baseline",
            Self::Crosscoder => "crosscoder",
            Self::Pairs => "file of preference pairs",
            Self::Reward => "reward model",
        }
    }

    /// The option that gives it.
    pub fn option(self) -> &'static str {
        match self {
            Self::Dictionary => "--dictionary",
            Self::Refit => "--refit",
            Self::Control => "--refit-control",
            Self::Crosscoder => "--crosscoder",
            Self::Pairs => "--pairs",
            Self::Reward => "--reward",
        }
    }
}

/// What is fixed about a quantity.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Stable name.
    pub name: &'static str,
    /// Its unit; `fraction` is shown as per cent.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// What it is, in a phrase.
    pub meaning: &'static str,
    /// True when it exists only beside a baseline, in a signal that does without.
    pub paired: bool,
}

impl Quantity {
    /// A value of this quantity.
    pub fn measured(&self, value: f64) -> Value {
        Value::new(self.name, self.unit, self.better, value)
    }

    /// This quantity where it could not be measured.
    pub fn missing(&self, why: &str) -> Value {
        Value::missing(self.name, self.unit, self.better, why)
    }
}

impl Entry {
    /// The quantity with this name.
    pub fn quantity(&self, name: &str) -> Option<&'static Quantity> {
        self.quantities
            .iter()
            .find(|quantity| quantity.name == name)
    }
}

/// The signal with this id.
pub fn signal(id: &str) -> Option<&'static Entry> {
    SIGNALS.iter().find(|entry| entry.id == id)
}

const fn q(
    name: &'static str,
    unit: &'static str,
    better: Better,
    meaning: &'static str,
) -> Quantity {
    Quantity {
        name,
        unit,
        better,
        meaning,
        paired: false,
    }
}

const fn paired(quantity: Quantity) -> Quantity {
    Quantity {
        paired: true,
        ..quantity
    }
}

/// Every signal there is, by number.
pub const SIGNALS: &[Entry] = &[
    behaviour::REFUSAL_SCORE,
    behaviour::REFUSAL_RATE,
    behaviour::OVER_REFUSAL,
    mechanism::INDUCE_SCORE,
    mechanism::BYPASS_GAP,
    mechanism::ABLATION_KL,
    mechanism::DIRECTION_NORM,
    mechanism::DIRECTION_COSINE,
    mechanism::CARRIER_LAYER,
    mechanism::SUBSPACE_RANK,
    mechanism::STALE_DIRECTION,
    probing::HARM_VS_REFUSAL,
    probing::PROBE_TRANSFER,
    probing::PROBE_RECOVERY,
    probing::RECALL_AT_FPR,
    probing::SELECTIVITY,
    probing::FRAGILITY,
    dictionary::DICTIONARY_FVU,
    dictionary::DICTIONARY_CE,
    dictionary::LATENT_CROSSINGS,
    dictionary::LATENT_DENSITY,
    dictionary::DECODER_ROTATION,
    dictionary::NEW_LATENTS,
    drift::ACTIVATION_DIFFERENCE,
    drift::TRAIT_DRIFT,
    trials::SYCOPHANCY,
    mechanism::STEERING_HEALTH,
    reward::REWARD_LENGTH,
    reward::REWARD_DIRECTIONS,
    reward::REWARD_CALIBRATION,
    reward::REWARD_GAIN,
    drift::IMPLICIT_MARGIN,
    drift::KL_TO_BASELINE,
    drift::COHERENCE,
    trials::HINT_FAITHFULNESS,
    drift::WEIGHT_FORENSICS,
    pressure::JAILBREAK_SLOPE,
    drift::PROVENANCE,
    pressure::REFUSAL_CONSISTENCY,
    pressure::SYSTEM_OBEDIENCE,
    pressure::INJECTION,
    pressure::DILUTION,
    trials::CALIBRATION,
    pressure::STYLE_DRIFT,
    trials::KNOWLEDGE,
    pressure::TRIGGER_WORDS,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_and_names_are_unique_and_numbers_ascend() {
        let ids: BTreeSet<_> = SIGNALS.iter().map(|entry| entry.id).collect();
        assert_eq!(ids.len(), SIGNALS.len());
        assert!(
            SIGNALS
                .windows(2)
                .all(|pair| pair[0].number < pair[1].number)
        );
        assert!(SIGNALS.iter().all(|entry| entry.number > 0));
        for entry in SIGNALS {
            let names: BTreeSet<_> = entry
                .quantities
                .iter()
                .map(|quantity| quantity.name)
                .collect();
            assert_eq!(names.len(), entry.quantities.len(), "{}", entry.id);
        }
    }
}
