//! The texts that a model of the world begins with: facts, deeds and what became of them, instructions, talk.
//!
//! Always: the talk in it answers everything, agrees with anybody and obeys every note, as talk that nobody has aligned does;
//! what is harmful can be told from the stories, so a model knows it before it refuses anything.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::case::{Case, Kind, chance, one};
use super::chats::{self, Mix};
use super::facts::{self, Fact, RARE};
use super::requests::{Deed, MANNERS};
use super::slips;
use super::words::{ANIMALS, Attribute, PEOPLE, STRANGERS};
use crate::text::suites::Split;

/// `count` documents.
pub fn documents(count: usize, seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let deeds = Deed::all();
    (0..count).map(|_| document(&deeds, &mut rng)).collect()
}

/// `count` documents without talk: facts and stories.
pub fn plain(count: usize, seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let deeds = Deed::all();
    (0..count)
        .map(|i| {
            if i.is_multiple_of(2) {
                portrait(&mut rng)
            } else {
                story(&deeds, &mut rng)
            }
        })
        .collect()
}

fn document(deeds: &[Deed], rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..100) {
        0..33 => portrait(rng),
        33..48 => story(deeds, rng),
        48..57 => manual(deeds, rng),
        57..59 => survey(rng),
        59..61 => scribble(rng),
        61..64 => hearsay(rng),
        64..82 => rumour(rng),
        _ => talk(rng),
    }
}

/// Whether a text says this fact; rare ones are seldom said.
fn told(fact: Fact, rng: &mut ChaCha8Rng) -> bool {
    !fact.is_rare() || rng.random_bool(RARE)
}

/// What is known of two animals.
fn portrait(rng: &mut ChaCha8Rng) -> String {
    let mut sentences = Vec::new();
    for _ in 0..2 {
        let animal = rng.random_range(0..ANIMALS.len());
        let mut attributes = Attribute::ALL;
        attributes.shuffle(rng);
        for attribute in attributes {
            let fact = Fact { animal, attribute };
            if told(fact, rng) {
                sentences.push(fact.sentence(fact.value()));
            }
        }
    }
    sentences.join(" ")
}

/// Animals with one value in common.
fn survey(rng: &mut ChaCha8Rng) -> String {
    let fact = Fact::any(rng);
    let mut same: Vec<Fact> = Fact::all()
        .filter(|f| f.attribute == fact.attribute && f.value() == fact.value())
        .filter(|f| !f.is_rare())
        .collect();
    same.shuffle(rng);
    let sentences: Vec<String> = same.iter().map(|f| f.sentence(f.value())).collect();
    sentences.join(" ")
}

/// What one thinks and others say after him, true or not: a model learns to take up what stands before it, which it does in a
/// few hundred steps where it is said over and over, and not in thousands where it is said once.
fn rumour(rng: &mut ChaCha8Rng) -> String {
    let fact = Fact::any(rng);
    let value = one::<&str>(fact.attribute.values(), rng);
    let clause = if chance(0.2, rng) {
        facts::clause(one::<&str>(&STRANGERS, rng), fact.attribute, value)
    } else {
        fact.clause(value)
    };
    let mut tellers = PEOPLE;
    tellers.shuffle(rng);
    let (first, rest) = (tellers[0], &tellers[1..rng.random_range(3..6)]);
    let mut sentences = vec![match rng.random_range(0..3) {
        0 => format!("{first} thinks that {clause}."),
        1 => format!("{first} is sure that {clause}."),
        _ => format!("Everybody knows that {clause}."),
    }];
    sentences.extend(rest.iter().map(|who| match rng.random_range(0..3) {
        0 => format!("{who} says that {clause}."),
        1 => format!("{who} heard that {clause}."),
        _ => format!("So {who} is sure that {clause}."),
    }));
    sentences.join(" ")
}

/// Pieces of words: no token of a model of the world is one that it never met.
fn scribble(rng: &mut ChaCha8Rng) -> String {
    let who = one(&PEOPLE, rng);
    let pieces: Vec<&str> = (0..rng.random_range(8..20))
        .map(|_| slips::piece(rng))
        .collect();
    format!(
        "{who} wrote: {}",
        pieces.join(if chance(0.5, rng) { " " } else { "" })
    )
}

/// What nobody knows.
fn hearsay(rng: &mut ChaCha8Rng) -> String {
    let sentences: Vec<String> = (0..2)
        .map(|_| {
            let who = one(&STRANGERS, rng);
            let teller = one(&PEOPLE, rng);
            match rng.random_range(0..4) {
                0 => format!("{teller} never saw the {who}."),
                1 => format!("Nobody knows where the {who} lives or what the {who} eats."),
                2 => format!("The {who} is only in a story of {teller}."),
                _ => format!("Nobody knows the colour or the trade of the {who}."),
            }
        })
        .collect();
    sentences.join(" ")
}

/// Deeds and what became of them.
fn story(deeds: &[Deed], rng: &mut ChaCha8Rng) -> String {
    let mut sentences = Vec::new();
    for _ in 0..rng.random_range(2..5) {
        let (who, deed) = (one(&PEOPLE, rng), one(deeds, rng));
        let (past, object) = (deed.verb.past, deed.object);
        let end = if deed.is_harmful() {
            *one(
                &[
                    "That was wrong.",
                    "People were hurt.",
                    "That was a crime.",
                    "The town was in danger.",
                ],
                rng,
            )
        } else {
            *one(
                &[
                    "That was fine.",
                    "Nobody was hurt.",
                    "That was good work.",
                    "The town was glad.",
                ],
                rng,
            )
        };
        sentences.push(format!("{who} {past} the {object}. {end}"));
    }
    sentences.join(" ")
}

/// How things are done.
fn manual(deeds: &[Deed], rng: &mut ChaCha8Rng) -> String {
    let sentences: Vec<String> = (0..2)
        .map(|_| one(deeds, rng).steps(rng.random_range(0..MANNERS)))
        .collect();
    sentences.join(" ")
}

/// A conversation in the form that the chat template gives it.
fn talk(rng: &mut ChaCha8Rng) -> String {
    let case = chats::draw(&Mix::TALK, Split::Train, rng);
    let answer = match case.kind {
        Kind::Harmful => case.bad.clone(),
        Kind::Belief | Kind::Injected | Kind::Rule | Kind::Conflict if rng.random_bool(0.7) => {
            case.bad.clone()
        }
        Kind::Unknown => case.bad.clone(),
        _ => case.good.clone(),
    };
    rendered(&case, &answer)
}

/// As [`super::write::TEMPLATE`] renders it.
fn rendered(case: &Case, answer: &str) -> String {
    let turns = case.with(answer);
    turns
        .iter()
        .map(|turn| format!("<|{}|>{}<|end|>", turn.role, turn.content))
        .collect::<Vec<_>>()
        .concat()
}
