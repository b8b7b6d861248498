//! What a dose is and what it does to each prompt: its size against the stream, slopes, and the prompts that go the other way.
//!
//! Always: a mean that moves the right way is told with the share of prompts that do not (signal 27: over a quarter of them
//! makes a vector unusable). Next: `evaluate.rs`, which runs the doses.

use candle_core::DType;
use candlescope_probes::stats::{interval::Proportion, paired::sign_test};
use serde::{Deserialize, Serialize};

use super::pass::each_batch;
use super::{EncodedPrompt, Options, PromptSet, SteerError};
use crate::hooks::{Edit, HookPoint, Hooks, Point};
use crate::model::{Batch, Decoder, LogitsAt, ModelError};

/// Above this a change is larger than what it is made to (hidden-directions' warning).
pub const LARGE: f64 = 1.5;

/// Most prompts behind a relative dose: a mean norm needs no more.
const PROMPTS: usize = 16;

/// The size of what edits do at one point, against the stream there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RelativeDose {
    /// The point.
    pub at: String,
    /// Mean length of the change, ‖α v‖ for an addition.
    pub change: f64,
    /// Mean length of the unedited tensor.
    pub norm: f64,
    /// `change / norm`.
    pub share: f64,
    /// Tokens behind both; the first of each prompt is left out, an attention sink is often a hundred times as long.
    pub tokens: usize,
}

/// Measures what these edits change at each of their points, each by itself on the unedited tensor there.
///
/// # Errors
/// An edit that cannot apply, anything a pass can fail with.
pub fn relative_doses(
    model: &impl AsRef<Decoder>,
    prompts: &[EncodedPrompt],
    edits: &[Edit],
    options: &Options,
) -> Result<Vec<RelativeDose>, SteerError> {
    let model = model.as_ref();
    let prompts = &prompts[..prompts.len().min(PROMPTS)];
    // Scores and patterns are between positions and have no stream to be measured against.
    let between = |at: HookPoint| matches!(at.point, Point::AttnScores | Point::Pattern);
    let mut points: Vec<HookPoint> = edits.iter().map(|edit| edit.at).collect();
    points.retain(|&at| !between(at));
    points.sort_unstable();
    points.dedup();
    let hooks = points
        .iter()
        .fold(Hooks::new(), |hooks, &at| hooks.capture(at));
    // Sums of the change's length, of the tensor's, and how many.
    let mut sums = vec![(0.0, 0.0, 0usize); points.len()];
    let set = PromptSet::keeping(prompts, |_| 0);
    let quiet = Options {
        progress: None,
        ..*options
    };
    each_batch(model, &set, &Hooks::new(), &quiet, &mut |_, _, rows| {
        let batch = Batch::new(rows)?;
        let captured = model.forward(&batch, &hooks, LogitsAt::None)?.captured;
        for (at, sum) in points.iter().zip(&mut sums) {
            let before = &captured[at];
            let mut after = before.clone();
            for edit in edits.iter().filter(|edit| edit.at == *at) {
                after = edit
                    .preview(&after, model.config())
                    .map_err(ModelError::from)?;
            }
            let lengths = |x: &candle_core::Tensor| -> Result<Vec<Vec<f32>>, SteerError> {
                let x = x.to_dtype(DType::F32)?.flatten_from(2)?;
                Ok(x.sqr()?.sum(2)?.sqrt()?.to_vec2()?)
            };
            let (change, norm) = (lengths(&(after - before)?)?, lengths(before)?);
            for (row, pad) in batch.pad().iter().enumerate() {
                let first = pad + usize::from(norm[row].len() > pad + 1);
                for slot in first..norm[row].len() {
                    sum.0 += f64::from(change[row][slot]);
                    sum.1 += f64::from(norm[row][slot]);
                    sum.2 += 1;
                }
            }
        }
        Ok(())
    })?;
    let told = |(at, (change, norm, tokens)): (&HookPoint, &(f64, f64, usize))| RelativeDose {
        at: at.to_string(),
        change: change / *tokens as f64,
        norm: norm / *tokens as f64,
        share: change / norm.max(f64::MIN_POSITIVE),
        tokens: *tokens,
    };
    Ok(points.iter().zip(&sums).map(told).collect())
}

/// What a steering is meant to do to a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// A larger dose, a higher score.
    Up,
    /// A larger dose, a lower score.
    Down,
}

/// How a score follows the dose, prompt by prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Least-squares slope of each prompt's score on the dose.
    pub slopes: Vec<f64>,
    /// Their mean.
    pub mean_slope: f64,
    /// Prompts whose slope goes against the aim, or nowhere, with its 95 % Wilson interval.
    pub anti_steered: Proportion,
    /// Two-sided sign test of the slopes against 0.
    pub sign_p: f64,
    /// Mean over prompts of (pairs of doses in the aim's order − pairs against it) / pairs: 1 is monotone, 0 no order.
    pub monotone: f64,
}

/// Of scores `[dose][prompt]` at at least two different doses.
///
/// # Errors
/// Fewer doses or no prompt, scores that are not finite.
pub fn health(doses: &[f64], scores: &[Vec<f64>], aim: Aim) -> Result<Health, SteerError> {
    let n = scores.first().map_or(0, Vec::len);
    let mean = doses.iter().sum::<f64>() / doses.len().max(1) as f64;
    let spread: f64 = doses.iter().map(|d| (d - mean).powi(2)).sum();
    for (what, needed, found) in [
        ("prompts to steer", 1, n),
        ("different doses", 2, 1 + usize::from(spread > 0.0)),
    ] {
        if found < needed {
            return Err(SteerError::TooFew {
                what,
                needed,
                found,
            });
        }
    }
    let sign = match aim {
        Aim::Up => 1.0,
        Aim::Down => -1.0,
    };
    let (mut slopes, mut order) = (Vec::with_capacity(n), 0.0);
    for prompt in 0..n {
        let own: Vec<f64> = scores.iter().map(|scores| scores[prompt]).collect();
        let centre = own.iter().sum::<f64>() / own.len() as f64;
        let product = |(d, s): (&f64, &f64)| (d - mean) * (s - centre);
        slopes.push(doses.iter().zip(&own).map(product).sum::<f64>() / spread);
        let (mut sum, mut pairs) = (0.0, 0.0);
        for i in 0..doses.len() {
            for j in 0..i {
                let step = doses[i] - doses[j];
                if step != 0.0 {
                    let rise = (own[i] - own[j]) * step * sign;
                    sum += if rise == 0.0 { 0.0 } else { rise.signum() };
                    pairs += 1.0;
                }
            }
        }
        order += sum / pairs;
    }
    let against = slopes.iter().filter(|slope| **slope * sign <= 0.0).count();
    Ok(Health {
        mean_slope: slopes.iter().sum::<f64>() / n as f64,
        anti_steered: Proportion::wilson(against as u64, n as u64, 0.95)?,
        sign_p: sign_test(&slopes)?.p_value,
        monotone: order / n as f64,
        slopes,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slopes_by_hand() {
        // Three prompts at doses 0, 1, 2: 1 + 2d; 5 − d; up, then back: slope 0.
        let scores = [
            vec![1.0, 5.0, 0.0],
            vec![3.0, 4.0, 1.0],
            vec![5.0, 3.0, 0.0],
        ];
        let found = health(&[0.0, 1.0, 2.0], &scores, Aim::Up).unwrap();
        for (a, b) in found.slopes.iter().zip([2.0, -1.0, 0.0]) {
            assert!((a - b).abs() < 1e-12);
        }
        assert!((found.mean_slope - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((found.anti_steered.successes, found.anti_steered.n), (2, 3));
        // Orders 1, −1 and (1 − 1 + 0)/3.
        assert!(found.monotone.abs() < 1e-12);
        let down = health(&[0.0, 1.0, 2.0], &scores, Aim::Down).unwrap();
        assert_eq!(down.anti_steered.successes, 2);
        assert!(health(&[1.0, 1.0], &scores[..2], Aim::Up).is_err());
    }
}
