//! What is asked of a reply, checked word by word without a judge.
//!
//! What always holds: case, punctuation and quotes never decide, a phrase matches whole words only, and a reply without a
//! word passes nothing: silence is not obedience.

use serde::{Deserialize, Serialize};

/// A property that a program can see.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// It begins with this phrase.
    StartsWith(String),
    /// It ends with this phrase.
    EndsWith(String),
    /// This phrase stands in it.
    Contains(String),
    /// This phrase stands nowhere in it.
    Excludes(String),
    /// It is one word (`true`).
    OneWord(bool),
    /// It has at most so many words.
    MaxWords(usize),
}

impl Check {
    /// The words used in files.
    pub const NAMES: [&str; 6] = [
        "starts_with",
        "ends_with",
        "contains",
        "excludes",
        "one_word",
        "max_words",
    ];

    /// Whether the reply has the property.
    pub fn passes(&self, reply: &str) -> bool {
        let said = words(reply);
        if said.is_empty() {
            return false;
        }
        match self {
            Self::StartsWith(phrase) => said.starts_with(&words(phrase)),
            Self::EndsWith(phrase) => said.ends_with(&words(phrase)),
            Self::Contains(phrase) => holds(&said, &words(phrase)),
            Self::Excludes(phrase) => !holds(&said, &words(phrase)),
            Self::OneWord(_) => said.len() == 1,
            Self::MaxWords(most) => said.len() <= *most,
        }
    }

    /// Why it can never decide anything; `None` when it can.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::StartsWith(phrase)
            | Self::EndsWith(phrase)
            | Self::Contains(phrase)
            | Self::Excludes(phrase) => {
                (words(phrase).is_empty()).then_some("a phrase with a word in it")
            }
            Self::OneWord(yes) => (!yes).then_some("true"),
            Self::MaxWords(most) => (*most == 0).then_some("a count from 1 up"),
        }
    }
}

/// The words of a text in lower case: runs of letters and digits, an apostrophe or hyphen inside a word kept.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’' | '-')))
        .map(|word| word.trim_matches(['\'', '’', '-']))
        .filter(|word| !word.is_empty())
        .map(|word| word.replace('’', "'").to_lowercase())
        .collect()
}

/// Whether the words of `phrase` stand in `said`, one after the other.
pub fn holds(said: &[String], phrase: &[String]) -> bool {
    !phrase.is_empty() && said.windows(phrase.len()).any(|at| at == phrase)
}
