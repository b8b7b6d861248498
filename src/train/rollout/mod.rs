//! Answers drawn from the policy, with everything that is known of them before the policy changes: log-probabilities,
//! divergence from the reference, scores. PPO and RLOO stand on it.
//!
//! Always: log-probabilities are those of the pass that trains (`pass.rs`), not of the pass that drew, both at the rollout's
//! temperature over the whole vocabulary; so the first update of a rollout has a ratio of 1 at every token, and
//! [`Rollout::expect_unmoved`] makes anything else an error. Who draws and scores is `actor.rs`.

mod actor;
mod answer;
mod options;
mod pass;

use candle_core::{DType, Tensor};
use candlescope_ops as ops;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

pub use actor::{Actor, Setting, drawn, row, set_times, stops};
pub use answer::Answer;
pub use options::Sampling;
pub use pass::{Pass, by_row, head_options};

use super::{
    TrainError,
    loss::{Metric, Metrics, RolloutRow, advantage::Estimator, rollout_metrics},
};
use crate::model::Decoder;

/// Answers and what is known of them, a row each.
#[derive(Debug)]
pub struct Rollout {
    /// The answers.
    pub answers: Vec<Answer>,
    /// The answers in passes, in their order.
    pub passes: Vec<Pass>,
    /// The policy's log-probabilities of each token.
    pub old: Vec<Vec<f64>>,
    /// Divergence from the reference at each token, estimated from the token that was drawn.
    pub kl: Vec<Vec<f64>>,
    /// The same over the whole vocabulary.
    pub exact: Vec<Vec<f64>>,
    /// Scores: by length rule, with the penalty of those that did not end.
    pub scores: Vec<f64>,
    /// Scores that are watched, by the name of their source.
    pub watched: Vec<(String, Vec<f64>)>,
}

/// Puts numbers in another order (Fisher and Yates, from the end).
pub fn shuffled(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..order.len()).rev() {
        // The bias of the remainder is below 2⁻⁴⁸ for as many passes as a rollout can have.
        let j = (rng.next_u64() % (i as u64 + 1)) as usize;
        order.swap(i, j);
    }
}

/// Numbers of a tensor `[n]`.
pub fn numbers(x: &Tensor) -> Result<Vec<f64>, TrainError> {
    Ok(x.detach().to_dtype(DType::F64)?.to_vec1()?)
}

impl Rollout {
    /// Runs policy and reference over answers, `size` of them side by side. Scores are not set.
    ///
    /// # Errors
    /// The models'.
    pub fn of(
        answers: Vec<Answer>,
        (policy, reference): (&Decoder, &Decoder),
        (size, room, temperature): (usize, usize, f64),
        estimator: Estimator,
    ) -> Result<Self, TrainError> {
        let options = head_options(policy, temperature);
        let theirs_options = head_options(reference, temperature);
        let (ours_head, theirs_head) = (&policy.weights().head, &reference.weights().head);
        let mut rollout = Self {
            scores: Vec::new(),
            watched: Vec::new(),
            passes: Vec::new(),
            old: Vec::new(),
            kl: Vec::new(),
            exact: Vec::new(),
            answers,
        };
        for answers in rollout.answers.chunks(size) {
            let pass = Pass::new(answers, room)?;
            let ours = policy.hidden(&pass.batch)?;
            let theirs = reference.hidden(&pass.batch)?;
            let old = numbers(&pass.said(&ours, ours_head, options)?.logps)?;
            let against = numbers(&pass.said(&theirs, theirs_head, theirs_options)?.logps)?;
            let (p, q) = (pass.states(&ours)?, pass.states(&theirs)?);
            let exact = ops::token_kl(&p, ours_head, &q, theirs_head, options)?;
            let kl = estimator.row(&old, &against);
            rollout.old.extend(by_row(&old, &pass.tokens));
            rollout.kl.extend(by_row(&kl, &pass.tokens));
            rollout
                .exact
                .extend(by_row(&numbers(&exact)?, &pass.tokens));
            rollout.passes.push(pass);
        }
        Ok(rollout)
    }

    /// Rows of a pass.
    pub fn rows(&self, pass: usize) -> std::ops::Range<usize> {
        let before = self.passes[..pass].iter();
        let first: usize = before.map(|pass| pass.tokens.len()).sum();
        first..first + self.passes[pass].tokens.len()
    }

    /// Mean over answers of the exact divergence summed over tokens, nats.
    pub fn divergence(&self) -> f64 {
        let sum: f64 = self.exact.iter().flatten().sum();
        sum / self.exact.len().max(1) as f64
    }

    /// Refuses a first update whose log-probabilities are not those of the rollout: the pass that trains is another than the
    /// one that was scored.
    ///
    /// # Errors
    /// [`TrainError::Invariant`]
    pub fn expect_unmoved(&self, pass: usize, new: &Tensor, step: u64) -> Result<(), TrainError> {
        let old = self.old[self.rows(pass)].concat();
        let worst = numbers(new)?
            .iter()
            .zip(&old)
            .map(|(new, old)| (new - old).abs())
            .fold(0.0, f64::max);
        if worst == 0.0 {
            return Ok(());
        }
        Err(TrainError::Invariant {
            step,
            what: "the ratio of the first update",
            expected: "1 at every token",
            found: format!("log-probabilities that differ from the rollout's by up to {worst:e}"),
        })
    }

    /// Refuses a divergence from a reference that is the policy itself.
    ///
    /// # Errors
    /// [`TrainError::Invariant`]
    pub fn expect_at_reference(&self, step: u64) -> Result<(), TrainError> {
        let all = self.kl.iter().chain(&self.exact).flatten();
        let worst = all.map(|kl| kl.abs()).fold(0.0, f64::max);
        // What the rounding of a pass with an adapter that does nothing may leave.
        if worst <= 1e-5 {
            return Ok(());
        }
        Err(TrainError::Invariant {
            step,
            what: "the divergence of the first rollout from its reference",
            expected: "0, since both are the same model",
            found: format!("up to {worst:e} nats at a token"),
        })
    }

    /// What is logged of it: [`rollout_metrics`], `objective/kl_exact`, `objective/kl_coef`, `objective/scores_std`,
    /// `completions/score_length_corr`; and of each monitor `monitor/NAME/mean`, `monitor/NAME/std` and, where both vary,
    /// `monitor/NAME/score_corr`: its correlation with the score over the answers. Deviations are the population's.
    pub fn metrics(&self, beta: f64) -> Metrics {
        let rows: Vec<RolloutRow> = (0..self.answers.len())
            .map(|i| RolloutRow {
                logps: &self.old[i],
                kl: &self.kl[i],
                score: self.scores[i],
                ended: self.answers[i].ended,
            })
            .collect();
        let mut metrics = rollout_metrics(&rows, beta);
        let sums = self.exact.iter().map(|row| row.iter().sum());
        metrics.mean("objective/kl_exact", sums);
        metrics.put("objective/kl_coef", Metric::Sum(beta));
        let lengths: Vec<f64> = self.old.iter().map(|row| row.len() as f64).collect();
        let scores = moments(&self.scores);
        metrics.put("objective/scores_std", Metric::Sum(scores.1));
        if let Some(corr) = correlation(&self.scores, &lengths) {
            metrics.put("completions/score_length_corr", Metric::Sum(corr));
        }
        for (name, watched) in &self.watched {
            let of = |what: &str| format!("monitor/{name}/{what}");
            metrics.mean(of("mean"), watched.iter().copied());
            metrics.put(of("std"), Metric::Sum(moments(watched).1));
            if let Some(corr) = correlation(watched, &self.scores) {
                metrics.put(of("score_corr"), Metric::Sum(corr));
            }
        }
        metrics
    }
}

/// Mean and population deviation.
fn moments(x: &[f64]) -> (f64, f64) {
    let n = x.len().max(1) as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// Pearson's, where both vary.
fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let ((mean_x, std_x), (mean_y, std_y)) = (moments(x), moments(y));
    let together: f64 = x
        .iter()
        .zip(y)
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let varies = std_x > 0.0 && std_y > 0.0;
    varies.then(|| together / x.len() as f64 / (std_x * std_y))
}
