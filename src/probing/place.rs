//! Where in a prompt an activation is read, in words that mean the same in every prompt, and prompts as tokens.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ProbingError;
use super::data::{Content, Example};
use crate::model::Checkpoint;
use crate::text::{Vars, encode_chat};

/// A position, or a mean over several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// The k-th token from the end; 1 is the last.
    FromEnd(usize),
    /// The last token of the instruction (of a text, its last).
    InstructionEnd,
    /// The mean over all tokens.
    Mean,
    /// The mean over the tokens of the content: without what the template puts before and after it.
    Content,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromEnd(1) => f.write_str("last"),
            Self::FromEnd(k) => write!(f, "-{k}"),
            Self::InstructionEnd => f.write_str("instruction-end"),
            Self::Mean => f.write_str("mean"),
            Self::Content => f.write_str("content"),
        }
    }
}

impl FromStr for Position {
    type Err = ProbingError;

    fn from_str(text: &str) -> Result<Self, ProbingError> {
        match text.trim() {
            "last" => Ok(Self::FromEnd(1)),
            "instruction-end" => Ok(Self::InstructionEnd),
            "mean" => Ok(Self::Mean),
            "content" => Ok(Self::Content),
            other => other
                .strip_prefix('-')
                .and_then(|k| k.parse().ok())
                .filter(|&k| k >= 1)
                .map(Self::FromEnd)
                .ok_or_else(|| ProbingError::Written {
                    what: "position",
                    expected: "last, instruction-end, mean, content, or -K for the K-th token from the end",
                    found: other.to_owned(),
                }),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A row as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The row's id.
    pub id: String,
    /// Token ids, template included.
    pub ids: Vec<u32>,
    /// The tokens of its content; none where the template rewrites it.
    pub content: Option<Range<usize>>,
}

impl Encoded {
    /// The tokens that a position reads.
    ///
    /// # Errors
    /// A position that this row lacks.
    pub fn range(&self, position: Position) -> Result<Range<usize>, ProbingError> {
        let n = self.ids.len();
        let found = match position {
            Position::FromEnd(k) => n.checked_sub(k).map(|i| i..i + 1),
            Position::InstructionEnd => self.content.as_ref().map(|c| c.end - 1..c.end),
            Position::Mean => Some(0..n),
            Position::Content => self.content.clone(),
        };
        found
            .filter(|r| !r.is_empty())
            .ok_or_else(|| ProbingError::NoPosition {
                id: self.id.clone(),
                tokens: n,
                position: match position {
                    Position::FromEnd(k) => format!("{k}-th token from the end"),
                    other => format!("position `{other}` (does the template rewrite its text?)"),
                },
            })
    }
}

/// Encodes rows: texts as they are, prompts and messages through the chat template.
///
/// # Errors
/// A template that refuses a conversation or is not there, a row that does not fit the context or has no tokens.
pub fn encode(checkpoint: &Checkpoint, rows: &[Example]) -> Result<Vec<Encoded>, ProbingError> {
    let n_ctx = checkpoint.config().max_positions();
    let one = |row: &Example| {
        let (ids, end) = tokens(checkpoint, &row.content)?;
        if ids.len() > n_ctx {
            return Err(ProbingError::TooLong {
                id: row.id.clone(),
                tokens: ids.len(),
                n_ctx,
            });
        }
        if ids.is_empty() {
            return Err(ProbingError::NoPosition {
                id: row.id.clone(),
                tokens: 0,
                position: "token at all".into(),
            });
        }
        let start = opening(checkpoint, &row.content, &ids)?;
        Ok(Encoded {
            id: row.id.clone(),
            content: end.map(|end| start.min(end)..end + 1),
            ids,
        })
    };
    rows.iter().map(one).collect()
}

/// Token ids, and the index of the last token of the instruction.
fn tokens(cp: &Checkpoint, content: &Content) -> Result<(Vec<u32>, Option<usize>), ProbingError> {
    let encoded = match content {
        Content::Text(text) => {
            let ids = cp.tokenizer.encode(text, true)?;
            let end = ids.len().checked_sub(1);
            return Ok((ids, end));
        }
        Content::Prompt(prompt, system) => cp.encode_prompt(prompt, system.as_deref())?,
        Content::Messages(messages) => {
            let answered = messages.last().is_some_and(|m| m.role == "assistant");
            match &cp.template {
                Some(template) => encode_chat(
                    &cp.tokenizer,
                    template,
                    messages,
                    !answered,
                    &Vars::default(),
                )?,
                // Says by name that there is no template.
                None => cp.encode_chat(messages, &Vars::default())?,
            }
        }
    };
    Ok((encoded.ids, encoded.instruction_end))
}

/// Where the content starts: what two other contents in its place have in common at the front is the template's.
fn opening(cp: &Checkpoint, content: &Content, ids: &[u32]) -> Result<usize, ProbingError> {
    let with = |word: &str| -> Content {
        match content {
            Content::Text(_) => Content::Text(word.into()),
            Content::Prompt(_, system) => Content::Prompt(word.into(), system.clone()),
            Content::Messages(messages) => {
                let mut other = messages.clone();
                if let Some(last) = other.iter_mut().rfind(|m| m.role == "user") {
                    word.clone_into(&mut last.content);
                }
                Content::Messages(other)
            }
        }
    };
    let shared = |other: &[u32]| ids.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, _) = tokens(cp, &with("7"))?;
    let (other, _) = tokens(cp, &with("Yes"))?;
    Ok(shared(&one).min(shared(&other)))
}
