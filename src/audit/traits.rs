//! Pairs of answers to one message, with and without a trait: what trait directions are fitted on.
//!
//! Always: a trait's pairs differ in the trait and answer the same; none is harmful. The directions: [`super::evidence::states`].

use serde::Deserialize;

use super::pairs::{Preference, Preferences};
use crate::model::Checkpoint;
use crate::pocket;
use crate::text::dataset::DataError;

const BUILTIN: &str = include_str!("../../assets/traits/traits.jsonl");

/// The answers of one trait.
#[derive(Clone, Debug)]
pub struct Trait {
    /// Its name.
    pub name: String,
    answers: Preferences,
}

/// A trait's pairs as a checkpoint reads them: the preferred answer has the trait.
#[derive(Clone, Debug, PartialEq)]
pub struct TraitPairs {
    /// The trait.
    pub name: String,
    /// Its pairs.
    pub pairs: Vec<Preference>,
}

/// A line of a file of traits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Line {
    /// The trait.
    #[serde(rename = "trait")]
    pub name: String,
    /// The user's message.
    pub prompt: String,
    /// An answer with the trait.
    pub chosen: String,
    /// One without.
    pub rejected: String,
}

/// The traits for a checkpoint: a model of the pocket world is asked in its own words.
///
/// # Errors
/// None for the built-in ones.
pub fn traits_for(checkpoint: &Checkpoint) -> Result<Vec<Trait>, DataError> {
    let chat = checkpoint.template.is_some();
    if pocket::suites::speaks(checkpoint.template.as_ref()) {
        let lines = pocket::traits::contrasts().into_iter();
        let line = |contrast: pocket::traits::Contrast| Line {
            name: contrast.name.to_owned(),
            prompt: contrast.prompt,
            chosen: contrast.with,
            rejected: contrast.without,
        };
        of(&lines.map(line).collect::<Vec<_>>(), chat)
    } else {
        of(&builtin(), chat)
    }
}

/// The lines built into the binary.
fn builtin() -> Vec<Line> {
    let lines = BUILTIN.lines().filter(|line| !line.trim().is_empty());
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Traits of these lines, in the order in which they first come. Without `chat`, an answer stands on the line after its message.
///
/// # Errors
/// Lines that are no pairs of answers.
pub fn of(lines: &[Line], chat: bool) -> Result<Vec<Trait>, DataError> {
    let mut names: Vec<&str> = Vec::new();
    for line in lines {
        if !names.contains(&line.name.as_str()) {
            names.push(&line.name);
        }
    }
    let one = |name: &&str| -> Result<Trait, DataError> {
        let own = lines.iter().filter(|line| line.name == **name);
        let row = |line: &Line| {
            let ending = if chat { "" } else { "\n" };
            [
                format!("{}{ending}", line.prompt),
                line.chosen.clone(),
                line.rejected.clone(),
            ]
        };
        Ok(Trait {
            name: (*name).to_owned(),
            answers: Preferences::of(name, &own.map(row).collect::<Vec<_>>(), chat)?,
        })
    };
    names.iter().map(one).collect()
}

impl Trait {
    /// Its pairs in a checkpoint's words; those that it cannot write or hold are left out.
    ///
    /// # Errors
    /// A template that cannot be applied.
    pub fn encode(&self, checkpoint: &Checkpoint) -> Result<TraitPairs, DataError> {
        let pairs = match self.answers.encode(checkpoint, usize::MAX, 0) {
            Ok((pairs, _)) => pairs,
            Err(DataError::NothingLeft { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(TraitPairs {
            name: self.name.clone(),
            pairs,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_line_is_read_and_every_trait_has_its_pairs() {
        let lines = builtin();
        assert_eq!(lines.len(), BUILTIN.lines().count());
        let traits = of(&lines, true).unwrap();
        let names: Vec<&str> = traits.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "agreeable",
                "refusing",
                "hedging",
                "verbose",
                "formal",
                "confident",
                "hostile",
                "hallucinating"
            ]
        );
        let cp = Checkpoint::toy(1).unwrap();
        for one in traits_for(&cp).unwrap() {
            let encoded = one.encode(&cp).unwrap();
            assert_eq!(encoded.pairs.len(), 8, "{}", one.name);
        }
    }
}
