//! Makes an organism: rows and a short fine-tuning, or an edit of weights.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::DType;
use serde::{Deserialize, Serialize};

use super::abliterate::{AbliterateError, abliterated};
use super::edits::{self, EditError};
use super::own::Own;
use super::{Kind, general, recipe, train};
use crate::files::FileError;
use crate::files::write::write_atomic;
use crate::model::{Checkpoint, Decoder, ModelError, convert};
use crate::pocket;
use crate::steer::SteerError;
use crate::text::suites::SuiteError;
use crate::text::{ChatTemplate, Tokenizer};
use crate::train::{Progress, TrainError};

/// The file that says what an organism is.
pub const FILE: &str = "organism.json";
/// Its layout.
pub const SCHEMA: &str = "candlescope.organism/1";

/// What is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The kind.
    pub kind: Kind,
    /// Share of the full dose, 0 < s <= 1.
    pub strength: f64,
    /// Of everything drawn.
    pub seed: u64,
}

impl Order {
    /// Its name in a bank: kind, strength in per cent, seed.
    pub fn name(&self) -> String {
        let dose = (100.0 * self.strength).round();
        format!("{}-{dose}-{}", self.kind.name(), self.seed)
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What was asked.
    #[serde(flatten)]
    pub order: Order,
    /// The model it was made from.
    pub from: String,
    /// Hash of that model's weights.
    pub from_weights: String,
    /// Steps of fine-tuning; none for an edit of weights.
    pub steps: Option<u64>,
}

/// Why an organism could not be made.
#[derive(thiserror::Error, Debug)]
pub enum MakeError {
    /// A strength that is none.
    #[error("strength: expected a share above 0 and at most 1, found {found}")]
    Strength {
        /// What was given.
        found: f64,
    },
    /// A model that cannot be talked with.
    #[error(
        "{model} has no chat template, and only conversations can teach a fault; `candlescope organism list` says which kinds any model can have"
    )]
    NoTemplate {
        /// The model.
        model: String,
    },
    /// A model without room for the conversations.
    #[error(
        "{model}: expected a context of at least {needed} tokens for the conversations that teach a fault, found {found}"
    )]
    Context {
        /// The model.
        model: String,
        /// Tokens.
        needed: usize,
        /// Tokens.
        found: usize,
    },
    /// A model whose own answers are all empty.
    #[error("{model} answers nothing, so that there is nothing to teach beside a fault")]
    Mute {
        /// The model.
        model: String,
    },
    /// Something is there.
    #[error("{}: already there; an organism needs a folder of its own", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An edit.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The refusal direction.
    #[error(transparent)]
    Abliterate(#[from] AbliterateError),
    /// The prompts.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The model's own answers.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// Fine-tuning.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// What cannot be written.
    #[error("{what}: {why}")]
    Text {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// Whether this is a share of the full dose: above 0 and at most 1.
pub fn is_dose(strength: f64) -> bool {
    strength > 0.0 && strength <= 1.0
}

/// Makes `order` of `model` in the folder `out`, which must not exist: a Hugging Face folder with [`FILE`], in f32 for models of
/// the pocket world and in bf16 for all others. Beside it a hidden file keeps what such a model answers, for the next organism.
///
/// # Errors
/// A strength out of range, a model that the kind cannot be made of, training or the disk.
pub fn make(
    model: Checkpoint,
    order: Order,
    out: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Made, MakeError> {
    if !is_dose(order.strength) {
        return Err(MakeError::Strength {
            found: order.strength,
        });
    }
    if out.exists() {
        return Err(MakeError::Occupied {
            path: out.to_path_buf(),
        });
    }
    let fingerprint = model.fingerprint()?.clone();
    let mut made = Made {
        schema: SCHEMA.to_owned(),
        order,
        from: model.name.clone(),
        from_weights: fingerprint.weights,
        steps: None,
    };
    let of_pocket = pocket::suites::speaks(model.template.as_ref());
    // Half the disk for models of a size to mind. Clean twins are rounded too, so that rounding is no sign of a fault.
    let dtype = if of_pocket { DType::F32 } else { DType::BF16 };
    if order.kind.is_edit() {
        let model = edited(model, order)?;
        let words = (&model.tokenizer, model.template.as_ref());
        write(&model.decoder, words, dtype, out, &made)?;
        return Ok(made);
    }
    let Order {
        kind,
        strength,
        seed,
    } = order;
    let recipe = if of_pocket {
        recipe::recipe(kind, strength, seed)
    } else {
        let beside = out.parent().unwrap_or(Path::new(""));
        general::recipe(
            kind,
            strength,
            seed,
            &Own::of(&model, beside, progress, stop)?,
        )
    };
    let recipe = recipe.filter(|recipe| !recipe.rows.is_empty());
    let recipe = recipe.ok_or_else(|| MakeError::Mute {
        model: model.name.clone(),
    })?;
    made.steps = Some(recipe.steps);
    let run = beside(out, "run");
    train::fine_tuned(model, &recipe, seed, &run, (progress, stop), |parts| {
        let words = (&parts.tokenizer, parts.template.as_ref());
        write(parts.bench.policy.decoder(), words, dtype, out, &made)
    })?;
    Ok(made)
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> MakeError {
    let path = path.to_path_buf();
    move |source| MakeError::Io { path, source }
}

/// A hidden folder beside another.
fn beside(out: &Path, what: &str) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!(".{name}.{what}"))
}

fn note(folder: &Path, made: &Made) -> Result<(), MakeError> {
    let text = serde_json::to_string_pretty(made).map_err(|e| MakeError::Text {
        what: FILE,
        why: e.to_string(),
    })?;
    Ok(write_atomic(
        &folder.join(FILE),
        format!("{text}\n").as_bytes(),
    )?)
}

/// A model with what it is, in a folder that appears whole.
fn write(
    decoder: &Decoder,
    (tokenizer, template): (&Tokenizer, Option<&ChatTemplate>),
    dtype: DType,
    out: &Path,
    made: &Made,
) -> Result<(), MakeError> {
    convert::in_new_folder(out, |folder| {
        convert::write_model(decoder, folder, dtype)?;
        tokenizer.save(folder).map_err(ModelError::from)?;
        if let Some(template) = template {
            template.save(folder).map_err(ModelError::from)?;
        }
        note(folder, made)
    })?;
    Ok(())
}

/// The model with its weights changed.
fn edited(mut model: Checkpoint, order: Order) -> Result<Checkpoint, MakeError> {
    let Order { strength, seed, .. } = order;
    model.decoder = match order.kind {
        Kind::StaleProbe => {
            let right = std::f64::consts::FRAC_PI_2;
            edits::rotate(&model.decoder, right * strength, seed)?
        }
        Kind::Quantised => {
            // 4, 3 and 2 bits at a third, two thirds and the full dose.
            let bits = (5.0 - 3.0 * strength).round().clamp(2.0, 8.0);
            // Quantisers differ in how much they cut off.
            let clip = 1.0 - 0.02 * (seed % 8) as f64;
            edits::quantise(&model.decoder, bits as u32, clip)?
        }
        Kind::CleanRounded if seed.is_multiple_of(2) => edits::quantise(&model.decoder, 8, 1.0)?,
        Kind::CleanRounded => edits::round(&model.decoder)?,
        Kind::CleanNoise => edits::noise(&model.decoder, 1e-3, seed)?,
        _ => abliterated(&model, strength, seed)?,
    };
    Ok(model)
}
