//! Texts as rows of token ids: a text, the lines of a file, a column of JSON lines, a prompt suite.
//!
//! Always: a source is streamed, a bad row is an error with its file and line, and nothing is cut or skipped in silence
//! (blank lines apart). The same source gives the same ids each time: templates that print a date are given a fixed one.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::{
    RowIter, Rows, SourceInfo, StoreError,
    items::{Item, json_item, table_items},
    lines::Lines,
};
use crate::files::hash::{sha256, sha256_file, sha256_files};
use crate::model::{Checkpoint, ModelError};
use crate::text::{
    Message, Vars,
    documents::{self, Documents},
    encode_chat,
    suites::Suite,
};

/// Documents of plain text come in parts of about this many bytes.
const PART: usize = 1 << 20;

/// A column of a JSONL file, which also says what its rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Column {
    /// `text`: a string, encoded as it is.
    Text,
    /// `prompt`: a string, a user's turn; `system` beside it is a system turn.
    Prompt,
    /// `messages`: a list of objects with `role` and `content`.
    Messages,
}

impl Column {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Prompt => "prompt",
            Self::Messages => "messages",
        }
    }
}

/// Where texts come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// One text.
    Text(String),
    /// Each line of a text file that is not blank.
    Lines(PathBuf),
    /// A column of a JSONL file.
    Jsonl(PathBuf, Column),
    /// A column of a Parquet file or of a JSON array, which is read whole.
    Table(PathBuf, Column),
    /// Documents of plain text: a file, or all `.txt` and `.md` files below a folder. For packing: long ones come in parts.
    Documents(PathBuf),
    /// The prompts of a suite.
    Suite(Suite),
}

/// How texts become rows.
#[derive(Debug, Clone)]
pub struct TextOptions {
    /// Through the chat template, or raw. `None`: prompts and messages through the template, texts raw.
    pub chat: Option<bool>,
    /// Most tokens of a row; the model's context when `None`.
    pub max_len: Option<usize>,
    /// Cut longer rows at their end instead of refusing them.
    pub truncate: bool,
    /// Most rows.
    pub limit: Option<usize>,
    /// The time that templates with a date are given.
    pub now: DateTime,
}

/// The rows of a source for a checkpoint.
pub struct TextRows<'a> {
    checkpoint: &'a Checkpoint,
    source: Source,
    options: TextOptions,
    chat: bool,
    max_len: usize,
}

/// Texts with the places they stand at.
pub(super) type Items<'a> =
    Box<dyn Iterator<Item = Result<(String, Item), StoreError>> + Send + 'a>;

impl<'a> TextRows<'a> {
    /// Checks what can be checked before reading.
    ///
    /// # Errors
    /// A row length that the model does not have, messages that should be raw.
    pub fn new(
        checkpoint: &'a Checkpoint,
        source: Source,
        options: TextOptions,
    ) -> Result<Self, StoreError> {
        let most = checkpoint.config().max_positions();
        let max_len = options.max_len.unwrap_or(most);
        if max_len == 0 || max_len > most {
            return Err(StoreError::Setting {
                option: "--max-len",
                expected: "at least 1, and at most the model's context",
                found: max_len.to_string(),
            });
        }
        let (is_text, is_messages) = match &source {
            Source::Text(_) | Source::Lines(_) | Source::Documents(_) => (true, false),
            Source::Jsonl(_, Column::Text) | Source::Table(_, Column::Text) => (true, false),
            Source::Jsonl(_, Column::Messages) | Source::Table(_, Column::Messages) => {
                (false, true)
            }
            _ => (false, false),
        };
        if is_messages && options.chat == Some(false) {
            return Err(StoreError::Setting {
                option: "--raw",
                expected: "a column of plain strings",
                found: "messages, which only a chat template can write out".into(),
            });
        }
        let templated = checkpoint.template.is_some();
        let chat = options
            .chat
            .unwrap_or(is_messages || (!is_text && templated));
        if chat && !templated {
            return Err(ModelError::NoTemplate {
                name: checkpoint.name.clone(),
            }
            .into());
        }
        Ok(Self {
            checkpoint,
            source,
            options,
            chat,
            max_len,
        })
    }

    /// What the manifest says of it.
    ///
    /// # Errors
    /// The file cannot be hashed.
    pub fn info(&self) -> Result<SourceInfo, StoreError> {
        let file = |path: &Path| {
            path.file_name()
                .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
        };
        let (kind, name, hash, column) = match &self.source {
            Source::Text(text) => ("text", "text".into(), sha256(text.as_bytes()), None),
            Source::Lines(path) => ("file", file(path), sha256_file(path)?, None),
            Source::Jsonl(path, column) => (
                "jsonl",
                file(path),
                sha256_file(path)?,
                Some(column.name().to_string()),
            ),
            Source::Table(path, column) => (
                "table",
                file(path),
                sha256_file(path)?,
                Some(column.name().to_string()),
            ),
            Source::Documents(path) => ("documents", file(path), documents_hash(path)?, None),
            Source::Suite(suite) => ("suite", suite.name.clone(), suite.hash.clone(), None),
        };
        Ok(SourceInfo {
            kind: kind.into(),
            name,
            sha256: hash,
            encoding: if self.chat { "chat" } else { "raw" }.into(),
            column,
            max_len: self.max_len,
            truncate: self.options.truncate,
            limit: self.options.limit,
            now: self.dated().then(|| self.options.now.to_string()),
            packing: None,
        })
    }

    /// Does the template print a date? Only then is the time part of what was captured.
    fn dated(&self) -> bool {
        let source = self
            .checkpoint
            .template
            .as_ref()
            .map(super::super::text::chat::ChatTemplate::source);
        self.chat && source.is_some_and(|s| s.contains("strftime_now"))
    }

    /// The model with its words.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// Texts before they are encoded, as many as the options allow.
    pub(super) fn items(&self) -> Result<Items<'_>, StoreError> {
        let limit = self.options.limit.unwrap_or(usize::MAX);
        Ok(Box::new(self.all()?.take(limit)))
    }

    fn all(&self) -> Result<Items<'_>, StoreError> {
        Ok(match &self.source {
            Source::Text(text) => Box::new(std::iter::once(Ok((
                "text".to_string(),
                Item::Text(text.clone()),
            )))),
            Source::Lines(path) => Box::new(
                Lines::open(path)?.map(|line| line.map(|(at, text)| (at, Item::Text(text)))),
            ),
            Source::Jsonl(path, column) => {
                let column = *column;
                let parse = move |line: Result<(String, String), StoreError>| {
                    let (at, text) = line?;
                    let item = json_item(&text, column).map_err(|what| StoreError::Row {
                        origin: at.clone(),
                        what,
                    })?;
                    Ok((at, item))
                };
                Box::new(Lines::open(path)?.map(parse))
            }
            Source::Table(path, column) => Box::new(table_items(path, *column)?),
            Source::Documents(path) => {
                let files = documents::files(path)?.into_iter();
                let of_file = |file: PathBuf| -> Items<'_> {
                    match Documents::open(&file, PART) {
                        Ok(all) => Box::new(all.map(|d| {
                            let d = d?;
                            let item = if d.goes_on {
                                Item::Part(d.text)
                            } else {
                                Item::Text(d.text)
                            };
                            Ok((d.place, item))
                        })),
                        Err(error) => Box::new(std::iter::once(Err(error.into()))),
                    }
                };
                Box::new(files.flat_map(of_file))
            }
            Source::Suite(suite) => Box::new(suite.rows.iter().map(|row| {
                let item = Item::Prompt {
                    prompt: row.prompt.clone(),
                    system: row.system.clone(),
                };
                Ok((format!("{} {}", suite.name, row.id), item))
            })),
        })
    }

    /// The ids of a text, however long; `special`: with what the tokenizer puts around a text of its own accord.
    pub(super) fn ids(
        &self,
        origin: &str,
        item: Item,
        special: bool,
    ) -> Result<Vec<u32>, StoreError> {
        let bad = |what: &str| StoreError::Row {
            origin: origin.to_string(),
            what: what.to_string(),
        };
        Ok(match item {
            Item::Messages(messages) => self.encode_messages(&messages)?,
            Item::Text(text) | Item::Part(text) if text.is_empty() => {
                return Err(bad("the text is empty"));
            }
            Item::Prompt { prompt, .. } if prompt.trim().is_empty() => {
                return Err(bad("the prompt is empty"));
            }
            Item::Text(prompt) | Item::Part(prompt) if self.chat => {
                self.encode_messages(&[Message::user(prompt)])?
            }
            Item::Prompt { prompt, system } if self.chat => {
                let system = system.map(|s| Message::new("system", s));
                let messages: Vec<_> = system.into_iter().chain([Message::user(prompt)]).collect();
                self.encode_messages(&messages)?
            }
            Item::Prompt {
                system: Some(_), ..
            } => {
                return Err(bad(
                    "a system turn needs the chat template; leave out --raw",
                ));
            }
            Item::Text(text) | Item::Part(text) | Item::Prompt { prompt: text, .. } => {
                self.checkpoint.tokenizer.encode(&text, special)?
            }
        })
    }

    fn encode(&self, origin: &str, item: Item) -> Result<Vec<u32>, StoreError> {
        if matches!(item, Item::Part(_)) {
            return Err(StoreError::Row {
                origin: origin.to_string(),
                what: "a document of several parts is no row; pack documents with --pack".into(),
            });
        }
        let mut ids = self.ids(origin, item, true)?;
        let bad = |what: &str| StoreError::Row {
            origin: origin.to_string(),
            what: what.to_string(),
        };
        if ids.is_empty() {
            return Err(bad("no tokens"));
        }
        if ids.len() > self.max_len {
            if !self.options.truncate {
                return Err(StoreError::TooLong {
                    origin: origin.into(),
                    tokens: ids.len(),
                    max_len: self.max_len,
                });
            }
            ids.truncate(self.max_len);
        }
        Ok(ids)
    }

    fn encode_messages(&self, messages: &[Message]) -> Result<Vec<u32>, StoreError> {
        let template = self
            .checkpoint
            .template
            .as_ref()
            .ok_or_else(|| ModelError::NoTemplate {
                name: self.checkpoint.name.clone(),
            })?;
        // A conversation that ends with an answer is read as it is; else the answer would begin here.
        let open = messages.last().is_none_or(|m| m.role != "assistant");
        let vars = Vars::at(self.options.now);
        Ok(encode_chat(&self.checkpoint.tokenizer, template, messages, open, &vars)?.ids)
    }
}

impl TextRows<'_> {
    /// Without the first `skipped` texts, which are not encoded.
    pub(super) fn rows_from(&self, skipped: u64) -> Result<RowIter<'_>, StoreError> {
        let encode = |item: Result<(String, Item), StoreError>| {
            let (origin, item) = item?;
            self.encode(&origin, item)
        };
        let items = self.items()?.skip(skipped as usize);
        Ok(Box::new(items.map(encode)))
    }
}

impl Rows for TextRows<'_> {
    fn rows(&self) -> Result<RowIter<'_>, StoreError> {
        self.rows_from(0)
    }
}

/// Of one file its hash, of a folder the hash over those of its texts.
fn documents_hash(path: &Path) -> Result<String, StoreError> {
    if !path.is_dir() {
        return Ok(sha256_file(path)?);
    }
    let hashes = sha256_files(&documents::files(path)?)?;
    Ok(sha256(hashes.join("\n").as_bytes()))
}
