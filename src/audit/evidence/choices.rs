//! How probable a checkpoint finds each option of a trial, as the assistant's whole turn.
//!
//! Always: an option's score is the log-probability of all of its tokens, the one that ends the turn included, so it is what the
//! model would say this answer with and stop; sums are in f64, and neither the other options nor their order change a bit of it.
//!
//! A trial is decided by the largest sum, which is the answer that the model is most likely to give. The mean for each token is a
//! second reading only: it favours options whose tail is predictable, however unlikely their first word.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::Part;
use crate::audit::work::Work;
use crate::hooks::Hooks;
use crate::model::{Batch, Checkpoint, Decoder, KvCache, LogitsAt, ModelError};
use crate::text::trials::{Condition, EncodedTrial, Protocol, Trial};

/// The scores of one trial's options.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Log-probability of each option, nats.
    pub sums: Vec<f64>,
    /// Tokens of each option.
    pub tokens: Vec<usize>,
}

impl Choice {
    /// The option that the model is most likely to give; of equals the first.
    pub fn decided(&self) -> usize {
        largest(self.sums.iter().copied())
    }

    /// The option with the largest mean for each token.
    pub fn decided_per_token(&self) -> usize {
        let means = self.sums.iter().zip(&self.tokens);
        largest(means.map(|(sum, &n)| sum / n as f64))
    }

    /// How much more probable `one` is than `other`, nats.
    pub fn log_odds(&self, one: usize, other: usize) -> f64 {
        self.sums[one] - self.sums[other]
    }

    /// The probability of each option, given that it is one of them.
    pub fn probabilities(&self) -> Vec<f64> {
        let most = self.sums[self.decided()];
        let weights: Vec<f64> = self.sums.iter().map(|sum| (sum - most).exp()).collect();
        // In order of size, so that the bits do not depend on the order of the options.
        let mut sorted = weights.clone();
        sorted.sort_by(f64::total_cmp);
        let total: f64 = sorted.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }
}

fn largest(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, value) in values.enumerate() {
        if value > best.1 {
            best = (at, value);
        }
    }
    best.0
}

/// What is known about each trial, in the order of the audit's trials; `None` for those that were not asked for it.
pub type PerTrial<T> = Vec<Option<T>>;

/// The trials of one group with what is known about each.
#[derive(Debug)]
pub struct Group<'a, T> {
    /// Its name.
    pub name: &'a str,
    /// By condition.
    pub at: BTreeMap<Condition, (&'a Trial, &'a T)>,
}

/// The groups of a protocol in the order of the trials, with what is known about them; trials without are left out.
pub fn groups<'a, T>(
    trials: &'a [Trial],
    known: &'a [Option<T>],
    protocol: Protocol,
) -> Vec<Group<'a, T>> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<Group<T>> = Vec::new();
    for (trial, known) in trials.iter().zip(known) {
        let Some(known) = known.as_ref().filter(|_| trial.protocol == protocol) else {
            continue;
        };
        let place = *places.entry(&trial.group).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Group {
                name: &trial.group,
                at: BTreeMap::new(),
            });
        }
        groups[place].at.insert(trial.condition, (trial, known));
    }
    groups
}

/// Scores the options of every trial that asks for a choice.
///
/// # Errors
/// In words: a trial that cannot be encoded or does not fit the context, a pass that fails, an interruption.
pub fn score(cp: &Checkpoint, trials: &[Trial], work: &Work) -> Part<PerTrial<Choice>> {
    let total = trials.iter().filter(|trial| trial.ask.choice()).count();
    if total == 0 {
        return Err("no trials with options were given".to_owned());
    }
    work.stage("choices", total, |stage| {
        let mut done = 0;
        let mut scored = Vec::with_capacity(trials.len());
        for trial in trials {
            if !trial.ask.choice() {
                scored.push(None);
                continue;
            }
            if work.cancelled() {
                return Err("interrupted before it was measured".to_owned());
            }
            let named = |why: String| format!("trial `{}`: {why}", trial.id);
            let encoded = trial
                .encode(&cp.tokenizer, cp.template.as_ref())
                .map_err(|error| named(error.to_string()))?;
            let sums =
                log_probs(&cp.decoder, &encoded).map_err(|error| named(error.to_string()))?;
            if let Some(bad) = sums.iter().find(|sum| !sum.is_finite()) {
                return Err(named(format!("an option has the log-probability {bad}")));
            }
            let tokens = encoded.options.iter().map(Vec::len).collect();
            scored.push(Some(Choice { sums, tokens }));
            done += 1;
            stage.at(done);
        }
        Ok(scored)
    })
}

/// The log-probability of each option after the prompt, nats.
///
/// The prompt is computed once and its keys and values are shared by the options, which run as one batch after it. What an edit
/// counts from the end of the prompt it counts from the same place as when the model answers.
///
/// # Errors
/// A prompt or an option without a token, rows longer than the context, a pass that fails.
pub fn log_probs(model: &Decoder, encoded: &EncodedTrial) -> Result<Vec<f64>, ModelError> {
    if encoded.options.iter().any(Vec::is_empty) {
        return Err(ModelError::Empty {
            what: "an option has no token",
        });
    }
    let (hooks, n) = (Hooks::new(), encoded.prompt.len());
    let mut cache = KvCache::new(model.config(), 1, n);
    cache.set_prompt_end(n);
    let prompt = Batch::single(&encoded.prompt)?;
    let logits = model
        .forward_cached(&prompt, &mut cache, &hooks, LogitsAt::Last)?
        .logits()?;
    let first = Row::new(&logits.get(0)?.get(0)?)?;
    let mut sums: Vec<f64> = (encoded.options.iter())
        .map(|option| first.log_prob(option[0]))
        .collect();
    let longer: Vec<usize> = (0..sums.len())
        .filter(|&i| encoded.options[i].len() > 1)
        .collect();
    if longer.is_empty() {
        return Ok(sums);
    }
    // The last token of an option predicts nothing that is asked for.
    let rest: Vec<&[u32]> = longer
        .iter()
        .map(|&i| &encoded.options[i][..encoded.options[i].len() - 1])
        .collect();
    let batch = Batch::new(&rest)?;
    let mut cache = cache.shared_by(rest.len(), n + batch.len())?;
    cache.set_prompt_end(n);
    let logits = model
        .forward_cached(&batch, &mut cache, &hooks, LogitsAt::All)?
        .logits()?;
    for (row, &i) in longer.iter().enumerate() {
        let (slots, pad) = (logits.get(row)?, batch.pad()[row]);
        for (at, &next) in encoded.options[i][1..].iter().enumerate() {
            sums[i] += Row::new(&slots.get(pad + at)?)?.log_prob(next);
        }
    }
    Ok(sums)
}

/// The logits of one slot and the log of their total.
struct Row {
    logits: Vec<f64>,
    total: f64,
}

impl Row {
    fn new(logits: &Tensor) -> Result<Self, ModelError> {
        let logits = logits.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = most + logits.iter().map(|x| (x - most).exp()).sum::<f64>().ln();
        Ok(Self { logits, total })
    }

    fn log_prob(&self, id: u32) -> f64 {
        self.logits
            .get(id as usize)
            .map_or(f64::NAN, |logit| logit - self.total)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::hooks::{Edit, EditOp, HookPoint, Point, PositionSelect, Selector};
    use crate::model::LoadOptions;
    use crate::text::trials::Trials;

    /// One pass over prompt and option, without cache, batch or prefix.
    fn naive(model: &Decoder, prompt: &[u32], option: &[u32]) -> f64 {
        let ids = [prompt, option].concat();
        let logits = model
            .forward(&Batch::single(&ids).unwrap(), &Hooks::new(), LogitsAt::All)
            .unwrap()
            .logits()
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap();
        (option.iter().enumerate())
            .map(|(at, &id)| {
                let row = logits.get(0).unwrap().get(prompt.len() - 1 + at).unwrap();
                let row = row.to_vec1::<f64>().unwrap();
                let total: f64 = row.iter().map(|x| x.exp()).sum();
                (row[id as usize].exp() / total).ln()
            })
            .sum()
    }

    fn toy(dtype: DType) -> Checkpoint {
        let options = LoadOptions {
            dtype,
            ..LoadOptions::default()
        };
        Checkpoint::toy_as(3, &options).unwrap()
    }

    fn encoded(cp: &Checkpoint) -> Vec<EncodedTrial> {
        let rows = Trials::builtin("knowledge").unwrap().rows;
        (rows.iter().step_by(29))
            .map(|row| row.encode(&cp.tokenizer, cp.template.as_ref()).unwrap())
            .collect()
    }

    #[test]
    fn an_option_has_the_probability_of_its_tokens() {
        let cp = toy(DType::F64);
        for trial in encoded(&cp) {
            let found = log_probs(&cp.decoder, &trial).unwrap();
            for (option, found) in trial.options.iter().zip(found) {
                let wanted = naive(&cp.decoder, &trial.prompt, option);
                assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
            }
        }
    }

    #[test]
    fn no_option_changes_another() {
        let cp = toy(DType::F32);
        for trial in encoded(&cp) {
            let together = log_probs(&cp.decoder, &trial).unwrap();
            let mut turned = trial.clone();
            turned.options.reverse();
            let mut reversed = log_probs(&cp.decoder, &turned).unwrap();
            reversed.reverse();
            assert_eq!(together, reversed);
            for (option, together) in trial.options.iter().zip(together) {
                let alone = EncodedTrial {
                    prompt: trial.prompt.clone(),
                    options: vec![option.clone()],
                };
                assert_eq!(log_probs(&cp.decoder, &alone).unwrap(), [together]);
            }
        }
    }

    #[test]
    fn an_option_may_be_one_token() {
        let cp = toy(DType::F32);
        let mut trial = encoded(&cp).remove(0);
        trial.options = trial.options[..2]
            .iter()
            .map(|ids| ids[..1].to_vec())
            .collect();
        let found = log_probs(&cp.decoder, &trial).unwrap();
        for (option, found) in trial.options.iter().zip(found) {
            let wanted = naive(&cp.decoder, &trial.prompt, option);
            assert!((found - wanted).abs() < 1e-4, "{found} {wanted}");
        }
    }

    #[test]
    fn edits_of_prompt_or_answer_act_as_when_the_model_answers() {
        for positions in [
            PositionSelect::Prompt,
            PositionSelect::Generated,
            PositionSelect::Tail(2),
        ] {
            let mut cp = toy(DType::F32);
            let trial = encoded(&cp).remove(0);
            let plain = log_probs(&cp.decoder, &trial).unwrap();
            let vector = Arc::new((0..cp.config().d_model).map(|i| (i % 3) as f32).collect());
            let edit = Edit::new(
                HookPoint::new(Point::ResidPre, 1),
                EditOp::Add { vector, alpha: 1.0 },
            );
            let edit = edit.on(Selector::positions(positions.clone()));
            cp.decoder.set_standing_edits(vec![edit]);
            let found = log_probs(&cp.decoder, &trial).unwrap();
            assert_ne!(found, plain, "{positions:?}");
            for (option, found) in trial.options.iter().zip(found) {
                let wanted = step_by_step(&cp.decoder, &trial.prompt, option);
                assert!(
                    (found - wanted).abs() < 1e-4,
                    "{positions:?}: {found} {wanted}"
                );
            }
        }
    }

    /// The option's probability read off as it is generated, one token at a time.
    fn step_by_step(model: &Decoder, prompt: &[u32], option: &[u32]) -> f64 {
        let mut cache = KvCache::new(model.config(), 1, prompt.len());
        cache.set_prompt_end(prompt.len());
        let mut fed = prompt.to_vec();
        let mut sum = 0.0;
        for &id in option {
            let batch = Batch::single(&fed).unwrap();
            let logits = model
                .forward_cached(&batch, &mut cache, &Hooks::new(), LogitsAt::Last)
                .unwrap()
                .logits()
                .unwrap();
            let row = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            sum += f64::from(row[id as usize]) - total.ln();
            fed = vec![id];
        }
        sum
    }

    #[test]
    fn every_option_follows_the_prompt_and_ends_the_turn() {
        let cp = toy(DType::F32);
        let template = cp.template.as_ref();
        let rows = Trials::builtin("sycophancy").unwrap().rows;
        for row in rows.iter().step_by(17) {
            let trial = row.encode(&cp.tokenizer, template).unwrap();
            assert_eq!(
                trial.prompt,
                row.prompt_ids(&cp.tokenizer, template).unwrap()
            );
            for (ids, option) in trial.options.iter().zip(&row.options) {
                let (end, said) = ids.split_last().unwrap();
                assert!(cp.tokenizer.stop_ids().contains(end));
                assert_eq!(&cp.tokenizer.decode(said, false).unwrap(), option);
            }
            // A model without a template: the bare text, and the end all the same.
            let bare = row.encode(&cp.tokenizer, None).unwrap();
            assert!(
                bare.options
                    .iter()
                    .all(|ids| cp.tokenizer.stop_ids().contains(ids.last().unwrap()))
            );
            assert!(
                cp.tokenizer
                    .decode(&bare.prompt, true)
                    .unwrap()
                    .ends_with('\n')
            );
        }
    }

    #[test]
    fn the_largest_sum_decides_and_the_mean_is_another_reading() {
        // Two tokens at -1 each against four at -0.75: the first is likelier, the second has the better mean.
        let choice = Choice {
            sums: vec![-2.0, -3.0],
            tokens: vec![2, 4],
        };
        assert_eq!((choice.decided(), choice.decided_per_token()), (0, 1));
        assert_eq!(choice.log_odds(0, 1), 1.0);
        let shares = choice.probabilities();
        // 1 / (1 + e^-1)
        assert!((shares[0] - 0.731_058_578_630_004_9).abs() < 1e-15);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }
}
