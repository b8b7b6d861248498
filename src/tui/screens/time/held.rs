//! What is kept of the checkpoints that were read: numbers, never a model.
//!
//! Always: what was read says what for, so that old values are known as old; whole distributions are kept for as many
//! checkpoints as fit into [`MOST_BYTES`], of the others what was computed from theirs.

use std::collections::BTreeMap;

use crate::compare::{Layer, Moment};
use crate::lens::Ranked;
use crate::tui::shared::Prompt;

/// Memory for whole distributions.
const MOST_BYTES: usize = 64 << 20;
/// Next tokens that are kept of a checkpoint.
pub(super) const TOP: usize = 20;

/// Everything that the numbers of a checkpoint depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The run, by number.
    pub run: u64,
    /// What is read.
    pub prompt: Prompt,
    /// After which token; none for the last.
    pub place: Option<usize>,
    /// The direction, by number.
    pub along: Option<u64>,
}

/// What was read of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// What for.
    pub wish: Wish,
    /// After which token.
    pub position: usize,
    /// Layer by layer; the distribution is let go where memory ends.
    pub moment: Moment,
    /// The likeliest next tokens.
    pub top: Vec<Ranked>,
    /// `KL(first checkpoint ‖ this)`, nats, once both were read.
    pub kl: Option<f64>,
}

impl Seen {
    /// The probability of a token, where it is still known.
    pub(super) fn probability(&self, id: u32) -> Option<f64> {
        let listed = self.top.iter().find(|top| top.id == id);
        self.moment
            .probability(id)
            .or_else(|| listed.map(|top| top.probability))
    }

    /// The last layer.
    pub(super) fn last(&self) -> Option<&Layer> {
        self.moment.layers.last()
    }

    fn bytes(&self) -> usize {
        std::mem::size_of_val(self.moment.log_probs.as_slice())
    }
}

/// A checkpoint: what was read of it, or what for and why not.
pub(super) type Result = std::result::Result<Seen, (Wish, String)>;

/// What a checkpoint was found to say, with the position of the token that it says it after.
pub(super) type Read = std::result::Result<(usize, Moment, BTreeMap<u32, String>), String>;

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Held {
    all: BTreeMap<usize, Result>,
    /// Texts of tokens.
    words: BTreeMap<u32, String>,
}

impl Held {
    /// What is known of a checkpoint, old or not.
    pub(super) fn at(&self, station: usize) -> Option<&Result> {
        self.all.get(&station)
    }

    /// What was read of a checkpoint for this wish.
    pub(super) fn fresh(&self, station: usize, wish: &Wish) -> Option<&Seen> {
        let seen = self.all.get(&station)?.as_ref().ok()?;
        (seen.wish == *wish).then_some(seen)
    }

    /// Whether a checkpoint need not be read for this wish: it was, or it cannot be.
    pub(super) fn knows(&self, station: usize, wish: &Wish) -> bool {
        match self.all.get(&station) {
            Some(Ok(seen)) => seen.wish == *wish,
            Some(Err((of, _))) => of == wish,
            None => false,
        }
    }

    /// The likeliest next token of the latest checkpoint that was read.
    pub(super) fn likeliest(&self) -> Option<u32> {
        let mut seen = self.all.values().rev().flatten();
        seen.find_map(|seen| seen.top.first()).map(|top| top.id)
    }

    /// Text of a token.
    pub(super) fn word(&self, id: u32) -> &str {
        self.words.get(&id).map_or("", String::as_str)
    }

    /// A token that was named.
    pub(super) fn name(&mut self, id: u32, text: String) {
        self.words.insert(id, text);
    }

    /// Keeps what came; whole distributions of what lies far from the cursor are let go.
    pub(super) fn keep(&mut self, station: usize, wish: Wish, read: Read, cursor: usize) {
        let kept = match read {
            Err(why) => Err((wish, why)),
            Ok((position, moment, words)) => {
                self.words.extend(words);
                Ok(Seen {
                    wish,
                    position,
                    top: moment.top(TOP),
                    moment,
                    kl: None,
                })
            }
        };
        self.all.insert(station, kept);
        self.bound(cursor, MOST_BYTES);
    }

    fn bound(&mut self, cursor: usize, most: usize) {
        let bytes = |all: &BTreeMap<usize, Result>| -> usize {
            all.values().flatten().map(Seen::bytes).sum()
        };
        while bytes(&self.all) > most {
            let whole = self.all.iter_mut().filter_map(|(at, kept)| {
                let seen = kept.as_mut().ok().filter(|seen| seen.bytes() > 0)?;
                // All are held against the first.
                (*at != 0).then_some((*at, seen))
            });
            let Some((_, seen)) = whole.max_by_key(|(at, _)| at.abs_diff(cursor)) else {
                return;
            };
            seen.moment.log_probs = Vec::new();
        }
    }

    /// Holds what was read for this wish against the first checkpoint.
    pub(super) fn weigh(&mut self, wish: &Wish) {
        let Some(first) = self.fresh(0, wish).map(|seen| seen.moment.clone()) else {
            return;
        };
        for seen in self.all.values_mut().flatten() {
            if seen.wish == *wish && seen.kl.is_none() {
                seen.kl = seen.moment.kl_from(&first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(place: usize) -> Wish {
        Wish {
            run: 1,
            prompt: Prompt::user("p"),
            place: Some(place),
            along: None,
        }
    }

    /// Two tokens: the second has this share.
    fn read(share: f32) -> (usize, Moment, BTreeMap<u32, String>) {
        let moment = Moment {
            layers: Vec::new(),
            log_probs: vec![(1.0 - share).ln(), share.ln()],
        };
        (3, moment, BTreeMap::from([(1, "b".to_owned())]))
    }

    #[test]
    fn what_is_far_lets_its_distribution_go_but_not_what_came_of_it() {
        let mut held = Held::default();
        for at in 0..4 {
            held.keep(at, wish(3), Ok(read(0.25 + 0.125 * at as f32)), 3);
        }
        held.weigh(&wish(3));
        let kl = |held: &Held, at| held.fresh(at, &wish(3)).and_then(|seen| seen.kl);
        assert_eq!(kl(&held, 0), Some(0.0));
        // By hand: 3/4 ln(3/4 / 1/2) + 1/4 ln(1/4 / 1/2).
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!(kl(&held, 2).is_some_and(|kl| (kl - expected).abs() < 1e-6));
        // Room for two: the first and the one under the cursor.
        held.bound(3, 16);
        let whole: Vec<bool> = (0..4)
            .map(|at| {
                held.fresh(at, &wish(3))
                    .is_some_and(|seen| seen.bytes() > 0)
            })
            .collect();
        assert_eq!(whole, [true, false, false, true]);
        assert!(kl(&held, 2).is_some_and(|kl| (kl - expected).abs() < 1e-6));
        let seen = held.fresh(2, &wish(3));
        assert!(
            seen.and_then(|s| s.probability(1))
                .is_some_and(|p| (p - 0.5).abs() < 1e-6)
        );
        assert_eq!(held.likeliest(), Some(1));
        assert_eq!(held.word(1), "b");
    }

    #[test]
    fn what_was_read_for_another_place_is_not_known() {
        let mut held = Held::default();
        held.keep(0, wish(1), Ok(read(0.5)), 0);
        held.keep(1, wish(2), Err("gone".into()), 0);
        assert!(held.knows(0, &wish(1)) && !held.knows(0, &wish(2)));
        assert!(held.knows(1, &wish(2)) && !held.knows(1, &wish(1)));
        assert!(held.fresh(0, &wish(2)).is_none() && held.at(0).is_some());
        assert!(!held.knows(2, &wish(1)));
    }
}
