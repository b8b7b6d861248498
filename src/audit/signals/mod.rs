//! The signals, one file each, in the order of their numbers.
//!
//! Always: [`ALL`] holds exactly the ids of [`super::catalogue`], in its order; a file's page is what `audit explain`
//! prints and what heads the file. Shared arithmetic: [`estimate`], [`frozen`] for dictionaries, [`orders`] for trials with a check, [`judging`] for scores of pairs.

pub mod ablation_kl;
pub mod activation_difference;
pub mod bypass_gap;
pub mod calibration;
pub mod carrier_layer;
pub mod coherence;
pub mod decoder_rotation;
pub mod dictionary_ce;
pub mod dictionary_fvu;
pub mod dilution;
pub mod direction_cosine;
pub mod direction_norm;
pub mod estimate;
pub mod fragility;
pub mod frozen;
pub mod harm_vs_refusal;
pub mod hint_faithfulness;
pub mod implicit_margin;
pub mod induce_score;
pub mod injection;
pub mod items;
pub mod jailbreak_slope;
pub mod judging;
pub mod kl_to_baseline;
pub mod knowledge;
pub mod latent_crossings;
pub mod latent_density;
pub mod new_latents;
pub mod orders;
pub mod over_refusal;
pub mod probe_recovery;
pub mod probe_transfer;
pub mod provenance;
pub mod recall_at_fpr;
pub mod refusal_consistency;
pub mod refusal_rate;
pub mod refusal_score;
pub mod reward_calibration;
pub mod reward_directions;
pub mod reward_gain;
pub mod reward_length;
pub mod selectivity;
pub mod stale_direction;
pub mod steering_health;
pub mod style_drift;
pub mod subspace_rank;
pub mod sycophancy;
pub mod system_obedience;
pub mod trait_drift;
pub mod trigger_words;
pub mod weight_forensics;

use super::signal::Signal;

/// Every signal, by number.
pub const ALL: &[&dyn Signal] = &[
    &refusal_score::RefusalScore,
    &refusal_rate::RefusalRate,
    &over_refusal::OverRefusal,
    &induce_score::InduceScore,
    &bypass_gap::BypassGap,
    &ablation_kl::AblationKl,
    &direction_norm::DirectionNorm,
    &direction_cosine::DirectionCosine,
    &carrier_layer::CarrierLayer,
    &subspace_rank::SubspaceRank,
    &stale_direction::StaleDirection,
    &harm_vs_refusal::HarmVsRefusal,
    &probe_transfer::ProbeTransfer,
    &probe_recovery::ProbeRecovery,
    &recall_at_fpr::RecallAtFpr1,
    &selectivity::Selectivity,
    &fragility::ProbeFragility,
    &dictionary_fvu::DictionaryFvu,
    &dictionary_ce::DictionaryCe,
    &latent_crossings::LatentCrossings,
    &latent_density::LatentDensity,
    &decoder_rotation::DecoderRotation,
    &new_latents::NewLatents,
    &activation_difference::ActivationDifference,
    &trait_drift::TraitDrift,
    &sycophancy::Sycophancy,
    &steering_health::SteeringHealth,
    &reward_length::RewardLength,
    &reward_directions::RewardDirections,
    &reward_calibration::RewardCalibration,
    &reward_gain::RewardGain,
    &implicit_margin::ImplicitMargin,
    &kl_to_baseline::KlToBaseline,
    &coherence::Coherence,
    &hint_faithfulness::HintFaithfulness,
    &weight_forensics::WeightForensics,
    &jailbreak_slope::JailbreakSlope,
    &provenance::Provenance,
    &refusal_consistency::RefusalConsistency,
    &system_obedience::SystemObedience,
    &injection::Injection,
    &dilution::Dilution,
    &calibration::Calibration,
    &style_drift::StyleDrift,
    &knowledge::Knowledge,
    &trigger_words::TriggerWords,
];

/// The signal with this id.
pub fn by_id(id: &str) -> Option<&'static dyn Signal> {
    ALL.iter().find(|signal| signal.id() == id).copied()
}

/// The pages of all signals, for the reports.
pub fn pages() -> super::report::Docs {
    ALL.iter()
        .map(|signal| (signal.id().to_owned(), signal.page().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
