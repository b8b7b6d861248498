//! The world as files: texts, rows, pairs and prompts to train on, and the tokenizer of a model of it.
//!
//! Always: the same sizes and seed give the same bytes; nothing that an exam asks is in them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::case::Case;
use super::chats::{self, Annotators, Mix};
use super::corpus;
use crate::files::FileError;
use crate::files::write::write_atomic;
use crate::text::suites::Split;
use crate::text::{ChatTemplate, TextError, Tokenizer};

/// The chat template of models of this world.
pub const TEMPLATE: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Control tokens; the first ends a text and an answer.
pub const CONTROL: [&str; 4] = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"];

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sizes {
    /// Texts for language modelling.
    pub texts: usize,
    /// Conversations for fine-tuning.
    pub chats: usize,
    /// Pairs of answers.
    pub pairs: usize,
    /// Prompts for reinforcement.
    pub prompts: usize,
    /// Rows held out of each.
    pub held_out: usize,
    /// Words of the tokenizer.
    pub words: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            texts: 60_000,
            chats: 12_000,
            pairs: 6_000,
            prompts: 4_000,
            held_out: 256,
            words: 768,
        }
    }
}

/// Why the world could not be written.
#[derive(thiserror::Error, Debug)]
pub enum WriteError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The tokenizer or the template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A folder that cannot be made.
    #[error("cannot make the folder {}: {source}", .folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Writes everything into `root`: `lm.jsonl`, `sft.jsonl`, `pairs.jsonl`, `prompts.jsonl`, each with `-eval`, and
/// `tokenizer/`.
///
/// # Errors
/// The disk; a number of words without room for the alphabet.
pub fn write(root: &Path, sizes: &Sizes, seed: u64) -> Result<Vec<PathBuf>, WriteError> {
    let folder = root.join("tokenizer");
    std::fs::create_dir_all(&folder).map_err(|source| WriteError::Folder {
        folder: folder.clone(),
        source,
    })?;
    let texts = corpus::documents(sizes.texts, stream(seed, 1));
    let (tokenizer, template) = words(&texts, sizes.words)?;
    tokenizer.save(&folder)?;
    template.save(&folder)?;
    let mut files = vec![folder];
    for (held, count) in [(false, None), (true, Some(sizes.held_out))] {
        let mut file = |name: &str, rows: Vec<Value>| -> Result<(), WriteError> {
            let name = if held {
                format!("{name}-eval.jsonl")
            } else {
                format!("{name}.jsonl")
            };
            let path = root.join(name);
            write_atomic(&path, lines(&rows).as_bytes())?;
            files.push(path);
            Ok(())
        };
        let at = |n: u64| stream(seed, 2 * n + u64::from(held));
        let texts = if held {
            corpus::documents(sizes.held_out, at(1))
        } else {
            texts.clone()
        };
        file(
            "lm",
            texts
                .into_iter()
                .map(|text| json!({ "text": text }))
                .collect(),
        )?;
        let chats = chats::rows(
            count.unwrap_or(sizes.chats),
            &Mix::TAUGHT,
            Annotators::Careless,
            at(2),
        );
        let chats = chats.iter().map(|(case, answer)| chat(case, answer));
        file("sft", chats.collect())?;
        let judged = chats::cases(
            count.unwrap_or(sizes.pairs),
            &Mix::JUDGED,
            Split::Train,
            at(3),
        );
        file(
            "pairs",
            judged
                .iter()
                .map(|case| pair(case, &case.good, &chats::rejected(case)))
                .collect(),
        )?;
        let asked = chats::cases(
            count.unwrap_or(sizes.prompts),
            &Mix::JUDGED,
            Split::Train,
            at(4),
        );
        file("prompts", asked.iter().map(prompt).collect())?;
    }
    Ok(files)
}

/// The tokenizer and the template of models of this world.
///
/// # Errors
/// A number of words without room for the alphabet.
pub fn words(texts: &[String], count: usize) -> Result<(Tokenizer, ChatTemplate), TextError> {
    let control = CONTROL.map(str::to_owned);
    // Control tokens are words of their own already.
    let plain: Vec<String> = texts
        .iter()
        .map(|text| CONTROL.iter().fold(text.clone(), |t, c| t.replace(c, " ")))
        .collect();
    let tokenizer = Tokenizer::train(plain.iter().map(String::as_str), count, &control)?;
    let template = ChatTemplate::new(TEMPLATE, CONTROL[0], CONTROL[0])?;
    Ok((tokenizer, template))
}

/// A stream of random numbers of its own.
fn stream(seed: u64, purpose: u64) -> u64 {
    seed.wrapping_mul(1_000_003).wrapping_add(purpose)
}

/// A conversation with an answer as a row for fine-tuning.
pub fn chat(case: &Case, answer: &str) -> Value {
    json!({ "messages": case.with(answer) })
}

/// A conversation with two answers as a row of preferences.
pub fn pair(case: &Case, chosen: &str, rejected: &str) -> Value {
    let turn = |text: &str| json!([{ "role": "assistant", "content": text }]);
    json!({ "prompt": case.messages, "chosen": turn(chosen), "rejected": turn(rejected) })
}

/// A conversation as a row to answer.
pub fn prompt(case: &Case) -> Value {
    json!({ "prompt": case.messages })
}

/// Rows as JSON lines.
pub fn lines(rows: &[Value]) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(&row.to_string());
        text.push('\n');
    }
    text
}
