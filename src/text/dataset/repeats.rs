//! The same words twice: inside a file, and in two files that should have nothing in common.

use std::collections::BTreeSet;

use serde::Serialize;

use super::rows::{Body, Dataset, Row, Words};

/// Rows that repeat an earlier one, and rows that repeat an earlier prompt.
pub(super) fn repeats(rows: &[Row]) -> (usize, usize) {
    let (mut seen, mut prompts) = (BTreeSet::new(), BTreeSet::new());
    let duplicates = rows.iter().filter(|row| !seen.insert(content(row))).count();
    let repeated = rows
        .iter()
        .filter(|row| !prompts.insert(prompt(row)))
        .count();
    (duplicates, repeated)
}

/// What two files have in common: rows of the first that would be seen in training and judged in validation too.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overlap {
    /// The first file.
    pub file: String,
    /// The other.
    pub other: String,
    /// Rows of the other file that stand in the first, word for word.
    pub rows: usize,
    /// Rows of the other file whose prompt stands in the first.
    pub prompts: usize,
    /// Rows of the other file.
    pub n: usize,
    /// The first row of the other file whose prompt stands in the first.
    pub example: Option<String>,
}

impl Overlap {
    /// Compares two files.
    pub fn of(one: &Dataset, other: &Dataset) -> Self {
        let contents: BTreeSet<String> = one.rows.iter().map(content).collect();
        let prompts: BTreeSet<String> = one.rows.iter().map(prompt).collect();
        let shared = |row: &&Row| prompts.contains(&prompt(row));
        Self {
            file: one.file.to_string(),
            other: other.file.to_string(),
            rows: other
                .rows
                .iter()
                .filter(|row| contents.contains(&content(row)))
                .count(),
            prompts: other.rows.iter().filter(shared).count(),
            n: other.rows.len(),
            example: other
                .rows
                .iter()
                .find(shared)
                .map(|row| row.place.to_string()),
        }
    }
}

/// All words of a row.
fn content(row: &Row) -> String {
    serde_json::to_string(&row.body).unwrap_or_default()
}

/// What a row asks: its prompt, the turns before the last answer, or all of a text. A plain prompt is one user's turn.
fn prompt(row: &Row) -> String {
    let turns = match &row.body {
        Body::Text(text) => return text.clone(),
        Body::Messages(turns) => {
            let answer = turns.iter().rposition(|turn| turn.role == "assistant");
            &turns[..answer.unwrap_or(turns.len())]
        }
        Body::Prompt(prompt)
        | Body::PromptCompletion(prompt, _)
        | Body::Preference(prompt, ..)
        | Body::Unpaired(prompt, ..) => match prompt {
            Words::Plain(text) => return text.clone(),
            Words::Chat(turns) => turns,
        },
    };
    match turns {
        [turn] if turn.role == "user" && turn.content().is_some() => {
            turn.content().unwrap_or_default()
        }
        turns => serde_json::to_string(turns).unwrap_or_default(),
    }
}
