//! A label by token statistics: which trait of the token foretells best that the latent fires.
//!
//! A trait is taken as a predictor of firing: precision is the share of its tokens on which the latent fires, recall the
//! share of the firings that have it, lift the precision over the latent's density. The trait with the best F1 is the
//! label, a plainer one if it is nearly as good; below the floors there is none. It is chosen and judged on the same tokens,
//! so it flatters itself where firings are few; their number is part of it.
//!
//! Always: memory is bounded. Counts of a latent are kept for so many values of a trait (Misra and Gries 1982); where there
//! are more, they are lower bounds, and `exact` is false.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::traits::{Keys, NONE, Traits};
use crate::text::Tokenizer;

/// Values of one trait that are counted for a latent.
const COUNTED: usize = 64;
/// Firings that a label stands on at least.
const FEWEST: u64 = 5;
/// F1 of a label at least.
const F1: f64 = 0.3;
/// Lift of a label at least.
const LIFT: f64 = 2.0;
/// So many times the F1 of a plainer trait makes up for its plainness.
const BETTER: f64 = 1.1;

/// What is looked at, the plainest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trait {
    /// The token.
    Token,
    /// The token before it.
    Previous,
    /// A word, whatever its case and with or without a blank.
    Form,
    /// The last three letters of a longer word.
    Ending,
    /// Number, punctuation, capitalised word and the like.
    Kind,
    /// One of the first positions of a context.
    Position,
}

impl Trait {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Token,
        Self::Previous,
        Self::Form,
        Self::Ending,
        Self::Kind,
        Self::Position,
    ];
}

/// What foretells a latent's firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// Which trait.
    pub by: Trait,
    /// Its value, as words.
    pub value: String,
    /// Share of the tokens with it on which the latent fires.
    pub precision: f64,
    /// Share of the firings that have it.
    pub recall: f64,
    /// Precision over density.
    pub lift: f64,
    /// Firings that have it.
    pub firings: u64,
    /// Whether the counts are exact; else precision, recall and firings are lower bounds.
    pub exact: bool,
}

impl Label {
    /// The trait and its value.
    pub fn words(&self) -> String {
        let value = &self.value;
        match self.by {
            Trait::Token => format!("token '{value}'"),
            Trait::Previous => format!("after '{value}'"),
            Trait::Form => format!("word '{value}' in any case"),
            Trait::Ending => format!("words in '-{value}'"),
            Trait::Kind => value.clone(),
            Trait::Position => format!("position {value} of a context"),
        }
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        2.0 * self.precision * self.recall / (self.precision + self.recall)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = if self.exact { "" } else { "at least " };
        write!(
            f,
            "{} (precision {least}{:.2}, recall {least}{:.2})",
            self.words(),
            self.precision,
            self.recall
        )
    }
}

/// How often some values of a trait came, of many.
#[derive(Debug, Clone, Default, PartialEq)]
struct Frequent {
    counts: Vec<(u32, u64)>,
    /// What was taken off every count to make room.
    lost: u64,
}

impl Frequent {
    fn add(&mut self, key: u32) {
        if let Some(found) = self.counts.iter_mut().find(|(k, _)| *k == key) {
            found.1 += 1;
        } else if self.counts.len() < COUNTED {
            self.counts.push((key, 1));
        } else {
            self.lost += 1;
            self.counts.iter_mut().for_each(|(_, n)| *n -= 1);
            self.counts.retain(|(_, n)| *n > 0);
        }
    }
}

/// How often each trait came with one latent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Companions([Frequent; Trait::ALL.len()]);

impl Companions {
    /// Notes the traits of a token on which the latent fired.
    pub(super) fn add(&mut self, keys: &Keys) {
        for (frequent, key) in self.0.iter_mut().zip(keys).filter(|(_, k)| **k != NONE) {
            frequent.add(*key);
        }
    }

    /// The label of a latent that fired in `fired` of `rows` rows.
    pub(super) fn label(
        &self,
        [fired, rows]: [u64; 2],
        traits: &Traits,
        tokenizer: &Tokenizer,
    ) -> Option<Label> {
        let mut best: Option<Label> = None;
        for of in Trait::ALL {
            let frequent = &self.0[of as usize];
            let candidate = |&(key, firings): &(u32, u64)| {
                let precision = firings as f64 / traits.seen(of, key).max(1) as f64;
                Label {
                    by: of,
                    value: traits.name(of, key, tokenizer),
                    precision,
                    recall: firings as f64 / fired.max(1) as f64,
                    lift: precision * rows as f64 / fired.max(1) as f64,
                    firings,
                    exact: frequent.lost == 0,
                }
            };
            let good = |l: &Label| l.firings >= FEWEST && l.lift >= LIFT && l.f1() >= F1;
            let all = frequent.counts.iter().map(candidate).filter(good);
            let found = all.max_by(|a, b| {
                let by_score = a.f1().total_cmp(&b.f1());
                by_score.then_with(|| b.value.cmp(&a.value))
            });
            let better = |found: &Label| best.as_ref().is_none_or(|b| found.f1() > BETTER * b.f1());
            if let Some(found) = found.filter(better) {
                best = Some(found);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Checkpoint;

    #[test]
    fn frequent_values_are_bounded_from_below() {
        let mut all = Frequent::default();
        // 200 times 7 among 400 others, each once.
        for i in 0..400 {
            all.add(1000 + i);
            if i % 2 == 0 {
                all.add(7);
            }
        }
        assert!(all.counts.len() <= COUNTED && all.lost > 0);
        let found = all.counts.iter().find(|(k, _)| *k == 7).unwrap().1;
        assert!(
            found <= 200 && found + all.lost >= 200,
            "{found} {}",
            all.lost
        );
        let mut few = Frequent::default();
        (0..640).for_each(|i| few.add(i % 64));
        assert_eq!((few.lost, few.counts[5]), (0, (5, 10)));
    }

    /// 100 rows of each of ten tokens in turn; the latent fires on those that `fires` names.
    fn labelled(fires: impl Fn(usize, u32) -> bool) -> Option<Label> {
        let model = Checkpoint::toy(0).unwrap();
        let first = model.tokenizer.encode("the", false).unwrap()[0];
        let ids: Vec<u32> = (0..1000).map(|i| first + i % 10).collect();
        let mut traits = Traits::default();
        let (mut companions, mut fired) = (Companions::default(), 0);
        for at in 0..ids.len() {
            let keys = traits.keys(&ids, at, &model.tokenizer);
            traits.count(&keys);
            if fires(at, ids[at] - first) {
                companions.add(&keys);
                fired += 1;
            }
        }
        companions.label([fired, 1000], &traits, &model.tokenizer)
    }

    #[test]
    fn a_label_by_hand() {
        // On 80 of the 100 tokens `the`, and on 20 others: precision 0.8, recall 0.8, lift 0.8 / 0.1.
        let label = labelled(|at, token| match token {
            0 => at < 800,
            5 => at % 50 == 5,
            _ => false,
        });
        let label = label.unwrap();
        assert_eq!(label.by, Trait::Token);
        assert!(label.value.ends_with("the"), "{}", label.value);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(label.precision, 0.8);
        near(label.recall, 0.8);
        near(label.lift, 8.0);
        assert_eq!((label.firings, label.exact), (80, true));
        let text = label.to_string();
        assert!(
            text.ends_with("the' (precision 0.80, recall 0.80)"),
            "{text}"
        );
    }

    #[test]
    fn no_label_where_nothing_foretells() {
        // Everywhere alike, and far too seldom.
        assert_eq!(labelled(|at, _| at % 7 == 3), None);
        assert_eq!(labelled(|at, token| token == 0 && at < 40), None);
    }
}
