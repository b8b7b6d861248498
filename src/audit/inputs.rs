//! What an audit may be given beside checkpoints, prompts and dictionaries.
//!
//! Always: what was given is named in the provenance with its hash, and signals that read what was not given are left out by
//! name. The pairs: [`super::pairs`]; the traits: [`super::traits`].

use std::path::Path;

use super::catalogue::Artefact;
use super::evidence::Prompts;
use super::pairs::Preferences;
use super::result::InputUsed;
use super::traits::Trait;
use crate::model::checkpoint::words;
use crate::model::{LoadOptions, ModelError, Opened, ScoreModel};

/// Everything given.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Preference pairs.
    pub pairs: Option<Preferences>,
    /// Reward models that are not themselves under audit.
    pub judges: Vec<Judge>,
    /// Traits in place of those that are built in.
    pub traits: Option<Vec<Trait>>,
}

/// A reward model that others are held against.
#[derive(Debug)]
pub struct Judge {
    /// The last part of its path.
    pub name: String,
    /// SHA-256 over its tensors, in hex.
    pub hash: String,
    /// Hash of its tokenizer.
    pub tokenizer: String,
    /// The model.
    pub model: ScoreModel,
}

impl Judge {
    /// Opens a folder of a reward model.
    ///
    /// # Errors
    /// No model there, or one without a score head.
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        let opened = Opened::at(path, options)?;
        let model = ScoreModel::of(&opened, options)?;
        let (tokenizer, _) = words(&opened, path)?;
        let name = path.file_name().map(|name| name.to_string_lossy());
        Ok(Self {
            name: name.map(std::borrow::Cow::into_owned).unwrap_or_default(),
            hash: opened.content_hash()?,
            tokenizer: tokenizer.hash(),
            model,
        })
    }
}

impl Inputs {
    /// Whether this was given.
    pub fn has(&self, artefact: Artefact) -> bool {
        match artefact {
            Artefact::Pairs => self.pairs.is_some(),
            Artefact::Reward => !self.judges.is_empty(),
            _ => false,
        }
    }

    /// For the provenance.
    pub(super) fn used(&self, prompts: &Prompts) -> Vec<InputUsed> {
        let pairs = self.pairs.iter().map(|pairs| InputUsed {
            artefact: Artefact::Pairs,
            name: pairs.name.clone(),
            hash: pairs.hash.clone(),
            n: Some(prompts.preferences.len()),
        });
        let judges = self.judges.iter().map(|judge| InputUsed {
            artefact: Artefact::Reward,
            name: judge.name.clone(),
            hash: judge.hash.clone(),
            n: None,
        });
        pairs.chain(judges).collect()
    }
}
