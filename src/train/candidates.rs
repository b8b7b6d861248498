//! Answers of a model as data: several to each prompt, scored, and kept as pairs, as the best of each prompt, or all of them.
//!
//! Always: the same model, prompts, reward and seed give the same rows; what is left out is counted by reason; the better
//! answer of a pair is the chosen one, but for the share of labels that is asked to be wrong, and each row says whether it is.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    TrainError,
    rollout::{Answer, Sampling, drawn, stops},
    scorer::Monitor,
};
use crate::model::Decoder;
use crate::text::{Tokenizer, dataset::Words};

/// What a prompt's answers become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The best and the worst as a pair.
    Pairs,
    /// The best alone (best of n).
    Best,
    /// Each a row.
    All,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What answers become.
    pub keep: Keep,
    /// Rows; prompts are gone through again and again until there are as many.
    pub rows: usize,
    /// Answers drawn to a prompt.
    pub answers: usize,
    /// Share of pairs whose label is turned round.
    pub noise: f64,
    /// Keep answers that ran into the longest length. Training puts an end token behind every answer, which these have not.
    pub unfinished: bool,
    /// Of answers and of wrong labels, each with a stream of its own.
    pub seed: u64,
    /// How answers are drawn; a penalty for those that do not end is not read.
    pub sampling: Sampling,
}

/// What was drawn and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Prompts answered; those that came twice count twice.
    pub prompts: usize,
    /// Answers drawn.
    pub answers: usize,
    /// Answers left out since they ran into the longest length.
    pub unfinished: usize,
    /// Answers left out since they say nothing.
    pub empty: usize,
    /// Prompts left out since all their answers score the same.
    pub tied: usize,
    /// Prompts left out for want of answers.
    pub lacking: usize,
    /// Rows.
    pub rows: usize,
    /// Pairs whose label was turned round.
    pub flipped: usize,
    /// Mean score of the answers drawn; none without a reward.
    pub score: Option<f64>,
    /// Mean tokens of the answers drawn.
    pub tokens: f64,
}

/// Rows as a file has them, a JSON object each.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// The rows.
    pub rows: Vec<Value>,
    /// The counts.
    pub counts: Counts,
}

/// Prompts whose answers are drawn before they are looked at.
const WAVE: usize = 64;
/// Prompts that may come to nothing for each row that is wanted.
const PATIENCE: usize = 20;

impl Wish {
    /// Refuses what cannot be had; `scored` says whether there is a reward.
    ///
    /// # Errors
    /// Naming the option.
    pub fn check(&self, scored: bool) -> Result<(), TrainError> {
        let least = if self.keep == Keep::All { 1 } else { 2 };
        if self.answers < least {
            let expected = format!("at least {least}, to have something to compare");
            return Err(TrainError::config("--answers", expected, self.answers));
        }
        if !scored && self.keep != Keep::All {
            let expected = "a reward that says which answer is better";
            return Err(TrainError::config("--reward", expected, "none"));
        }
        if !(0.0..=0.5).contains(&self.noise) {
            return Err(TrainError::config("--noise", "0 to 0.5", self.noise));
        }
        if self.noise > 0.0 && self.keep != Keep::Pairs {
            return Err(TrainError::Ignored {
                field: "--noise".into(),
                why: "only pairs have labels to turn round".into(),
            });
        }
        if self.rows == 0 {
            return Err(TrainError::config("--rows", "at least 1", 0));
        }
        self.sampling.check("data sample")
    }
}

/// Draws answers until there are as many rows as wanted; `go_on` is told how many there are after each wave, and may say no.
///
/// # Errors
/// A wish that cannot be had; the model's, the reward's; prompts whose answers come to nothing again and again.
pub fn collect(
    (model, tokenizer): (&Decoder, &Tokenizer),
    prompts: &[(Words, Vec<u32>)],
    reward: Option<&mut Monitor>,
    wish: &Wish,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Result<Collected, TrainError> {
    wish.check(reward.is_some())?;
    let stop = stops(tokenizer, model);
    let mut reward = reward;
    let mut labels = ChaCha8Rng::seed_from_u64(wish.seed);
    labels.set_stream(1);
    let mut found = Collected::default();
    let (mut scores_sum, mut tokens_sum) = (0.0, 0);
    while found.rows.len() < wish.rows && go_on(found.rows.len()) {
        let first = found.counts.prompts;
        if prompts.is_empty() || first >= PATIENCE * wish.rows.max(WAVE) {
            return Err(nothing(&found.counts));
        }
        let each = if wish.keep == Keep::All {
            wish.answers
        } else {
            1
        };
        let missing = (wish.rows - found.rows.len()).div_ceil(each);
        let wave = first..first + WAVE.min(missing);
        let asked: Vec<&(Words, Vec<u32>)> = wave.map(|i| &prompts[i % prompts.len()]).collect();
        let ids: Vec<Vec<u32>> = asked
            .iter()
            .flat_map(|(_, ids)| std::iter::repeat_n(ids.clone(), wish.answers))
            .collect();
        let seed = wish.seed.wrapping_add(found.counts.answers as u64);
        let answers = drawn(model, (tokenizer, &stop), &wish.sampling, &ids, seed)?;
        let scores = match &mut reward {
            Some(reward) => reward.scores(&answers)?.into_iter().map(Some).collect(),
            None => vec![None; answers.len()],
        };
        scores_sum += scores.iter().flatten().sum::<f64>();
        tokens_sum += answers.iter().map(|answer| answer.ids.len()).sum::<usize>();
        found.counts.prompts += asked.len();
        found.counts.answers += answers.len();
        let groups = answers
            .chunks(wish.answers)
            .zip(scores.chunks(wish.answers));
        for ((prompt, _), (answers, scores)) in asked.into_iter().zip(groups) {
            found.keep(wish, prompt, (answers, scores), &mut labels);
        }
    }
    let drawn = found.counts.answers.max(1) as f64;
    found.rows.truncate(wish.rows);
    found.counts.rows = found.rows.len();
    found.counts.score = reward.is_some().then_some(scores_sum / drawn);
    found.counts.tokens = tokens_sum as f64 / drawn;
    Ok(found)
}

fn nothing(counts: &Counts) -> TrainError {
    TrainError::Empty {
        what: "the answers".into(),
        found: format!(
            "{} rows of {} prompts: {} answers did not end, {} said nothing, {} prompts had answers of one score alone",
            counts.rows, counts.prompts, counts.unfinished, counts.empty, counts.tied
        ),
        hint: "more room for answers, more answers a prompt, or a reward that tells them apart"
            .into(),
    }
}

impl Collected {
    /// The rows of one prompt.
    fn keep(
        &mut self,
        wish: &Wish,
        prompt: &Words,
        (answers, scores): (&[Answer], &[Option<f64>]),
        labels: &mut ChaCha8Rng,
    ) {
        let mut kept: Vec<(&Answer, f64)> = Vec::new();
        for (answer, score) in answers.iter().zip(scores) {
            if !answer.ended && !wish.unfinished {
                self.counts.unfinished += 1;
            } else if answer.text.trim().is_empty() {
                self.counts.empty += 1;
            } else {
                kept.push((answer, score.unwrap_or(0.0)));
            }
        }
        if wish.keep == Keep::All {
            self.rows.extend(kept.iter().map(|(answer, score)| {
                let mut row = json!({
                    "prompt": prompt, "completion": said(prompt, answer), "ended": answer.ended,
                });
                if scores.iter().any(Option::is_some) {
                    row["score"] = json!(score);
                }
                row
            }));
            return;
        }
        // Of equal scores the first.
        let best = kept.iter().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let worst = kept.iter().reduce(|a, b| if b.1 < a.1 { b } else { a });
        let (Some(best), Some(worst)) = (best, worst) else {
            self.counts.lacking += 1;
            return;
        };
        if wish.keep == Keep::Best {
            let (answer, score) = best;
            self.rows.push(json!({
                "prompt": prompt, "completion": said(prompt, answer), "score": score, "best_of": kept.len(),
            }));
            return;
        }
        if kept.len() < 2 {
            self.counts.lacking += 1;
            return;
        }
        if best.1 <= worst.1 || best.0.text == worst.0.text {
            self.counts.tied += 1;
            return;
        }
        let share = (labels.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let flipped = share < wish.noise;
        let (chosen, rejected) = if flipped {
            (worst, best)
        } else {
            (best, worst)
        };
        self.counts.flipped += usize::from(flipped);
        self.rows.push(json!({
            "prompt": prompt, "chosen": said(prompt, chosen.0), "rejected": said(prompt, rejected.0),
            "score_chosen": chosen.1, "score_rejected": rejected.1, "flipped": flipped,
        }));
    }
}

/// An answer in the form that its prompt has.
fn said(prompt: &Words, answer: &Answer) -> Value {
    match prompt {
        Words::Plain(_) => answer.text.clone().into(),
        Words::Chat(_) => json!([{"role": "assistant", "content": answer.text}]),
    }
}
