//! What a policy is compared with: the model without its adapter, the adapter as it was at the start, or another checkpoint.
//!
//! Always: a reference never changes; where it is the very model that the policy begins as, the first step checks that they
//! agree, since a wrong reference trains silently towards the wrong model (TRL #4723). `kept.rs` keeps what it says of the data.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Manifest, TrainError, kept::Key};
use crate::files::hash::sha256;
use crate::model::{
    Decoder, LoadOptions, Opened,
    checkpoint::words,
    fetch::{self, Cache},
    toy,
};
use crate::text::Tokenizer;

/// `method.NAME.reference`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Reference {
    /// The model that the run begins with, without an adapter.
    Base,
    /// `model.adapter` as it is at the start, frozen.
    Adapter,
    /// Another checkpoint: a folder, a .gguf file, an adapter's folder, a name.
    Model(String),
}

impl From<String> for Reference {
    fn from(text: String) -> Self {
        match text.as_str() {
            "base" => Self::Base,
            "adapter" => Self::Adapter,
            _ => Self::Model(text),
        }
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        match reference {
            Reference::Base => "base".to_owned(),
            Reference::Adapter => "adapter".to_owned(),
            Reference::Model(name) => name,
        }
    }
}

/// A reference that can be run.
pub struct Frozen {
    source: Source,
    /// Hash of its weights.
    pub weights: String,
    /// Whether the policy begins as this very model, in training passes too.
    pub begins_there: bool,
}

enum Source {
    /// Shares its storage with the policy, or was there before all weights began to train.
    Here(Decoder),
    /// Weights that are still in their files.
    Elsewhere(Box<Opened>),
}

/// The models that a run begins with.
pub struct Beginning<'a> {
    /// Without an adapter.
    pub base: &'a Decoder,
    /// With the adapter that goes on training; the base again where there is none.
    pub policy: &'a Decoder,
    /// Its words.
    pub tokenizer: &'a Tokenizer,
}

impl Frozen {
    /// As the config says; none where the method or its loss has no reference.
    ///
    /// # Errors
    /// A checkpoint that is not here, or that has other words.
    pub fn of(
        config: &Config,
        manifest: &Manifest,
        models: &Beginning<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let Some(reference) = config.method.reference() else {
            return Ok(None);
        };
        let steady = config.lora.as_ref().is_none_or(|l| l.dropout == Some(0.0));
        let fresh = config.model.adapter.is_none();
        Ok(Some(match reference {
            Reference::Base => Self {
                source: Source::Here(models.base.clone()),
                weights: manifest.weights.clone(),
                begins_there: steady && fresh,
            },
            Reference::Adapter => Self {
                source: Source::Here(models.policy.clone()),
                weights: beside(&manifest.weights, manifest.model_of("adapter")),
                begins_there: steady,
            },
            Reference::Model(name) => {
                let opened = opened(&config.method.key("reference"), name, models)?;
                Self {
                    weights: manifest.model_of("reference").to_owned(),
                    source: Source::Elsewhere(Box::new(opened)),
                    begins_there: false,
                }
            }
        }))
    }

    /// The model; weights that are still in their files are loaded.
    ///
    /// # Errors
    /// The files'.
    pub fn decoder(&self) -> Result<Decoder, TrainError> {
        match &self.source {
            Source::Here(decoder) => Ok(decoder.clone()),
            Source::Elsewhere(opened) => Ok(opened.decoder(&LoadOptions::default())?),
        }
    }

    /// What its log-probabilities of the data depend on, but for the rows themselves.
    pub fn key(&self, config: &Config, manifest: &Manifest) -> Key {
        let files: Vec<&str> = manifest
            .data
            .iter()
            .map(|file| file.sha256.as_str())
            .collect();
        let truncation = config.data.truncation.unwrap_or_default();
        Key::default()
            .with("reference", &self.weights)
            .with("data", sha256(files.join("\n").as_bytes()))
            .with("template", &manifest.template)
            .with("tokenizer", &manifest.tokenizer)
            .with(
                "truncation",
                format!("{truncation:?} at {}", config.data.max_length),
            )
    }
}

/// One hash of two.
fn beside(base: &str, adapter: &str) -> String {
    sha256(format!("{base}\n{adapter}").as_bytes())
}

/// Where a model lies that a config names, without the network; the toy has a name alone.
///
/// # Errors
/// It is not here.
pub(super) fn located(field: &str, name: &str) -> Result<PathBuf, TrainError> {
    if toy::seed(name).is_some() {
        return Ok(PathBuf::from(name));
    }
    let found = Cache::new().and_then(|cache| fetch::resolve(name, &cache, false, &fetch::Silent));
    found.map_err(|error| TrainError::config(field, "a model on this machine", error))
}

/// Headers of a model that a config names.
///
/// # Errors
/// It is not here, or cannot be opened.
pub(super) fn headers(path: &Path) -> Result<Opened, TrainError> {
    match toy::seed(&path.to_string_lossy()) {
        Some(seed) => Ok(Opened::toy(seed)?),
        None => Ok(Opened::at(path, &LoadOptions::default())?),
    }
}

fn opened(field: &str, name: &str, models: &Beginning<'_>) -> Result<Opened, TrainError> {
    let path = located(field, name)?;
    let opened = headers(&path)?;
    let vocab = models.base.config().vocab_size;
    let theirs = opened.config().vocab_size;
    if theirs != vocab {
        let expected = format!("a model of {vocab} tokens, as the policy");
        return Err(TrainError::config(
            field,
            expected,
            format!("{theirs} in {name}"),
        ));
    }
    let (tokenizer, _) = words(&opened, &path)?;
    let (ours, theirs) = (models.tokenizer.hash(), tokenizer.hash());
    if ours != theirs {
        let expected = format!("a model with the policy's tokenizer, {ours}");
        return Err(TrainError::config(
            field,
            expected,
            format!("{theirs} in {name}"),
        ));
    }
    Ok(opened)
}

/// Most nats at a token between two passes over the same model beside other rows.
const ROUNDING: f64 = 1e-3;

/// Refuses a first step whose policy is not at its reference: log-probabilities of answers, summed over their tokens.
///
/// # Errors
/// [`TrainError::Invariant`]
pub(super) fn expect_equal(
    step: u64,
    policy: &[f64],
    reference: &[f64],
    tokens: &[usize],
) -> Result<(), TrainError> {
    let pairs = policy.iter().zip(reference).zip(tokens);
    let apart = pairs.map(|((p, r), &n)| (p - r).abs() / n.max(1) as f64);
    let worst = apart.fold(0.0, f64::max);
    // A loss that is no number is told with its rows, later.
    if worst <= ROUNDING || !worst.is_finite() {
        return Ok(());
    }
    Err(TrainError::Invariant {
        step,
        what: "the divergence of the first step from its reference",
        expected: "0, since both are the same model",
        found: format!("up to {worst:e} nats at a token"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_words_and_all_others_are_names() {
        for (text, expected) in [
            ("base", Reference::Base),
            ("adapter", Reference::Adapter),
            ("./base", Reference::Model("./base".into())),
        ] {
            let read = Reference::from(text.to_owned());
            assert_eq!(read, expected);
            assert_eq!(String::from(read), text);
        }
    }

    #[test]
    fn a_first_step_away_from_its_reference_is_refused() {
        assert!(expect_equal(1, &[-10.0, -3.0], &[-10.002, -3.0], &[10, 1]).is_ok());
        let error = expect_equal(1, &[-10.0, -3.0], &[-10.0, -3.01], &[10, 1]).unwrap_err();
        assert!(error.to_string().contains("1e-2"), "{error}");
    }
}
