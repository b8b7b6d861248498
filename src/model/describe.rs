//! What a checkpoint is, in words and numbers: for `model info` and the workbench.
//!
//! Always: it reads headers, config and words; only the fingerprint reads the weights.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::DType;
use serde::Serialize;

use super::{Checkpoint, Fingerprint, LoraSpec, ModelError, Opened, checkpoint, lora::Adapted};
use crate::config::{ModelConfig, Positions, Rope, RopeScaling};
use crate::files::TensorSource;
use crate::text::amount::{bytes, parameters};
use crate::text::{ChatTemplate, Tokenizer};

/// A checkpoint, described.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// What the user called it.
    pub model: String,
    /// Where it lies.
    pub path: String,
    /// Its config.
    pub config: ModelConfig,
    /// Parameters, tied ones counted once.
    pub n_params: usize,
    /// The adapter, where it is one.
    pub adapter: Option<AdapterCard>,
    /// Stored tensors by dtype.
    pub stored: BTreeMap<String, Stored>,
    /// Its words; why there are none, where there are none.
    pub words: Result<Words, String>,
    /// Its hashes; none without words.
    pub fingerprint: Option<Fingerprint>,
    /// One hash of these.
    pub fingerprint_id: Option<String>,
    /// What it takes to run it.
    pub memory: Memory,
}

/// An adapter, described.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterCard {
    /// Where its base lies, or the base's name.
    pub base: String,
    /// Its options.
    pub options: LoraSpec,
    /// Linear layers that it changes.
    pub modules: usize,
    /// Its numbers.
    pub n_params: usize,
    /// Whether it makes a reward or value model.
    pub scored: bool,
}

/// Tensors of one stored type.
#[derive(Debug, Clone, Serialize, Default)]
pub struct Stored {
    /// How many.
    pub tensors: usize,
    /// Numbers in them.
    pub numbers: u64,
}

/// A tokenizer and what goes with it.
#[derive(Debug, Clone, Serialize)]
pub struct Words {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Special tokens by role.
    pub special_tokens: BTreeMap<String, String>,
    /// Tokens that end an answer.
    pub stop: Vec<String>,
    /// Whether there is a chat template.
    pub chat_template: bool,
}

/// Bytes of memory.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// The dtype this is for.
    pub dtype: &'static str,
    /// For the weights.
    pub weights: u64,
    /// For keys and values of one token.
    pub cache_for_each_token: u64,
}

impl Words {
    /// Of a tokenizer and a template.
    pub fn of(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Self {
        let stop = tokenizer.stop_ids().iter();
        Self {
            vocab_size: tokenizer.vocab_size(),
            special_tokens: tokenizer.special_tokens(),
            stop: stop.map(|&id| tokenizer.token(id)).collect(),
            chat_template: template.is_some(),
        }
    }
}

impl AdapterCard {
    fn of(adapted: &Adapted) -> Self {
        let adapter = adapted.adapter();
        Self {
            base: adapted.base_path().display().to_string(),
            options: adapted.spec().clone(),
            modules: adapter.modules().count(),
            n_params: adapter.size(),
            scored: adapted.is_scored(),
        }
    }

    fn line(&self) -> String {
        let LoraSpec { rank, alpha, .. } = self.options;
        let kind = if self.scored { ", a reward model" } else { "" };
        format!(
            "LoRA of rank {rank}, alpha {alpha}, on {} linear layers ({}){kind}",
            self.modules,
            parameters(self.n_params as u64)
        )
    }
}

impl Description {
    /// Of a checkpoint whose weights need not be loaded; `weights` is what matrices are, or would be, kept in.
    ///
    /// # Errors
    /// Weights that cannot be read, for the fingerprint.
    pub fn of(
        model: &str,
        path: &Path,
        opened: &Opened,
        weights: DType,
    ) -> Result<Self, ModelError> {
        let (words, fingerprint) = match checkpoint::words(opened, path) {
            Ok((tokenizer, template)) => {
                let template = template.as_ref();
                let fingerprint = Fingerprint::of(opened, &tokenizer, template, weights)?;
                (Ok(Words::of(&tokenizer, template)), Some(fingerprint))
            }
            Err(why) => (Err(why.to_string()), None),
        };
        let path = path.display().to_string();
        Ok(Self::made(model, path, opened, words, fingerprint, weights))
    }

    /// Of a checkpoint that is open.
    ///
    /// # Errors
    /// Weights that cannot be read, for the fingerprint.
    pub fn of_open(checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let words = Words::of(&checkpoint.tokenizer, checkpoint.template.as_ref());
        Ok(Self::made(
            &checkpoint.name,
            checkpoint.path.display().to_string(),
            checkpoint.opened(),
            Ok(words),
            Some(checkpoint.fingerprint()?.clone()),
            checkpoint.decoder.weight_dtype(),
        ))
    }

    fn made(
        model: &str,
        path: String,
        opened: &Opened,
        words: Result<Words, String>,
        fingerprint: Option<Fingerprint>,
        weights: DType,
    ) -> Self {
        let config = opened.config();
        let cached = 2 * config.n_layers * config.n_kv_heads * config.d_head * 4;
        Self {
            model: model.to_owned(),
            path,
            n_params: config.n_params(),
            adapter: opened.adapted().map(AdapterCard::of),
            stored: stored(opened.source()),
            words,
            fingerprint_id: fingerprint.as_ref().map(Fingerprint::id),
            fingerprint,
            memory: Memory {
                dtype: weights.as_str(),
                weights: (config.n_params() * weights.size_in_bytes()) as u64,
                cache_for_each_token: cached as u64,
            },
            config: config.clone(),
        }
    }

    /// Names and values, in the order in which they are shown. Foreign text in them is as it was found.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let c = &self.config;
        let heads = if c.n_kv_heads == c.n_heads {
            format!("{} heads", c.n_heads)
        } else {
            format!("{} heads, {} key-value heads", c.n_heads, c.n_kv_heads)
        };
        let mut lines = vec![("model", self.model.clone()), ("path", self.path.clone())];
        if let Some(adapter) = &self.adapter {
            lines.push(("adapter", adapter.line()));
            lines.push(("base", adapter.base.clone()));
        }
        lines.extend([
            ("family", c.family.name().to_owned()),
            ("parameters", parameters(self.n_params as u64)),
            (
                "sizes",
                format!(
                    "{} layers, width {}, {heads} of {}, MLP {}, vocabulary {}{}",
                    c.n_layers,
                    c.d_model,
                    c.d_head,
                    c.d_mlp,
                    c.vocab_size,
                    if c.tied { ", tied" } else { "" }
                ),
            ),
            ("stored as", self.stored_line()),
            ("context", format!("{} tokens", c.n_ctx)),
            ("positions", positions(c)),
            ("windows", windows(c)),
        ]);
        match &self.words {
            Ok(words) => lines.extend([
                (
                    "chat template",
                    if words.chat_template {
                        "yes"
                    } else {
                        "none; prompts are bare text"
                    }
                    .to_owned(),
                ),
                ("tokenizer", format!("{} tokens", words.vocab_size)),
                ("special", special(words)),
            ]),
            Err(why) => lines.push(("tokenizer", format!("none: {why}"))),
        }
        if let Some(id) = &self.fingerprint_id {
            lines.push(("fingerprint", id.clone()));
        }
        lines.push((
            "memory",
            format!(
                "{} for weights in {}, {} for each token of context",
                bytes(self.memory.weights),
                self.memory.dtype,
                bytes(self.memory.cache_for_each_token)
            ),
        ));
        lines
    }

    fn stored_line(&self) -> String {
        let part = |(name, stored): (&String, &Stored)| {
            format!(
                "{name} ({} tensors, {} numbers)",
                stored.tensors,
                parameters(stored.numbers)
            )
        };
        self.stored.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

fn special(words: &Words) -> String {
    let named = words
        .special_tokens
        .iter()
        .map(|(role, token)| format!("{role} {token}"));
    let stop = format!("stop {}", words.stop.join(" "));
    named.chain([stop]).collect::<Vec<_>>().join(", ")
}

fn positions(c: &ModelConfig) -> String {
    let Positions::Rotary(ropes) = &c.positions else {
        return "learned".to_owned();
    };
    let one = |rope: &Rope| {
        let scaling = match &rope.scaling {
            RopeScaling::None => "unscaled".to_owned(),
            RopeScaling::Linear { factor } => format!("linear scaling by {factor}"),
            RopeScaling::Dynamic { factor, original } => {
                format!("dynamic scaling by {factor} beyond {original}")
            }
            RopeScaling::Yarn {
                factor, original, ..
            } => format!("yarn by {factor} beyond {original}"),
            RopeScaling::Llama3 {
                factor, original, ..
            } => {
                format!("llama3 scaling by {factor} beyond {original}")
            }
            RopeScaling::LongRope { original, .. } => format!("longrope beyond {original}"),
            RopeScaling::Divisors(_) => "one divisor a frequency".to_owned(),
        };
        format!(
            "rotary, {} channels, base {}, {scaling}",
            rope.dim, rope.theta
        )
    };
    ropes.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn windows(c: &ModelConfig) -> String {
    let sliding = c
        .layers
        .iter()
        .filter(|layer| layer.window.is_some())
        .count();
    match c.layers.iter().find_map(|layer| layer.window) {
        None => "none".to_owned(),
        Some(window) => format!("{window} positions on {sliding} of {} layers", c.n_layers),
    }
}

fn stored(source: &dyn TensorSource) -> BTreeMap<String, Stored> {
    let mut types: BTreeMap<String, Stored> = BTreeMap::new();
    for info in source.names().iter().filter_map(|name| source.info(name)) {
        let entry = types.entry(info.dtype).or_default();
        entry.tensors += 1;
        entry.numbers += info.shape.iter().product::<usize>() as u64;
    }
    types
}
