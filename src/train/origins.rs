//! What besides model and data decides a run: the adapter that goes on, the reference, reward and value models, a reward's
//! command; each with its hash, for the manifest.
//!
//! Always: in the order of the config, so that an ensemble in another order is another one; a command is its words and the bytes
//! of every file among them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, TrainError, config::Method, reference};
use crate::files::hash::sha256_file;
use crate::model::{LoraAdapter, checkpoint::words};
use crate::train::{reference::Reference, scorer::Ask};

/// A model that a run uses beside the one it trains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// `adapter`, `reference`, `reward` or `value`.
    pub role: String,
    /// Where it lay, or its name.
    pub name: String,
    /// SHA-256 over its stored tensors; of an adapter's folder, over base and adapter.
    pub weights: String,
    /// SHA-256 of its tokenizer; empty for the adapter that goes on, whose words are the model's.
    pub tokenizer: String,
}

/// A reward's command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// The words that are files, with the SHA-256 of each.
    pub files: Vec<(PathBuf, String)>,
}

impl Program {
    /// With the files among its words.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(ask: &Ask) -> Result<Self, TrainError> {
        let folder = ask.dir.as_deref().unwrap_or(Path::new("."));
        let files = ask.run.iter().map(|word| folder.join(word));
        let files = files.filter(|path| path.is_file()).map(|path| {
            let hash = sha256_file(&path)?;
            Ok((path, hash))
        });
        Ok(Self {
            run: ask.run.clone(),
            files: files.collect::<Result<_, TrainError>>()?,
        })
    }

    /// In one line, to compare and to show.
    pub fn line(&self) -> String {
        let files = self.files.iter();
        let files = files.map(|(path, hash)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} {}", &hash[..hash.len().min(12)])
        });
        let run = self.run.join(" ");
        let all: Vec<String> = std::iter::once(run).chain(files).collect();
        all.join(", ")
    }

    /// Whether it is the same program, wherever its files lie.
    pub fn same(&self, other: &Self) -> bool {
        let hashes = |p: &Self| {
            p.files
                .iter()
                .map(|(_, hash)| hash.clone())
                .collect::<Vec<_>>()
        };
        self.run == other.run && hashes(self) == hashes(other)
    }
}

/// All models of a config beside the one it trains; reads their weights.
///
/// # Errors
/// One that is not here or cannot be read.
pub fn used(config: &Config) -> Result<Vec<Used>, TrainError> {
    let mut all = Vec::new();
    if let Some(folder) = &config.model.adapter {
        all.push(adapter(folder)?);
    }
    if let Some(Reference::Model(name)) = config.method.reference() {
        let path = reference::located(&config.method.key("reference"), name)?;
        all.push(model("reference", name, &path)?);
    }
    let rewards = config
        .method
        .reward()
        .map(|reward| reward.models.as_slice());
    for path in rewards.unwrap_or_default() {
        all.push(model("reward", &path.display().to_string(), path)?);
    }
    if let Method::Ppo(ppo) = &config.method
        && let Some(path) = &ppo.value_model
    {
        all.push(model("value", &path.display().to_string(), path)?);
    }
    Ok(all)
}

fn model(role: &str, name: &str, path: &Path) -> Result<Used, TrainError> {
    let opened = reference::headers(path)?;
    let (tokenizer, _) = words(&opened, path)?;
    Ok(Used {
        role: role.to_owned(),
        name: name.to_owned(),
        weights: opened.content_hash().map_err(TrainError::File)?,
        tokenizer: tokenizer.hash(),
    })
}

/// The adapter that goes on, apart from any base: its own files.
fn adapter(folder: &Path) -> Result<Used, TrainError> {
    Ok(Used {
        role: "adapter".to_owned(),
        name: folder.display().to_string(),
        weights: LoraAdapter::hash(folder)?,
        tokenizer: String::new(),
    })
}

/// The hashes of models in one line.
pub fn line(all: &[Used]) -> String {
    let each = all
        .iter()
        .map(|m| format!("{} {}", m.role, short(&m.weights)));
    let line: Vec<String> = each.collect();
    if line.is_empty() {
        "none".to_owned()
    } else {
        line.join(", ")
    }
}

/// Whether they are the same models, wherever they lie.
pub fn same(one: &[Used], other: &[Used]) -> bool {
    let what = |all: &[Used]| -> Vec<(String, String, String)> {
        let each = all.iter();
        each.map(|m| (m.role.clone(), m.weights.clone(), m.tokenizer.clone()))
            .collect()
    };
    what(one) == what(other)
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
