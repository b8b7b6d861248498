//! What an audit says of itself: its checkpoints, its detectors, and what a reader should be warned of.
//!
//! Always: nothing in it names a path of this machine.

use super::detect::{Detector as Rule, passport};
use super::evidence::Identity;
use super::result::{Detector, ModelCard};
use super::signals::items;
use super::work::Work;
use crate::model::Checkpoint;

/// A checkpoint, named without the machine it lies on.
pub(super) fn card(cp: &Checkpoint, identity: &Identity) -> ModelCard {
    let source = cp.opened().source();
    let mut n_params = 0;
    let mut stored: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for info in source.names().iter().filter_map(|name| source.info(name)) {
        let n = info.shape.iter().map(|&n| n as u64).product::<u64>();
        n_params += n;
        *stored.entry(info.dtype).or_default() += n;
    }
    let computed = cp.numerical_path();
    let computed = computed.split(" on ").next().unwrap_or_default().to_owned();
    let mostly = stored
        .into_iter()
        .max_by_key(|(_, n)| *n)
        .map(|(dtype, _)| dtype);
    ModelCard {
        name: cp.name.clone(),
        path_name: cp
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        family: cp.config().family.name().to_owned(),
        n_layers: cp.config().n_layers,
        d_model: cp.config().d_model,
        n_params,
        dtype: match mostly {
            Some(dtype) if !dtype.eq_ignore_ascii_case(&computed) => {
                format!("{computed} from {dtype}")
            }
            _ => computed,
        },
        weights_hash: identity.weights.clone(),
        tokenizer_hash: identity.tokenizer.clone(),
        template_hash: identity.template.clone(),
        fingerprint: cp
            .fingerprint()
            .map(crate::model::Fingerprint::id)
            .unwrap_or_default(),
        scored: cp.is_scored(),
    }
}

/// The detectors with their passports.
pub(super) fn detectors() -> Vec<Detector> {
    passport::ALL
        .iter()
        .map(|passport| Detector {
            name: match passport.detector {
                None => "consensus".to_owned(),
                Some(rule @ (Rule::Prefix | Rule::OpeningRules | Rule::Lexicon)) => {
                    items::detector(rule).to_owned()
                }
                Some(other) => items::detector(other).to_owned(),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sensitivity: Some(passport.check.sensitivity()),
            specificity: Some(passport.check.specificity()),
            measured_on: format!(
                "{} openings written for the purpose; {}",
                passport.check.n(),
                passport.note
            ),
        })
        .collect()
}

/// What a reader should know though no limit depends on it.
pub(super) fn warnings(
    subject: &Checkpoint,
    baseline: Option<&Checkpoint>,
    mismatch: Option<&str>,
    work: &Work,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if work.cancelled() {
        warnings.push("Interrupted: what was not measured by then is not evaluated.".to_owned());
    }
    if let Some(why) = mismatch {
        warnings.push(format!("The baseline is not paired with: {why}."));
    }
    for cp in [Some(subject), baseline].into_iter().flatten() {
        let edits = cp.decoder.standing_edits().len();
        if edits > 0 {
            warnings.push(format!(
                "`{}` carries {edits} edits that are applied by hook in every pass.",
                cp.name
            ));
        }
    }
    if subject.template.is_none() {
        warnings.push(
            "The checkpoint has no chat template: prompts are given as bare text, and instruction token and template \
             token are the same."
                .to_owned(),
        );
    }
    warnings
}
