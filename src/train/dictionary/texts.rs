//! The data of a run as contexts of token ids.

use jiff::civil::DateTime;

use super::config::{Data, DictionaryConfig};
use crate::activations::{
    Mixing, PackedContexts, Packing, Policy, Source, StoreError, TextOptions, TextRows,
};
use crate::model::Checkpoint;
use crate::text::{documents::is_plain, suites::Suite};
use crate::train::TrainError;

/// Texts packed into contexts; `None` where the run has a store instead.
pub(super) fn contexts<'a>(
    data: &Data,
    checkpoint: &'a Checkpoint,
) -> Result<Option<PackedContexts<'a>>, TrainError> {
    let Some(source) = source(data)? else {
        return Ok(None);
    };
    let date = data.date.as_deref().unwrap_or_default();
    let now: DateTime = date.parse().map_err(|_| {
        TrainError::config("data.date", "a date and time as 2026-01-31T00:00:00", date)
    })?;
    let options = TextOptions {
        chat: None,
        max_len: None,
        truncate: false,
        limit: None,
        now,
    };
    let packing = Packing::new(data.context.unwrap_or(128), data.bos, &checkpoint.tokenizer)?;
    let texts = TextRows::new(checkpoint, source, options)?;
    Ok(Some(PackedContexts::new(texts, packing)?))
}

fn source(data: &Data) -> Result<Option<Source>, TrainError> {
    if let Some(name) = &data.suite {
        let suite = Suite::named(name).map_err(StoreError::from)?;
        return Ok(Some(Source::Suite(suite)));
    }
    let Some(path) = &data.path else {
        return Ok(None);
    };
    let ending = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    let table = ending
        .as_ref()
        .is_some_and(|e| e == "parquet" || e == "json");
    let lines = ending.as_ref().is_some_and(|e| e == "jsonl");
    if path.is_dir() || is_plain(path) {
        if data.column.is_some() {
            return Err(TrainError::Ignored {
                field: "data.column".into(),
                why: "plain texts have no columns".into(),
            });
        }
        return Ok(Some(Source::Documents(path.clone())));
    }
    let Some(column) = data.column else {
        let expected =
            "`text`, `prompt` or `messages`, as .jsonl, .json and .parquet files have columns";
        return Err(TrainError::config("data.column", expected, "none"));
    };
    match (lines, table) {
        (true, _) => Ok(Some(Source::Jsonl(path.clone(), column))),
        (_, true) => Ok(Some(Source::Table(path.clone(), column))),
        _ => Err(TrainError::config(
            "data.path",
            "a folder, or a file of .jsonl, .json, .parquet, .txt or .md",
            path.display(),
        )),
    }
}

/// What is left out of training.
pub(super) fn policy(data: &Data, checkpoint: &Checkpoint) -> Result<Policy, StoreError> {
    match &data.drop {
        None => Ok(Policy::training(&checkpoint.tokenizer)),
        Some(list) => Policy::parse(list, &checkpoint.tokenizer),
    }
}

/// The buffer that mixes contexts.
pub(super) fn mixing(config: &DictionaryConfig) -> Mixing {
    let buffer = config.data.mixing.unwrap_or_default();
    Mixing {
        rows: buffer.rows,
        keep: buffer.keep,
        batch: buffer.batch,
        seed: config.seed,
    }
}
