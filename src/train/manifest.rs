//! `manifest.json`: where a run comes from, so that it can be made again.
//!
//! Always: written when the run begins and never changed; a run that goes on must have the same provenance but for the
//! program's version and the processor, which are noted in the log.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    Config, TrainError,
    origins::{self, Program, Used},
};
use crate::files::{hash::sha256_file, write::write_atomic};
use crate::model::Checkpoint;

/// Name of the format.
pub const SCHEMA: &str = "candlescope.run/1";
/// No manifest is larger than this.
const MAX_BYTES: u64 = 64 << 20;

/// A file of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Where it lay.
    pub path: PathBuf,
    /// `train` or `eval`.
    pub role: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// Provenance of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// This program's version.
    pub version: String,
    /// The method.
    pub method: String,
    /// What the user called the model.
    pub model: String,
    /// SHA-256 over the model's stored tensors.
    pub weights: String,
    /// SHA-256 of the model's config as this program reads it.
    pub model_config: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer: String,
    /// SHA-256 of the chat template; empty without one.
    pub template: String,
    /// The files of data.
    pub data: Vec<DataFile>,
    /// The models that it uses besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Used>,
    /// The command that rewards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Program>,
    /// The seed of everything random.
    pub seed: u64,
    /// `cpu`.
    pub device: String,
    /// Dtype and processor features that decide the last bits.
    pub numerical_path: String,
}

impl Manifest {
    /// Of a run about to begin; reads all weights and all data.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(checkpoint: &Checkpoint, config: &Config) -> Result<Self, TrainError> {
        let data = config.files();
        let command = config
            .method
            .reward()
            .and_then(|reward| reward.command.as_ref());
        let fingerprint = checkpoint.fingerprint()?;
        let data = data
            .iter()
            .map(|(role, path)| {
                Ok(DataFile {
                    path: path.clone(),
                    role: (*role).to_owned(),
                    sha256: sha256_file(path)?,
                })
            })
            .collect::<Result<_, TrainError>>()?;
        Ok(Self {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: config.method.name().to_owned(),
            model: checkpoint.name.clone(),
            weights: fingerprint.weights.clone(),
            model_config: fingerprint.config.clone(),
            tokenizer: fingerprint.tokenizer.clone(),
            template: fingerprint.template.clone(),
            data,
            models: origins::used(config)?,
            command: command.map(Program::of).transpose()?,
            seed: config.seed,
            device: "cpu".to_owned(),
            numerical_path: checkpoint.numerical_path(),
        })
    }

    /// The hash of the model in a role; empty without one.
    pub fn model_of(&self, role: &str) -> &str {
        let model = self.models.iter().find(|model| model.role == role);
        model.map_or("", |model| &model.weights)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| TrainError::io(path, "write")(std::io::Error::other(e)))?;
        Ok(write_atomic(path, (text + "\n").as_bytes())?)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is not there, too long, or no manifest.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = read_text(path, MAX_BYTES)?;
        serde_json::from_str(&text)
            .map_err(|e| TrainError::mismatch(path, "manifest", format!("one of {SCHEMA}"), e))
    }

    /// Refuses to go on from another beginning, naming what differs.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`].
    pub fn expect(&self, path: &Path, found: &Self) -> Result<(), TrainError> {
        let fields = [
            ("method", &self.method, &found.method),
            ("weights", &self.weights, &found.weights),
            ("model config", &self.model_config, &found.model_config),
            ("tokenizer", &self.tokenizer, &found.tokenizer),
            ("template", &self.template, &found.template),
        ];
        for (field, ours, theirs) in fields {
            if ours != theirs {
                return Err(TrainError::mismatch(path, field, ours, theirs));
            }
        }
        if !origins::same(&self.models, &found.models) {
            let (ours, theirs) = (origins::line(&self.models), origins::line(&found.models));
            return Err(TrainError::mismatch(path, "models", ours, theirs));
        }
        let same = match (&self.command, &found.command) {
            (Some(ours), Some(theirs)) => ours.same(theirs),
            (ours, theirs) => ours == theirs,
        };
        if !same {
            let words = |m: &Self| m.command.as_ref().map_or("none".to_owned(), Program::line);
            return Err(TrainError::mismatch(
                path,
                "command",
                words(self),
                words(found),
            ));
        }
        let data = |m: &Self| -> Vec<(String, String)> {
            let each = m.data.iter();
            each.map(|d| (d.role.clone(), d.sha256.clone())).collect()
        };
        if data(self) != data(found) {
            let named = |m: &Self| {
                let each = m.data.iter();
                let words: Vec<String> = each
                    .map(|d| {
                        format!(
                            "{} {}",
                            d.path.display(),
                            &d.sha256[..d.sha256.len().min(12)]
                        )
                    })
                    .collect();
                words.join(", ")
            };
            return Err(TrainError::mismatch(
                path,
                "data",
                named(self),
                named(found),
            ));
        }
        Ok(())
    }
}

/// A small text file, whole.
pub(super) fn read_text(path: &Path, most: u64) -> Result<String, TrainError> {
    let size = std::fs::metadata(path)
        .map_err(TrainError::io(path, "read"))?
        .len();
    if size > most {
        return Err(TrainError::mismatch(
            path,
            "size",
            format!("at most {most} bytes"),
            size,
        ));
    }
    std::fs::read_to_string(path).map_err(TrainError::io(path, "read"))
}
