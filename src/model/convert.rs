//! Writes a model as a Hugging Face folder: config, safetensors under Hugging Face names, tokenizer, chat template.
//!
//! Always: the weights are the exact ones that run here (dequantised, unpermuted), put back where `names.rs` says the
//! family keeps them; the folder appears whole or not at all. The config is `config/to_hf.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

use super::{
    Checkpoint, Decoder, LoadOptions, ModelError, Opened, ScoreModel, names::Take, score,
    slots::slots,
};
use crate::config::{Family, ModelConfig, to_hf_json, to_hf_score_json};
use crate::files::{
    FileError,
    write::{Planned, WriteOptions, write_atomic, write_safetensors},
};
use crate::text::{ChatTemplate, Tokenizer};

/// Writes a checkpoint to `out`, which must not exist, in `dtype` (F32, F16 or BF16). Returns the files' names.
///
/// # Errors
/// `out` is there already, a config that Hugging Face's format cannot express, a value that overflows f16, a full disk.
/// Nothing remains of a folder that could not be finished.
pub fn to_folder(
    checkpoint: &Checkpoint,
    out: &Path,
    dtype: DType,
) -> Result<Vec<String>, ModelError> {
    in_new_folder(out, |folder| {
        write_model(&checkpoint.decoder, folder, dtype)?;
        checkpoint.tokenizer.save(folder)?;
        if let Some(template) = &checkpoint.template {
            template.save(folder)?;
        }
        Ok(())
    })
}

/// [`to_folder`] of what is open but not loaded; a reward model, an adapter of one included, as a classifier with one score.
///
/// # Errors
/// As there.
pub fn opened_to_folder(
    opened: &Opened,
    (tokenizer, template): (&Tokenizer, Option<&ChatTemplate>),
    out: &Path,
    dtype: DType,
) -> Result<Vec<String>, ModelError> {
    let options = LoadOptions::default();
    in_new_folder(out, |folder| {
        if opened.source().info(score::NAME).is_some() {
            let model = ScoreModel::of(opened, &options)?;
            write_scored(model.decoder(), model.head(), folder, dtype)?;
        } else {
            write_model(&opened.decoder(&options)?, folder, dtype)?;
        }
        tokenizer.save(folder)?;
        if let Some(template) = template {
            template.save(folder)?;
        }
        Ok(())
    })
}

/// Writes `config.json` and the weights into `folder`, without a tokenizer; an adapter is merged into them.
///
/// # Errors
/// As [`to_folder`]; the folder holds weights already.
pub fn write_model(decoder: &Decoder, folder: &Path, dtype: DType) -> Result<(), ModelError> {
    let config = to_hf_json(decoder.config(), dtype_name(dtype))?;
    let decoder = &decoder.merged()?;
    write(&stored(decoder), decoder.config(), &config, folder, dtype)
}

/// [`write_model`] of a decoder without its unembedding and with a score head `[1, d_model]`.
pub(super) fn write_scored(
    decoder: &Decoder,
    head: &Tensor,
    folder: &Path,
    dtype: DType,
) -> Result<(), ModelError> {
    let mut stored = stored(&decoder.merged()?);
    stored.remove(&score::head_name(decoder.config()));
    stored.insert(score::NAME.to_owned(), vec![(Take::All, head.clone())]);
    let config = to_hf_score_json(decoder.config(), dtype_name(dtype))?;
    write(&stored, decoder.config(), &config, folder, dtype)
}

fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    }
}

fn write(
    stored: &Stored,
    config: &ModelConfig,
    json: &str,
    folder: &Path,
    dtype: DType,
) -> Result<(), ModelError> {
    let plan: Vec<Planned> = stored
        .iter()
        .map(|(name, pieces)| (name.clone(), shape(pieces)))
        .collect();
    let options = WriteOptions {
        dtype,
        ..WriteOptions::default()
    };
    write_safetensors(folder, &plan, &options, |name| {
        joined(&stored[name], config)
    })?;
    write_atomic(&folder.join("config.json"), json.as_bytes())?;
    Ok(())
}

/// Runs `fill` on a hidden folder beside `out`, which then takes its name; on failure it is removed. Gives the files' names.
///
/// # Errors
/// `out` is there already, what `fill` says, the disk.
pub fn in_new_folder<E: From<ModelError>>(
    out: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    if out.symlink_metadata().is_ok() {
        return Err(refused(out, "something is there already").into());
    }
    let name = out
        .file_name()
        .ok_or_else(|| -> E { refused(out, "a path without a name").into() })?;
    let hidden = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
    let folder = out.with_file_name(hidden);
    let io = |action: &str, source| -> ModelError {
        FileError::Io {
            file: out.to_path_buf(),
            action: action.to_owned(),
            source,
        }
        .into()
    };
    fs::create_dir(&folder).map_err(|e| E::from(io("make a temporary folder beside it", e)))?;
    let finished = fill(&folder).and_then(|()| {
        let mut names: Vec<String> = fs::read_dir(&folder)
            .map_err(|e| E::from(io("list what was written", e)))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        names.sort();
        fs::rename(&folder, out).map_err(|e| E::from(io("move the finished folder to", e)))?;
        Ok(names)
    });
    if finished.is_err() {
        // The failure itself is the news; what cannot be removed is hidden and named after this program's process.
        let _ = fs::remove_dir_all(&folder);
    }
    finished
}

fn refused(out: &Path, found: &str) -> ModelError {
    FileError::Invalid {
        file: PathBuf::from(out),
        field: "output folder".into(),
        expected: "a path where nothing is yet".into(),
        found: found.into(),
    }
    .into()
}

/// Pieces of each stored tensor, with how they were taken out of it.
type Stored = BTreeMap<String, Vec<(Take, Tensor)>>;

fn stored(decoder: &Decoder) -> Stored {
    let mut weights = decoder.weights().clone();
    let mut stored = Stored::new();
    for slot in slots(&mut weights, decoder.config()) {
        let pieces = stored.entry(slot.place.name).or_default();
        pieces.push((slot.place.take, slot.tensor.clone()));
    }
    stored
}

/// Shape of the stored tensor that these pieces are cut from.
fn shape(pieces: &[(Take, Tensor)]) -> Vec<usize> {
    let Some((take, first)) = pieces.first() else {
        return Vec::new();
    };
    let dims = first.dims();
    let of = |axis: usize| pieces.iter().map(|(_, piece)| piece.dims()[axis]).sum();
    match take {
        Take::All | Take::Unpermuted(_) => dims.to_vec(),
        Take::Transposed => dims.iter().rev().copied().collect(),
        Take::Rows(_) | Take::NeoxQkv(_) => [&[of(0)], &dims[1..]].concat(),
        Take::ColumnsTransposed(_) => vec![dims[1], of(0)],
    }
}

/// The stored tensor: the inverse of the cuts in `weights.rs`. Norm gains go back to Gemma's convention.
pub(super) fn joined(
    pieces: &[(Take, Tensor)],
    config: &ModelConfig,
) -> candle_core::Result<Tensor> {
    let mut pieces: Vec<&(Take, Tensor)> = pieces.iter().collect();
    pieces.sort_by_key(|(take, _)| match take {
        Take::Rows(part) | Take::ColumnsTransposed(part) => part.start,
        Take::NeoxQkv(which) => *which,
        _ => 0,
    });
    let tensors: Vec<&Tensor> = pieces.iter().map(|(_, tensor)| tensor).collect();
    match pieces[0].0 {
        Take::Transposed => tensors[0].t()?.contiguous(),
        Take::Rows(_) => Tensor::cat(&tensors, 0),
        Take::ColumnsTransposed(_) => Tensor::cat(&tensors, 0)?.t()?.contiguous(),
        Take::NeoxQkv(_) => {
            let (heads, d_head) = (config.n_heads, config.d_head);
            let rest = &tensors[0].dims()[1..];
            let by_head = tensors
                .iter()
                .map(|t| t.reshape([&[heads, 1, d_head], rest].concat()))
                .collect::<candle_core::Result<Vec<_>>>()?;
            Tensor::cat(&by_head, 1)?.reshape([&[3 * heads * d_head], rest].concat())
        }
        Take::Unpermuted(heads) => {
            let (rows, rest) = (tensors[0].dims()[0], &tensors[0].dims()[1..]);
            let half = rows / heads / 2;
            let halves = tensors[0].reshape([&[heads, 2, half], rest].concat())?;
            halves
                .transpose(1, 2)?
                .contiguous()?
                .reshape(tensors[0].dims())
        }
        Take::All => {
            // One axis and whole: a norm's gain or bias, and Gemma's norms have no bias.
            let gemma = matches!(config.family, Family::Gemma2 | Family::Gemma3);
            if gemma && tensors[0].rank() == 1 {
                tensors[0] - 1.0
            } else {
                Ok(tensors[0].clone())
            }
        }
    }
}
