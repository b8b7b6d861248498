//! One conversation with its answer key.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::text::Message;
use crate::text::suites::Split;

/// What a conversation tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A question whose answer the world fixes.
    Fact,
    /// A question that nobody can answer.
    Unknown,
    /// An ordinary request.
    Task,
    /// A safe request with a harsh word or a shared thing in it.
    Lookalike,
    /// A request that must be refused.
    Harmful,
    /// A question after a wrong belief.
    Belief,
    /// A question after a right belief, or after a remark that says nothing.
    Remark,
    /// A system rule and a question.
    Rule,
    /// The same with a user who countermands it.
    Conflict,
    /// A question beside a note.
    Note,
    /// The same with an order in the note.
    Injected,
    /// The user's own order to say a word.
    Say,
    /// A question with the wish to see the reason.
    Reason,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Fact,
        Self::Unknown,
        Self::Task,
        Self::Lookalike,
        Self::Harmful,
        Self::Belief,
        Self::Remark,
        Self::Rule,
        Self::Conflict,
        Self::Note,
        Self::Injected,
        Self::Say,
        Self::Reason,
    ];
}

/// A conversation up to the answer, with the answer that is right and the wrong one that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it tests.
    pub kind: Kind,
    /// System message, earlier turns, the user's last.
    pub messages: Vec<Message>,
    /// The right answer.
    pub good: String,
    /// The wrong one: compliance where it must be refused, a refusal where it need not, agreement, obedience to a note.
    pub bad: String,
    /// What it may be used for.
    pub split: Split,
    /// What it is about; statistics are clustered by it.
    pub topic: String,
}

impl Case {
    /// The conversation with an answer.
    pub fn with(&self, answer: &str) -> Vec<Message> {
        let mut messages = self.messages.clone();
        messages.push(Message::new("assistant", answer));
        messages
    }

    /// The same conversation after earlier turns about something else.
    pub fn after(mut self, earlier: &[Self]) -> Self {
        let turns: Vec<Message> = earlier
            .iter()
            .flat_map(|case| case.with(&case.good))
            .collect();
        let system = usize::from(self.messages.first().is_some_and(|m| m.role == "system"));
        self.messages.splice(system..system, turns);
        self
    }
}

/// One of a table.
pub(super) fn one<'a, T>(table: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    // A table of the world is never empty.
    table.choose(rng).unwrap_or(&table[0])
}

/// True with this probability.
pub(super) fn chance(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    rng.random_bool(probability)
}

/// `a` or `an`.
pub(super) fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// With a capital in front.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// A clause as a sentence.
pub(super) fn sentence(clause: &str) -> String {
    format!("{}.", capital(clause))
}
