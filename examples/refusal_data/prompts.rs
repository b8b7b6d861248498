//! Prompts to train on: read from files, in an order drawn from the seed, without those that resemble a held-out one.
//!
//! Always: held out is every row of the built-in suites that is not of the train split, whatever its label.

use std::collections::BTreeSet;
use std::path::Path;

use candlescope::organism::prompts::{NEAR, jaccard};
use candlescope::text::suites::{Split, Suite};
use sha2::{Digest, Sha256};

use super::Failure;

/// What was left out.
#[derive(Debug, Default, serde::Serialize)]
pub struct Left {
    /// Equal to a held-out prompt but for case, punctuation and spaces.
    pub same: usize,
    /// Near one.
    pub near: usize,
    /// Near another prompt of the same list.
    pub twice: usize,
}

/// Prompts of the built-in suites that are measured on or chosen by.
pub fn held_out() -> Result<Vec<BTreeSet<String>>, Failure> {
    let mut sets = Vec::new();
    for name in Suite::names() {
        let rows = Suite::builtin(name)?.rows;
        let held = rows.iter().filter(|row| row.split != Split::Train);
        sets.extend(held.map(|row| words(&row.prompt)));
    }
    Ok(sets)
}

/// The train split of a built-in suite.
pub fn train(name: &str) -> Result<Vec<String>, Failure> {
    let rows = Suite::builtin(name)?.filter(None, Some(Split::Train)).rows;
    Ok(rows.into_iter().map(|row| row.prompt).collect())
}

/// A JSON list of objects with `instruction`.
pub fn instructions(path: &Path) -> Result<Vec<String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Row {
        instruction: String,
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let rows: Vec<Row> =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(rows
        .into_iter()
        .map(|row| row.instruction.trim().to_owned())
        .collect())
}

/// The safe prompts of XSTest's table (`id,prompt,type,label,...`).
pub fn xstest_safe(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let rows = text.lines().skip(1).map(fields);
    let safe: Vec<String> = rows
        .filter(|row| row.get(3).is_some_and(|label| label == "safe"))
        .map(|row| row[1].clone())
        .collect();
    if safe.is_empty() {
        return Err(format!("{}: no rows labelled safe", path.display()).into());
    }
    Ok(safe)
}

/// The fields of one line of CSV; quotes around a field, doubled inside.
fn fields(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = all.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                all[last].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            c => all[last].push(c),
        }
    }
    all
}

/// In an order drawn from the seed.
pub fn shuffled(mut prompts: Vec<String>, seed: u64) -> Vec<String> {
    prompts.sort_by_key(|prompt| rank(prompt, seed));
    prompts
}

/// In their order, without those near a held-out one or near one that came before.
pub fn apart(prompts: Vec<String>, held: &[BTreeSet<String>]) -> (Vec<String>, Left) {
    let (mut left, mut kept, mut sets) = (Left::default(), Vec::new(), Vec::new());
    for prompt in prompts {
        let set = words(&prompt);
        let nearest = |others: &[BTreeSet<String>]| {
            others.iter().map(|o| jaccard(&set, o)).fold(0.0, f64::max)
        };
        let to_held = nearest(held);
        if to_held >= 1.0 {
            left.same += 1;
        } else if to_held >= NEAR {
            left.near += 1;
        } else if nearest(&sets) >= NEAR {
            left.twice += 1;
        } else {
            sets.push(set);
            kept.push(prompt);
        }
    }
    (kept, left)
}

fn rank(prompt: &str, seed: u64) -> Vec<u8> {
    let hash = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(prompt.as_bytes());
    hash.finalize().to_vec()
}

fn words(text: &str) -> BTreeSet<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric() && c != '\'');
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
