//! Trials: conversations with what is asked of the answer, scored by the model's own probabilities or by a check of words.
//!
//! What always holds: a loaded set is not empty, its ids are unique, a condition stands once in its group, and every group has
//! the reference condition that the others are compared with. The hash depends on the content of the rows alone.
//! The built-in sets live in `assets/trials`, or are made from those there by `made`. What a prompt without a trial is:
//! [`super::suites`].

pub mod check;
mod encoded;
mod made;
mod protocol;
mod read;
#[cfg(test)]
mod tests;

pub use check::Check;
pub use encoded::EncodedTrial;
pub use protocol::{Condition, Protocol};

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Message;
use super::json_rows::{self, RowError};
use super::suites::{hex, sample};

/// Why a set of trials could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// No built-in set has this name.
    #[error("no built-in set of trials is called `{name}`; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Two sets have the same group, so that its answers could not be told apart.
    #[error(
        "the sets of trials `{first}` and `{second}` both have a {protocol} group `{group}`; rename it in one of them"
    )]
    Twice {
        /// A set.
        first: String,
        /// Another set.
        second: String,
        /// The protocol.
        protocol: &'static str,
        /// The group.
        group: String,
    },
    /// The file cannot be read, or a row of it.
    #[error(transparent)]
    Rows(#[from] RowError),
}

/// How a trial is answered.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The options are scored.
    Choice,
    /// A reply is written.
    Reply,
    /// Both.
    Both,
}

impl Ask {
    /// Every way, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Choice, Self::Reply, Self::Both];

    /// The word used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Choice => "choice",
            Self::Reply => "reply",
            Self::Both => "both",
        }
    }

    /// Whether the options are scored.
    pub fn choice(self) -> bool {
        self != Self::Reply
    }

    /// Whether a reply is written.
    pub fn reply(self) -> bool {
        self != Self::Choice
    }
}

/// One conversation with what is asked of its answer. As JSON it is a row of a file.
#[derive(Serialize, Debug, Clone, PartialEq)]
pub struct Trial {
    /// Unique within its set.
    pub id: String,
    /// What it tests.
    pub protocol: Protocol,
    /// Trials of one group ask the same under several conditions.
    pub group: String,
    /// Under which condition.
    pub condition: Condition,
    /// The conversation, which ends with the user.
    pub messages: Vec<Message>,
    /// Candidate answers, each the assistant's whole turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Index of the right option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<usize>,
    /// Index of the wrong option that the user, the hint or the document pushes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed: Option<usize>,
    /// Index of the option that says it does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsure: Option<usize>,
    /// What is asked of a reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Words that show that a hint was used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// Subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// How it is answered.
    pub ask: Ask,
    /// Data set or author.
    pub source: String,
    /// SPDX expression, or `unspecified` when the user's file does not say.
    pub licence: String,
}

impl Trial {
    /// What the user says last, which is the question.
    pub fn question(&self) -> &str {
        self.messages
            .last()
            .map_or("", |message| message.content.as_str())
    }
}

/// A named set of trials with the hash of its content.
#[derive(Debug, Clone, PartialEq)]
pub struct Trials {
    /// Built-in name, or the stem of the file it was read from.
    pub name: String,
    /// The trials, in file order.
    pub rows: Vec<Trial>,
    /// SHA-256 (hex) of the canonical content.
    pub hash: String,
}

/// How a built-in set comes about.
#[derive(Clone, Copy)]
enum Built {
    /// The rows of a file.
    Rows(&'static str),
    /// Made from the rows of `knowledge`.
    Made(fn(&[Trial]) -> Vec<Trial>),
}

const KNOWLEDGE: &str = include_str!("../../assets/trials/knowledge.jsonl");

const SYSTEM: &str = include_str!("../../assets/trials/system.jsonl");

const DOCUMENT: &str = include_str!("../../assets/trials/document.jsonl");

const BUILTIN: &[(&str, Built)] = &[
    ("knowledge", Built::Rows(KNOWLEDGE)),
    ("sycophancy", Built::Made(made::sycophancy)),
    ("hint", Built::Made(made::hint)),
    ("system", Built::Rows(SYSTEM)),
    ("document", Built::Rows(DOCUMENT)),
];

impl Trials {
    /// The names [`Trials::builtin`] knows.
    pub fn names() -> Vec<&'static str> {
        BUILTIN.iter().map(|(name, _)| *name).collect()
    }

    /// A set compiled into the binary; `assets/trials/README.md` says where its rows come from.
    ///
    /// # Errors
    /// [`TrialError::Unknown`] lists the names there are.
    pub fn builtin(name: &str) -> Result<Self, TrialError> {
        let rows = |file: &str, text: &str| {
            read::rows(&format!("{file}.jsonl (built in)"), text.as_bytes())
        };
        match BUILTIN.iter().find(|(known, _)| *known == name) {
            Some((_, Built::Rows(text))) => Ok(Self::from_rows(name, rows(name, text)?)),
            Some((_, Built::Made(make))) => {
                Ok(Self::from_rows(name, make(&rows("knowledge", KNOWLEDGE)?)))
            }
            None => Err(TrialError::Unknown {
                name: name.to_owned(),
                known: Self::names().join(", "),
            }),
        }
    }

    /// A user's set, one JSON object a line.
    ///
    /// # Errors
    /// [`TrialError`] names file, line and field of the first thing that is wrong.
    pub fn from_jsonl(path: &Path) -> Result<Self, TrialError> {
        let origin = path.display().to_string();
        let rows = read::rows(&origin, json_rows::open(path)?)?;
        let name = path
            .file_stem()
            .map_or(origin, |stem| stem.to_string_lossy().into_owned());
        Ok(Self::from_rows(&name, rows))
    }

    /// A set of rows made in the program.
    pub fn from_rows(name: &str, rows: Vec<Trial>) -> Self {
        Self {
            name: name.to_owned(),
            hash: content_hash(&rows),
            rows,
        }
    }

    /// The rows of at most `n` groups of a protocol, each topic in proportion; groups stay whole.
    fn sample(&self, protocol: Protocol, n: usize, seed: u64) -> Vec<Trial> {
        let mut firsts: BTreeMap<&str, (Condition, Option<&str>)> = BTreeMap::new();
        let rows = || self.rows.iter().filter(|row| row.protocol == protocol);
        for row in rows() {
            let stratum = (row.condition, row.topic.as_deref());
            firsts.entry(&row.group).or_insert(stratum);
        }
        let keys: Vec<_> = firsts.iter().map(|(group, key)| (*key, *group)).collect();
        let kept: BTreeMap<&str, bool> = (keys.iter().map(|(_, group)| *group))
            .zip(sample::chosen(&keys, n, seed))
            .collect();
        let keep = |row: &&Trial| kept.get(row.group.as_str()) == Some(&true);
        rows().filter(keep).cloned().collect()
    }

    fn groups(&self, protocol: Protocol) -> impl Iterator<Item = &str> {
        let rows = self.rows.iter().filter(move |row| row.protocol == protocol);
        rows.map(|row| row.group.as_str())
    }
}

/// The rows of at most `n` groups of a protocol out of several sets, as equal a share of each as they can give.
///
/// # Errors
/// [`TrialError::Twice`].
pub fn pick(
    sets: &[Trials],
    protocol: Protocol,
    n: usize,
    seed: u64,
) -> Result<Vec<Trial>, TrialError> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for set in sets {
        for group in set.groups(protocol) {
            let owner = *owners.entry(group).or_insert(&set.name);
            if owner != set.name {
                return Err(TrialError::Twice {
                    first: owner.to_owned(),
                    second: set.name.clone(),
                    protocol: protocol.name(),
                    group: group.to_owned(),
                });
            }
        }
    }
    let holding: Vec<&Trials> = sets
        .iter()
        .filter(|set| set.groups(protocol).next().is_some())
        .collect();
    let (share, more) = (n / holding.len().max(1), n % holding.len().max(1));
    Ok(holding
        .iter()
        .enumerate()
        .flat_map(|(i, set)| set.sample(protocol, share + usize::from(i < more), seed))
        .collect())
}

/// SHA-256 (hex) over the rows as JSON lists, sorted by id and joined by line feeds.
pub fn content_hash(rows: &[Trial]) -> String {
    let mut sorted: Vec<&Trial> = rows.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let mut hasher = Sha256::new();
    for row in sorted {
        let turns: Vec<[&str; 2]> = (row.messages.iter())
            .map(|turn| [turn.role.as_str(), turn.content.as_str()])
            .collect();
        // A list, so that no order of keys has a say.
        let fields = serde_json::json!([
            row.id,
            row.protocol.name(),
            row.group,
            row.condition.name(),
            turns,
            row.options,
            row.right,
            row.pushed,
            row.unsure,
            row.check,
            row.mentions,
            row.topic,
            row.ask.name(),
            row.source,
            row.licence
        ]);
        hasher.update(fields.to_string());
        hasher.update(b"\n");
    }
    hex(&hasher.finalize())
}
