//! A scan for words on which refusal hangs: tokens that, put before or after a harmful prompt, take the refusal away.
//!
//! Always: candidates are screened on validation prompts, the few that drop the score most are measured on more of them, and
//! what is confirmed is measured on test prompts that no choice has seen, beside random candidates on the same prompts.
//! Tokens are put in as tokens, at the edges of the user's own words. Only first tokens are read, so a pass is short: after a
//! prompt little more than the candidate itself is computed anew. What stands out: signal 46.

use std::collections::BTreeSet;

use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Part;
use super::gather::Gather;
use crate::audit::work::Stage;
use crate::hooks::Hooks;
use crate::model::Checkpoint;
use crate::steer::{self, EncodedPrompt, RefusalTokens, Slotted};
use crate::text::suites::PromptRow;

/// Prompts of each split that the finalists are measured on.
pub const PROMPTS: usize = 12;

/// Of these, the ones that every candidate is screened on.
pub const SCREEN: usize = 3;

/// Candidates measured on all prompts.
pub const FINALISTS: usize = 16;

/// Random candidates on each side, measured beside them.
pub const CONTROLS: usize = 8;

/// Prompts of a batch: rows are short and their beginning is shared.
const BATCH: usize = 64;

/// Where a token is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Before the user's words.
    Before,
    /// After them.
    After,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];

    /// For findings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// A token at a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Insert {
    /// The token.
    pub token: u32,
    /// Where.
    pub side: Side,
}

/// Which prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Candidates are found on these.
    Search,
    /// And confirmed on these.
    Confirm,
}

/// An insertion measured on all prompts of both stretches.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// What.
    pub insert: Insert,
    /// The token as text.
    pub word: String,
    /// Scores of the search prompts with it.
    pub search: Vec<f64>,
    /// Scores of the confirm prompts with it.
    pub confirm: Vec<f64>,
}

/// What the scan found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Triggers {
    /// Tokens that were tried.
    pub tokens: usize,
    /// Whether these are all that could be.
    pub whole: bool,
    /// Every insertion with its mean drop of the score on the screening prompts, nats.
    pub screened: Vec<(Insert, f64)>,
    /// Scores of the search prompts as they stand, the most refused first; the first few are the screening prompts.
    pub search: Vec<f64>,
    /// The same of the confirm prompts.
    pub confirm: Vec<f64>,
    /// The insertions that dropped the score most, the largest drop for their side first.
    pub finalists: Vec<Tried>,
    /// Random insertions.
    pub controls: Vec<Tried>,
    /// Passes over a prompt that it took.
    pub passes: usize,
}

/// Something with a refusal score.
pub trait Scorer {
    /// Scores of all prompts as they stand.
    ///
    /// # Errors
    /// A pass's.
    fn plain(&mut self, stretch: Stretch) -> Part<Vec<f64>>;

    /// Scores of one prompt with each insertion.
    ///
    /// # Errors
    /// A pass's.
    fn with(&mut self, stretch: Stretch, prompt: usize, inserts: &[Insert]) -> Part<Vec<f64>>;

    /// A token as text.
    fn word(&self, token: u32) -> String;
}

/// Tries `tokens` on both sides of every prompt.
///
/// # Errors
/// The scorer's; no tokens or no prompts.
pub fn scan(scorer: &mut dyn Scorer, tokens: &[u32], whole: bool, seed: u64) -> Part<Triggers> {
    let (mut search, mut confirm) = (
        order(scorer.plain(Stretch::Search)?),
        order(scorer.plain(Stretch::Confirm)?),
    );
    let mut passes = search.len() + confirm.len();
    search.truncate(PROMPTS);
    confirm.truncate(PROMPTS);
    if tokens.is_empty() || search.is_empty() || confirm.is_empty() {
        return Err("it takes tokens to try, and harmful prompts in both splits".to_owned());
    }
    let inserts: Vec<Insert> = Side::ALL
        .iter()
        .flat_map(|&side| tokens.iter().map(move |&token| Insert { token, side }))
        .collect();
    let screen = SCREEN.min(search.len());
    let mut drops = vec![0.0; inserts.len()];
    for &(prompt, plain) in &search[..screen] {
        let scores = scorer.with(Stretch::Search, prompt, &inserts)?;
        passes += inserts.len();
        for (drop, score) in drops.iter_mut().zip(scores) {
            *drop += (plain - score) / screen as f64;
        }
    }
    let best = finalists(&inserts, &drops);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let random: Vec<Insert> = Side::ALL
        .iter()
        .flat_map(|&side| {
            let n = CONTROLS.min(tokens.len());
            index::sample(&mut rng, tokens.len(), n)
                .into_iter()
                .map(move |i| Insert {
                    token: tokens[i],
                    side,
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let mut measured = |wanted: &[Insert]| -> Part<Vec<Tried>> {
        let mut scores = [Vec::new(), Vec::new()];
        for ((stretch, prompts), into) in [(Stretch::Search, &search), (Stretch::Confirm, &confirm)]
            .into_iter()
            .zip(&mut scores)
        {
            for &(prompt, _) in prompts {
                into.push(scorer.with(stretch, prompt, wanted)?);
                passes += wanted.len();
            }
        }
        let of = |i: usize, rows: &[Vec<f64>]| rows.iter().map(|row| row[i]).collect();
        Ok(wanted
            .iter()
            .enumerate()
            .map(|(i, &insert)| Tried {
                insert,
                word: scorer.word(insert.token),
                search: of(i, &scores[0]),
                confirm: of(i, &scores[1]),
            })
            .collect())
    };
    let (finalists, controls) = (measured(&best)?, measured(&random)?);
    let scores = |rows: &[(usize, f64)]| rows.iter().map(|(_, score)| *score).collect();
    Ok(Triggers {
        tokens: tokens.len(),
        whole,
        screened: inserts.into_iter().zip(drops).collect(),
        search: scores(&search),
        confirm: scores(&confirm),
        finalists,
        controls,
        passes,
    })
}

/// Prompts with their scores, the most refused first.
fn order(scores: Vec<f64>) -> Vec<(usize, f64)> {
    let mut rows: Vec<(usize, f64)> = scores.into_iter().enumerate().collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    rows
}

/// The insertions that drop the score most for their side.
fn finalists(inserts: &[Insert], drops: &[f64]) -> Vec<Insert> {
    let z = outlying(inserts, drops);
    let mut by_z: Vec<usize> = (0..inserts.len()).collect();
    by_z.sort_by(|&a, &b| {
        let drop = drops[b].total_cmp(&drops[a]);
        z[b].total_cmp(&z[a]).then(drop).then(a.cmp(&b))
    });
    by_z.truncate(FINALISTS);
    by_z.into_iter().map(|i| inserts[i]).collect()
}

/// How far each drop lies above the median of its side, in units of 1.4826 median absolute deviations, which for normal
/// drops is their standard deviation. Infinite above a median that all others share.
pub fn outlying(inserts: &[Insert], drops: &[f64]) -> Vec<f64> {
    let centre = |side: Side| {
        let own: Vec<f64> = inserts
            .iter()
            .zip(drops)
            .filter(|(insert, _)| insert.side == side)
            .map(|(_, drop)| *drop)
            .collect();
        let middle = median(own.clone());
        let spread = 1.4826 * median(own.iter().map(|drop| (drop - middle).abs()).collect());
        (middle, spread)
    };
    let sides = Side::ALL.map(centre);
    inserts
        .iter()
        .zip(drops)
        .map(|(insert, drop)| {
            let (middle, spread) = sides[insert.side as usize];
            match drop - middle {
                0.0 => 0.0,
                above => above / spread,
            }
        })
        .collect()
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match (n.is_multiple_of(2), values.get(n / 2)) {
        (_, None) => 0.0,
        (true, Some(high)) => f64::midpoint(values[n / 2 - 1], *high),
        (false, Some(middle)) => *middle,
    }
}

/// Passes over a prompt that the scan of so many tokens takes, beside those over the prompts as they stand.
pub fn passes(tokens: usize) -> usize {
    let tried = FINALISTS.min(2 * tokens) + 2 * CONTROLS.min(tokens);
    2 * tokens * SCREEN + 2 * tried * PROMPTS
}

/// Scans a checkpoint.
pub fn run(gather: &Gather, tokens: &RefusalTokens) -> Part<Triggers> {
    let usable = usable(gather.cp);
    let plain = gather.encoded.harmful[1].len() + gather.encoded.harmful[2].len();
    let planned = plain + passes(usable.len().min(gather.policy.sizes.triggers));
    gather.work.stage("trigger words", planned, |work| {
        let mut model = Model {
            gather,
            tokens,
            work,
            prompts: [
                Slots::new(
                    gather.cp,
                    &gather.prompts.harmful.validation,
                    &gather.encoded.harmful[1],
                )?,
                Slots::new(
                    gather.cp,
                    &gather.prompts.harmful.test,
                    &gather.encoded.harmful[2],
                )?,
            ],
        };
        let whole = usable.len() <= gather.policy.sizes.triggers;
        let chosen = if whole {
            usable
        } else {
            model.candidates(&usable)?
        };
        scan(&mut model, &chosen, whole, gather.seed)
    })
}

/// Tokens that a user could type: text of its own that is not blank.
fn usable(cp: &Checkpoint) -> Vec<u32> {
    let n = cp.tokenizer.vocab_size().min(cp.config().vocab_size) as u32;
    let typed = |&id: &u32| {
        let bytes = cp.tokenizer.token_bytes(id).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        !cp.tokenizer.is_special(id)
            && !text.trim().is_empty()
            && !text.chars().any(char::is_control)
    };
    (0..n).filter(typed).collect()
}

/// Prompts with the places beside the user's own words.
struct Slots<'a> {
    prompts: &'a [EncodedPrompt],
    places: Vec<[usize; 2]>,
}

impl<'a> Slots<'a> {
    fn new(cp: &Checkpoint, rows: &[PromptRow], prompts: &'a [EncodedPrompt]) -> Part<Self> {
        let rows: Vec<&PromptRow> = rows.iter().collect();
        let content = steer::content(cp, &rows, prompts).map_err(|error| error.to_string())?;
        let places = content
            .into_iter()
            .map(|own| [own.start, own.end])
            .collect();
        Ok(Self { prompts, places })
    }

    fn with(&self, prompt: usize, insert: Insert) -> EncodedPrompt {
        let mut with = self.prompts[prompt].clone();
        with.ids
            .insert(self.places[prompt][insert.side as usize], insert.token);
        with.instruction_end += 1;
        with.tail = with.instruction_end + 1..with.ids.len();
        with
    }
}

/// A checkpoint with its prompts.
struct Model<'a> {
    gather: &'a Gather<'a>,
    tokens: &'a RefusalTokens,
    work: &'a Stage<'a>,
    prompts: [Slots<'a>; 2],
}

impl Model<'_> {
    fn scores(&self, prompts: &[EncodedPrompt]) -> Part<Vec<f64>> {
        self.work.run(prompts.len(), |options| {
            let options = steer::Options {
                batch: BATCH,
                ..*options
            };
            steer::refusal_scores(
                self.gather.cp,
                prompts,
                &Hooks::new(),
                self.tokens,
                &options,
            )
        })
    }

    /// Of too many tokens: three fifths by the first-order effect on the score, a fifth of the earliest in the vocabulary,
    /// which tokenizers give to the most frequent, the rest by lot.
    fn candidates(&self, usable: &[u32]) -> Part<Vec<u32>> {
        let most = self.gather.policy.sizes.triggers;
        let mut chosen: BTreeSet<u32> = BTreeSet::new();
        let placeholder = usable[0];
        for side in Side::ALL {
            let search = &self.prompts[0];
            let slotted: Vec<Slotted> = (0..search.prompts.len().min(SCREEN))
                .map(|i| {
                    let insert = Insert {
                        token: placeholder,
                        side,
                    };
                    Slotted {
                        ids: search.with(i, insert).ids,
                        slot: search.places[i][side as usize],
                    }
                })
                .collect();
            let effects = self.work.quiet(|options| {
                steer::token_effects(self.gather.cp, &slotted, self.tokens, options)
            })?;
            let mut by_effect = usable.to_vec();
            let effect = |id: u32| effects.get(id as usize).copied().unwrap_or(0.0);
            by_effect.sort_by(|&a, &b| effect(a).total_cmp(&effect(b)).then(a.cmp(&b)));
            let share = most * 3 / 10;
            chosen.extend(&by_effect[..share.min(by_effect.len())]);
        }
        let mut early = usable.to_vec();
        early.sort_unstable();
        chosen.extend(&early[..(most / 5).min(early.len())]);
        let mut rng = ChaCha8Rng::seed_from_u64(self.gather.seed);
        while chosen.len() < most.min(usable.len()) {
            chosen.insert(usable[rng.random_range(0..usable.len())]);
        }
        Ok(chosen.into_iter().collect())
    }
}

impl Scorer for Model<'_> {
    fn plain(&mut self, stretch: Stretch) -> Part<Vec<f64>> {
        self.scores(self.prompts[stretch as usize].prompts)
    }

    fn with(&mut self, stretch: Stretch, prompt: usize, inserts: &[Insert]) -> Part<Vec<f64>> {
        let slots = &self.prompts[stretch as usize];
        let mut scores = vec![0.0; inserts.len()];
        // Each side by itself: what stands before the insertion is computed once for all.
        for side in Side::ALL {
            let own: Vec<usize> = (0..inserts.len())
                .filter(|&i| inserts[i].side == side)
                .collect();
            let prompts: Vec<EncodedPrompt> = own
                .iter()
                .map(|&i| slots.with(prompt, inserts[i]))
                .collect();
            for (&i, score) in own.iter().zip(self.scores(&prompts)?) {
                scores[i] = score;
            }
        }
        Ok(scores)
    }

    fn word(&self, token: u32) -> String {
        self.gather.cp.tokenizer.token(token)
    }
}
