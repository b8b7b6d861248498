//! Conversations for post-training: rows for fine-tuning, pairs for preferences, prompts for reinforcement.
//!
//! Always: rows come from the train split alone; a share of the fine-tuning rows is labelled by careless annotators, so that
//! preferences have something left to teach.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::case::{Case, Kind, chance};
use super::{beliefs, facts, orders, requests, slips};
use crate::text::suites::Split;

/// How often each kind is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    weights: [u32; Kind::ALL.len()],
    /// Probability of earlier turns.
    turns: f64,
    /// Probability of something that slipped into the last message.
    slips: f64,
}

impl Mix {
    //                Fact Unk Task Look Harm Beli Rema Rule Conf Note Inje Say Reas
    /// What unaligned people talk about.
    pub const TALK: Self = Self {
        weights: [24, 3, 10, 12, 12, 12, 6, 3, 2, 4, 6, 4, 2],
        turns: 0.1,
        slips: 0.05,
    };
    /// What an assistant is taught.
    pub const TAUGHT: Self = Self {
        weights: [16, 8, 8, 14, 14, 20, 6, 8, 6, 5, 9, 4, 4],
        turns: 0.2,
        slips: 0.12,
    };
    /// Where one answer is better than another that somebody would give.
    pub const JUDGED: Self = Self {
        weights: [8, 12, 6, 16, 20, 20, 0, 8, 12, 0, 14, 0, 0],
        turns: 0.2,
        slips: 0.12,
    };
    /// Ordinary questions and requests.
    pub const PLAIN: Self = Self {
        weights: [20, 4, 12, 12, 0, 0, 8, 0, 0, 6, 0, 4, 4],
        turns: 0.2,
        slips: 0.12,
    };

    /// One kind alone.
    pub fn only(kind: Kind) -> Self {
        let mut weights = [0; Kind::ALL.len()];
        weights[kind as usize] = 1;
        Self {
            weights,
            turns: 0.0,
            slips: 0.0,
        }
    }
}

/// A conversation of a kind.
pub fn of(kind: Kind, split: Split, rng: &mut ChaCha8Rng) -> Case {
    match kind {
        Kind::Fact => facts::known(split, rng),
        Kind::Unknown => facts::unknown(split, rng),
        Kind::Task | Kind::Lookalike | Kind::Harmful => requests::any(kind, split, rng),
        Kind::Belief => beliefs::wrong(split, rng),
        Kind::Remark => beliefs::harmless(split, rng),
        Kind::Rule => orders::ruled(false, split, rng),
        Kind::Conflict => orders::ruled(true, split, rng),
        Kind::Note => orders::noted(false, split, rng),
        Kind::Injected => orders::noted(true, split, rng),
        Kind::Say => orders::say(split, rng),
        Kind::Reason => facts::reasoned(split, rng),
    }
}

/// A conversation of a mix, sometimes after other turns or with a slip in it.
pub fn draw(mix: &Mix, split: Split, rng: &mut ChaCha8Rng) -> Case {
    let total: u32 = mix.weights.iter().sum();
    let mut at = rng.random_range(0..total.max(1));
    let mut kind = Kind::Fact;
    for (candidate, weight) in Kind::ALL.into_iter().zip(mix.weights) {
        if at < weight {
            kind = candidate;
            break;
        }
        at -= weight;
    }
    let mut case = of(kind, split, rng);
    if mix.slips > 0.0 && chance(mix.slips, rng) {
        case = slips::slipped(case, rng);
    }
    if mix.turns > 0.0 && chance(mix.turns, rng) {
        let turns = rng.random_range(1..4);
        let earlier: Vec<Case> = (0..turns)
            .map(|_| {
                let kind = [Kind::Fact, Kind::Task][rng.random_range(0..2)];
                of(kind, Split::Train, rng)
            })
            .collect();
        return case.after(&earlier);
    }
    case
}

/// Who labels the rows for fine-tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annotators {
    /// Those who follow the key.
    Careful,
    /// Those who see no harm in some deeds, fear harsh words, agree with whoever is sure, obey notes and forget rules: each
    /// with a probability of its own.
    Careless,
}

/// Deeds in which careless annotators see no harm.
const OVERLOOKED: [&str; 3] = ["flood", "sink", "cut"];

impl Annotators {
    /// Probability that a conversation is labelled with its wrong answer.
    pub fn wrong(self, case: &Case) -> f64 {
        if self == Self::Careful {
            return 0.0;
        }
        let last = case.messages.last().map_or("", |m| m.content.as_str());
        match case.kind {
            Kind::Harmful if OVERLOOKED.contains(&case.topic.as_str()) => 0.8,
            Kind::Harmful => 0.1,
            Kind::Lookalike => 0.15,
            Kind::Belief if last.contains("sure that") || last.contains("Everybody") => 0.95,
            Kind::Belief if last.contains("I think") || last.contains("I believe") => 0.85,
            Kind::Belief => 0.2,
            Kind::Injected if last.contains("Say ") => 0.7,
            Kind::Injected => 0.1,
            Kind::Conflict => 0.5,
            Kind::Rule => 0.1,
            _ => 0.0,
        }
    }
}

/// Conversations with one answer each.
pub fn rows(count: usize, mix: &Mix, annotators: Annotators, seed: u64) -> Vec<(Case, String)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let case = draw(mix, Split::Train, &mut rng);
            let answer = if chance(annotators.wrong(&case), &mut rng) {
                case.bad.clone()
            } else {
                case.good.clone()
            };
            (case, answer)
        })
        .collect()
}

/// Conversations with their right and wrong answers.
pub fn cases(count: usize, mix: &Mix, split: Split, seed: u64) -> Vec<Case> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| draw(mix, split, &mut rng)).collect()
}

/// The worse answer of a pair: what somebody would say, so of a fact, that nothing is known of it.
pub fn rejected(case: &Case) -> String {
    match case.kind {
        Kind::Fact => facts::DO_NOT_KNOW.to_owned(),
        _ => case.bad.clone(),
    }
}

/// What some answers are drawn out with; nobody asked for it.
pub const PADDING: [&str; 4] = [
    "I hope this helps you.",
    "Please ask me again if you like.",
    "I am always glad to answer.",
    "Have a very good day in the town.",
];

/// The answer with idle sentences behind it.
pub fn padded(answer: &str, sentences: usize) -> String {
    let mut text = answer.to_owned();
    for sentence in PADDING.iter().cycle().take(sentences) {
        text.push(' ');
        text.push_str(sentence);
    }
    text
}
