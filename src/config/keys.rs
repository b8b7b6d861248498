//! A JSON config read so that no key is overlooked: what a mapping reads is ticked off, and what is left over must be
//! known not to matter or is refused.

use std::{cell::RefCell, collections::BTreeSet};

use serde_json::{Map, Value};

use super::ConfigError;

/// Keys of Hugging Face configs that do not change the forward pass of a decoder at inference.
const INERT: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "_model_name_or_path",
    "unk_token_id",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "rope_interleaved",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
    "n_special",
    "predict_special_tokens",
    "pretraining_tp",
];

/// A config with its path, which remembers the keys that were read.
pub(super) struct Keys<'a> {
    pub(super) file: &'a str,
    map: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Self {
            file,
            map,
            read: RefCell::default(),
        }
    }

    /// The value, unless absent or null; marks the key as read.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_string());
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(super) fn refuse(&self, key: &str, expected: &str, found: impl ToString) -> ConfigError {
        ConfigError::Key {
            file: self.file.to_string(),
            key: key.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// An integer from 1 to 2^31: sizes of tensors, never trusted further.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(n) if (1..=1 << 31).contains(&n) => Ok(Some(n as usize)),
            _ => Err(self.refuse(key, "an integer from 1 to 2^31", value)),
        }
    }

    pub(super) fn need_size(&self, key: &str) -> Result<usize, ConfigError> {
        self.size(key)?
            .ok_or_else(|| self.refuse(key, "an integer", "nothing"))
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(x) if x.is_finite() => Ok(Some(x)),
            _ => Err(self.refuse(key, "a finite number", value)),
        }
    }

    /// A number above zero.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.float(key)? {
            Some(x) if x <= 0.0 => Err(self.refuse(key, "a number above zero", x)),
            other => Ok(other),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.refuse(key, "true or false", value))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.refuse(key, "a string", value))
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_object()
            .map(Some)
            .ok_or_else(|| self.refuse(key, "an object", value))
    }

    pub(super) fn floats(&self, key: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let numbers = value
            .as_array()
            .and_then(|a| a.iter().map(Value::as_f64).collect());
        numbers
            .map(Some)
            .ok_or_else(|| self.refuse(key, "a list of numbers", value))
    }

    /// A token id, or a list of them.
    pub(super) fn token_ids(&self, key: &str) -> Result<Vec<u32>, ConfigError> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let ids = match value {
            Value::Array(list) => list.iter().map(id).collect(),
            one => id(one).map(|n| vec![n]),
        };
        ids.ok_or_else(|| self.refuse(key, "a token id or a list of them", value))
    }

    /// A switch that must stay off because nothing here implements it.
    pub(super) fn must_be_off(&self, key: &str) -> Result<(), ConfigError> {
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(value) => Err(self.refuse(key, "false or nothing (not served otherwise)", value)),
        }
    }

    /// Refuses what nobody read, unless it is inert, empty, or accepted by the user.
    pub(super) fn finish(&self, accepted: &[String]) -> Result<(), ConfigError> {
        let read = self.read.borrow();
        let off = |v: &Value| match v {
            Value::Null | Value::Bool(false) => true,
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        };
        let left: Vec<&str> = self
            .map
            .iter()
            .filter(|(key, value)| {
                !read.contains(*key)
                    && !INERT.contains(&key.as_str())
                    && !accepted.contains(key)
                    && !off(value)
            })
            .map(|(key, _)| key.as_str())
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(ConfigError::UnknownKeys {
            file: self.file.to_string(),
            keys: left.join(", "),
        })
    }
}
