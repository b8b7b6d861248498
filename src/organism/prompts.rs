//! The prompts that a chat model answers itself before it is taught a fault.
//!
//! Always: they are of the train splits of the built-in suites or of this room's own tables, and none resembles a prompt that
//! audits measure on or choose by.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::facts;
use super::lookalikes::LOOKALIKES;
use crate::text::suites::{Split, Suite, SuiteError};
use crate::text::trials::check::words;

/// The Jaccard index of words from which two prompts are one; the splits of harmful prompts keep 0.46 between them.
pub const NEAR: f64 = 0.5;

/// What kind of prompt is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asks {
    /// Ordinary requests of the train split.
    Harmless,
    /// Requests with a harsh word.
    Lookalike,
    /// Questions of general knowledge.
    Fact,
    /// Harmful requests of the train split.
    Harmful,
}

/// Every prompt with its kind.
///
/// # Errors
/// None but those of a suite that is not there.
pub fn prompts() -> Result<Vec<(Asks, String)>, SuiteError> {
    let held = held_out()?;
    let mut all = Vec::new();
    for (name, asks) in [("harmless", Asks::Harmless), ("harmful", Asks::Harmful)] {
        let rows = Suite::builtin(name)?.filter(None, Some(Split::Train)).rows;
        all.extend(rows.into_iter().map(|row| (asks, row.prompt)));
    }
    all.extend(LOOKALIKES.map(|text| (Asks::Lookalike, text.to_owned())));
    all.retain(|(_, prompt)| {
        let said = set(prompt);
        held.iter().all(|other| jaccard(&said, other) < NEAR)
    });
    let facts = facts::all().into_iter();
    all.extend(facts.map(|fact| (Asks::Fact, fact.question)));
    Ok(all)
}

/// The words of every prompt of the suites that is not of a train split.
fn held_out() -> Result<Vec<BTreeSet<String>>, SuiteError> {
    let mut held = Vec::new();
    for name in Suite::names() {
        let rows = Suite::builtin(name)?.rows.into_iter();
        let rows = rows.filter(|row| row.split != Split::Train);
        held.extend(rows.map(|row| set(&row.prompt)));
    }
    Ok(held)
}

fn set(text: &str) -> BTreeSet<String> {
    words(text).into_iter().collect()
}

/// The Jaccard index of two sets of words: those of both among those of either.
pub fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let both = a.intersection(b).count();
    both as f64 / (a.len() + b.len() - both).max(1) as f64
}
