//! A weight edit on disk: a full checkpoint or a PEFT adapter, each with a note of what was done and its certificate.
//!
//! Always: the folder appears whole or not at all; the certificate is of what was read back from it, so that rounding to the
//! file's dtype is in it.

use std::path::Path;

use candle_core::DType;
use serde::Serialize;

use super::{Amounts, Certificate, EditError, Tied, WeightEdit, certificate, logit_difference};
use crate::files::{FileError, hash::sha256, write::write_atomic};
use crate::hooks::Vector;
use crate::model::{Checkpoint, Decoder, Fingerprint, LoadOptions, LoraAdapter, Opened, convert};

/// The note's file.
pub const NOTE: &str = "edit.json";

/// Its format.
pub const SCHEMA: &str = "candlescope.edit/1";

/// What such a folder is for; the help and the printed certificate say the same.
pub const PURPOSE: &str =
    "made to measure how much of a behaviour hangs on these directions; not a model to deploy";

/// What the edit was made of, for the note.
#[derive(Debug, Clone, Serialize)]
pub struct Ingredient {
    /// As it was named.
    pub source: String,
    /// SHA-256 of its numbers, f32 little-endian.
    pub sha256: String,
    /// Its length.
    pub norm: f64,
}

impl Ingredient {
    /// Of a vector.
    pub fn new(source: &str, vector: &Vector) -> Self {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        let squares = vector.iter().map(|&x| f64::from(x).powi(2));
        Self {
            source: source.to_owned(),
            sha256: sha256(&bytes),
            norm: squares.sum::<f64>().sqrt(),
        }
    }
}

/// In which form an edit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A Hugging Face folder with the weights in F32, F16 or BF16.
    Checkpoint(DType),
    /// A PEFT adapter beside the checkpoint.
    Adapter,
}

/// What is written, and how it is told.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The edit.
    pub edit: &'a WeightEdit,
    /// The form.
    pub form: Form,
    /// The directions, for the note.
    pub directions: &'a [Ingredient],
    /// What they were made orthogonal to first.
    pub projected_out: &'a [Ingredient],
    /// Prompts on which hook and weights are compared; none for no comparison.
    pub prompts: &'a [Vec<u32>],
}

/// The note.
#[derive(Debug, Serialize)]
pub struct Note<'a> {
    schema: &'static str,
    version: &'static str,
    purpose: &'static str,
    checkpoint: &'a str,
    made_from: &'a Fingerprint,
    form: &'static str,
    dtype: &'static str,
    directions: &'a [Ingredient],
    projected_out: &'a [Ingredient],
    amounts: &'a Amounts,
    biases: bool,
    keep_norms: bool,
    tied: Option<Tied>,
    /// What is left.
    pub certificate: &'a Certificate,
}

/// What was written.
#[derive(Debug, Serialize)]
pub struct Saved {
    /// Names of the files in the folder.
    pub files: Vec<String>,
    /// What is left in them.
    pub certificate: Certificate,
}

/// Applies an edit to a checkpoint and writes the result to `out`, which must not exist.
///
/// # Errors
/// As [`WeightEdit::apply`] and [`WeightEdit::adapter`]; `out` is there already, the disk. Nothing remains of a folder that
/// could not be finished.
pub fn save(checkpoint: &Checkpoint, order: &Order, out: &Path) -> Result<Saved, EditError> {
    let before = &checkpoint.decoder;
    let mut found = None;
    let files = convert::in_new_folder(out, |folder| -> Result<(), EditError> {
        let after = match order.form {
            Form::Checkpoint(dtype) => full(checkpoint, order.edit, dtype, folder)?,
            Form::Adapter => adapter(checkpoint, order.edit, folder)?,
        };
        let mut left = certificate(before, &after, &order.edit.basis)?;
        if !order.prompts.is_empty() {
            left.logits = Some(logit_difference(before, &after, order.edit, order.prompts)?);
        }
        let note = note(checkpoint, order, &left)?;
        let text = serde_json::to_string_pretty(&note).map_err(|error| FileError::Invalid {
            file: folder.join(NOTE),
            field: "the note".into(),
            expected: "numbers and text".into(),
            found: error.to_string(),
        })? + "\n";
        write_atomic(&folder.join(NOTE), text.as_bytes())?;
        found = Some(left);
        Ok(())
    })?;
    let certificate = found.ok_or(EditError::NoChange)?;
    Ok(Saved { files, certificate })
}

fn full(
    checkpoint: &Checkpoint,
    edit: &WeightEdit,
    dtype: DType,
    folder: &Path,
) -> Result<Decoder, EditError> {
    let after = edit.apply(&checkpoint.decoder)?;
    convert::write_model(&after, folder, dtype)?;
    let text = crate::model::ModelError::from;
    checkpoint.tokenizer.save(folder).map_err(text)?;
    if let Some(template) = &checkpoint.template {
        template.save(folder).map_err(text)?;
    }
    drop(after);
    let options = LoadOptions::default();
    Ok(Opened::at(folder, &options)?.decoder(&options)?)
}

fn adapter(
    checkpoint: &Checkpoint,
    edit: &WeightEdit,
    folder: &Path,
) -> Result<Decoder, EditError> {
    let model = &checkpoint.decoder;
    if model.is_adapted() || checkpoint.opened().adapted().is_some() {
        return Err(EditError::NotInAdapter {
            what: "an edit of a model that has an adapter itself".to_owned(),
            instead: "merge that one first with `candlescope model merge`",
        });
    }
    let base = if checkpoint.path.exists() {
        let path = std::path::absolute(&checkpoint.path);
        path.unwrap_or_else(|_| checkpoint.path.clone())
            .display()
            .to_string()
    } else {
        checkpoint.name.clone()
    };
    let config = model.config();
    edit.adapter(model)?.write(folder, config, &base)?;
    Ok(LoraAdapter::read(folder, config)?.on(model)?)
}

fn note<'a>(
    checkpoint: &'a Checkpoint,
    order: &Order<'a>,
    certificate: &'a Certificate,
) -> Result<Note<'a>, EditError> {
    let (form, dtype) = match order.form {
        Form::Checkpoint(dtype) => ("checkpoint", dtype.as_str()),
        Form::Adapter => ("adapter", "f32"),
    };
    let edit = order.edit;
    let untied = checkpoint.config().tied && edit.amounts.embed != 0.0;
    Ok(Note {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        purpose: PURPOSE,
        checkpoint: &checkpoint.name,
        made_from: checkpoint.fingerprint()?,
        form,
        dtype,
        directions: order.directions,
        projected_out: order.projected_out,
        amounts: &edit.amounts,
        biases: edit.biases,
        keep_norms: edit.keep_norms,
        tied: untied.then_some(edit.tied),
        certificate,
    })
}
