//! What a dictionary says about where it belongs: words only, as this crate knows no model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a dictionary's activations come from, and how they were made. Everything may be unknown in a foreign file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The model, as its maker names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The points that are read, in the program's own words (`resid_post.15`); several for a crosscoder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// The points that are written; empty where they are those that are read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<String>,
    /// Tokens of a context in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Whether contexts began with the beginning-of-sequence token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepend_bos: Option<bool>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The forward pass that the activations were made with, as the program writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Value>,
    /// What else a file said, key by key, so that writing it again loses nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, Value>,
}
