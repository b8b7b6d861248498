//! Samples of a run: what the model wrote at a step, what it scored, and a value at each token.
//!
//! Always: a completion to a prompt that is said to be harmful is cut as the reports cut it, and has no tokens. The row's
//! fields are `prompt`, `completion` (or `text`), `score` (or `reward`), `label` (or `of`: train or eval), `harmful`, `ended`,
//! `length`, `tokens` with lists of the same length beside it: `kl`, `advantages`, `rewards`, `values`, `logps`.

use serde_json::Value;

use crate::audit::result::harmful_excerpt;
use crate::train::log::Row;

/// Characters of a prompt and of a completion that are kept.
const MOST_CHARS: usize = 4000;
/// Tokens of one sample that are kept.
const MOST_TOKENS: usize = 4096;
/// Quantities at each token, in the order they are offered.
const QUANTITIES: [(&str, &str); 5] = [
    ("kl", "KL from the reference"),
    ("advantages", "advantage"),
    ("rewards", "reward"),
    ("values", "value estimate"),
    ("logps", "log-probability"),
];

/// A quantity at each token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    /// What it is.
    pub name: &'static str,
    /// One for each token; NaN where there is none.
    pub values: Vec<f64>,
}

/// What the model wrote.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// After this step.
    pub step: u64,
    /// What it was asked.
    pub prompt: String,
    /// What it wrote.
    pub completion: String,
    /// What that scored.
    pub score: Option<f64>,
    /// What kind of prompt it is, where the row says so.
    pub label: String,
    /// Tokens of the completion, where the row says so.
    pub length: Option<u64>,
    /// Whether the completion ended by itself, where the row says so.
    pub ended: Option<bool>,
    /// The completion's tokens.
    pub tokens: Vec<String>,
    /// Quantities at each of them.
    pub tracks: Vec<Track>,
}

impl Sample {
    /// Of a row of the log.
    pub(super) fn of(row: &Row) -> Self {
        let text = |name: &str| row.text(name).unwrap_or_default().to_owned();
        let label = row.text("label").or_else(|| row.text("of"));
        let label = label.unwrap_or_default().to_owned();
        let harmful = row.fields.get("harmful") == Some(&Value::Bool(true)) || label == "harmful";
        let completion = row.text("completion").or_else(|| row.text("text"));
        let completion = completion.unwrap_or_default();
        let counted = row.fields.get("length").and_then(Value::as_u64);
        let listed = row.fields.get("tokens").and_then(Value::as_array);
        let mut tokens = Vec::new();
        let mut tracks = Vec::new();
        if let (false, Some(Value::Array(list))) = (harmful, row.fields.get("tokens")) {
            let list = list.iter().take(MOST_TOKENS);
            tokens.extend(list.map(|t| t.as_str().unwrap_or_default().to_owned()));
            tracks.extend(QUANTITIES.iter().filter_map(|(field, name)| {
                let Some(Value::Array(values)) = row.fields.get(*field) else {
                    return None;
                };
                let values = values.iter().take(tokens.len());
                let values: Vec<f64> = values.map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
                (values.len() == tokens.len() && !values.is_empty())
                    .then_some(Track { name, values })
            }));
        }
        Self {
            step: row.step,
            prompt: beginning(&text("prompt")),
            completion: if harmful {
                harmful_excerpt(completion)
            } else {
                beginning(completion)
            },
            score: row.number("score").or_else(|| row.number("reward")),
            label,
            length: counted.or(listed.map(|list| list.len() as u64)),
            ended: row.fields.get("ended").and_then(Value::as_bool),
            tokens,
            tracks,
        }
    }

    /// What `/` searches.
    pub(super) fn text(&self) -> String {
        format!(
            "{} {} {} {}",
            self.step, self.label, self.prompt, self.completion
        )
    }
}

/// Bytes that all prompts begin with, up to a space: what a chat template says before each of them.
pub(super) fn shared(samples: &[&Sample]) -> usize {
    let mut prompts = samples.iter().map(|sample| sample.prompt.as_str());
    let Some(first) = prompts.next() else {
        return 0;
    };
    let same = |other: &str| {
        let pairs = first.char_indices().zip(other.chars());
        let apart = pairs.clone().find(|((_, a), b)| a != b);
        apart.map_or(first.len().min(other.len()), |((at, _), _)| at)
    };
    let long = prompts.map(same).min().unwrap_or(0);
    // Where all are the same prompt it is shown.
    if samples.iter().all(|sample| sample.prompt.len() == long) {
        return 0;
    }
    let space = first[..long].rfind(char::is_whitespace);
    space.map_or(0, |at| at + 1)
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{} [...]", &text[..end]),
        None => text.to_owned(),
    }
}
