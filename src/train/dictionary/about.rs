//! What a trained dictionary says of where it belongs.

use candlescope_sae::About;

use super::config::DictionaryConfig;
use crate::activations::SourceInfo;
use crate::hooks::HookPoint;
use crate::model::Checkpoint;
use crate::train::TrainError;

/// The words in a dictionary's file.
pub(super) fn about(
    config: &DictionaryConfig,
    checkpoint: &Checkpoint,
    [reads, writes]: &[Vec<HookPoint>; 2],
    source: &SourceInfo,
) -> Result<About, TrainError> {
    let names = |points: &[HookPoint]| points.iter().map(ToString::to_string).collect();
    let packing = source.packing.as_ref();
    Ok(About {
        model: Some(config.model.name.clone()),
        reads: names(reads),
        writes: names(writes),
        context: packing.map(|packing| packing.length),
        prepend_bos: packing.map(|packing| packing.bos.is_some()),
        dataset: Some(source.name.clone()),
        fingerprint: serde_json::to_value(checkpoint.fingerprint()?).ok(),
        other: std::collections::BTreeMap::new(),
    })
}
