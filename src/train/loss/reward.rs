//! The Bradley-Terry loss of a reward model, and how the scores of an ensemble become one reward.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{LossError, Metric, Metrics, Scored, error::within, numbers, same_length, stable};

const NAME: &str = "reward";

/// The loss: `-(1-ε) log σ(d) - ε log σ(-d) + c (r_c + r_r)²` with `d = r_c - r_r - margin`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardLoss {
    /// `ε`: the share of labels that are thought to be wrong.
    pub label_smoothing: f64,
    /// `c`: pulls rewards to a mean of 0, which Bradley-Terry leaves open (Eisenstein et al. 2023; 0.01).
    pub centring: f64,
}

impl RewardLoss {
    /// The loss of pairs with scores `chosen [n]` and `rejected [n]`, divided by `count`: the pairs of the whole accumulation
    /// window. `margins [n]` are added where the data has them.
    ///
    /// Metrics: `accuracy`, `margin`, `mean_reward`, `min_reward`, `max_reward`.
    ///
    /// # Errors
    /// Inputs of other lengths; options outside their range.
    pub fn of(
        &self,
        chosen: &Tensor,
        rejected: &Tensor,
        margins: Option<&Tensor>,
        count: usize,
    ) -> Result<Scored, LossError> {
        let epsilon = self.label_smoothing;
        within(
            (0.0..0.5).contains(&epsilon),
            NAME,
            "label_smoothing",
            "0 to below 0.5",
            epsilon,
        )?;
        within(
            self.centring >= 0.0,
            NAME,
            "centring",
            "0 or more",
            self.centring,
        )?;
        let n = chosen.elem_count();
        same_length("rejected scores", n, rejected.elem_count())?;
        within(count >= n, NAME, "count", "all pairs of the window", count)?;
        let mut d = (chosen - rejected)?;
        if let Some(margins) = margins {
            same_length("margins", n, margins.elem_count())?;
            d = (d - margins)?;
        }
        let mut each = stable::log_sigmoid(&d)?.neg()?;
        if epsilon > 0.0 {
            let other = stable::log_sigmoid(&d.neg()?)?;
            each = ((each * (1.0 - epsilon))? - (other * epsilon)?)?;
        }
        if self.centring > 0.0 {
            each = (each + ((chosen + rejected)?.sqr()? * self.centring)?)?;
        }
        let loss = (each.sum_all()? / count as f64)?;
        Ok(Scored {
            loss,
            metrics: metrics(&numbers(chosen)?, &numbers(rejected)?),
        })
    }
}

fn metrics(chosen: &[f64], rejected: &[f64]) -> Metrics {
    let pairs = || chosen.iter().zip(rejected);
    let mut metrics = Metrics::new();
    metrics.mean("accuracy", pairs().map(|(c, r)| f64::from(u8::from(c > r))));
    metrics.mean("margin", pairs().map(|(c, r)| c - r));
    let all = || chosen.iter().chain(rejected).copied();
    metrics.mean("mean_reward", all());
    for x in all() {
        metrics.put("min_reward", Metric::Least(x));
        metrics.put("max_reward", Metric::Most(x));
    }
    metrics
}

/// One reward of several reward models (Coste et al. 2024).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ensemble {
    /// The mean.
    Mean,
    /// The smallest: worst-case optimisation.
    Min,
    /// `mean - λ · variance` (population variance over the members): uncertainty-weighted optimisation.
    Uwo {
        /// `λ`, 0.1 to 0.5 in the paper.
        lambda: f64,
    },
}

impl Ensemble {
    /// The reward of one text from its members' scores; NaN without members.
    pub fn reward(self, scores: &[f64]) -> f64 {
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        match self {
            Self::Mean => mean,
            Self::Min => scores.iter().copied().reduce(f64::min).unwrap_or(f64::NAN),
            Self::Uwo { lambda } => {
                let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
                mean - lambda * variance
            }
        }
    }
}

/// How a score counts the length of an answer, which is the most common reward hack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthRule {
    /// Not at all.
    #[default]
    None,
    /// The score over the tokens of the answer.
    PerToken,
    /// The score less what a straight line on length explains of the scores of the same rollout (least squares): what is
    /// left has no correlation with length there, and the same mean.
    Residual,
    /// So much less for each token, those up to `free` not counted. With `free` short of the longest answer and `each` one
    /// over the rest it is the soft punishment of overlong answers (Yu et al. 2025).
    Penalty {
        /// Of a token.
        each: f64,
        /// Tokens that cost nothing.
        free: usize,
    },
}

impl LengthRule {
    /// The rewards of a rollout's answers of these scores and tokens; an answer of no tokens counts as one.
    pub fn rewards(self, scores: &[f64], tokens: &[usize]) -> Vec<f64> {
        let each = scores.iter().zip(tokens);
        match self {
            Self::None => scores.to_vec(),
            Self::PerToken => each.map(|(s, &n)| s / n.max(1) as f64).collect(),
            Self::Residual => residuals(scores, tokens),
            Self::Penalty { each: less, free } => each
                .map(|(s, &n)| s - less * n.saturating_sub(free) as f64)
                .collect(),
        }
    }

    /// Refuses a rule that would give no number, or pay for length.
    ///
    /// # Errors
    /// Naming the option.
    pub fn check(self) -> Result<(), LossError> {
        let Self::Penalty { each, .. } = self else {
            return Ok(());
        };
        let fine = each.is_finite() && each > 0.0;
        within(fine, "length", "each", "a number above 0", each)
    }
}

fn residuals(scores: &[f64], tokens: &[usize]) -> Vec<f64> {
    let n = scores.len().max(1) as f64;
    let mean = |x: &mut dyn Iterator<Item = f64>| x.sum::<f64>() / n;
    let middle = mean(&mut tokens.iter().map(|&t| t as f64));
    let level = mean(&mut scores.iter().copied());
    let apart = || tokens.iter().map(|&t| t as f64 - middle);
    let squares: f64 = apart().map(|t| t * t).sum();
    if squares == 0.0 {
        return scores.to_vec();
    }
    let products: f64 = apart().zip(scores).map(|(t, s)| t * (s - level)).sum();
    let slope = products / squares;
    scores
        .iter()
        .zip(apart())
        .map(|(s, t)| s - slope * t)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn length_costs_what_the_rule_says() {
        let penalty = LengthRule::Penalty { each: 0.1, free: 4 };
        let of = |rule: LengthRule| rule.rewards(&[3.0, 3.0], &[6, 4]);
        assert_eq!(of(LengthRule::None), [3.0, 3.0]);
        assert_eq!(of(LengthRule::PerToken), [0.5, 0.75]);
        assert_eq!(of(penalty), [2.8, 3.0]);
        assert_eq!(LengthRule::PerToken.rewards(&[3.0], &[0]), [3.0]);
        assert!(penalty.check().is_ok());
        for each in [0.0, -0.1, f64::NAN] {
            let rule = LengthRule::Penalty { each, free: 0 };
            assert!(rule.check().is_err(), "{each}");
        }
    }

    /// `scores - polyfit(tokens, scores, 1)[0] * (tokens - mean(tokens))` of numpy.
    #[test]
    fn what_length_explains_is_taken_out() {
        let (scores, tokens) = ([1.0, 4.0, 2.0, 5.0], [2, 6, 3, 9]);
        let found = LengthRule::Residual.rewards(&scores, &tokens);
        let expected = [
            2.7,
            3.433_333_333_333_333_5,
            3.133_333_333_333_333,
            2.733_333_333_333_333,
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(LengthRule::Residual.rewards(&scores, &[5; 4]), scores);
        assert_eq!(LengthRule::Residual.rewards(&[2.0], &[7]), [2.0]);
    }

    #[test]
    fn an_ensemble_is_its_mean_its_worst_or_its_mean_less_its_variance() {
        let scores = [1.0, 2.0, 6.0];
        assert_eq!(Ensemble::Mean.reward(&scores), 3.0);
        assert_eq!(Ensemble::Min.reward(&scores), 1.0);
        // Deviations -2, -1, 3: variance 14/3.
        let uwo = Ensemble::Uwo { lambda: 0.3 }.reward(&scores);
        assert!((uwo - (3.0 - 0.3 * 14.0 / 3.0)).abs() < 1e-15);
    }
}
