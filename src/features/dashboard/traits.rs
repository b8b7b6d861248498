//! What can be said of a token where a latent fires: its id, the token before, its form, its ending, its kind, its position.
//!
//! Always: each trait is a number, equal where what it says is equal; [`Traits::name`] gives the words back.

use std::collections::HashMap;

use super::label::Trait;
use crate::text::{Tokenizer, visible::token_label};

/// Traits of a token, by [`Trait`]; [`NONE`] where it has none.
pub(super) type Keys = [u32; Trait::ALL.len()];

/// A token without that trait.
pub(super) const NONE: u32 = u32::MAX;

/// Positions that are told apart.
const POSITIONS: usize = 16;
/// Letters of an ending, and the fewest of a word that has one.
const ENDING: usize = 3;
const LONG_ENOUGH: usize = 5;

const KINDS: [&str; 8] = [
    "a line break",
    "a blank",
    "a number",
    "punctuation",
    "a capitalised word or its beginning",
    "a word in capitals",
    "a word or its beginning",
    "a piece with no blank before it",
];

/// Numbers for strings.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<String, u32>,
    all: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.all.push(name.to_owned());
        number
    }
}

/// The traits of the tokens seen, and how often each was.
#[derive(Debug, Default)]
pub(super) struct Traits {
    forms: Names,
    endings: Names,
    /// Form, ending and kind of a token.
    of_token: HashMap<u32, [u32; 3]>,
    seen: [HashMap<u32, u64>; Trait::ALL.len()],
}

impl Traits {
    /// The traits of a token of a context.
    pub(super) fn keys(&mut self, ids: &[u32], position: usize, tokenizer: &Tokenizer) -> Keys {
        let id = ids[position];
        let [form, ending, kind] = self.parts(id, tokenizer);
        let before = position.checked_sub(1).map_or(NONE, |at| ids[at]);
        let position = if position < POSITIONS {
            position as u32
        } else {
            NONE
        };
        [id, before, form, ending, kind, position]
    }

    fn parts(&mut self, id: u32, tokenizer: &Tokenizer) -> [u32; 3] {
        if let Some(parts) = self.of_token.get(&id) {
            return *parts;
        }
        let token = tokenizer.token(id);
        let form = token.trim().to_lowercase();
        let letters: Vec<char> = form.chars().collect();
        let word = !letters.is_empty() && letters.iter().all(|c| c.is_alphabetic());
        let ending = if word && letters.len() >= LONG_ENOUGH {
            let last: String = letters[letters.len() - ENDING..].iter().collect();
            self.endings.number(&last)
        } else {
            NONE
        };
        let number = if word { self.forms.number(&form) } else { NONE };
        let parts = [number, ending, kind(&token)];
        self.of_token.insert(id, parts);
        parts
    }

    /// Notes that a row with these traits was seen.
    pub(super) fn count(&mut self, keys: &Keys) {
        for (seen, key) in self.seen.iter_mut().zip(keys).filter(|(_, k)| **k != NONE) {
            *seen.entry(*key).or_insert(0) += 1;
        }
    }

    /// Rows with this trait.
    pub(super) fn seen(&self, of: Trait, key: u32) -> u64 {
        self.seen[of as usize].get(&key).copied().unwrap_or(0)
    }

    /// What the trait is, in words.
    pub(super) fn name(&self, of: Trait, key: u32, tokenizer: &Tokenizer) -> String {
        let at = key as usize;
        match of {
            Trait::Token | Trait::Previous => token_label(&tokenizer.token(key)),
            Trait::Form => self.forms.all.get(at).cloned().unwrap_or_default(),
            Trait::Ending => self.endings.all.get(at).cloned().unwrap_or_default(),
            Trait::Kind => KINDS.get(at).copied().unwrap_or_default().to_owned(),
            Trait::Position => key.to_string(),
        }
    }
}

/// The kind of a token, an index into [`KINDS`].
fn kind(token: &str) -> u32 {
    let inside = token.trim();
    let all = |of: fn(char) -> bool| !inside.is_empty() && inside.chars().all(of);
    let begins = token.starts_with(char::is_whitespace);
    let upper = inside.chars().filter(|c| c.is_uppercase()).count();
    if inside.is_empty() {
        return u32::from(!token.contains('\n'));
    }
    if all(char::is_numeric) {
        return 2;
    }
    if !inside.chars().any(char::is_alphanumeric) {
        return 3;
    }
    match (upper, begins) {
        (2.., _) if all(char::is_uppercase) => 5,
        (1.., _) if inside.starts_with(char::is_uppercase) => 4,
        (_, true) => 6,
        (_, false) => 7,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Checkpoint;

    #[test]
    fn kinds_by_hand() {
        let found: Vec<u32> = [
            "\n", "  ", " 42", ",", " The", "NASA", " the", "ing", "\u{fffd}",
        ]
        .map(kind)
        .to_vec();
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 6, 7, 3]);
    }

    #[test]
    fn what_is_equal_has_one_number() {
        let model = Checkpoint::toy(0).unwrap();
        let mut traits = Traits::default();
        let ids = model.tokenizer.encode("the red house the", false).unwrap();
        assert!(ids.len() >= 4, "{ids:?}");
        let all: Vec<Keys> = (0..ids.len())
            .map(|at| traits.keys(&ids, at, &model.tokenizer))
            .collect();
        for keys in &all {
            traits.count(keys);
        }
        let last = ids.len() - 1;
        assert_eq!(all[0][Trait::Previous as usize], NONE);
        assert_eq!(all[last][Trait::Previous as usize], ids[last - 1]);
        // With and without a blank before it, "the" is one form.
        let form = all[last][Trait::Form as usize];
        assert_eq!(traits.name(Trait::Form, form, &model.tokenizer), "the");
        assert_eq!(traits.seen(Trait::Position, 1), 1);
        assert_eq!(traits.seen(Trait::Token, ids[last]), {
            ids.iter().filter(|id| **id == ids[last]).count() as u64
        });
    }
}
