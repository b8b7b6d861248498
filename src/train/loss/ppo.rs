//! The losses of proximal policy optimisation (Schulman et al. 2017) over sampled tokens, and what is logged of a rollout.
//!
//! Entries are kept tokens of all rows one after the other; a padded or cut-off token is not among them. TRL's trainer
//! averaged its ratio, divergence and entropy over padding as well; here they are means over tokens.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{LossError, Metric, Metrics, Scored, beside, error::within, numbers, same_length};

const NAME: &str = "ppo";

/// How far a step may leave the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clip {
    /// `ε`: ratios beyond `1 ± ε` pull no further.
    pub ratio: f64,
    /// `c`: tokens with a negative advantage lose `c·|A|` at most (dual clip, Ye et al. 2020); off by default.
    pub dual: Option<f64>,
    /// `ε_v`: values beyond those of the rollout `± ε_v` pull no further.
    pub value: f64,
}

impl Default for Clip {
    /// 0.2, off, 0.2.
    fn default() -> Self {
        Self {
            ratio: 0.2,
            dual: None,
            value: 0.2,
        }
    }
}

impl Clip {
    /// Refuses clips outside their range.
    ///
    /// # Errors
    /// Naming the option.
    pub fn check(&self) -> Result<(), LossError> {
        within(self.ratio > 0.0, NAME, "clip.ratio", "above 0", self.ratio)?;
        within(self.value > 0.0, NAME, "clip.value", "above 0", self.value)?;
        let dual = self.dual.unwrap_or(2.0);
        within(dual > 1.0, NAME, "clip.dual", "above 1", dual)
    }
}

/// Tokens of a minibatch, `n` in all.
#[derive(Debug, Clone, Copy)]
pub struct PolicyBatch<'a> {
    /// The policy's log-probabilities now, at the rollout's temperature: `[n]`, on the tape.
    pub new: &'a Tensor,
    /// Those of the rollout.
    pub old: &'a [f64],
    /// Advantages.
    pub advantages: &'a [f64],
    /// Entropies now, nats: `[n]`.
    pub entropy: &'a Tensor,
}

/// `Σ max(-A·ratio, -A·clip(ratio, 1 ± ε)) / count` with `count` the tokens of the whole accumulation window.
///
/// Metrics: `loss/policy_avg`, `policy/clipfrac_avg`, `policy/approxkl_avg` (`½ mean (log ratio)²`), `policy/entropy_avg`,
/// `val/ratio`.
///
/// # Errors
/// Inputs of other lengths; clips outside their range.
pub fn policy_loss(batch: &PolicyBatch, clip: &Clip, count: usize) -> Result<Scored, LossError> {
    clip.check()?;
    let n = batch.new.elem_count();
    same_length("log-probabilities of the rollout", n, batch.old.len())?;
    same_length("advantages", n, batch.advantages.len())?;
    same_length("entropies", n, batch.entropy.elem_count())?;
    within(count >= n, NAME, "count", "all tokens of the window", count)?;
    let change = (batch.new - beside(batch.old, batch.new)?)?;
    let ratio = change.exp()?;
    let pull = beside(batch.advantages, batch.new)?.neg()?;
    let free = (&pull * &ratio)?;
    let clipped = (&pull * ratio.clamp(1.0 - clip.ratio, 1.0 + clip.ratio)?)?;
    let mut each = free.maximum(&clipped)?;
    if let Some(most) = clip.dual {
        // Only where the advantage is negative, that is where the pull is positive.
        let bound = (&pull * most)?;
        let negative = pull.gt(0.0)?;
        each = negative.where_cond(&each.minimum(&bound)?, &each)?;
    }
    let loss = (each.sum_all()? / count as f64)?;
    let mut metrics = Metrics::new();
    let (free, clipped) = (numbers(&free)?, numbers(&clipped)?);
    let cut = free
        .iter()
        .zip(&clipped)
        .map(|(f, c)| f64::from(u8::from(c > f)));
    metrics.mean("policy/clipfrac_avg", cut);
    metrics.mean("loss/policy_avg", numbers(&each)?);
    let change = numbers(&change)?;
    metrics.mean("policy/approxkl_avg", change.iter().map(|d| 0.5 * d * d));
    metrics.mean("policy/entropy_avg", numbers(batch.entropy)?);
    metrics.mean("val/ratio", change.iter().map(|d| d.exp()));
    Ok(Scored { loss, metrics })
}

/// Value slots of a minibatch, `n` in all.
#[derive(Debug, Clone, Copy)]
pub struct ValueBatch<'a> {
    /// The value model now: `[n]`, on the tape.
    pub new: &'a Tensor,
    /// Its values of the rollout.
    pub old: &'a [f64],
    /// Returns.
    pub returns: &'a [f64],
}

/// `½ Σ max((V - R)², (clip(V, V_old ± ε_v) - R)²) / count` with `count` the slots of the whole accumulation window; without
/// the factor that weighs it against the policy's loss.
///
/// Metrics: `loss/value_avg`, `val/clipfrac_avg`, `val/error` (`mean (V - R)²`).
///
/// # Errors
/// Inputs of other lengths; clips outside their range.
pub fn value_loss(batch: &ValueBatch, clip: &Clip, count: usize) -> Result<Scored, LossError> {
    clip.check()?;
    let n = batch.new.elem_count();
    same_length("values of the rollout", n, batch.old.len())?;
    same_length("returns", n, batch.returns.len())?;
    within(count >= n, NAME, "count", "all slots of the window", count)?;
    let old = beside(batch.old, batch.new)?;
    let returns = beside(batch.returns, batch.new)?;
    let near = batch
        .new
        .maximum(&(&old - clip.value)?)?
        .minimum(&(&old + clip.value)?)?;
    let free = (batch.new - &returns)?.sqr()?;
    let clipped = (near - &returns)?.sqr()?;
    let each = (free.maximum(&clipped)? * 0.5)?;
    let loss = (each.sum_all()? / count as f64)?;
    let mut metrics = Metrics::new();
    let (free, clipped) = (numbers(&free)?, numbers(&clipped)?);
    let cut = free
        .iter()
        .zip(&clipped)
        .map(|(f, c)| f64::from(u8::from(c > f)));
    metrics.mean("val/clipfrac_avg", cut);
    metrics.mean("val/error", free);
    metrics.mean("loss/value_avg", numbers(&each)?);
    Ok(Scored { loss, metrics })
}

/// One answer of a rollout.
#[derive(Debug, Clone, Copy)]
pub struct RolloutRow<'a> {
    /// Log-probabilities of its tokens when it was sampled.
    pub logps: &'a [f64],
    /// Divergence from the reference at each.
    pub kl: &'a [f64],
    /// Its score, penalties included.
    pub score: f64,
    /// Whether it ended by itself.
    pub ended: bool,
}

/// What is logged of a rollout, each a mean over answers of a sum over tokens: `objective/kl`, `objective/entropy` (that of the
/// sampled tokens, `-log p`), `objective/non_score_reward` (`-β` times the divergence), `objective/scores`,
/// `objective/rlhf_reward` (both together). Beside them `val/num_eos_tokens` (answers that ended by themselves),
/// `completions/clipped_ratio` (the share of the others), `completions/{mean,min,max}_length` in tokens, and
/// `completions/{mean,min,max}_terminated_length` of those that ended: a reward that is
/// read without lengths is read wrongly.
pub fn rollout_metrics(rows: &[RolloutRow], beta: f64) -> Metrics {
    let mut metrics = Metrics::new();
    let sum = |x: &[f64]| x.iter().sum::<f64>();
    let mut over = |name, of: &dyn Fn(&RolloutRow) -> f64| metrics.mean(name, rows.iter().map(of));
    over("objective/kl", &|row| sum(row.kl));
    over("objective/entropy", &|row| -sum(row.logps));
    over("objective/non_score_reward", &|row| -beta * sum(row.kl));
    over("objective/scores", &|row| row.score);
    over("objective/rlhf_reward", &|row| {
        row.score - beta * sum(row.kl)
    });
    over("completions/mean_length", &|row| row.logps.len() as f64);
    over("completions/clipped_ratio", &|row| {
        f64::from(u8::from(!row.ended))
    });
    for row in rows {
        let tokens = row.logps.len() as f64;
        metrics.put("completions/min_length", Metric::Least(tokens));
        metrics.put("completions/max_length", Metric::Most(tokens));
    }
    for row in rows.iter().filter(|row| row.ended) {
        let tokens = row.logps.len() as f64;
        metrics.mean("completions/mean_terminated_length", [tokens]);
        metrics.put("completions/min_terminated_length", Metric::Least(tokens));
        metrics.put("completions/max_terminated_length", Metric::Most(tokens));
    }
    let ended = rows.iter().filter(|row| row.ended).count() as f64;
    metrics.put("val/num_eos_tokens", Metric::Sum(ended));
    metrics
}
