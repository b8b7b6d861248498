//! The value model of PPO: a head beside the policy, or a model of its own with an optimiser of its own.
//!
//! Always: a separate one trains on a bench like the policy's, step by step with it, and goes into the run's checkpoints with
//! its moments; a shared one is part of the policy and of its files.

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Ppo, Sharing};
use crate::model::{Decoder, ScoreModel, Trainable};
use crate::text::Tokenizer;
use crate::text::dataset::Sampler;
use crate::train::{
    Bench, Config, TrainError,
    rollout::{Pass, numbers},
    schedule::Schedule,
    scorer::open_scored,
};

const WEIGHT: &str = "weight.";
const MOMENT: &str = "moment.";

/// The value model.
pub enum Critic {
    /// A head beside the policy.
    Shared,
    /// A model of its own.
    Separate(Box<Bench>),
}

impl Critic {
    /// As the options say; `model` is what the policy begins from.
    ///
    /// # Errors
    /// A folder that is no value model, or has other words.
    pub fn new(
        config: &Config,
        options: &Ppo,
        schedule: Schedule,
        model: &Decoder,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TrainError> {
        if options.value == Sharing::Shared {
            return Ok(Self::Shared);
        }
        let warm = match &options.reward.models[..] {
            [only] => Some(only),
            _ => None,
        };
        let model = match options.value_model.as_ref().or(warm) {
            Some(path) => open_scored(path, tokenizer)?,
            None => ScoreModel::zero(model.clone())?,
        };
        let mut config = config.clone();
        config.lora = None;
        config.optim.lr = options.value_lr.or(config.optim.lr);
        let trained = Trainable::scored(&model)?;
        let bench = Bench::new(trained, Sampler::new(0), schedule, &config);
        Ok(Self::Separate(Box::new(bench)))
    }

    /// The separate model, which trains; none where the policy's states are read.
    pub fn model(&self) -> Option<&Trainable> {
        match self {
            Self::Shared => None,
            Self::Separate(bench) => Some(&bench.policy),
        }
    }

    /// Values now at the value slots of a pass.
    ///
    /// # Errors
    /// The model's.
    pub fn values(&self, policy: &Trainable, pass: &Pass) -> Result<Vec<f64>, TrainError> {
        let model = self.model().unwrap_or(policy);
        let hidden = model.decoder().hidden(&pass.batch)?;
        numbers(&pass.values(&hidden, &model.score_head()?.detach())?)
    }

    /// All that trains of a separate model, with the optimiser's moments.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainError> {
        let Self::Separate(bench) = self else {
            return Ok(Vec::new());
        };
        let weights = bench.policy.values().into_iter();
        let weights = weights.map(|(name, tensor)| (format!("{WEIGHT}{name}"), tensor));
        let moments = bench.moments()?.into_iter();
        let moments = moments.map(|(name, tensor)| (format!("{MOMENT}{name}"), tensor));
        Ok(weights.chain(moments).collect())
    }

    /// Takes over what [`Self::tensors`] gave after `steps` steps.
    ///
    /// # Errors
    /// Tensors of another model.
    pub fn restore(
        &mut self,
        steps: u64,
        tensors: Vec<(String, Tensor)>,
    ) -> Result<(), TrainError> {
        let Self::Separate(bench) = self else {
            return Ok(());
        };
        let (mut weights, mut moments) = (Vec::new(), Vec::new());
        for (name, tensor) in tensors {
            if let Some(name) = name.strip_prefix(WEIGHT) {
                weights.push((name.to_owned(), tensor));
            } else if let Some(name) = name.strip_prefix(MOMENT) {
                moments.push((name.to_owned(), tensor));
            }
        }
        bench.policy.restore(&weights)?;
        // Nothing of it is random: there is no dropout, and it has no data of its own.
        bench.restore((steps, 0), ChaCha8Rng::seed_from_u64(0), moments)
    }

    /// Adds the gradients of a loss of a separate model.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn accumulate(&mut self, loss: &Tensor) -> Result<(), TrainError> {
        match self {
            Self::Shared => Ok(()),
            Self::Separate(bench) => bench.accumulate(loss),
        }
    }

    /// One update of a separate model; the norm of its gradients.
    ///
    /// # Errors
    /// As [`Bench::apply`].
    pub fn apply(&mut self) -> Result<Option<f64>, TrainError> {
        match self {
            Self::Shared => Ok(None),
            Self::Separate(bench) => Ok(Some(bench.apply()?.grad_norm)),
        }
    }

    /// The step is done.
    pub fn advance(&mut self) {
        if let Self::Separate(bench) = self {
            bench.advance();
        }
    }
}
