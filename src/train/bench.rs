//! What a method works with: the policy, its gradients, the optimiser, the generator, the place in the data.
//!
//! Always: gradients of the passes of a step are summed, and divided by nothing: a loss that is a mean over tokens divides by
//! the count of the whole step itself. A step whose gradients are no number changes no weight.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use candle_core::{DType, Tensor, Var};
use candlescope_ops::{self as ops, AdamW, AdamWOptions, Gradients};

use super::{Config, TrainError, schedule::Schedule};
use crate::model::Trainable;
use crate::text::dataset::Sampler;

/// The bench.
#[derive(Debug)]
pub struct Bench {
    /// The model that trains.
    pub policy: Trainable,
    /// Everything random but the order of the data.
    pub rng: ChaCha8Rng,
    /// Which rows come next.
    pub sampler: Sampler,
    /// Tokens that training has seen; methods add to it.
    pub tokens: u64,
    /// What trains, as the optimiser takes it.
    params: Vec<(String, Var)>,
    optimiser: AdamW,
    schedule: Schedule,
    lr: f64,
    max_grad_norm: f64,
    dropout: bool,
    gradients: Gradients,
    /// Which parameters have received a gradient that is not zero.
    alive: Vec<bool>,
    step: u64,
}

/// The value of a loss.
pub(super) fn value(loss: &Tensor) -> Result<f64, TrainError> {
    Ok(loss.detach().to_dtype(DType::F64)?.to_scalar()?)
}

/// What a step of the optimiser did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Applied {
    /// Global norm of the gradients before they were scaled down.
    pub grad_norm: f64,
    /// The learning rate.
    pub lr: f64,
}

impl Bench {
    /// A bench at step 0.
    pub fn new(policy: Trainable, sampler: Sampler, schedule: Schedule, config: &Config) -> Self {
        let o = &config.optim;
        let [beta1, beta2] = o.betas;
        let options = AdamWOptions {
            beta1,
            beta2,
            eps: o.eps,
            weight_decay: o.weight_decay,
        };
        let exempt = policy.params().iter().filter(|param| !param.decay);
        let each = policy.params().iter();
        let params: Vec<_> = each.map(|p| (p.name.clone(), p.var.clone())).collect();
        Self {
            optimiser: AdamW::new(options, exempt.map(|param| param.name.clone())),
            gradients: Gradients::new(params.len()),
            alive: vec![false; params.len()],
            params,
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            lr: o.lr.unwrap_or_default(),
            max_grad_norm: o.max_grad_norm,
            dropout: config.lora.as_ref().is_some_and(|l| l.dropout != Some(0.0)),
            tokens: 0,
            step: 0,
            policy,
            sampler,
            schedule,
        }
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps of the run.
    pub fn total(&self) -> u64 {
        self.schedule.total
    }

    /// Steps of warm-up.
    pub fn warmup(&self) -> u64 {
        self.schedule.warmup
    }

    /// The learning rate of the step that is being made.
    pub fn learning_rate(&self) -> f64 {
        self.lr * self.schedule.factor(self.step)
    }

    /// Draws the dropout of the next pass; to be called before each pass that trains.
    pub fn draw_dropout(&mut self) {
        if self.dropout {
            self.policy.set_dropout(Some(self.rng.next_u64()));
        }
    }

    /// Adds the gradients of a loss of one pass.
    ///
    /// # Errors
    /// Failing tensor arithmetic.
    pub fn accumulate(&mut self, loss: &Tensor) -> Result<(), TrainError> {
        let found = ops::backward(loss)?;
        Ok(self.gradients.add(&self.params, found)?)
    }

    /// One step of the optimiser with the gradients accumulated since the last.
    ///
    /// # Errors
    /// A norm that is no number, as [`TrainError::NotFinite`] without rows; no weight has changed then.
    pub fn apply(&mut self) -> Result<Applied, TrainError> {
        let grad_norm = self.gradients.global_norm()?;
        if !grad_norm.is_finite() {
            return Err(TrainError::NotFinite {
                step: self.step + 1,
                what: "grad_norm",
                value: grad_norm,
                rows: Vec::new(),
                batch: serde_json::Value::Null,
            });
        }
        self.note_alive()?;
        if self.max_grad_norm > 0.0 {
            self.gradients.clip(self.max_grad_norm)?;
        }
        let lr = self.learning_rate();
        self.optimiser.step(&self.params, &self.gradients, lr)?;
        self.gradients.clear();
        // Whatever looks at the model between steps sees all of it.
        self.policy.set_dropout(None);
        // What a file cannot hold is not trained on.
        self.policy.settle()?;
        Ok(Applied { grad_norm, lr })
    }

    fn note_alive(&mut self) -> Result<(), TrainError> {
        for (i, alive) in self.alive.iter_mut().enumerate() {
            if *alive {
                continue;
            }
            if let Some(gradient) = self.gradients.get(i)? {
                let largest = gradient.abs()?.max_all()?.to_dtype(DType::F64)?;
                *alive = largest.to_scalar::<f64>()? > 0.0;
            }
        }
        Ok(())
    }

    /// Parameters that have received nothing but zeros in this session.
    pub(super) fn dead(&self) -> Vec<String> {
        let params = self.params.iter().zip(&self.alive);
        params
            .filter(|(_, alive)| !**alive)
            .map(|((name, _), _)| name.clone())
            .collect()
    }

    /// The step is done.
    pub(super) fn advance(&mut self) {
        self.step += 1;
    }

    /// The optimiser's state, by name.
    pub(super) fn moments(&self) -> Result<Vec<(String, Tensor)>, TrainError> {
        Ok(self.optimiser.state()?)
    }

    /// Goes back to where a checkpoint was made.
    pub(super) fn restore(
        &mut self,
        (step, tokens): (u64, u64),
        rng: ChaCha8Rng,
        moments: Vec<(String, Tensor)>,
    ) -> Result<(), TrainError> {
        self.optimiser.restore(&self.params, moments)?;
        self.step = step;
        self.tokens = tokens;
        self.rng = rng;
        Ok(())
    }
}
