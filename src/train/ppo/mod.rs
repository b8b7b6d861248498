//! Proximal policy optimisation: a rollout, and some epochs of clipped updates on it, with a value model.
//!
//! Always: a step of the run is a rollout with all its updates, so that a checkpoint never falls within one, and there is no
//! buffer to save; a reward that fails leaves the run where it was before the step. Passes are made once for a rollout, and
//! an epoch goes through them in another order. `plan.rs` has the arithmetic, `critic.rs` the value model.

mod critic;
mod options;
mod plan;

use std::time::Instant;

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::{
    Bench, Facts, Method, TrainError,
    bench::value,
    log::Numbers,
    loss::{Metric, Metrics, controller::KlController},
    rollout::{Actor, Rollout, by_row, row, set_times, shuffled},
};

pub use critic::Critic;
pub use options::{Ppo, Sharing};
pub use plan::{Judged, Plan, judged};

/// The method.
pub struct Trainer {
    options: Ppo,
    actor: Actor,
    critic: Critic,
    /// Passes of one update.
    accumulation: usize,
    facts: Facts,
    /// Answers of a rollout.
    answers: usize,
    steps: u64,
}

/// Sums over the updates of a step.
#[derive(Default)]
struct Course {
    metrics: Metrics,
    loss: f64,
    norm: f64,
    value_norm: f64,
    updates: f64,
    ratios: Vec<f64>,
}

impl Trainer {
    /// With who draws and who values.
    pub fn new(
        options: Ppo,
        actor: Actor,
        critic: Critic,
        (batch, accumulation): (usize, usize),
    ) -> Self {
        Self {
            facts: actor.facts(),
            answers: batch * accumulation * options.minibatches,
            options,
            actor,
            critic,
            accumulation,
            steps: 0,
        }
    }

    fn update(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let began = Instant::now();
        let rollout = self.actor.roll(bench, (self.answers, 1))?;
        let rolled = began.elapsed();
        let beta = self.actor.controller.beta();
        let values = rollout.passes.iter().map(|pass| {
            let values = self.critic.values(&bench.policy, pass)?;
            Ok::<_, TrainError>(by_row(&values, &pass.slots))
        });
        let values = values.collect::<Result<Vec<_>, _>>()?.concat();
        let plan = Plan::new(&rollout, values, beta, &self.options)?;
        self.actor.annotate("rewards", &plan.rewards, true);
        self.actor.annotate("advantages", &plan.advantages, false);
        self.actor.annotate("values", &plan.values, false);
        let mut course = Course::default();
        let mut order: Vec<usize> = (0..rollout.passes.len()).collect();
        for _ in 0..self.options.epochs {
            shuffled(&mut order, &mut bench.rng);
            for passes in order.chunks(self.accumulation) {
                self.minibatch(bench, (&rollout, &plan), passes, &mut course)?;
            }
        }
        self.actor.steer(&rollout);
        course.metrics.add(&rollout.metrics(beta));
        course.metrics.add(&plan.metrics());
        let mut numbers = course.row(self.steps, self.answers);
        set_times(&mut numbers, began, rolled);
        Ok(numbers)
    }

    /// One update by the passes of a minibatch.
    fn minibatch(
        &mut self,
        bench: &mut Bench,
        (rollout, plan): (&Rollout, &Plan),
        passes: &[usize],
        course: &mut Course,
    ) -> Result<(), TrainError> {
        let step = bench.step() + 1;
        let sum = |of: &dyn Fn(usize) -> usize| passes.iter().map(|&at| of(at)).sum::<usize>();
        let counts = (
            sum(&|at| rollout.passes[at].tokens.iter().sum()),
            sum(&|at| rollout.passes[at].slots.iter().sum()),
        );
        let coefficient = self.options.value_coef;
        let mut ratio = Metrics::new();
        for &at in passes {
            let models = (&bench.policy, self.critic.model());
            let found = judged(models, (rollout, plan), at, &self.options, counts)?;
            if course.updates == 0.0 {
                rollout.expect_unmoved(at, &found.logps, step)?;
            }
            let of_value = (found.value.loss * coefficient)?;
            let share = value(&found.policy.loss)? + value(&of_value)?;
            if !share.is_finite() {
                let answers = &rollout.answers[rollout.rows(at)];
                return Err(self.actor.not_finite(answers, (step, "loss", share)));
            }
            course.loss += share;
            self.accumulate(bench, &found.policy.loss, &of_value)?;
            ratio.add(&found.policy.metrics);
            course.metrics.add(&found.policy.metrics);
            course.metrics.add(&found.value.metrics);
        }
        let answers = || {
            let rows = passes.iter().flat_map(|&at| rollout.rows(at));
            rows.map(|row| rollout.answers[row].clone())
                .collect::<Vec<_>>()
        };
        let applied = bench.apply().and_then(|applied| {
            let of_value = self.critic.apply()?;
            Ok((applied.grad_norm, of_value))
        });
        let (norm, of_value) = match applied {
            Err(TrainError::NotFinite { what, value, .. }) => {
                return Err(self.actor.not_finite(&answers(), (step, what, value)));
            }
            applied => applied?,
        };
        course.norm += norm;
        course.value_norm += of_value.unwrap_or(0.0);
        course.updates += 1.0;
        course.ratios.extend(ratio.get("val/ratio"));
        Ok(())
    }

    fn accumulate(
        &mut self,
        bench: &mut Bench,
        policy: &Tensor,
        of_value: &Tensor,
    ) -> Result<(), TrainError> {
        if self.critic.model().is_none() {
            return bench.accumulate(&(policy + of_value)?);
        }
        bench.accumulate(policy)?;
        self.critic.accumulate(of_value)
    }
}

impl Course {
    fn row(mut self, steps: u64, answers: usize) -> Numbers {
        let n = self.ratios.len().max(1) as f64;
        let mean = self.ratios.iter().sum::<f64>() / n;
        let squares: f64 = self.ratios.iter().map(|r| (r - mean).powi(2)).sum();
        self.metrics.put("val/ratio_var", Metric::Sum(squares / n));
        let episode = (steps + 1) as f64 * answers as f64;
        self.metrics.put("episode", Metric::Sum(episode));
        if self.value_norm > 0.0 {
            let norm = self.value_norm / self.updates;
            self.metrics.put("val/grad_norm", Metric::Sum(norm));
        }
        row(
            self.loss / self.updates,
            self.norm / self.updates,
            &self.metrics,
        )
    }
}

impl Method for Trainer {
    fn name(&self) -> &'static str {
        "ppo"
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
        self.critic.advance();
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

    fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainError> {
        self.critic.tensors()
    }

    fn restore_tensors(&mut self, tensors: Vec<(String, Tensor)>) -> Result<(), TrainError> {
        self.critic.restore(self.steps, tensors)
    }

    fn samples(&mut self) -> Vec<Map<String, Value>> {
        self.actor.samples()
    }
}

/// Controller and steps of a checkpoint's state.
///
/// # Errors
/// Another method's state.
pub(super) fn carried(state: &Value) -> Result<(KlController, u64), TrainError> {
    let read = |key: &str| state.get(key).cloned().unwrap_or_default();
    let controller = serde_json::from_value(read("controller"));
    match (controller, read("steps").as_u64()) {
        (Ok(controller), Some(steps)) => Ok((controller, steps)),
        _ => Err(TrainError::config(
            "state",
            "controller and steps of a rollout method",
            state,
        )),
    }
}
