//! REINFORCE with a leave-one-out baseline (RLOO, Ahmadian et al. 2024): several answers a prompt, each compared with the mean of
//! the others; an answer is one action, so its ratio is that of the whole answer.

use candle_core::Tensor;

use super::{Clip, LossError, Metrics, Scored, beside, error::within, numbers, same_length};

const NAME: &str = "rloo";

/// Advantages of answers in groups of `group`, those of one prompt side by side: a reward less the mean of the others of its
/// group. A reward is the score less `β` times the divergence summed over the answer's tokens.
///
/// # Errors
/// Groups of fewer than 2, or rewards that do not fill them.
pub fn leave_one_out(rewards: &[f64], group: usize) -> Result<Vec<f64>, LossError> {
    within(
        group >= 2,
        NAME,
        "group",
        "2 answers or more a prompt",
        group,
    )?;
    let whole = rewards.len() / group * group;
    same_length("rewards in whole groups", whole, rewards.len())?;
    let mut advantages = Vec::with_capacity(rewards.len());
    for group in rewards.chunks(group) {
        let sum: f64 = group.iter().sum();
        let others = (group.len() - 1) as f64;
        advantages.extend(group.iter().map(|r| r - (sum - r) / others));
    }
    Ok(advantages)
}

/// `-Σ min(ratio·A, clip(ratio, 1 ± ε)·A) / count` over answers, with `new [n]` and `old` log-probabilities summed over the
/// tokens of each answer and `count` the answers of the whole accumulation window.
///
/// Metrics: `loss/policy_avg`, `policy/clipfrac_avg`, `policy/approxkl_avg`, `val/ratio`, all over answers.
///
/// # Errors
/// Inputs of other lengths; a clip outside its range; a dual clip, which RLOO does not have.
pub fn rloo_loss(
    new: &Tensor,
    old: &[f64],
    advantages: &[f64],
    clip: &Clip,
    count: usize,
) -> Result<Scored, LossError> {
    if clip.dual.is_some() {
        return Err(LossError::Ignored {
            loss: NAME,
            option: "clip.dual",
            why: "it is read by ppo",
        });
    }
    within(clip.ratio > 0.0, NAME, "clip.ratio", "above 0", clip.ratio)?;
    let n = new.elem_count();
    same_length("log-probabilities of the rollout", n, old.len())?;
    same_length("advantages", n, advantages.len())?;
    within(
        count >= n,
        NAME,
        "count",
        "all answers of the window",
        count,
    )?;
    let change = (new - beside(old, new)?)?;
    let ratio = change.exp()?;
    let pull = beside(advantages, new)?.neg()?;
    let free = (&pull * &ratio)?;
    let clipped = (&pull * ratio.clamp(1.0 - clip.ratio, 1.0 + clip.ratio)?)?;
    let each = free.maximum(&clipped)?;
    let loss = (each.sum_all()? / count as f64)?;
    let mut metrics = Metrics::new();
    let (free, clipped, change) = (numbers(&free)?, numbers(&clipped)?, numbers(&change)?);
    let cut = free
        .iter()
        .zip(&clipped)
        .map(|(f, c)| f64::from(u8::from(c > f)));
    metrics.mean("policy/clipfrac_avg", cut);
    metrics.mean("loss/policy_avg", numbers(&each)?);
    metrics.mean("policy/approxkl_avg", change.iter().map(|d| 0.5 * d * d));
    metrics.mean("val/ratio", change.iter().map(|d| d.exp()));
    Ok(Scored { loss, metrics })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn an_answer_is_compared_with_the_others_of_its_prompt() {
        let found = leave_one_out(&[1.0, 2.0, 6.0, 5.0, 5.0, 5.0], 3).unwrap();
        assert_eq!(found, [-3.0, -1.5, 4.5, 0.0, 0.0, 0.0]);
        assert!(leave_one_out(&[1.0, 2.0, 3.0], 2).is_err());
        assert!(leave_one_out(&[1.0], 1).is_err());
    }

    #[test]
    fn at_the_rollouts_policy_the_gradient_is_that_of_reinforce() {
        let logps = [-3.0f64, -5.0];
        let new = Var::from_tensor(&Tensor::new(&logps, &Device::Cpu).unwrap()).unwrap();
        let scored = rloo_loss(&new, &logps, &[0.5, -2.0], &Clip::default(), 2).unwrap();
        let grads = scored.loss.backward().unwrap();
        assert_eq!(
            grads.get(&new).unwrap().to_vec1::<f64>().unwrap(),
            [-0.25, 1.0]
        );
        assert_eq!(scored.metrics.get("val/ratio"), Some(1.0));
        assert_eq!(scored.metrics.get("policy/clipfrac_avg"), Some(0.0));
        let dual = Clip {
            dual: Some(3.0),
            ..Clip::default()
        };
        assert!(rloo_loss(&new, &logps, &[0.5, -2.0], &dual, 2).is_err());
    }
}
