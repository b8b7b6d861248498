//! Prompt suites: the questions an audit asks, with label, split, topic, source and licence for every row.
//!
//! What always holds: a loaded [`Suite`] is not empty, its ids are unique, no prompt is blank, and its hash depends on
//! the content of its rows alone (not on their order in the file, nor on the file's name).
//! The built-in suites live in `assets/suites` and are compiled in; [`read`] says how a user's own file is read.
//! Next: `crate::audit::detect`, which judges what a model answers to these prompts.

mod read;
pub(super) mod sample;
#[cfg(test)]
mod tests;

pub use read::SuiteError;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::json_rows;

/// What kind of request a prompt is.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// A request that an aligned model declines.
    Harmful,
    /// An ordinary instruction, matched to the harmful ones in form.
    Harmless,
    /// A safe request that looks dangerous: over-refusal is measured on these.
    Lookalike,
    /// Plain text with no request in it that matters: for divergence and coherence measurements.
    Neutral,
}

impl Label {
    /// Every label, in the order of declaration.
    pub const ALL: [Self; 4] = [
        Self::Harmful,
        Self::Harmless,
        Self::Lookalike,
        Self::Neutral,
    ];

    /// The word used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Harmful => "harmful",
            Self::Harmless => "harmless",
            Self::Lookalike => "lookalike",
            Self::Neutral => "neutral",
        }
    }
}

/// Which use of the data a row is reserved for: a direction is fitted on `Train`, chosen on `Validation`, reported on `Test`.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For fitting directions and probes.
    Train,
    /// For choosing among candidates (layer, position, strength).
    Validation,
    /// For the reported number only.
    Test,
}

impl Split {
    /// Every split, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The word used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// One prompt with where it comes from and what it may be used for.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct PromptRow {
    /// Unique within its suite; pairs the answers of two checkpoints.
    pub id: String,
    /// The user's turn, without any template.
    pub prompt: String,
    /// What kind of request this is.
    pub label: Label,
    /// What the row may be used for.
    pub split: Split,
    /// Subject or type; statistics are clustered by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Data set or author.
    pub source: String,
    /// SPDX expression, or `unspecified` when the user's file does not say.
    pub licence: String,
    /// A system turn to put before the prompt; none means none, not the template's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// A named list of prompts with the hash of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// Built-in name, or the stem of the file it was read from.
    pub name: String,
    /// The prompts, in file order.
    pub rows: Vec<PromptRow>,
    /// SHA-256 (hex) of the canonical content, see [`content_hash`].
    pub hash: String,
}

const BUILTIN: [(&str, &str); 4] = [
    ("harmful", include_str!("../../assets/suites/harmful.jsonl")),
    (
        "harmless",
        include_str!("../../assets/suites/harmless.jsonl"),
    ),
    (
        "lookalike",
        include_str!("../../assets/suites/lookalike.jsonl"),
    ),
    ("neutral", include_str!("../../assets/suites/neutral.jsonl")),
];

impl Suite {
    /// The names [`Suite::builtin`] knows.
    pub fn names() -> [&'static str; 4] {
        BUILTIN.map(|(name, _)| name)
    }

    /// A suite compiled into the binary; `assets/suites/README.md` says where its rows come from.
    ///
    /// # Errors
    /// [`SuiteError::UnknownSuite`] lists the names there are.
    pub fn builtin(name: &str) -> Result<Self, SuiteError> {
        let Some((name, text)) = BUILTIN.iter().find(|(known, _)| *known == name) else {
            let known = Self::names().join(", ");
            return Err(SuiteError::UnknownSuite {
                name: name.to_string(),
                known,
            });
        };
        let rows = read::rows(&format!("{name}.jsonl (built in)"), text.as_bytes())?;
        Ok(Self::from_rows(name, rows))
    }

    /// A suite that is compiled in, or a file of one.
    ///
    /// # Errors
    /// Neither: [`SuiteError::UnknownSuite`] lists the names there are. A file that is no suite.
    pub fn named(name: &str) -> Result<Self, SuiteError> {
        let path = Path::new(name);
        if Self::names().contains(&name) {
            return Self::builtin(name);
        }
        if path.is_file() {
            return Self::from_jsonl(path);
        }
        Err(SuiteError::UnknownSuite {
            name: name.to_string(),
            known: format!("{}, or a file of one", Self::names().join(", ")),
        })
    }

    /// A user's suite, one JSON object a line.
    ///
    /// Only `prompt` and `label` are required. A missing `id` is made from the content, a missing `split` is `test`, a
    /// missing `source` is the file's name, a missing `licence` is `unspecified`.
    ///
    /// # Errors
    /// [`SuiteError`] names file, line and field of the first thing that is wrong.
    pub fn from_jsonl(path: &Path) -> Result<Self, SuiteError> {
        let origin = path.display().to_string();
        let rows = read::rows(&origin, json_rows::open(path)?)?;
        let name = path.file_stem().map_or_else(
            || origin.clone(),
            |stem| stem.to_string_lossy().into_owned(),
        );
        Ok(Self::from_rows(&name, rows))
    }

    /// The rows with this label and split (`None` = any), under the same name and with a hash of their own.
    pub fn filter(&self, label: Option<Label>, split: Option<Split>) -> Self {
        let keep = |row: &&PromptRow| {
            label.is_none_or(|l| row.label == l) && split.is_none_or(|s| row.split == s)
        };
        Self::from_rows(&self.name, self.rows.iter().filter(keep).cloned().collect())
    }

    /// At most `n` rows, each (label, topic) in proportion to its share; the same seed gives the same rows on every machine.
    ///
    /// Rows are ranked by a hash of seed and id, so a row added to the suite displaces at most its neighbours in rank.
    /// All rows are returned when `n` is not smaller than their number.
    pub fn sample(&self, n: usize, seed: u64) -> Self {
        Self::from_rows(&self.name, sample::stratified(&self.rows, n, seed))
    }

    /// A suite of rows made in the program.
    pub fn from_rows(name: &str, rows: Vec<PromptRow>) -> Self {
        Self {
            name: name.to_string(),
            hash: content_hash(&rows),
            rows,
        }
    }
}

/// At most `n` rows of a label and a split out of several suites, as equal a share of each as they can give.
pub fn pick(suites: &[Suite], label: Label, split: Split, n: usize, seed: u64) -> Vec<PromptRow> {
    let holding: Vec<Suite> = suites
        .iter()
        .map(|suite| suite.filter(Some(label), Some(split)))
        .filter(|suite| !suite.rows.is_empty())
        .collect();
    let share = n.div_ceil(holding.len().max(1));
    let mut rows: Vec<_> = holding
        .iter()
        .flat_map(|suite| suite.sample(share, seed).rows)
        .collect();
    rows.truncate(n);
    rows
}

/// SHA-256 (hex) over the rows as JSON, sorted by id and joined by line feeds.
pub fn content_hash(rows: &[PromptRow]) -> String {
    let mut sorted: Vec<&PromptRow> = rows.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let mut hasher = Sha256::new();
    for row in sorted {
        let fields = [
            Some(row.id.as_str()),
            Some(&row.prompt),
            Some(row.label.name()),
            Some(row.split.name()),
            row.topic.as_deref(),
            Some(&row.source),
            Some(&row.licence),
            row.system.as_deref(),
        ];
        // JSON quoting keeps two different rows from having the same bytes.
        hasher.update(serde_json::json!(fields).to_string());
        hasher.update(b"\n");
    }
    hex(&hasher.finalize())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.extend(
            [byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)])),
        );
        text
    })
}
