//! What a trained dictionary says of where it belongs.

use candlescope_sae::About;
use serde_json::Value;

use super::config::DictionaryConfig;
use crate::activations::SourceInfo;
use crate::hooks::HookPoint;
use crate::model::Checkpoint;
use crate::train::TrainError;

/// The words in a dictionary's file. Over several stores a point is named with the number of its store, `resid_post.15@1`, and
/// `checkpoints` says what each was made on.
pub(super) fn about(
    config: &DictionaryConfig,
    checkpoint: &Checkpoint,
    [reads, writes]: &[Vec<HookPoint>; 2],
    source: &SourceInfo,
    stores: &[Value],
) -> Result<About, TrainError> {
    let names = |points: &[HookPoint]| -> Vec<String> {
        if stores.is_empty() {
            return points.iter().map(ToString::to_string).collect();
        }
        let of = |i: usize| points.iter().map(move |at| format!("{at}@{i}"));
        (0..stores.len()).flat_map(of).collect()
    };
    let packing = source.packing.as_ref();
    Ok(About {
        model: Some(config.model.name.clone()),
        reads: names(reads),
        writes: names(writes),
        context: packing.map(|packing| packing.length),
        prepend_bos: packing.map(|packing| packing.bos.is_some()),
        dataset: Some(source.name.clone()),
        fingerprint: serde_json::to_value(checkpoint.fingerprint()?).ok(),
        other: (!stores.is_empty())
            .then(|| ("checkpoints".to_owned(), stores.into()))
            .into_iter()
            .collect(),
    })
}
