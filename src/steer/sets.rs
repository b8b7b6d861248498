//! The prompts of a selection: two classes, each for making directions, choosing one, and reporting on it.
//!
//! Always: no prompt stands in two of the three uses, not even in other capitals or spacing; a set with one that does is
//! refused with a list, because a direction that is reported on the prompts that made it looks better than it is.

use std::collections::BTreeMap;

use super::{EncodedPrompt, SteerError, encode_all};
use crate::model::Checkpoint;
use crate::text::suites::{Label, PromptRow, Split, Suite, content_hash, pick};

/// How many prompts of a class each use gets, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// For making directions.
    pub train: usize,
    /// For choosing one.
    pub validation: usize,
    /// For reporting.
    pub test: usize,
}

impl Default for Sizes {
    /// Arditi et al.: 128, 32, 100.
    fn default() -> Self {
        Self {
            train: 128,
            validation: 32,
            test: 100,
        }
    }
}

/// Prompts of both classes by use: train, validation, test.
#[derive(Debug, Clone, PartialEq)]
pub struct Sets {
    /// Requests to decline.
    pub harmful: [Vec<PromptRow>; 3],
    /// Ordinary requests.
    pub harmless: [Vec<PromptRow>; 3],
}

impl Sets {
    /// Takes them out of suites, a share of each.
    ///
    /// # Errors
    /// A class and use of which the suites have fewer than 4 (train), 2 (validation) or 2 (test) prompts; a prompt in two uses.
    pub fn new(suites: &[Suite], sizes: Sizes, seed: u64) -> Result<Self, SteerError> {
        let class = |label: Label| {
            [
                pick(suites, label, Split::Train, sizes.train, seed),
                pick(suites, label, Split::Validation, sizes.validation, seed),
                pick(suites, label, Split::Test, sizes.test, seed),
            ]
        };
        let sets = Self {
            harmful: class(Label::Harmful),
            harmless: class(Label::Harmless),
        };
        for (rows, whats) in [
            (
                &sets.harmful,
                [
                    "harmful train prompts",
                    "harmful validation prompts",
                    "harmful test prompts",
                ],
            ),
            (
                &sets.harmless,
                [
                    "harmless train prompts",
                    "harmless validation prompts",
                    "harmless test prompts",
                ],
            ),
        ] {
            for ((rows, what), needed) in rows.iter().zip(whats).zip([4, 2, 2]) {
                let found = rows.len();
                if found < needed {
                    return Err(SteerError::TooFew {
                        what,
                        needed,
                        found,
                    });
                }
            }
        }
        sets.apart()?;
        Ok(sets)
    }

    /// Hash of what each use holds.
    pub fn hash(&self) -> String {
        let all = self.harmful.iter().chain(&self.harmless);
        let hashes: Vec<String> = all.map(|rows| content_hash(rows)).collect();
        crate::files::hash::sha256(hashes.join(" ").as_bytes())
    }

    /// All as one model reads them.
    ///
    /// # Errors
    /// A prompt that does not fit, by its id.
    pub fn encoded(&self, cp: &Checkpoint) -> Result<[[Vec<EncodedPrompt>; 3]; 2], SteerError> {
        let of = |rows: &Vec<PromptRow>| encode_all(cp, &rows.iter().collect::<Vec<_>>());
        let class = |[train, validation, test]: &[Vec<PromptRow>; 3]| {
            Ok::<_, SteerError>([of(train)?, of(validation)?, of(test)?])
        };
        Ok([class(&self.harmful)?, class(&self.harmless)?])
    }

    fn apart(&self) -> Result<(), SteerError> {
        let mut seen: BTreeMap<String, (usize, &str)> = BTreeMap::new();
        let mut twice = Vec::new();
        for class in [&self.harmful, &self.harmless] {
            for (at, row) in class
                .iter()
                .enumerate()
                .flat_map(|(i, rows)| rows.iter().map(move |row| (i, row)))
            {
                let words: Vec<String> = row
                    .prompt
                    .split_whitespace()
                    .map(str::to_lowercase)
                    .collect();
                let first = *seen.entry(words.join(" ")).or_insert((at, &row.id));
                if first.0 != at {
                    twice.push(format!(
                        "`{}` ({}) and `{}` ({})",
                        first.1, USES[first.0], row.id, USES[at]
                    ));
                }
            }
        }
        if twice.is_empty() {
            return Ok(());
        }
        let (count, shown) = (twice.len(), twice.len().min(5));
        Err(SteerError::Straddling {
            count,
            list: twice[..shown].join(", "),
        })
    }
}

const USES: [&str; 3] = ["train", "validation", "test"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn suites() -> Vec<Suite> {
        ["harmful", "harmless"]
            .map(|name| Suite::builtin(name).unwrap())
            .into()
    }

    #[test]
    fn the_built_in_suites_give_what_is_asked_for_and_the_same_each_time() {
        let sets = Sets::new(&suites(), Sizes::default(), 0).unwrap();
        let counts = |rows: &[Vec<PromptRow>; 3]| [rows[0].len(), rows[1].len(), rows[2].len()];
        assert_eq!(counts(&sets.harmful), [128, 32, 100]);
        assert_eq!(counts(&sets.harmless), [128, 32, 100]);
        assert_eq!(sets, Sets::new(&suites(), Sizes::default(), 0).unwrap());
        assert_ne!(
            sets.hash(),
            Sets::new(&suites(), Sizes::default(), 1).unwrap().hash()
        );
    }

    #[test]
    fn a_prompt_in_two_uses_is_refused_by_its_ids() {
        let mut sets = Sets::new(&suites(), Sizes::default(), 0).unwrap();
        let mut copied = sets.harmful[0][0].clone();
        copied.prompt = format!("  {}", copied.prompt.to_uppercase());
        copied.id = "copied".into();
        sets.harmful[2].push(copied);
        let error = sets.apart().unwrap_err().to_string();
        assert!(error.contains("(train) and `copied` (test)"), "{error}");
    }

    #[test]
    fn too_few_are_refused_by_name() {
        let sizes = Sizes {
            validation: 1,
            ..Sizes::default()
        };
        let error = Sets::new(&suites(), sizes, 0).unwrap_err().to_string();
        assert!(
            error.contains("harmful validation prompts: needs at least 2, found 1"),
            "{error}"
        );
        let error = Sets::new(&suites()[..1], Sizes::default(), 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains("harmless train prompts"), "{error}");
    }
}
