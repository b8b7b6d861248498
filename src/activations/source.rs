//! Texts as rows of token ids: a text, the lines of a file, a column of JSON lines, a prompt suite.
//!
//! Always: a source is streamed, a bad row is an error with its file and line, and nothing is cut or skipped in silence
//! (blank lines apart). The same source gives the same ids each time: templates that print a date are given a fixed one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use serde_json::Value;

use super::{RowIter, Rows, SourceInfo, StoreError};
use crate::files::hash::{sha256, sha256_file};
use crate::model::{Checkpoint, ModelError};
use crate::text::{Message, Vars, encode_chat, suites::Suite};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// A column of a JSONL file, which also says what its rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A text before it is encoded.
enum Item {
    Text(String),
    Prompt {
        prompt: String,
        system: Option<String>,
    },
    Messages(Vec<Message>),
}

type Items<'a> = Box<dyn Iterator<Item = Result<(String, Item), StoreError>> + 'a>;

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
            Source::Text(_) | Source::Lines(_) | Source::Jsonl(_, Column::Text) => (true, false),
            Source::Jsonl(_, Column::Messages) => (false, true),
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

    fn items(&self) -> Result<Items<'_>, StoreError> {
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
                    let item = item(&text, column).map_err(|what| StoreError::Row {
                        origin: at.clone(),
                        what,
                    })?;
                    Ok((at, item))
                };
                Box::new(Lines::open(path)?.map(parse))
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

    fn encode(&self, origin: &str, item: Item) -> Result<Vec<u32>, StoreError> {
        let bad = |what: &str| StoreError::Row {
            origin: origin.to_string(),
            what: what.to_string(),
        };
        let mut ids = match item {
            Item::Messages(messages) => self.encode_messages(&messages)?,
            Item::Text(text) if text.is_empty() => return Err(bad("the text is empty")),
            Item::Prompt { prompt, .. } if prompt.trim().is_empty() => {
                return Err(bad("the prompt is empty"));
            }
            Item::Text(prompt) if self.chat => self.encode_messages(&[Message::user(prompt)])?,
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
            Item::Text(text) | Item::Prompt { prompt: text, .. } => {
                self.checkpoint.tokenizer.encode(&text, true)?
            }
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

impl Rows for TextRows<'_> {
    fn rows(&self) -> Result<RowIter<'_>, StoreError> {
        let limit = self.options.limit.unwrap_or(usize::MAX);
        let encode = |item: Result<(String, Item), StoreError>| {
            let (origin, item) = item?;
            self.encode(&origin, item)
        };
        Ok(Box::new(self.items()?.take(limit).map(encode)))
    }
}

/// One line of JSON as an item; the error says what is wrong with it.
fn item(line: &str, column: Column) -> Result<Item, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
    let Value::Object(object) = value else {
        return Err("expected a JSON object".into());
    };
    let name = column.name();
    let Some(value) = object.get(name) else {
        let there: Vec<_> = object.keys().map(String::as_str).take(8).collect();
        return Err(format!(
            "no column `{name}`; there are: {}",
            there.join(", ")
        ));
    };
    let string = |name: &str, value: &Value| {
        let text = value.as_str().map(str::to_string);
        text.ok_or_else(|| format!("`{name}`: expected a string, found {}", kind(value)))
    };
    match column {
        Column::Text => Ok(Item::Text(string(name, value)?)),
        Column::Prompt => {
            let system = object.get("system").filter(|v| !v.is_null());
            Ok(Item::Prompt {
                prompt: string(name, value)?,
                system: system.map(|v| string("system", v)).transpose()?,
            })
        }
        Column::Messages => {
            let messages: Vec<Message> = serde_json::from_value(value.clone())
                .map_err(|e| format!("`messages`: expected objects with role and content: {e}"))?;
            if messages.is_empty() {
                return Err("`messages` is empty".into());
            }
            Ok(Item::Messages(messages))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Lines that are not blank, each with `file:line`, without their line ends.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: usize,
    failed: bool,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|source| StoreError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            reader: BufReader::new(file),
            line: 0,
            failed: false,
        })
    }

    fn read(&mut self) -> Result<Option<(String, String)>, StoreError> {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            self.line += 1;
            let at = format!("{}:{}", self.path.display(), self.line);
            let row = |what: String| StoreError::Row {
                origin: at.clone(),
                what,
            };
            let read = (&mut self.reader)
                .take(MAX_LINE + 1)
                .read_until(b'\n', &mut buffer)
                .map_err(|source| StoreError::Io {
                    path: self.path.clone(),
                    source,
                })?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 > MAX_LINE {
                return Err(row(format!("the line is longer than {MAX_LINE} bytes")));
            }
            let text = std::str::from_utf8(&buffer).map_err(|e| row(format!("not UTF-8: {e}")))?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            let text = if self.line == 1 {
                text.trim_start_matches('\u{feff}')
            } else {
                text
            };
            if !text.trim().is_empty() {
                return Ok(Some((at, text.to_string())));
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<(String, String), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
