//! A checkpoint opened whole: weights, tokenizer, chat template, and the fingerprint that ties artefacts to it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Tensor};
use candlescope_ops as ops;
use serde::{Deserialize, Serialize};

use super::{Decoder, LoadOptions, ModelError, Opened, ScoreModel, score};
use crate::config::ModelConfig;
use crate::files::hash::sha256;
use crate::hooks::Edit;
use crate::text::{self, ChatEncoding, ChatTemplate, Message, Tokenizer, Vars, encode_chat};

/// What computes the same has the same fingerprint. Every artefact carries the one it was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// SHA-256 over names, dtypes, shapes and bytes of the stored tensors.
    pub weights: String,
    /// SHA-256 of the tokenizer's canonical form.
    pub tokenizer: String,
    /// SHA-256 of the chat template's source; empty without one.
    pub template: String,
    /// SHA-256 of the decoder's config as this program reads it (rotary parameters included).
    pub config: String,
    /// Dtype of matrices and of activations.
    pub dtype: String,
}

impl Fingerprint {
    /// Of parts that are not (yet) a checkpoint; reads all stored tensors. `weights` is what matrices are kept in.
    pub fn of(
        opened: &Opened,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        weights: DType,
    ) -> Result<Self, ModelError> {
        let config = serde_json::to_string(opened.config()).map_err(|e| {
            let path = opened.source().describe();
            ModelError::NotACheckpoint {
                path,
                why: e.to_string(),
            }
        })?;
        Ok(Self {
            weights: opened.content_hash()?,
            tokenizer: tokenizer.hash(),
            template: template.map(ChatTemplate::hash).unwrap_or_default(),
            config: sha256(config.as_bytes()),
            dtype: dtype_text(weights),
        })
    }

    /// One hash of all fields.
    pub fn id(&self) -> String {
        let parts = [
            &self.weights,
            &self.tokenizer,
            &self.template,
            &self.config,
            &self.dtype,
        ];
        sha256(parts.map(String::as_str).join("\n").as_bytes())
    }

    /// Refuses another forward pass than the one an artefact was made on, naming the field that differs.
    pub fn expect(&self, made_on: &Self, artefact: &str) -> Result<(), ModelError> {
        let fields = [
            ("weights", &made_on.weights, &self.weights),
            ("tokenizer", &made_on.tokenizer, &self.tokenizer),
            ("template", &made_on.template, &self.template),
            ("config", &made_on.config, &self.config),
            ("dtype", &made_on.dtype, &self.dtype),
        ];
        match fields.iter().find(|(_, made, here)| made != here) {
            None => Ok(()),
            Some((field, made, here)) => Err(ModelError::Fingerprint {
                artefact: artefact.to_string(),
                field,
                expected: (*made).clone(),
                found: (*here).clone(),
            }),
        }
    }
}

/// A model with its words.
pub struct Checkpoint {
    /// What the user called it.
    pub name: String,
    /// Where it lies; the name again for a model made in memory.
    pub path: PathBuf,
    /// The model.
    pub decoder: Decoder,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, for chat models.
    pub template: Option<ChatTemplate>,
    /// The score head, where this is a reward or value model: then the decoder's logits mean nothing.
    score: Option<Tensor>,
    opened: Arc<Opened>,
    fingerprint: OnceLock<Fingerprint>,
}

impl Checkpoint {
    /// Opens a folder or a GGUF file. Weights and tokenizer load side by side.
    ///
    /// # Errors
    /// Anything wrong with a file, a config that is not served exactly, a tokenizer with ids beyond the vocabulary.
    pub fn open(name: &str, path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        let opened = Opened::at(path, options)?;
        let (decoder, words) = rayon::join(|| opened.decoder(options), || words(&opened, path));
        let (decoder, (tokenizer, template)) = (decoder?, words?);
        tokenizer.check_vocab(decoder.config().vocab_size)?;
        let words = (tokenizer, template);
        Ok(Self::whole(
            name,
            path.to_path_buf(),
            decoder,
            words,
            opened,
        ))
    }

    /// Opens a language model or, where a score head lies with the weights, a reward or value model.
    ///
    /// # Errors
    /// As [`Self::open`], and as [`ScoreModel::of`].
    pub fn open_any(name: &str, path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        let opened = Opened::at(path, options)?;
        if opened.source().info(score::NAME).is_none() {
            return Self::open(name, path, options);
        }
        let model = ScoreModel::of(&opened, options)?;
        let (tokenizer, template) = words(&opened, path)?;
        let decoder = model.decoder().clone();
        tokenizer.check_vocab(decoder.config().vocab_size)?;
        let words = (tokenizer, template);
        Ok(Self {
            score: Some(model.head().clone()),
            ..Self::whole(name, path.to_path_buf(), decoder, words, opened)
        })
    }

    /// Whether this is a reward or value model, which answers nothing.
    pub fn is_scored(&self) -> bool {
        self.score.is_some()
    }

    /// The reward or value model that this is, with the edits that stand on its decoder; `None` of a language model.
    ///
    /// # Errors
    /// None for what [`Self::open_any`] opened.
    pub fn score_model(&self) -> Result<Option<ScoreModel>, ModelError> {
        let of = |head: &Tensor| ScoreModel::new(self.decoder.clone(), head.clone());
        self.score.as_ref().map(of).transpose()
    }

    /// Of parts that fit each other.
    pub(super) fn whole(
        name: &str,
        path: PathBuf,
        decoder: Decoder,
        (tokenizer, template): (Tokenizer, Option<ChatTemplate>),
        opened: Opened,
    ) -> Self {
        Self {
            name: name.to_string(),
            path,
            decoder,
            tokenizer,
            template,
            score: None,
            opened: Arc::new(opened),
            fingerprint: OnceLock::new(),
        }
    }

    /// The same checkpoint with edits in every pass, before those that a pass brings. Weights are shared, not copied.
    pub fn under(&self, edits: Vec<Edit>) -> Self {
        let mut decoder = self.decoder.clone();
        decoder.set_standing_edits([decoder.standing_edits(), &edits].concat());
        Self {
            name: self.name.clone(),
            path: self.path.clone(),
            decoder,
            tokenizer: self.tokenizer.clone(),
            template: self.template.clone(),
            score: self.score.clone(),
            opened: Arc::clone(&self.opened),
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// The config.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// The stored tensors.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Encodes a conversation through the chat template.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        vars: &Vars,
    ) -> Result<ChatEncoding, ModelError> {
        let template = self
            .template
            .as_ref()
            .ok_or_else(|| ModelError::NoTemplate {
                name: self.name.clone(),
            })?;
        Ok(encode_chat(
            &self.tokenizer,
            template,
            messages,
            true,
            vars,
        )?)
    }

    /// Encodes one user prompt, under a system message if there is one; models without a template get the bare text.
    pub fn encode_prompt(
        &self,
        prompt: &str,
        system: Option<&str>,
    ) -> Result<ChatEncoding, ModelError> {
        if self.template.is_none() {
            let text = system.map_or_else(|| prompt.to_string(), |s| format!("{s}\n\n{prompt}"));
            let ids = self.tokenizer.encode(&text, true)?;
            let instruction_end = ids.len().checked_sub(1);
            return Ok(ChatEncoding {
                ids,
                instruction_end,
            });
        }
        let mut messages: Vec<Message> = system
            .map(|s| Message::new("system", s))
            .into_iter()
            .collect();
        messages.push(Message::user(prompt));
        self.encode_chat(&messages, &Vars::default())
    }

    /// Tokens that end an answer: the tokenizer's, and the config's where the tokenizer has them.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids = self.tokenizer.stop_ids().to_vec();
        let vocab = self.tokenizer.vocab_size();
        ids.extend(
            self.config()
                .eos
                .iter()
                .copied()
                .filter(|&id| (id as usize) < vocab),
        );
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Which kernels run, for provenance: CPU features and dtypes.
    pub fn numerical_path(&self) -> String {
        format!(
            "{} on {}",
            dtype_text(self.decoder.weight_dtype()),
            ops::cpu_features()
        )
    }

    /// The fingerprint; the first call reads all weights.
    pub fn fingerprint(&self) -> Result<&Fingerprint, ModelError> {
        if let Some(fingerprint) = self.fingerprint.get() {
            return Ok(fingerprint);
        }
        let made = Fingerprint::of(
            &self.opened,
            &self.tokenizer,
            self.template.as_ref(),
            self.decoder.weight_dtype(),
        )?;
        Ok(self.fingerprint.get_or_init(|| made))
    }
}

/// Dtype of matrices and arithmetic: bf16 weights compute in f32, all others in their own.
fn dtype_text(weights: DType) -> String {
    match weights {
        DType::BF16 => "bf16 weights, f32 arithmetic".into(),
        other => other.as_str().into(),
    }
}

/// The tokenizer and chat template that lie with the weights.
///
/// # Errors
/// None are there, or they are malformed.
pub fn words(
    opened: &Opened,
    path: &Path,
) -> Result<(Tokenizer, Option<ChatTemplate>), ModelError> {
    match opened {
        Opened::Adapted(adapted) => {
            let base = || words(adapted.base(), adapted.base_path());
            // Training saves the words it used beside an adapter; PEFT alone does not.
            if !path.join("tokenizer.json").is_file() {
                return base();
            }
            let tokenizer = Tokenizer::from_folder(path)?;
            let template = match ChatTemplate::from_folder(path, &tokenizer)? {
                None => base()?.1,
                own => own,
            };
            Ok((tokenizer, template))
        }
        Opened::Gguf(gguf, _) => {
            let tokenizer = Tokenizer::from_gguf(gguf)?;
            let template = ChatTemplate::from_gguf(gguf, &tokenizer)?;
            Ok((tokenizer, template))
        }
        Opened::Memory(..) => {
            let (tokenizer, template) = text::toy::words()?;
            Ok((tokenizer, Some(template)))
        }
        Opened::Folder(..) => {
            let folder = if path.is_dir() {
                path
            } else {
                path.parent().unwrap_or(Path::new("."))
            };
            let tokenizer = Tokenizer::from_folder(folder)?;
            let template = ChatTemplate::from_folder(folder, &tokenizer)?;
            Ok((tokenizer, template))
        }
    }
}
