//! Words in and out: tokenizer, chat template, prompt suites, trials.
//!
//! A text becomes token ids through [`Tokenizer`], a conversation becomes a text through [`ChatTemplate`];
//! [`encode_chat`] joins the two and remembers where the user's words end.

pub mod amount;
mod byte_level;
pub mod chat;
pub mod dataset;
pub mod documents;
pub mod error;
pub mod frames;
pub mod gguf_tokenizer;
mod jinja;
pub mod json_rows;
pub mod positions;
mod pre_tokenizers;
mod python_json;
pub mod stream;
pub mod suites;
pub mod tokenizer;
mod tokenizer_folder;
pub mod toy;
pub mod train_tokenizer;
pub mod trials;
pub mod visible;

pub use chat::{ChatTemplate, Message, Vars};
pub use error::TextError;
pub use gguf_tokenizer::GgufMetadata;
pub use positions::{ChatEncoding, encode_chat};
pub use stream::Streamer;
pub use tokenizer::Tokenizer;
