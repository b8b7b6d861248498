//! From a rollout with values to what its updates train towards, and the losses of a pass.
//!
//! Always: nothing here changes a weight; the score lies in the slot behind the token that ended an answer, as in TRL.

use candle_core::Tensor;

use super::Ppo;
use crate::model::Trainable;
use crate::train::{
    TrainError,
    loss::{
        Metric, Metrics, PolicyBatch, Scored, ValueBatch,
        advantage::{gae, rewards, whiten},
        policy_loss, value_loss,
    },
    rollout::{Pass, Rollout, head_options},
};

/// What the updates of a rollout train towards, a row an answer.
#[derive(Debug)]
pub struct Plan {
    /// Score and divergence at each slot, whitened where the options say so.
    pub rewards: Vec<Vec<f64>>,
    /// The value model's values when the rollout was made, at each slot.
    pub values: Vec<Vec<f64>>,
    /// Whitened advantages at each token.
    pub advantages: Vec<Vec<f64>>,
    /// Targets of the value model at each slot.
    pub returns: Vec<Vec<f64>>,
}

impl Plan {
    /// Of a scored rollout; `beta` weighs the divergence.
    ///
    /// # Errors
    /// Rows that do not pair up.
    pub fn new(
        rollout: &Rollout,
        values: Vec<Vec<f64>>,
        beta: f64,
        options: &Ppo,
    ) -> Result<Self, TrainError> {
        let rows = rollout.kl.iter().zip(&rollout.scores).zip(&values);
        let each = rows.map(|((kl, &score), values)| rewards(kl, score, values.len(), beta));
        let mut all: Vec<Vec<f64>> = each.collect::<Result<_, _>>()?;
        if options.whiten_rewards {
            whiten(&mut all, false);
        }
        let (mut advantages, mut returns) = (Vec::new(), Vec::new());
        for ((rewards, values), kl) in all.iter().zip(&values).zip(&rollout.kl) {
            let mut found = gae(rewards, values, options.gamma, options.lambda)?;
            found.advantages.truncate(kl.len());
            advantages.push(found.advantages);
            returns.push(found.returns);
        }
        whiten(&mut advantages, true);
        Ok(Self {
            rewards: all,
            values,
            advantages,
            returns,
        })
    }

    /// `returns/mean`, `returns/var` and `values/mean` over slots.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        let returns = || self.returns.iter().flatten().copied();
        metrics.mean("returns/mean", returns());
        metrics.mean("values/mean", self.values.iter().flatten().copied());
        let n = returns().count().max(1) as f64;
        let mean = returns().sum::<f64>() / n;
        let squares: f64 = returns().map(|r| (r - mean).powi(2)).sum();
        metrics.put("returns/var", Metric::Sum(squares / n));
        metrics
    }
}

/// The losses of a pass.
pub struct Judged {
    /// The policy's.
    pub policy: Scored,
    /// The value model's, not yet multiplied with its factor.
    pub value: Scored,
    /// The policy's log-probabilities now.
    pub logps: Tensor,
}

/// Both losses of pass `at`, on the tape; `critic` is a separate value model, `counts` the tokens and slots of the update.
///
/// # Errors
/// The models'.
pub fn judged(
    (policy, critic): (&Trainable, Option<&Trainable>),
    (rollout, plan): (&Rollout, &Plan),
    at: usize,
    options: &Ppo,
    counts: (usize, usize),
) -> Result<Judged, TrainError> {
    let (pass, rows): (&Pass, _) = (&rollout.passes[at], rollout.rows(at));
    let head = head_options(policy.decoder(), options.rollout.temperature);
    let hidden = policy.hidden(&pass.batch)?;
    let said = pass.said(&hidden, policy.head(), head)?;
    let (states, valuer) = match critic {
        None => (hidden, policy),
        Some(critic) => (critic.hidden(&pass.batch)?, critic),
    };
    let values = pass.values(&states, valuer.score_head()?)?;
    let tokens = PolicyBatch {
        new: &said.logps,
        old: &rollout.old[rows.clone()].concat(),
        advantages: &plan.advantages[rows.clone()].concat(),
        entropy: &said.entropy,
    };
    let slots = ValueBatch {
        new: &values,
        old: &plan.values[rows.clone()].concat(),
        returns: &plan.returns[rows].concat(),
    };
    Ok(Judged {
        policy: policy_loss(&tokens, &options.clip, counts.0)?,
        value: value_loss(&slots, &options.clip, counts.1)?,
        logps: said.logps,
    })
}
