//! Who draws answers and has them scored: prompts, reference, reward, controller; and what of this a checkpoint carries.
//!
//! Always: a rollout's seed comes from the bench's generator, and each of its answers has a stream of its own, so that it does
//! not depend on which others it is drawn beside.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Answer, Rollout, Sampling};
use crate::hooks::Hooks;
use crate::model::Decoder;
use crate::model::generate::{Continue, GenerateOptions, generate};
use crate::model::sample::SampleOptions;
use crate::text::Tokenizer;
use crate::text::dataset::PromptOnly;
use crate::train::{
    Bench, Config, Facts, TrainError,
    data::Loaded,
    log::{Numbers, number},
    loss::{
        LengthRule, Metrics,
        advantage::{Estimator, penalised},
        controller::KlController,
    },
    scorer::{Monitor, RewardSource, Scorer, Watched},
};
use rand_chacha::rand_core::RngCore;

/// The options that PPO and RLOO share.
pub struct Setting<'a> {
    /// `[method.NAME.rollout]`
    pub sampling: &'a Sampling,
    /// `[method.NAME.reward]`
    pub reward: &'a RewardSource,
    /// `[method.NAME.monitor]`
    pub monitor: &'a Watched,
    /// `[method.NAME.kl]`
    pub controller: KlController,
    /// How the divergence in the reward is estimated.
    pub estimator: Estimator,
}

/// Draws and scores.
pub struct Actor {
    /// What weighs the divergence.
    pub controller: KlController,
    train: Loaded<PromptOnly>,
    eval: Vec<PromptOnly>,
    reference: Decoder,
    /// Whether the policy begins as the reference.
    begins_there: bool,
    scorer: Box<dyn Scorer>,
    length: LengthRule,
    monitors: Vec<Monitor>,
    sampling: Sampling,
    estimator: Estimator,
    tokenizer: Tokenizer,
    stop: Vec<u32>,
    size: usize,
    seed: u64,
    samples: Vec<Map<String, Value>>,
}

impl Actor {
    /// With its prompts, the model that the run begins with, and the reference with whether the policy begins as it.
    ///
    /// # Errors
    /// A reward that cannot be opened.
    pub fn new(
        config: &Config,
        setting: Setting<'_>,
        (train, eval): (Loaded<PromptOnly>, Option<Loaded<PromptOnly>>),
        (model, (reference, begins_there)): (&Decoder, (Decoder, bool)),
        tokenizer: &Tokenizer,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            scorer: setting.reward.open(tokenizer, config.optim.batch_size)?,
            length: setting.reward.length,
            monitors: Monitor::open(setting.monitor, tokenizer, config.optim.batch_size)?,
            controller: setting.controller,
            estimator: setting.estimator,
            sampling: setting.sampling.clone(),
            begins_there,
            reference,
            train,
            eval: eval.map(|eval| eval.items).unwrap_or_default(),
            tokenizer: tokenizer.clone(),
            stop: stops(tokenizer, model),
            size: config.optim.batch_size,
            seed: config.seed,
            samples: Vec::new(),
        })
    }

    /// The prompts, counted.
    pub fn facts(&self) -> Facts {
        let mut facts = self.train.facts();
        let (prompts, room) = (&self.train.items, self.sampling.response_length);
        facts.tokens = prompts.iter().map(|p| p.prompt.len()).sum();
        let longest = prompts.iter().map(|p| p.prompt.len()).max();
        facts.longest = longest.unwrap_or(0) + room;
        // Answers are drawn until they end.
        facts.end_trained = 1.0;
        facts.eval_rows = self.eval.len();
        facts
    }

    /// A rollout of `prompts` prompts with `group` answers each, those of a prompt side by side.
    ///
    /// # Errors
    /// The model's, the reward's; a first rollout that is not at its reference.
    pub fn roll(
        &mut self,
        bench: &mut Bench,
        (prompts, group): (usize, usize),
    ) -> Result<Rollout, TrainError> {
        let rows = bench.sampler.take(self.train.items.len(), prompts);
        let of = |&row: &usize| self.train.items[row].prompt.clone();
        let prompts: Vec<Vec<u32>> = rows
            .iter()
            .flat_map(|row| std::iter::repeat_n(of(row), group))
            .collect();
        let seed = bench.rng.next_u64();
        let rollout = self.answered(bench.policy.decoder(), &prompts, seed)?;
        if bench.step() == 0 && self.begins_there {
            rollout.expect_at_reference(1)?;
        }
        let sizes = rollout.passes.iter().map(|pass| pass.size() as u64);
        bench.tokens += sizes.sum::<u64>();
        self.note(&rollout, "train");
        Ok(rollout)
    }

    /// Numbers of answers to the evaluation prompts, drawn with the run's seed each time.
    ///
    /// # Errors
    /// As [`Self::roll`].
    pub fn evaluate(&mut self, bench: &Bench) -> Result<Numbers, TrainError> {
        let prompts: Vec<Vec<u32>> = self.eval.iter().map(|p| p.prompt.clone()).collect();
        let rollout = self.answered(bench.policy.decoder(), &prompts, self.seed)?;
        let mut numbers = Numbers::new();
        numbers.set_all(&rollout.metrics(self.controller.beta()));
        self.note(&rollout, "eval");
        Ok(numbers)
    }

    fn answered(
        &mut self,
        policy: &Decoder,
        prompts: &[Vec<u32>],
        seed: u64,
    ) -> Result<Rollout, TrainError> {
        let words = (&self.tokenizer, self.stop.as_slice());
        let answers = drawn(policy, words, &self.sampling, prompts, seed)?;
        let room = self.sampling.response_length;
        let size = (self.size, room, self.sampling.temperature);
        let mut rollout = Rollout::of(answers, (policy, &self.reference), size, self.estimator)?;
        let raw = self.scorer.scores(&rollout.answers)?;
        let tokens: Vec<usize> = rollout.answers.iter().map(|a| a.ids.len()).collect();
        let ruled = self.length.rewards(&raw, &tokens);
        let penalty = self.sampling.missing_eos_penalty;
        let scored = rollout.answers.iter().zip(ruled);
        let scored = scored.map(|(answer, score)| penalised(score, answer.ended, penalty));
        rollout.scores = scored.collect();
        if let Some(at) = rollout.scores.iter().position(|score| !score.is_finite()) {
            return Err(TrainError::Reward {
                origin: "the reward".into(),
                why: format!(
                    "it is {} for the answer {:?}",
                    rollout.scores[at], rollout.answers[at].text
                ),
            });
        }
        for monitor in &mut self.monitors {
            let watched = monitor.scores(&rollout.answers)?;
            rollout.watched.push((monitor.name.clone(), watched));
        }
        Ok(rollout)
    }

    /// Steers the divergence after a rollout.
    pub fn steer(&mut self, rollout: &Rollout) {
        // The exact divergence has the expectation of the estimated one, and less noise.
        self.controller
            .update(rollout.divergence(), rollout.answers.len());
    }

    fn note(&mut self, rollout: &Rollout, of: &str) {
        let token = |&id: &u32| self.tokenizer.token(id);
        let numbers = |row: &[f64]| row.iter().map(|&x| number(x)).collect::<Vec<_>>();
        let shown = rollout.answers.iter().take(self.sampling.samples);
        let sample = |(i, answer): (usize, &Answer)| {
            let mut fields = Map::new();
            fields.insert("of".into(), of.into());
            fields.insert("prompt".into(), answer.prompt_text.clone().into());
            fields.insert("completion".into(), answer.text.clone().into());
            fields.insert("score".into(), number(rollout.scores[i]));
            for (name, watched) in &rollout.watched {
                fields.insert(format!("monitor/{name}"), number(watched[i]));
            }
            fields.insert("ended".into(), answer.ended.into());
            let tokens: Vec<String> = answer.ids.iter().map(token).collect();
            fields.insert("tokens".into(), tokens.into());
            fields.insert("kl".into(), numbers(&rollout.exact[i]).into());
            fields.insert("kl_sampled".into(), numbers(&rollout.kl[i]).into());
            fields.insert("logps".into(), numbers(&rollout.old[i]).into());
            fields
        };
        self.samples = shown.enumerate().map(sample).collect();
    }

    /// Numbers at each token of the last rollout's answers, for those that will be logged. Where a row has a slot behind the
    /// token that ended its answer, that token gets the sum of both if the numbers are `summed`.
    pub fn annotate(&mut self, name: &str, rows: &[Vec<f64>], summed: bool) {
        for (fields, row) in self.samples.iter_mut().zip(rows) {
            let tokens = fields
                .get("tokens")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            let mut row = row.clone();
            let behind = row.split_off(tokens.min(row.len()));
            if let (true, Some(last)) = (summed, row.last_mut()) {
                *last += behind.iter().sum::<f64>();
            }
            let numbers: Vec<Value> = row.into_iter().map(number).collect();
            fields.insert(name.into(), numbers.into());
        }
    }

    /// Answers of the last rollout, for the log; each is given once.
    pub fn samples(&mut self) -> Vec<Map<String, Value>> {
        std::mem::take(&mut self.samples)
    }

    /// A loss or gradient that is no number, with the answers that made it.
    pub fn not_finite(
        &self,
        answers: &[Answer],
        (step, what, value): (u64, &'static str, f64),
    ) -> TrainError {
        let of = |answer: &Answer| {
            let same = |prompt: &PromptOnly| prompt.prompt == answer.prompt;
            self.train.place(same)
        };
        let names: Vec<String> = answers.iter().map(of).collect();
        let rows = answers.iter().zip(&names);
        let batch: Vec<Value> = rows
            .map(|(a, name)| json!({"row": name, "prompt": a.prompt, "completion": a.ids}))
            .collect();
        TrainError::NotFinite {
            step,
            what,
            value,
            batch: json!({"step": step, "what": what, "value": value.to_string(), "batch": batch}),
            rows: names,
        }
    }
}

/// What ends an answer: the tokenizer's end tokens and the model's own.
pub fn stops(tokenizer: &Tokenizer, model: &Decoder) -> Vec<u32> {
    let vocab = model.config().vocab_size as u32;
    let mut stop = tokenizer.stop_ids().to_vec();
    stop.extend(model.config().eos.iter().filter(|id| **id < vocab));
    stop.sort_unstable();
    stop.dedup();
    stop
}

/// Answers to prompts, in their order; answer `i` has the stream `seed + i`.
///
/// # Errors
/// The model's: a prompt that leaves no room.
pub fn drawn(
    policy: &Decoder,
    (tokenizer, stop): (&Tokenizer, &[u32]),
    sampling: &Sampling,
    prompts: &[Vec<u32>],
    seed: u64,
) -> Result<Vec<Answer>, TrainError> {
    let mut answers = Vec::with_capacity(prompts.len());
    for (at, rows) in prompts.chunks(sampling.batch).enumerate() {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let first = (at * sampling.batch) as u64;
        let options = GenerateOptions {
            max_new: sampling.response_length,
            sample: SampleOptions {
                temperature: sampling.temperature,
                top_k: None,
                top_p: None,
                seed: seed.wrapping_add(first),
            },
            stop: stop.to_vec(),
        };
        let go_on = &mut |_, _| Continue::Yes;
        let drawn = generate(policy, &rows, &options, &Hooks::new(), go_on)?;
        for (prompt, drawn) in rows.iter().zip(drawn) {
            let mut answer = Answer::new(prompt, &drawn.ids, stop);
            answer.prompt_text = tokenizer.decode(prompt, true)?;
            answer.text = tokenizer.decode(&answer.ids, true)?;
            answers.push(answer);
        }
    }
    Ok(answers)
}

/// Metrics with the loss and the norm, as a row begins.
pub fn row(loss: f64, norm: f64, metrics: &Metrics) -> Numbers {
    let mut numbers = Numbers::new();
    numbers.set("loss", loss);
    numbers.set("grad_norm", norm);
    numbers.set_all(metrics);
    numbers
}

/// How long a rollout and the updates on it took, of a step that began then and is over now.
pub fn set_times(numbers: &mut Numbers, began: Instant, rolled: Duration) {
    let updated = began.elapsed().saturating_sub(rolled);
    numbers.set("time/rollout_s", rolled.as_secs_f64());
    numbers.set("time/update_s", updated.as_secs_f64());
}
