//! What a method works with: the policy, its gradients, the optimiser, the generator, the place in the data.
//!
//! Always: gradients of the passes of a step are summed, and divided by nothing: a loss that is a mean over tokens divides by
//! the count of the whole step itself. A step whose gradients are no number changes no weight.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use candle_core::Tensor;

use super::{
    Config, TrainError,
    optimiser::{AdamW, Gradients, Settings},
    schedule::Schedule,
};
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
    optimiser: AdamW,
    schedule: Schedule,
    lr: f64,
    max_grad_norm: f64,
    gradients: Gradients,
    /// Which parameters have received a gradient that is not zero.
    alive: Vec<bool>,
    step: u64,
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
    ///
    /// # Errors
    /// Failing tensor arithmetic.
    pub fn new(
        policy: Trainable,
        sampler: Sampler,
        schedule: Schedule,
        config: &Config,
    ) -> Result<Self, TrainError> {
        let o = &config.optim;
        let settings = Settings {
            betas: o.betas,
            eps: o.eps,
            weight_decay: o.weight_decay,
        };
        let params = policy.params().len();
        Ok(Self {
            optimiser: AdamW::new(policy.params(), settings)?,
            gradients: Gradients::new(params),
            alive: vec![false; params],
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            lr: o.lr.unwrap_or_default(),
            max_grad_norm: o.max_grad_norm,
            tokens: 0,
            step: 0,
            policy,
            sampler,
            schedule,
        })
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

    /// Adds the gradients of a loss of one pass.
    ///
    /// # Errors
    /// Failing tensor arithmetic.
    pub fn accumulate(&mut self, loss: &Tensor) -> Result<(), TrainError> {
        let mut store = candlescope_ops::backward(loss)?;
        self.gradients.add(self.policy.params(), &mut store)
    }

    /// One step of the optimiser with the gradients accumulated since the last.
    ///
    /// # Errors
    /// A norm that is no number, as [`TrainError::NotFinite`] without rows; no weight has changed then.
    pub fn apply(&mut self) -> Result<Applied, TrainError> {
        let gradients = std::mem::replace(
            &mut self.gradients,
            Gradients::new(self.policy.params().len()),
        );
        let grad_norm = gradients.global_norm()?;
        if !grad_norm.is_finite() {
            return Err(TrainError::NotFinite {
                step: self.step + 1,
                what: "grad_norm",
                value: grad_norm,
                rows: Vec::new(),
                batch: serde_json::Value::Null,
            });
        }
        self.note_alive(&gradients)?;
        let scale = if self.max_grad_norm > 0.0 && grad_norm > self.max_grad_norm {
            self.max_grad_norm / grad_norm
        } else {
            1.0
        };
        let lr = self.learning_rate();
        self.optimiser
            .step(self.policy.params(), &gradients, lr, scale)?;
        Ok(Applied { grad_norm, lr })
    }

    fn note_alive(&mut self, gradients: &Gradients) -> Result<(), TrainError> {
        for (i, alive) in self.alive.iter_mut().enumerate() {
            if *alive {
                continue;
            }
            if let Some(gradient) = gradients.get(i) {
                let largest = gradient.abs()?.max_all()?;
                *alive = largest.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()? > 0.0;
            }
        }
        Ok(())
    }

    /// Parameters that have received nothing but zeros in this session.
    pub(super) fn dead(&self) -> Vec<String> {
        let params = self.policy.params().iter().zip(&self.alive);
        params
            .filter(|(_, alive)| !**alive)
            .map(|(param, _)| param.name.clone())
            .collect()
    }

    /// The step is done.
    pub(super) fn advance(&mut self) {
        self.step += 1;
    }

    pub(super) fn optimiser(&self) -> &AdamW {
        &self.optimiser
    }

    /// Goes back to where a checkpoint was made.
    pub(super) fn restore(
        &mut self,
        (step, tokens, optimiser_steps): (u64, u64, u64),
        rng: ChaCha8Rng,
        saved: impl Fn(&str) -> Option<Tensor>,
    ) -> Result<(), String> {
        self.optimiser
            .restore(self.policy.params(), optimiser_steps, saved)?;
        self.step = step;
        self.tokens = tokens;
        self.rng = rng;
        Ok(())
    }
}
