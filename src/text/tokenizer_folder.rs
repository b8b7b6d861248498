//! A tokenizer from a Hugging Face checkpoint folder.
//!
//! `tokenizer.json` is the pipeline. Roles of tokens come from `tokenizer_config.json`, then
//! `special_tokens_map.json`; ids that end a generation from `generation_config.json`, then `config.json`.

use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;

use super::error::TextError;
use super::tokenizer::{Roles, Tokenizer};

impl Tokenizer {
    /// Opens the tokenizer of a checkpoint folder.
    ///
    /// # Errors
    /// [`TextError::NoTokenizer`] without a `tokenizer.json`, [`TextError::Read`], [`TextError::Malformed`].
    pub fn from_folder(dir: &Path) -> Result<Self, TextError> {
        let mut inner = read_pipeline(dir)?;
        let config = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let map = read_json(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        let generation = read_json(&dir.join("generation_config.json"))?.unwrap_or_default();
        let model = read_json(&dir.join("config.json"))?.unwrap_or_default();
        add_declared_tokens(&mut inner, &config, dir)?;

        let by_text = |key: &str| {
            let token = token_text(&config[key]).or_else(|| token_text(&map[key]))?;
            inner.token_to_id(token)
        };
        let by_id = |key: &str| {
            [&generation[key], &model[key], &model["text_config"][key]]
                .into_iter()
                .map(ids)
                .find(|ids| !ids.is_empty())
        };
        let first = |key: &str| by_id(key).and_then(|ids| ids.first().copied());
        let roles = Roles {
            bos: by_text("bos_token").or_else(|| first("bos_token_id")),
            eos: by_text("eos_token").or_else(|| first("eos_token_id")),
            pad: by_text("pad_token").or_else(|| first("pad_token_id")),
            unk: by_text("unk_token"),
            stop: by_id("eos_token_id").unwrap_or_default(),
            add_bos: config["add_bos_token"].as_bool(),
            add_eos: config["add_eos_token"].as_bool(),
        };
        let vocab_size = inner
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        Self::new(inner, roles, vocab_size)
    }
}

fn read_pipeline(dir: &Path) -> Result<tokenizers::Tokenizer, TextError> {
    let path = dir.join("tokenizer.json");
    if !path.is_file() {
        let others = [
            "tokenizer.model",
            "vocab.json",
            "merges.txt",
            "vocab.txt",
            "tekken.json",
        ];
        let found: Vec<&str> = others
            .into_iter()
            .filter(|name| dir.join(name).is_file())
            .collect();
        let found = if found.is_empty() {
            "nothing of a tokenizer".to_owned()
        } else {
            found.join(", ")
        };
        return Err(TextError::NoTokenizer {
            dir: dir.to_owned(),
            found,
        });
    }
    let bytes = std::fs::read(&path).map_err(|source| TextError::Read {
        path: path.clone(),
        source,
    })?;
    let malformed = |found: String| TextError::Malformed {
        path: path.clone(),
        expected: "tokenizer",
        found,
    };
    // The library indexes past a buffer for some ill-made merges, and a foreign file must not end the program.
    std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(&bytes))
        .map_err(|_| malformed("its merges do not fit its vocabulary".to_owned()))?
        .map_err(|e| malformed(e.to_string()))
}

/// Reads a JSON file; `None` if there is none.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>, TextError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(TextError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| TextError::Malformed {
            path: path.to_owned(),
            expected: "JSON file",
            found: e.to_string(),
        })
}

/// A token written as a string or as an object with its `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// One id or a list of ids.
fn ids(value: &Value) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value.as_array() {
        Some(list) => list.iter().filter_map(id).collect(),
        None => id(value).into_iter().collect(),
    }
}

/// Adds the tokens of `added_tokens_decoder` that `tokenizer.json` lacks, as fine-tunes leave them.
fn add_declared_tokens(
    inner: &mut tokenizers::Tokenizer,
    config: &Value,
    dir: &Path,
) -> Result<(), TextError> {
    let Some(declared) = config["added_tokens_decoder"].as_object() else {
        return Ok(());
    };
    let mut missing: Vec<(u32, AddedToken)> = declared
        .iter()
        .filter_map(|(id, token)| {
            Some((
                id.parse().ok()?,
                serde_json::from_value::<AddedToken>(token.clone()).ok()?,
            ))
        })
        .filter(|(_, token)| inner.token_to_id(&token.content).is_none())
        .collect();
    missing.sort_by_key(|(id, _)| *id);
    for (id, token) in missing {
        let content = token.content.clone();
        inner
            .add_tokens([token])
            .map_err(|e| TextError::library("adding a token", e))?;
        let given = inner.token_to_id(&content);
        if given != Some(id) {
            return Err(TextError::Malformed {
                path: dir.join("tokenizer_config.json"),
                expected: "tokenizer configuration",
                found: format!(
                    "added token `{content}` is declared as {id} but the next free id is {given:?}"
                ),
            });
        }
    }
    Ok(())
}
