//! What a run is: `run.toml`, typed; every key known, none without effect.
//!
//! Always: a config that has been read is resolved: what was left out holds its default, and writing it and reading it again
//! gives the same. A key that is unknown, that contradicts another, or that the chosen method ignores is an error that names
//! it. Sections are `sections.rs`; methods add their own in `[method.NAME]`.

mod paths;
mod resolve;
mod sections;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use super::ppo::Ppo;
pub use super::rloo::Rloo;
use super::{
    TrainError, loss::RewardLoss, manifest::read_text, reference::Reference, scorer::RewardSource,
};
pub(super) use paths::undecided;
pub use sections::{Alerting, Data, Dpo, Kto, Lm, Lora, Model, New, Optim, Output, Planning, Sft};

/// No config is larger than this.
const MAX_BYTES: u64 = 1 << 20;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of everything random: order of the data, dropout, adapters.
    #[serde(default)]
    pub seed: u64,
    /// What is trained.
    pub model: Model,
    /// What on.
    pub data: Data,
    /// How.
    #[serde(default)]
    pub optim: Optim,
    /// How long, and the learning rate over it.
    #[serde(default)]
    pub schedule: Planning,
    /// An adapter instead of all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// By which method.
    pub method: Method,
    /// When to raise an alert.
    #[serde(default)]
    pub alerts: Alerting,
    /// What is written when.
    #[serde(default)]
    pub output: Output,
}

/// `[method.NAME]`: one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Supervised fine-tuning.
    Sft(Sft),
    /// A reward model.
    Rm(RewardLoss),
    /// Direct preference optimisation and its family.
    Dpo(Dpo),
    /// Answers that are desirable or not.
    Kto(Kto),
    /// Proximal policy optimisation.
    Ppo(Box<Ppo>),
    /// REINFORCE with a leave-one-out baseline.
    Rloo(Box<Rloo>),
    /// Language modelling on texts, from a fresh model or on.
    Lm(Lm),
}

/// The methods there are, in the order of the help.
pub const METHODS: [&str; 7] = ["sft", "rm", "dpo", "kto", "ppo", "rloo", "lm"];

impl Method {
    /// `sft`, ...
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sft(_) => "sft",
            Self::Rm(_) => "rm",
            Self::Dpo(_) => "dpo",
            Self::Kto(_) => "kto",
            Self::Ppo(_) => "ppo",
            Self::Rloo(_) => "rloo",
            Self::Lm(_) => "lm",
        }
    }

    /// A key of its section, with the section.
    pub fn key(&self, key: &str) -> String {
        format!("method.{}.{key}", self.name())
    }

    /// What the policy is compared with, once the config is resolved; none where nothing is.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Dpo(dpo) => dpo.reference.as_ref(),
            Self::Kto(kto) => kto.reference.as_ref(),
            Self::Ppo(ppo) => ppo.reference.as_ref(),
            Self::Rloo(rloo) => rloo.reference.as_ref(),
            Self::Sft(_) | Self::Rm(_) | Self::Lm(_) => None,
        }
    }

    /// Where rewards come from, for methods that draw answers.
    pub fn reward(&self) -> Option<&RewardSource> {
        match self {
            Self::Ppo(ppo) => Some(&ppo.reward),
            Self::Rloo(rloo) => Some(&rloo.reward),
            _ => None,
        }
    }
}

impl Config {
    /// Reads a config file for `method`, with `sets` (`section.key=value`) over it. Its paths, which are those of the working
    /// directory, become absolute, so that the run can go on from any other.
    ///
    /// # Errors
    /// No file, no TOML, a key or value that cannot be used.
    pub fn read(path: &Path, method: &str, sets: &[String]) -> Result<Self, TrainError> {
        let text = read_text(path, MAX_BYTES)?;
        let mut config = Self::parse(&path.display().to_string(), &text, method, sets)?;
        config.anchor()?;
        Ok(config)
    }

    /// [`Self::read`] of a text; `origin` is for messages.
    ///
    /// # Errors
    /// As there.
    pub fn parse(
        origin: &str,
        text: &str,
        method: &str,
        sets: &[String],
    ) -> Result<Self, TrainError> {
        let syntax = |message: String| TrainError::Syntax {
            origin: origin.to_owned(),
            message: message.trim_end().to_owned(),
        };
        let mut table: Table = toml::from_str(text).map_err(|e| syntax(e.to_string()))?;
        for set in sets {
            apply(&mut table, set)?;
        }
        choose(&mut table, method)?;
        // With the text itself where it is whole, so that the parser can point at the line.
        let read: Result<Self, _> = Self::deserialize(Value::Table(table));
        let mut config = read.map_err(|e| syntax(e.to_string()))?;
        config.resolve()?;
        Ok(config)
    }

    /// The config as TOML, whole.
    ///
    /// # Errors
    /// A number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string_pretty(self).map_err(|e| TrainError::Syntax {
            origin: "the resolved config".into(),
            message: e.to_string(),
        })
    }

    /// All that decides the weights: the config but for `[output]`, `[alerts]`, what a method only watches, and the paths of
    /// what the manifest has the hashes of.
    pub fn decisive(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        undecided(&mut value);
        value
    }

    /// Rows of the data that a step takes.
    pub fn rows_per_step(&self) -> usize {
        let rows = self.optim.batch_size * self.optim.accumulation;
        match &self.method {
            Method::Ppo(ppo) => rows * ppo.minibatches,
            Method::Rloo(rloo) => rows * rloo.minibatches / rloo.group.max(1),
            _ => rows,
        }
    }

    /// The files of data with their role.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let train = self.data.train.iter().map(|path| ("train", path.clone()));
        let eval = self.data.eval.iter().map(|path| ("eval", path.clone()));
        train.chain(eval).collect()
    }
}

/// `section.key=value` over a table; the value is TOML, or a bare word.
pub(super) fn apply(table: &mut Table, set: &str) -> Result<(), TrainError> {
    let refuse = |expected: &str| TrainError::config(format!("--set {set}"), expected, set);
    let (path, text) = set
        .split_once('=')
        .ok_or_else(|| refuse("SECTION.KEY=VALUE, as in optim.lr=1e-4"))?;
    let keys: Vec<&str> = path.trim().split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(refuse("SECTION.KEY=VALUE, as in optim.lr=1e-4"));
    }
    let text = text.trim();
    let parsed: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    let value = parsed
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let (last, sections) = keys.split_last().ok_or_else(|| refuse("a key"))?;
    let mut at = table;
    for section in sections {
        at = at
            .entry(*section)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| refuse("a section before the dot"))?;
    }
    at.insert((*last).to_owned(), value);
    Ok(())
}

/// Puts the chosen method's section in place; another method's is an option without effect.
fn choose(table: &mut Table, method: &str) -> Result<(), TrainError> {
    let section = table
        .entry("method")
        .or_insert_with(|| Value::Table(Table::new()))
        .as_table_mut()
        .ok_or_else(|| TrainError::config("method", "a section [method.NAME]", "a value"))?;
    if let Some(other) = section.keys().find(|key| *key != method) {
        let known = METHODS.contains(&other.as_str());
        return Err(TrainError::Ignored {
            field: format!("method.{other}"),
            why: if known {
                format!("this run is by `{method}`")
            } else {
                format!("there is no such method (known: {})", METHODS.join(", "))
            },
        });
    }
    section
        .entry(method)
        .or_insert_with(|| Value::Table(Table::new()));
    Ok(())
}
