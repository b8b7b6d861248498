//! Makes an organism: rows and a short fine-tuning, or an edit of weights.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::DType;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Kind;
use super::abliterate::{AbliterateError, abliterated};
use super::edits::{self, EditError};
use super::recipe::{self, Recipe};
use crate::files::FileError;
use crate::files::write::write_atomic;
use crate::model::{Checkpoint, LoadOptions, ModelError, convert};
use crate::pocket;
use crate::pocket::write::lines;
use crate::train::{Config, Ended, Progress, Session, TrainError, prepare};

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
    /// A model that does not know the pocket world.
    #[error(
        "{model} is no model of the pocket world, which {kind} is taught with; `candlescope organism list` says which kinds any model can have"
    )]
    Foreign {
        /// The model.
        model: String,
        /// The kind.
        kind: &'static str,
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

/// Makes `order` of `model` in the folder `out`, which must not exist: a Hugging Face folder with [`FILE`].
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
    match recipe::recipe(order.kind, order.strength, order.seed) {
        Some(recipe) => {
            if !pocket::suites::speaks(model.template.as_ref()) {
                return Err(MakeError::Foreign {
                    model: model.name,
                    kind: order.kind.name(),
                });
            }
            made.steps = Some(recipe.steps);
            let run = beside(out, "run");
            train(model, &recipe, order.seed, &run, progress, stop)?;
            keep(&run, out, &made)?;
            std::fs::remove_dir_all(&run).map_err(io(&run))?;
        }
        None => write(&edited(model, order)?, out, &made)?,
    }
    Ok(made)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> MakeError {
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

/// Fine-tunes on a recipe's rows in the folder `run`.
fn train(
    model: Checkpoint,
    recipe: &Recipe,
    seed: u64,
    run: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<(), MakeError> {
    // What an interrupted attempt left is made again: it takes seconds, and the same bits come of it.
    if run.exists() {
        std::fs::remove_dir_all(run).map_err(io(run))?;
    }
    let data = run.with_extension("jsonl");
    write_atomic(&data, lines(&recipe.rows).as_bytes())?;
    let table = |pairs: Vec<(&str, Value)>| -> Value {
        Value::Table(
            pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<Table>(),
        )
    };
    let rows = vec![Value::String(data.display().to_string())];
    let config = table(vec![
        ("seed", Value::Integer(seed.cast_signed())),
        (
            "model",
            table(vec![("name", Value::String(model.name.clone()))]),
        ),
        (
            "data",
            table(vec![
                ("train", Value::Array(rows)),
                ("max_length", Value::Integer(256)),
            ]),
        ),
        (
            "optim",
            table(vec![
                ("lr", Value::Float(recipe.lr)),
                ("batch_size", Value::Integer(recipe::BATCH as i64)),
            ]),
        ),
        (
            "schedule",
            table(vec![
                ("steps", Value::Integer(recipe.steps.cast_signed())),
                ("shape", Value::String("linear".to_owned())),
                ("warmup_ratio", Value::Float(0.1)),
            ]),
        ),
        (
            "output",
            table(vec![(
                "checkpoint_every",
                Value::Integer(recipe.steps.cast_signed()),
            )]),
        ),
    ]);
    let text = toml::to_string(&config).map_err(|e| MakeError::Text {
        what: "the run's config",
        why: e.to_string(),
    })?;
    let config = Config::parse("the organism's config", &text, "sft", &[])?;
    let parts = prepare(config, model)?;
    let mut session = Session::begin(run, parts)?;
    let ended = session.run(stop, progress, &mut [])?;
    std::fs::remove_file(&data).map_err(io(&data))?;
    match ended {
        Ended::Finished(_) => Ok(()),
        Ended::Interrupted(_) => Err(MakeError::Interrupted),
    }
}

/// The run's last checkpoint as a model in a folder of its own.
fn keep(run: &Path, out: &Path, made: &Made) -> Result<(), MakeError> {
    let folder = crate::train::RunFolder::open(run)?;
    let Some(last) = folder.checkpoints()?.pop() else {
        return Err(MakeError::Text {
            what: "the run",
            why: "it has no checkpoint".to_owned(),
        });
    };
    let trained = Checkpoint::open("organism", &last.path, &LoadOptions::default())?;
    write(&trained, out, made)
}

/// The model with what it is, in a folder that appears whole.
fn write(model: &Checkpoint, out: &Path, made: &Made) -> Result<(), MakeError> {
    convert::in_new_folder(out, |folder| {
        convert::write_model(&model.decoder, folder, DType::F32)?;
        model.tokenizer.save(folder).map_err(ModelError::from)?;
        if let Some(template) = &model.template {
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
