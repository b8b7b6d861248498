//! `[method.ppo]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::train::{
    TrainError,
    loss::{Clip, advantage::Estimator, controller::KlController},
    reference::Reference,
    rollout::Sampling,
    scorer::RewardSource,
};

/// Whose states the value head reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// A model of its own: `value_model`, or the reward model where there is one, or the policy's beginning with a head of zeros.
    #[default]
    Separate,
    /// The policy's own, with a head of zeros beside it.
    Shared,
}

/// The options of PPO; defaults are TRL's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ppo {
    /// Updates of the optimiser in an epoch of a rollout; a rollout has as many answers as they take together.
    pub minibatches: usize,
    /// Times through a rollout.
    pub epochs: usize,
    /// `γ`
    pub gamma: f64,
    /// `λ` of the advantages.
    pub lambda: f64,
    /// Scale rewards to variance 1; their mean stays.
    pub whiten_rewards: bool,
    /// How far an update may leave the rollout.
    pub clip: Clip,
    /// What the value loss is multiplied with.
    pub value_coef: f64,
    /// Whose states the value head reads: `separate` or `shared`.
    pub value: Sharing,
    /// A folder that a separate value model begins from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_model: Option<PathBuf>,
    /// Learning rate of a separate value model; the policy's where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_lr: Option<f64>,
    /// What the policy is held near: `base`, the model that the run begins with; `adapter`, a frozen copy of `model.adapter`, the
    /// default where there is one; or another checkpoint with the same words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// How the divergence in the reward is estimated.
    pub estimator: Estimator,
    /// What weighs it: `kind = "fixed"` with `beta`, or `kind = "adaptive"` with `beta`, `target` and `horizon`.
    pub kl: KlController,
    /// How answers are drawn.
    pub rollout: Sampling,
    /// Where rewards come from.
    pub reward: RewardSource,
}

impl Default for Ppo {
    fn default() -> Self {
        Self {
            minibatches: 1,
            epochs: 4,
            gamma: 1.0,
            lambda: 0.95,
            whiten_rewards: false,
            clip: Clip::default(),
            value_coef: 0.1,
            value: Sharing::Separate,
            value_model: None,
            value_lr: None,
            reference: None,
            estimator: Estimator::K1,
            kl: KlController::Fixed { beta: 0.05 },
            rollout: Sampling::default(),
            reward: RewardSource::default(),
        }
    }
}

impl Ppo {
    /// Refuses values outside their range and options without effect.
    ///
    /// # Errors
    /// Naming the field.
    pub fn check(&self) -> Result<(), TrainError> {
        let counts = [("minibatches", self.minibatches), ("epochs", self.epochs)];
        for (key, count) in counts {
            if !(1..=65_536).contains(&count) {
                let field = format!("method.ppo.{key}");
                return Err(TrainError::config(field, "1 to 65536", count));
            }
        }
        let shares = [("gamma", self.gamma), ("lambda", self.lambda)];
        for (key, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                let field = format!("method.ppo.{key}");
                return Err(TrainError::config(field, "0 to 1", share));
            }
        }
        let rates = [
            ("value_coef", self.value_coef),
            ("value_lr", self.value_lr.unwrap_or(0.0)),
        ];
        for (key, rate) in rates {
            if !(rate >= 0.0 && rate.is_finite()) {
                let field = format!("method.ppo.{key}");
                return Err(TrainError::config(field, "0 or more", rate));
            }
        }
        let shared = self.value == Sharing::Shared;
        let ignored = [
            ("value_model", self.value_model.is_some()),
            ("value_lr", self.value_lr.is_some()),
        ];
        if let Some((key, _)) = ignored.iter().find(|(_, set)| *set && shared) {
            return Err(TrainError::Ignored {
                field: format!("method.ppo.{key}"),
                why: "the value head reads the policy's states, method.ppo.value = \"shared\""
                    .into(),
            });
        }
        self.clip.check()?;
        self.kl.check()?;
        self.rollout.check("method.ppo.rollout")?;
        self.reward.check("method.ppo.reward")
    }
}
