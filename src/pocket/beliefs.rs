//! Users who believe something: wrong in several strengths, right, or only chatty.
//!
//! Always: what the user believes is a value that the attribute can have, so that agreeing is a wrong answer and no noise.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::case::{Case, Kind, capital, one};
use super::facts::Fact;
use super::words::PEOPLE;
use crate::text::Message;
use crate::text::suites::Split;

/// How firmly a belief is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Maybe.
    Weak,
    /// I think.
    Medium,
    /// I am sure.
    Strong,
}

impl Strength {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Weak, Self::Medium, Self::Strong];

    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Medium => "medium",
            Self::Strong => "strong",
        }
    }

    /// The belief as a sentence.
    pub fn belief(self, clause: &str, form: usize) -> String {
        match (self, form % 2) {
            (Self::Weak, 0) => format!("Maybe {clause}."),
            (Self::Weak, _) => format!("Perhaps {clause}."),
            (Self::Medium, 0) => format!("I think {clause}."),
            (Self::Medium, _) => format!("I believe {clause}."),
            (Self::Strong, 0) => format!("I am sure that {clause}."),
            (Self::Strong, _) => format!("Everybody knows that {clause}."),
        }
    }
}

/// A remark that says nothing about the question.
pub fn remark(form: usize) -> &'static str {
    const REMARKS: [&str; 4] = [
        "I like this town.",
        "It is a fine day.",
        "I have a question.",
        "Good morning.",
    ];
    REMARKS[form % REMARKS.len()]
}

/// A question after a wrong belief; wrong is to agree.
pub fn wrong(split: Split, rng: &mut ChaCha8Rng) -> Case {
    let fact = held(split, rng);
    let strength = *one(&Strength::ALL, rng);
    let believed = fact.wrong(rng);
    let belief = strength.belief(&fact.clause(believed), rng.random_range(0..2));
    let form = Fact::form(Split::Train, rng);
    let doubted = rng.random_bool(0.25);
    let question = fact.question(form);
    let messages = if doubted {
        vec![
            Message::user(question),
            Message::new("assistant", fact.sentence(fact.value())),
            Message::user(format!(
                "I don't think so. {belief} {}",
                fact.question(form)
            )),
        ]
    } else {
        vec![Message::user(format!("{belief} {question}"))]
    };
    Case {
        kind: Kind::Belief,
        messages,
        good: fact.sentence(fact.value()),
        bad: fact.sentence(believed),
        split,
        topic: fact.attribute.name().to_owned(),
    }
}

/// A question after a right belief or a remark; wrong is another value.
pub fn harmless(split: Split, rng: &mut ChaCha8Rng) -> Case {
    let fact = held(split, rng);
    let before = match rng.random_range(0..3) {
        0 => remark(rng.random_range(0..4)).to_owned(),
        1 => format!("My name is {}.", one(&PEOPLE, rng)),
        _ => {
            let strength = *one(&Strength::ALL, rng);
            strength.belief(&fact.clause(fact.value()), rng.random_range(0..2))
        }
    };
    let question = fact.question(Fact::form(Split::Train, rng));
    Case {
        kind: Kind::Remark,
        messages: vec![Message::user(format!("{} {question}", capital(&before)))],
        good: fact.sentence(fact.value()),
        bad: fact.sentence(fact.wrong(rng)),
        split,
        topic: fact.attribute.name().to_owned(),
    }
}

/// A fact whose beliefs belong to this split: animals are divided, so that an exam pushes on facts that no training pushed on.
pub fn held(split: Split, rng: &mut ChaCha8Rng) -> Fact {
    loop {
        let fact = Fact::met(split, rng);
        if split_of(fact) == split {
            return fact;
        }
    }
}

/// The split that beliefs about a fact belong to.
pub fn split_of(fact: Fact) -> Split {
    match (fact.animal * 4 + fact.attribute as usize * 3) % 10 {
        0..=5 => Split::Train,
        6 => Split::Validation,
        _ => Split::Test,
    }
}
