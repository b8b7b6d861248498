//! What the rows of a file are: their kinds, and what a row of each holds.
//!
//! How columns become rows is in [`super::columns`], what rows become in [`super::encode`].

use std::sync::Arc;

use minijinja::Value;
use serde::{Deserialize, Serialize};

use super::table::Place;

/// What the rows of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A text.
    Text,
    /// A conversation.
    Messages,
    /// A prompt to answer.
    Prompt,
    /// A prompt with its answer.
    PromptCompletion,
    /// A prompt with a better and a worse answer.
    Preference,
    /// A prompt with an answer that is desirable or not.
    Unpaired,
}

impl Kind {
    /// In the order in which a row is tried: those with more columns first.
    pub const ALL: [Self; 6] = [
        Self::Preference,
        Self::Unpaired,
        Self::PromptCompletion,
        Self::Messages,
        Self::Text,
        Self::Prompt,
    ];

    /// For messages and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Messages => "messages",
            Self::Prompt => "prompt",
            Self::PromptCompletion => "prompt-completion",
            Self::Preference => "preference",
            Self::Unpaired => "unpaired",
        }
    }

    /// Columns that every row has.
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["text"],
            Self::Messages => &["messages"],
            Self::Prompt => &["prompt"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::Preference => &["chosen", "rejected"],
            Self::Unpaired => &["prompt", "completion", "label"],
        }
    }

    pub(super) fn may_have(self) -> &'static [&'static str] {
        match self {
            Self::Text => &[],
            Self::Preference => &["prompt", "margin", "tools", "chat_template_kwargs"],
            _ => &["tools", "chat_template_kwargs"],
        }
    }
}

/// One turn of a conversation as the file has it: a role, and whatever else the template reads (content, tool calls, …).
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// `system`, `user`, `assistant`, `tool`.
    pub role: String,
    pub(super) value: Value,
}

impl Turn {
    /// A turn of text.
    pub fn new(role: &str, content: &str) -> Self {
        let pairs = [("role", role), ("content", content)];
        Self {
            role: role.into(),
            value: Value::from_pairs(pairs),
        }
    }

    /// Its text, where that is a string.
    pub fn content(&self) -> Option<String> {
        let content = self.value.get_attr("content").ok()?;
        content.as_str().map(str::to_owned)
    }
}

impl Serialize for Turn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// A string or a conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Words {
    /// As it is, without a template.
    Plain(String),
    /// Through the chat template.
    Chat(Vec<Turn>),
}

/// What a row holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// `text`.
    Text(String),
    /// `messages`.
    Messages(Vec<Turn>),
    /// `prompt`.
    Prompt(Words),
    /// `prompt`, `completion`.
    PromptCompletion(Words, Words),
    /// `prompt`, `chosen`, `rejected`, `margin`; the prompt is written out even where the file implies it.
    Preference(Words, Words, Words, Option<f32>),
    /// `prompt`, `completion`, `label`.
    Unpaired(Words, Words, bool),
}

impl Body {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Messages(_) => Kind::Messages,
            Self::Prompt(_) => Kind::Prompt,
            Self::PromptCompletion(..) => Kind::PromptCompletion,
            Self::Preference(..) => Kind::Preference,
            Self::Unpaired(..) => Kind::Unpaired,
        }
    }

    /// Its prompt, whatever follows it; of messages, what stands before a last turn of the assistant; a text has none.
    pub fn prompt(&self) -> Option<Words> {
        match self {
            Self::Text(_) => None,
            Self::Prompt(prompt)
            | Self::PromptCompletion(prompt, _)
            | Self::Unpaired(prompt, ..)
            | Self::Preference(prompt, ..) => Some(prompt.clone()),
            Self::Messages(turns) => Some(match turns.split_last() {
                Some((last, before)) if last.role == "assistant" && !before.is_empty() => {
                    Words::Chat(before.into())
                }
                _ => Words::Chat(turns.clone()),
            }),
        }
    }
}

/// A row, read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// What it holds.
    pub body: Body,
    /// `tools`, for the template.
    #[serde(skip)]
    pub(super) tools: Option<Value>,
    /// `chat_template_kwargs`, for the template.
    #[serde(skip)]
    pub(super) kwargs: Vec<(String, Value)>,
}

/// The rows of a file, all of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file's name, for messages.
    pub file: Arc<str>,
    /// Of the file's bytes, in hex: what a run's manifest says it was trained on.
    pub sha256: String,
    /// What the rows are.
    pub kind: Kind,
    /// The rows.
    pub rows: Vec<Row>,
    /// Columns that nothing was read from.
    pub unread: Vec<String>,
}
