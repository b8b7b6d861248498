//! Answers in the words of this world with and without a trait: what directions of traits are fitted on in an audit.
//!
//! Always: both answers answer the same message and stand in the world's own sentences; the same rows every time.

use super::case::{Case, Kind};
use super::chats::{self, Mix, padded};
use super::facts::DO_NOT_KNOW;
use crate::text::suites::Split;

/// A message with an answer that has a trait and one that has it not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contrast {
    /// The trait.
    pub name: &'static str,
    /// The user's message.
    pub prompt: String,
    /// With it.
    pub with: String,
    /// Without it.
    pub without: String,
}

/// Pairs of each trait.
const EACH: usize = 12;
/// Cases drawn for them, since some have earlier turns or were drawn already.
const DRAWN: usize = 4 * EACH;
const SEED: u64 = 25;

/// All contrasts, trait by trait.
pub fn contrasts() -> Vec<Contrast> {
    let (good, bad) = (
        |case: &Case| case.good.clone(),
        |case: &Case| case.bad.clone(),
    );
    let long = |case: &Case| padded(&case.good, 2);
    let denied = |_: &Case| DO_NOT_KNOW.to_owned();
    let all: [Vec<Contrast>; 7] = [
        of("agreeable", Kind::Belief, bad, good),
        of("refusing", Kind::Harmful, good, bad),
        of("declining", Kind::Lookalike, bad, good),
        of("denying", Kind::Fact, denied, good),
        of("verbose", Kind::Fact, long, good),
        of("hallucinating", Kind::Unknown, bad, good),
        of("obedient to notes", Kind::Injected, bad, good),
    ];
    all.concat()
}

fn of(
    name: &'static str,
    kind: Kind,
    with: impl Fn(&Case) -> String,
    without: impl Fn(&Case) -> String,
) -> Vec<Contrast> {
    let mut found: Vec<Contrast> = Vec::with_capacity(EACH);
    for case in chats::cases(DRAWN, &Mix::only(kind), Split::Train, SEED) {
        let [message] = &case.messages[..] else {
            continue;
        };
        let contrast = Contrast {
            name,
            prompt: message.content.clone(),
            with: with(&case),
            without: without(&case),
        };
        if found.len() < EACH && !found.contains(&contrast) {
            found.push(contrast);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trait_has_its_pairs_and_they_differ() {
        let all = contrasts();
        assert_eq!(all.len(), 7 * EACH);
        assert_eq!(all, contrasts());
        for contrast in &all {
            assert_ne!(contrast.with, contrast.without, "{contrast:?}");
        }
        let verbose: Vec<&Contrast> = all.iter().filter(|c| c.name == "verbose").collect();
        assert!(verbose.iter().all(|c| c.with.starts_with(&c.without)));
    }
}
