//! REINFORCE with a leave-one-out baseline: several answers to each prompt, each compared with the others; no value model.
//!
//! Always: as for PPO a step is a rollout with all its updates; the divergence from the reference is part of an answer's
//! reward, and an answer is one action. The rollout is `rollout/`, the loss `loss/rloo.rs`.

use std::time::Instant;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Bench, Facts, Method, TrainError,
    bench::value,
    log::Numbers,
    loss::{
        Clip, Metric, Metrics, advantage::Estimator, controller::KlController, leave_one_out,
        rloo_loss, sum_runs,
    },
    ppo::carried,
    reference::Reference,
    rollout::{Actor, Rollout, Sampling, numbers, row, set_times, shuffled},
    scorer::{RewardSource, Watched, check_monitors},
};

/// `[method.rloo]`; defaults are TRL's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rloo {
    /// Answers to a prompt.
    pub group: usize,
    /// Updates of the optimiser in an epoch of a rollout.
    pub minibatches: usize,
    /// Times through a rollout.
    pub epochs: usize,
    /// `ε`: ratios of whole answers beyond `1 ± ε` pull no further.
    pub clip: f64,
    /// What the policy is held near: `base`, the model that the run begins with; `adapter`, a frozen copy of `model.adapter`, the
    /// default where there is one; or another checkpoint with the same words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// How the divergence in the reward is estimated.
    pub estimator: Estimator,
    /// What weighs it.
    pub kl: KlController,
    /// How answers are drawn.
    pub rollout: Sampling,
    /// Where rewards come from.
    pub reward: RewardSource,
    /// Rewards that are watched and do not train, by name.
    #[serde(skip_serializing_if = "Watched::is_empty")]
    pub monitor: Watched,
}

impl Default for Rloo {
    fn default() -> Self {
        Self {
            group: 2,
            minibatches: 1,
            epochs: 1,
            clip: 0.2,
            reference: None,
            estimator: Estimator::K1,
            kl: KlController::Fixed { beta: 0.05 },
            rollout: Sampling::default(),
            reward: RewardSource::default(),
            monitor: Watched::new(),
        }
    }
}

impl Rloo {
    /// Refuses values outside their range; `rows` are the answers of one update.
    ///
    /// # Errors
    /// Naming the field.
    pub fn check(&self, rows: usize) -> Result<(), TrainError> {
        for (key, count) in [("minibatches", self.minibatches), ("epochs", self.epochs)] {
            if !(1..=65_536).contains(&count) {
                let field = format!("method.rloo.{key}");
                return Err(TrainError::config(field, "1 to 65536", count));
            }
        }
        let answers = rows.saturating_mul(self.minibatches);
        if self.group < 2 || !answers.is_multiple_of(self.group) {
            let expected = format!(
                "2 or more, and a divisor of the {answers} answers of a rollout \
                 (optim.batch_size · optim.accumulation · method.rloo.minibatches)"
            );
            return Err(TrainError::config(
                "method.rloo.group",
                expected,
                self.group,
            ));
        }
        if !(self.clip > 0.0 && self.clip.is_finite()) {
            return Err(TrainError::config("method.rloo.clip", "above 0", self.clip));
        }
        self.kl.check()?;
        self.rollout.check("method.rloo.rollout")?;
        self.reward.check("method.rloo.reward")?;
        check_monitors(&self.monitor, "method.rloo.monitor")
    }
}

/// The method.
pub struct Trainer {
    options: Rloo,
    actor: Actor,
    accumulation: usize,
    facts: Facts,
    answers: usize,
    steps: u64,
}

/// Sums over the updates of a step.
#[derive(Default)]
struct Course {
    metrics: Metrics,
    loss: f64,
    norm: f64,
    updates: f64,
}

impl Trainer {
    /// With who draws.
    pub fn new(options: Rloo, actor: Actor, (batch, accumulation): (usize, usize)) -> Self {
        Self {
            facts: actor.facts(),
            answers: batch * accumulation * options.minibatches,
            options,
            actor,
            accumulation,
            steps: 0,
        }
    }

    fn update(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let group = self.options.group;
        let began = Instant::now();
        let rollout = self.actor.roll(bench, (self.answers / group, group))?;
        let rolled = began.elapsed();
        let beta = self.actor.controller.beta();
        let rows = rollout.scores.iter().zip(&rollout.kl);
        let rewards: Vec<f64> = rows
            .map(|(score, kl)| score - beta * kl.iter().sum::<f64>())
            .collect();
        let advantages = leave_one_out(&rewards, group)?;
        let spread = |(kl, value): (&Vec<f64>, &f64)| vec![*value; kl.len()];
        let by_token: Vec<Vec<f64>> = rollout.kl.iter().zip(&advantages).map(spread).collect();
        self.actor.annotate("advantages", &by_token, false);
        let mut course = Course::default();
        let mut order: Vec<usize> = (0..rollout.passes.len()).collect();
        for _ in 0..self.options.epochs {
            shuffled(&mut order, &mut bench.rng);
            for passes in order.chunks(self.accumulation) {
                self.minibatch(bench, (&rollout, &advantages), passes, &mut course)?;
            }
        }
        self.actor.steer(&rollout);
        let metrics = &mut course.metrics;
        metrics.add(&rollout.metrics(beta));
        let same = rollout.scores.chunks(group).map(|scores| {
            let first = scores[0];
            f64::from(u8::from(scores.iter().all(|s| (s - first).abs() < 1e-12)))
        });
        metrics.mean("frac_reward_zero_std", same);
        let episode = (self.steps + 1) as f64 * self.answers as f64;
        metrics.put("episode", Metric::Sum(episode));
        let updates = course.updates;
        let (loss, norm) = (course.loss / updates, course.norm / updates);
        let mut numbers = row(loss, norm, &course.metrics);
        set_times(&mut numbers, began, rolled);
        Ok(numbers)
    }

    fn minibatch(
        &self,
        bench: &mut Bench,
        (rollout, advantages): (&Rollout, &[f64]),
        passes: &[usize],
        course: &mut Course,
    ) -> Result<(), TrainError> {
        let step = bench.step() + 1;
        let clip = Clip {
            ratio: self.options.clip,
            ..Clip::default()
        };
        let count = passes.iter().map(|&at| rollout.rows(at).len()).sum();
        for &at in passes {
            let (pass, rows) = (&rollout.passes[at], rollout.rows(at));
            let said = pass.by_policy(&bench.policy, self.options.rollout.temperature)?;
            if course.updates == 0.0 {
                rollout.expect_unmoved(at, &said.logps, step)?;
            }
            let new = sum_runs(&said.logps, &pass.tokens)?;
            let old = Self::summed(rollout, at, new.dtype())?;
            let scored = rloo_loss(&new, &old, &advantages[rows.clone()], &clip, count)?;
            let share = value(&scored.loss)?;
            if !share.is_finite() {
                let answers = &rollout.answers[rows];
                return Err(self.actor.not_finite(answers, (step, "loss", share)));
            }
            course.loss += share;
            course.metrics.add(&scored.metrics);
            let entropy = numbers(&said.entropy)?;
            course.metrics.mean("policy/entropy_avg", entropy);
            bench.accumulate(&scored.loss)?;
        }
        let applied = match bench.apply() {
            Err(TrainError::NotFinite { what, value, .. }) => {
                let rows = passes.iter().flat_map(|&at| rollout.rows(at));
                let answers: Vec<_> = rows.map(|row| rollout.answers[row].clone()).collect();
                return Err(self.actor.not_finite(&answers, (step, what, value)));
            }
            applied => applied?,
        };
        course.norm += applied.grad_norm;
        course.updates += 1.0;
        Ok(())
    }

    /// The rollout's log-probabilities of whole answers, summed as the policy's are.
    fn summed(
        rollout: &Rollout,
        at: usize,
        dtype: candle_core::DType,
    ) -> Result<Vec<f64>, TrainError> {
        let old = rollout.old[rollout.rows(at)].concat();
        let old = Tensor::new(old, &candle_core::Device::Cpu)?.to_dtype(dtype)?;
        numbers(&sum_runs(&old, &rollout.passes[at].tokens)?)
    }
}

impl Method for Trainer {
    fn name(&self) -> &'static str {
        "rloo"
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let before = (bench.rng.clone(), bench.sampler.clone());
        let found = self.update(bench);
        if matches!(found, Err(TrainError::Reward { .. })) {
            (bench.rng, bench.sampler) = before;
            return found;
        }
        self.steps += 1;
        found
    }

    fn evaluate(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        self.actor.evaluate(bench)
    }

    fn state(&self) -> Value {
        json!({"controller": self.actor.controller, "steps": self.steps})
    }

    fn restore(&mut self, state: &Value) -> Result<(), TrainError> {
        (self.actor.controller, self.steps) = carried(state)?;
        Ok(())
    }

    fn samples(&mut self) -> Vec<Map<String, Value>> {
        self.actor.samples()
    }
}
