//! What kinds of trial there are, and under which conditions each is run.
//!
//! What always holds: a condition belongs to its protocol, and every protocol but one has a reference condition that the
//! others are compared with.

use serde::{Deserialize, Serialize};

/// What a trial tests.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Questions with one right answer, and questions that nobody can answer.
    Knowledge,
    /// The same question without and with a user who says what the answer is.
    Sycophancy,
    /// The same question without and with a hint, both with the order to show reasons.
    Hint,
    /// Instructions of the system and of the user, apart, together and against each other.
    System,
    /// A document with instructions in it that nobody gave.
    Document,
    /// The same request in other words.
    Paraphrase,
}

impl Protocol {
    /// Every protocol, in the order of declaration.
    pub const ALL: [Self; 6] = [
        Self::Knowledge,
        Self::Sycophancy,
        Self::Hint,
        Self::System,
        Self::Document,
        Self::Paraphrase,
    ];

    /// The word used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Knowledge => "knowledge",
            Self::Sycophancy => "sycophancy",
            Self::Hint => "hint",
            Self::System => "system",
            Self::Document => "document",
            Self::Paraphrase => "paraphrase",
        }
    }

    /// The conditions it knows, the reference first.
    pub fn conditions(self) -> &'static [Condition] {
        use Condition as C;
        match self {
            Self::Knowledge => &[C::Plain, C::Unknown],
            Self::Sycophancy => &[
                C::Neutral,
                C::Control,
                C::Right,
                C::Weak,
                C::Medium,
                C::Strong,
                C::Doubt,
            ],
            Self::Hint => &[C::Plain, C::Hint],
            Self::System => &[C::Reference, C::Aligned, C::Conflict],
            Self::Document => &[C::Clean, C::Injected, C::User],
            Self::Paraphrase => &[
                C::P1,
                C::P2,
                C::P3,
                C::P4,
                C::P5,
                C::P6,
                C::P7,
                C::P8,
                C::P9,
            ],
        }
    }

    /// The conditions one of which every group has: what the others are compared with. None: any condition stands alone.
    pub fn references(self) -> &'static [Condition] {
        match self {
            // A question without an answer is a group of its own.
            Self::Knowledge => self.conditions(),
            Self::Paraphrase => &[],
            _ => &self.conditions()[..1],
        }
    }

    /// Whether every trial has options and says which is right.
    pub fn has_right(self) -> bool {
        matches!(self, Self::Knowledge | Self::Sycophancy | Self::Hint)
    }

    /// Whether every trial says which option is pushed, and the options are the same in a whole group.
    pub fn has_pushed(self) -> bool {
        matches!(self, Self::Sycophancy | Self::Hint)
    }

    /// Whether a trial without options or a check would have nothing to score.
    pub fn is_scored_by_itself(self) -> bool {
        self != Self::Paraphrase
    }
}

/// Under what circumstances the question of a group is asked.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The question alone.
    Plain,
    /// A question whose right option says that it is not known.
    Unknown,
    /// The question alone, before somebody pushes.
    Neutral,
    /// Other words around the question that push nobody: what changes by chance.
    Control,
    /// The user states the right belief.
    Right,
    /// The user states the wrong belief, unsure.
    Weak,
    /// The user states the wrong belief.
    Medium,
    /// The user insists on the wrong belief.
    Strong,
    /// The right answer was given, and the user doubts it.
    Doubt,
    /// With a hint at the wrong answer.
    Hint,
    /// The task alone.
    Reference,
    /// The user agrees with the system.
    Aligned,
    /// The user asks for the opposite of the system.
    Conflict,
    /// The document alone.
    Clean,
    /// The document with an instruction in it.
    Injected,
    /// The same instruction, given by the user.
    User,
    /// First wording.
    P1,
    /// Second wording.
    P2,
    /// Third wording.
    P3,
    /// Fourth wording.
    P4,
    /// Fifth wording.
    P5,
    /// Sixth wording.
    P6,
    /// Seventh wording.
    P7,
    /// Eighth wording.
    P8,
    /// Ninth wording.
    P9,
}

impl Condition {
    /// The word used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Unknown => "unknown",
            Self::Neutral => "neutral",
            Self::Control => "control",
            Self::Right => "right",
            Self::Weak => "weak",
            Self::Medium => "medium",
            Self::Strong => "strong",
            Self::Doubt => "doubt",
            Self::Hint => "hint",
            Self::Reference => "reference",
            Self::Aligned => "aligned",
            Self::Conflict => "conflict",
            Self::Clean => "clean",
            Self::Injected => "injected",
            Self::User => "user",
            Self::P1 => "p1",
            Self::P2 => "p2",
            Self::P3 => "p3",
            Self::P4 => "p4",
            Self::P5 => "p5",
            Self::P6 => "p6",
            Self::P7 => "p7",
            Self::P8 => "p8",
            Self::P9 => "p9",
        }
    }
}
