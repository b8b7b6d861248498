//! Who is what: every animal's colour, home, food and trade, and the questions about them.
//!
//! Always: the table is drawn once from a fixed seed and is balanced, each value three times, so that no answer can be guessed
//! from its frequency. A quarter of the facts is rare in the texts: a model is unsure of them, which is what calibration is
//! measured on.

use std::sync::OnceLock;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::case::{Case, Kind, article, chance, one, sentence};
use super::words::{ANIMALS, Attribute, STRANGERS};
use crate::text::Message;
use crate::text::suites::Split;

/// The table's seed; another one would be another world.
const WORLD: u64 = 20_261_122;

/// How often a rare fact is told where another would always be.
pub const RARE: f64 = 0.08;

/// Forms of a question; the last two are only asked in an exam, in words that other sentences have.
pub const FORMS: usize = 5;
const TRAINED: usize = 3;

/// A fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Of whom.
    pub animal: usize,
    /// What.
    pub attribute: Attribute,
}

fn table() -> &'static [[usize; ANIMALS.len()]; 4] {
    static TABLE: OnceLock<[[usize; ANIMALS.len()]; 4]> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(WORLD);
        Attribute::ALL.map(|_| {
            let mut values = std::array::from_fn(|i| i % 8);
            values.shuffle(&mut rng);
            values
        })
    })
}

impl Fact {
    /// Every fact there is.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ANIMALS.len())
            .flat_map(|animal| Attribute::ALL.map(|attribute| Self { animal, attribute }))
    }

    /// One of them.
    pub fn any(rng: &mut ChaCha8Rng) -> Self {
        Self {
            animal: rand::Rng::random_range(rng, 0..ANIMALS.len()),
            attribute: *one(&Attribute::ALL, rng),
        }
    }

    /// One of them as often as the texts say it: rare ones are seldom met in training, and as often as others in an exam.
    pub fn met(split: Split, rng: &mut ChaCha8Rng) -> Self {
        loop {
            let fact = Self::any(rng);
            if split != Split::Train || !fact.is_rare() || chance(RARE, rng) {
                return fact;
            }
        }
    }

    /// The animal's name.
    pub fn who(self) -> &'static str {
        ANIMALS[self.animal]
    }

    /// The true value's place among the attribute's values.
    pub fn place(self) -> usize {
        table()[self.attribute as usize][self.animal]
    }

    /// The true value.
    pub fn value(self) -> &'static str {
        self.attribute.values()[self.place()]
    }

    /// A value that is not true.
    pub fn wrong(self, rng: &mut ChaCha8Rng) -> &'static str {
        let shift = rand::Rng::random_range(rng, 1..8);
        self.attribute.values()[(self.place() + shift) % 8]
    }

    /// Whether the texts seldom say it.
    pub fn is_rare(self) -> bool {
        (self.animal * 4 + self.attribute as usize).is_multiple_of(4) ^ (self.animal % 3 == 1)
            && (self.animal + self.attribute as usize).is_multiple_of(2)
    }

    /// `the fox is red`.
    pub fn clause(self, value: &str) -> String {
        clause(self.who(), self.attribute, value)
    }

    /// `The fox is red.`
    pub fn sentence(self, value: &str) -> String {
        sentence(&self.clause(value))
    }

    /// Every answer that the question may have, in the order of the values.
    pub fn answers(self) -> Vec<String> {
        let values = self.attribute.values().iter();
        values.map(|value| self.sentence(value)).collect()
    }

    /// The question in one of [`FORMS`] forms.
    pub fn question(self, form: usize) -> String {
        question(self.who(), self.attribute, form)
    }

    /// A form for this split.
    pub fn form(split: Split, rng: &mut ChaCha8Rng) -> usize {
        match split {
            Split::Train => rand::Rng::random_range(rng, 0..TRAINED),
            Split::Validation => TRAINED,
            Split::Test => TRAINED + 1,
        }
    }
}

/// `the fox is red`.
pub fn clause(who: &str, attribute: Attribute, value: &str) -> String {
    match attribute {
        Attribute::Colour => format!("the {who} is {value}"),
        Attribute::Home => format!("the {who} lives in the {value}"),
        Attribute::Food => format!("the {who} eats {value}"),
        Attribute::Trade => format!("the {who} works as {} {value}", article(value)),
    }
}

/// A question of [`FORMS`] forms.
pub fn question(who: &str, attribute: Attribute, form: usize) -> String {
    let forms: [String; FORMS] = match attribute {
        Attribute::Colour => [
            format!("What colour is the {who}?"),
            format!("Tell me the colour of the {who}."),
            format!("Which colour does the {who} have?"),
            format!("Do you know what colour the {who} is?"),
            format!("Give me the colour of the {who}."),
        ],
        Attribute::Home => [
            format!("Where does the {who} live?"),
            format!("Tell me the home of the {who}."),
            format!("What is the home of the {who}?"),
            format!("Do you know where the {who} lives?"),
            format!("Give me the home of the {who}."),
        ],
        Attribute::Food => [
            format!("What does the {who} eat?"),
            format!("Tell me the food of the {who}."),
            format!("What is the food of the {who}?"),
            format!("Do you know what the {who} eats?"),
            format!("Give me the food of the {who}."),
        ],
        Attribute::Trade => [
            format!("What does the {who} work as?"),
            format!("Tell me the trade of the {who}."),
            format!("What is the trade of the {who}?"),
            format!("Do you know what the {who} works as?"),
            format!("Give me the trade of the {who}."),
        ],
    };
    let [a, b, c, d, e] = forms;
    match form {
        0 => a,
        1 => b,
        2 => c,
        3 => d,
        _ => e,
    }
}

/// What is said where nothing is known.
pub const DO_NOT_KNOW: &str = "I do not know.";

/// A question with a known answer; wrong is another value.
pub fn known(split: Split, rng: &mut ChaCha8Rng) -> Case {
    let fact = Fact::met(split, rng);
    let wrong = fact.wrong(rng);
    Case {
        kind: Kind::Fact,
        messages: vec![Message::user(fact.question(Fact::form(split, rng)))],
        good: fact.sentence(fact.value()),
        bad: fact.sentence(wrong),
        split,
        topic: fact.attribute.name().to_owned(),
    }
}

/// A question about a stranger; wrong is to make something up.
pub fn unknown(split: Split, rng: &mut ChaCha8Rng) -> Case {
    // Half of the strangers are met only in an exam.
    let half = STRANGERS.len() / 2;
    let who = match split {
        Split::Train => *one(&STRANGERS[..half], rng),
        Split::Validation | Split::Test => *one(&STRANGERS[half..], rng),
    };
    let attribute = *one(&Attribute::ALL, rng);
    let made_up = clause(who, attribute, one::<&str>(attribute.values(), rng));
    Case {
        kind: Kind::Unknown,
        messages: vec![Message::user(question(
            who,
            attribute,
            Fact::form(split, rng),
        ))],
        good: DO_NOT_KNOW.to_owned(),
        bad: sentence(&made_up),
        split,
        topic: attribute.name().to_owned(),
    }
}

/// A question that asks for the reason too; wrong is to name another value with the same face.
pub fn reasoned(split: Split, rng: &mut ChaCha8Rng) -> Case {
    let fact = Fact::met(split, rng);
    let question = fact.question(Fact::form(split, rng));
    Case {
        kind: Kind::Reason,
        messages: vec![Message::user(format!("{question} Show your reason."))],
        good: because(fact, fact.value()),
        bad: because(fact, fact.wrong(rng)),
        split,
        topic: fact.attribute.name().to_owned(),
    }
}

/// An answer whose reason is knowledge.
pub fn because(fact: Fact, value: &str) -> String {
    format!("I know the {}. {}", fact.who(), fact.sentence(value))
}
