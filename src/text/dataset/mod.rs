//! Training data: rows of a file in, token ids with exact masks out.
//!
//! A file becomes a [`Table`] ([`table::read`]: JSON lines, JSON arrays, Parquet), its columns become a [`Dataset`] of typed
//! [`Row`]s ([`columns::rows`], TRL's names), and an [`Encoder`] turns those into [`Example`]s, [`Pair`]s, [`Labelled`] or
//! [`PromptOnly`]. [`pack()`] puts examples into rows without padding, [`collate()`] pads them, [`Sampler`] says which come next.
//!
//! Always: a mask is made from positions, never by looking for token ids, so a padding token that is also the end token
//! stays trainable; nothing is cut or left out without being counted. No model is known here, only its words.

mod assistant;
mod boundary;
pub mod collate;
pub mod columns;
pub mod encode;
mod encoded;
pub mod error;
mod json;
pub mod options;
pub mod pack;
mod parquet;
mod parquet_bounds;
pub mod quantities;
mod rendering;
pub mod repeats;
pub mod rows;
pub mod sampler;
pub mod survey;
pub mod table;
mod value;

pub(super) use boundary::{end_of_turn, shared};
pub use collate::{Padded, Side, collate};
pub use columns::Columns;
pub use encode::Encoder;
pub use encoded::{Dropped, Encoded};
pub use error::{DataError, Reason};
pub use options::{EncodeOptions, Supervise, Truncation, Unusable};
pub use pack::{Packed, pack};
pub use rows::{Body, Dataset, Kind, Row, Turn, Words};
pub use sampler::Sampler;
pub use table::{Place, Table};

use serde::{Deserialize, Serialize};

/// A text for the language-model loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// As long as `ids`: this token is a target of the loss. The first never is: nothing comes before it.
    pub supervised: Vec<bool>,
}

impl Example {
    /// Targets of the loss.
    pub fn targets(&self) -> usize {
        self.supervised.iter().filter(|s| **s).count()
    }
}

/// Two answers to one prompt, the first preferred. Either answer follows the prompt's ids directly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Ids that both share.
    pub prompt: Vec<u32>,
    /// Ids of the preferred answer, with the token that ends it.
    pub chosen: Vec<u32>,
    /// Ids of the other answer, with the token that ends it.
    pub rejected: Vec<u32>,
    /// How much better the first is, where the data says so.
    pub margin: Option<f32>,
}

/// An answer that is desirable or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labelled {
    /// Ids of the prompt.
    pub prompt: Vec<u32>,
    /// Ids of the answer, with the token that ends it.
    pub completion: Vec<u32>,
    /// Whether it is desirable.
    pub label: bool,
}

/// A prompt to answer: what rollouts begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptOnly {
    /// Ids, up to where the answer begins.
    pub prompt: Vec<u32>,
}
