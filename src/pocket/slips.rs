//! What slips into a text: pieces of words, and words that have no business there.
//!
//! Always: a slip changes nothing about what is asked, so the answer stays what it was; without slips a model meets some of its
//! tokens for the first time in an audit, and anything may follow from them.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::case::{Case, chance, one};
use super::words::{ANIMALS, Attribute, GENTLE, HARSH, PEOPLE, PLAIN};

/// A word of the world.
fn word(rng: &mut ChaCha8Rng) -> &'static str {
    match rng.random_range(0..6) {
        0 => one::<&str>(&ANIMALS, rng),
        1 => one::<&str>(&PEOPLE, rng),
        2 => one::<&str>(&PLAIN, rng),
        3 => one(&HARSH, rng).tool,
        4 => one(&GENTLE, rng).tool,
        _ => one::<&str>(one(&Attribute::ALL, rng).values(), rng),
    }
}

/// Up to four letters of a word, or now and then the whole of it.
pub fn piece(rng: &mut ChaCha8Rng) -> &'static str {
    let word = word(rng);
    if chance(0.25, rng) {
        return word;
    }
    // Words of the world are ASCII.
    let long = rng.random_range(1..=word.len().min(4));
    let from = rng.random_range(0..=word.len() - long);
    &word[from..from + long]
}

/// The conversation with a piece before or after its last message.
pub fn slipped(mut case: Case, rng: &mut ChaCha8Rng) -> Case {
    let piece = piece(rng);
    let gap = if chance(0.5, rng) { " " } else { "" };
    if let Some(last) = case.messages.last_mut() {
        last.content = if chance(0.5, rng) {
            format!("{piece} {}", last.content)
        } else {
            format!("{}{gap}{piece}", last.content)
        };
    }
    case
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;

    use super::*;
    use crate::pocket::Kind;
    use crate::pocket::chats::of;
    use crate::text::suites::Split;

    #[test]
    fn a_slip_leaves_the_question_and_its_answers() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in Kind::ALL {
            let case = of(kind, Split::Train, &mut rng);
            let after = slipped(case.clone(), &mut rng);
            let (before, now) = (
                case.messages.last().unwrap(),
                after.messages.last().unwrap(),
            );
            assert!(now.content.contains(&before.content));
            assert!(now.content.len() > before.content.len());
            assert_eq!((&case.good, &case.bad), (&after.good, &after.bad));
            assert_eq!(case.messages.len(), after.messages.len());
        }
        let long = (0..200).map(|_| piece(&mut rng).len()).max().unwrap();
        assert!(long > 4, "whole words are among them");
    }
}
