//! From a rollout to advantages: divergence from the reference token by token, rewards, generalised advantage estimation,
//! whitening. Plain numbers in f64, one vector a row; nothing here has a gradient.
//!
//! A row has as many entries as it has kept tokens (those up to and with the first end, or all), so there is no mask to
//! forget.

use serde::{Deserialize, Serialize};

use super::{LossError, error::within};

const NAME: &str = "advantages";

/// Estimators of the divergence from the reference at a sampled token, `k1 = log π - log π_ref` (Schulman 2020).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// `k1`: unbiased, and in the reward its gradient is that of the divergence.
    #[default]
    K1,
    /// `k1² / 2`.
    K2,
    /// `exp(-k1) - 1 + k1`: never negative.
    K3,
}

impl Estimator {
    /// The divergence at one token, nats.
    pub fn at(self, logp: f64, reference: f64) -> f64 {
        let k1 = logp - reference;
        match self {
            Self::K1 => k1,
            Self::K2 => 0.5 * k1 * k1,
            Self::K3 => (-k1).exp_m1() + k1,
        }
    }

    /// The divergence at each token of a row.
    pub fn row(self, logps: &[f64], reference: &[f64]) -> Vec<f64> {
        let pairs = logps.iter().zip(reference);
        pairs.map(|(&p, &r)| self.at(p, r)).collect()
    }
}

/// Rewards of a row by slot: `-β·kl` at each token and the score where the answer has ended. With one slot more than tokens
/// the score lies after the end token (TRL, torchtune), with as many slots on the last token (OpenRLHF, verl).
///
/// # Errors
/// Another number of slots.
pub fn rewards(kl: &[f64], score: f64, slots: usize, beta: f64) -> Result<Vec<f64>, LossError> {
    let n = kl.len();
    let ok = n > 0 && (slots == n || slots == n + 1);
    within(ok, NAME, "slots", "as many as tokens, or one more", slots)?;
    let mut rewards: Vec<f64> = kl.iter().map(|kl| -beta * kl).collect();
    rewards.resize(slots, 0.0);
    rewards[slots - 1] += score;
    Ok(rewards)
}

/// What each slot of a row was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// How much better than the value function thought.
    pub advantages: Vec<f64>,
    /// Targets of the value function: advantages plus values.
    pub returns: Vec<f64>,
}

/// Generalised advantage estimation (Schulman et al. 2016) over the slots of a row, the value after the last being 0.
///
/// # Errors
/// As many values as rewards are needed; `γ` and `λ` in 0 to 1.
pub fn gae(
    rewards: &[f64],
    values: &[f64],
    gamma: f64,
    lambda: f64,
) -> Result<Advantages, LossError> {
    super::same_length("values", rewards.len(), values.len())?;
    within((0.0..=1.0).contains(&gamma), NAME, "gamma", "0 to 1", gamma)?;
    within(
        (0.0..=1.0).contains(&lambda),
        NAME,
        "lambda",
        "0 to 1",
        lambda,
    )?;
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let surprise = rewards[t] + gamma * next_value - values[t];
        next = surprise + gamma * lambda * next;
        next_value = values[t];
        advantages[t] = next;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    Ok(Advantages {
        advantages,
        returns,
    })
}

/// Added to a variance before its root is divided by.
const EPSILON: f64 = 1e-8;

/// Brings the numbers of all rows together to variance 1, and with `shift` to mean 0. The variance has Bessel's correction, as
/// in TRL. One number alone is only shifted.
pub fn whiten(rows: &mut [Vec<f64>], shift: bool) {
    let n = rows.iter().map(Vec::len).sum::<usize>() as f64;
    let all = || rows.iter().flatten();
    let mean = all().sum::<f64>() / n;
    let squares: f64 = all().map(|x| (x - mean).powi(2)).sum();
    let scale = if n > 1.0 {
        (squares / (n - 1.0) + EPSILON).sqrt().recip()
    } else {
        1.0
    };
    let kept = if shift { 0.0 } else { mean };
    for x in rows.iter_mut().flatten() {
        *x = (*x - mean) * scale + kept;
    }
}

/// A row's score, less the penalty where it did not end by itself (TRL subtracts; the code of 2019 replaced).
pub fn penalised(score: f64, ended: bool, penalty: f64) -> f64 {
    if ended { score } else { score - penalty }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_estimators_by_hand() {
        let (p, r) = (0.5f64.ln(), 0.25f64.ln());
        let log2 = 2.0f64.ln();
        assert!((Estimator::K1.at(p, r) - log2).abs() < 1e-15);
        assert!((Estimator::K2.at(p, r) - 0.5 * log2 * log2).abs() < 1e-15);
        assert!((Estimator::K3.at(p, r) - (0.5 - 1.0 + log2)).abs() < 1e-15);
    }

    #[test]
    fn scores_lie_after_the_end_or_on_it() {
        let kl = [0.5, -1.0];
        assert_eq!(rewards(&kl, 3.0, 3, 0.1).unwrap(), [-0.05, 0.1, 3.0]);
        assert_eq!(rewards(&kl, 3.0, 2, 0.1).unwrap(), [-0.05, 3.1]);
        assert!(rewards(&kl, 3.0, 4, 0.1).is_err());
        assert_eq!(penalised(2.0, false, 1.5), 0.5);
        assert_eq!(penalised(2.0, true, 1.5), 2.0);
    }

    proptest! {
        #[test]
        fn with_gamma_and_lambda_1_an_advantage_is_the_return_less_the_value(
            row in prop::collection::vec((-3.0..3.0f64, -3.0..3.0f64), 1..9)
        ) {
            let (r, v): (Vec<f64>, Vec<f64>) = row.into_iter().unzip();
            let found = gae(&r, &v, 1.0, 1.0).unwrap();
            for t in 0..r.len() {
                let ahead: f64 = r[t..].iter().sum();
                prop_assert!((found.advantages[t] - (ahead - v[t])).abs() < 1e-12);
                prop_assert!((found.returns[t] - ahead).abs() < 1e-12);
            }
            // With λ = 0 it is the one-step surprise.
            let found = gae(&r, &v, 0.9, 0.0).unwrap();
            let next = v.get(1).copied().unwrap_or(0.0);
            prop_assert!((found.advantages[0] - (r[0] + 0.9 * next - v[0])).abs() < 1e-12);
        }

        #[test]
        fn whitened_numbers_have_mean_0_and_variance_1(
            a in prop::collection::vec(-5.0..5.0f64, 2..9),
            b in prop::collection::vec(-5.0..5.0f64, 1..9),
        ) {
            let mean = |rows: &[Vec<f64>]| {
                let n = rows.iter().map(Vec::len).sum::<usize>() as f64;
                let mean = rows.iter().flatten().sum::<f64>() / n;
                let squares = rows.iter().flatten().map(|x| (x - mean).powi(2));
                (mean, squares.sum::<f64>() / (n - 1.0))
            };
            let before = vec![a, b];
            prop_assume!(mean(&before).1 > 1e-3);
            let (mut shifted, mut scaled) = (before.clone(), before.clone());
            whiten(&mut shifted, true);
            whiten(&mut scaled, false);
            prop_assert!(mean(&shifted).0.abs() < 1e-10);
            prop_assert!((mean(&shifted).1 - 1.0).abs() < 1e-4);
            prop_assert!((mean(&scaled).0 - mean(&before).0).abs() < 1e-10);
            prop_assert!((mean(&scaled).1 - 1.0).abs() < 1e-4);
        }
    }
}
