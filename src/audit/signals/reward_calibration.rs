//! Signal 30.
#![doc = include_str!("pages/reward_calibration.md")]

use candlescope_probes::NullDistribution;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::estimate;
use super::judging::of_pairs;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::need;
use crate::audit::evidence::rewards::{PairScore, Scores};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Whether a reward model is right, and its margins mean what they say.
pub struct RewardCalibration;

const ID: &str = "reward_calibration";

/// Bins of confidence, of equal width from one half to 1.
const BINS: usize = 10;

impl Signal for RewardCalibration {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Scores]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/reward_calibration.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let scores = need(&cx.subject.scores, "rewards")?;
        let base = cx.baseline.and_then(|base| base.scores.as_ref().ok());
        let base = base.map(|scores| scores.own.as_slice());
        let here = scores.own.as_slice();
        let right = |scores: &[PairScore]| -> Vec<bool> {
            scores.iter().map(|score| score.right()).collect()
        };
        let mut result = blank(ID)?;
        let before = base.map(right);
        let accuracy = quantity(ID, "accuracy")?;
        result.values = vec![
            estimate::rate(accuracy, &right(here), before.as_deref(), cx)?,
            calibration_error(here, base, cx)?,
            of_pairs(
                quantity(ID, "mean_margin")?,
                (here, base),
                cx,
                |drawn, scores| {
                    let sum: f64 = drawn.iter().map(|&i| scores[i].margin()).sum();
                    sum / drawn.len() as f64
                },
            )?,
        ];
        if !scores.members.is_empty() {
            result.values.extend(ensemble(scores, cx)?);
            let others = scores.members.len();
            result
                .findings
                .push(format!("Held against {others} further reward models."));
        }
        result.charts = vec![chart(here)];
        Ok(result)
    }
}

/// What a score model says of its own preference.
fn confidence(score: PairScore) -> f64 {
    1.0 / (1.0 + (-score.margin().abs()).exp())
}

fn bin(confidence: f64) -> usize {
    (((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1)
}

/// The mean over bins, weighted by pairs, of |accuracy − confidence|.
fn ece(all: impl Iterator<Item = (f64, bool)>) -> f64 {
    let (mut gaps, mut n) = ([0.0; BINS], 0.0);
    for (confidence, right) in all {
        gaps[bin(confidence)] += f64::from(u8::from(right)) - confidence;
        n += 1.0;
    }
    gaps.iter().map(|gap| gap.abs()).sum::<f64>() / n
}

fn calibration_error(
    here: &[PairScore],
    base: Option<&[PairScore]>,
    cx: &Context,
) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "ece")?;
    let value = of_pairs(wanted, (here, base), cx, |drawn, scores| {
        ece(drawn
            .iter()
            .map(|&i| (confidence(scores[i]), scores[i].right())))
    })?;
    let Some(observed) = value.value else {
        return Ok(value);
    };
    // Pairs that are right as often as the margins say.
    let mut rng = ChaCha8Rng::seed_from_u64(cx.seed_for("calibrated"));
    let draws = (0..cx.policy.sizes.shuffles.max(2)).map(|_| {
        let sure = here.iter().map(|score| confidence(*score));
        ece(sure.map(|sure| (sure, rng.random::<f64>() < sure)))
    });
    let null = NullDistribution::new(here.len(), observed, draws.collect())?;
    Ok(value.with_null(estimate::null_of("pairs as sure as they say", &null)))
}

/// How far several reward models part on the same pairs.
fn ensemble(scores: &Scores, cx: &Context) -> Result<Vec<Value>, SignalError> {
    let members = || std::iter::once(&scores.own).chain(&scores.members);
    let n = scores.own.len();
    let split = |pair: usize| {
        let right = members().filter(|scores| scores[pair].right()).count();
        right != 0 && right != 1 + scores.members.len()
    };
    let split: Vec<bool> = (0..n).map(split).collect();
    // Reward models have no common unit: each margin counts in deviations of its own model's.
    let scaled: Vec<Vec<f64>> = members()
        .map(|scores| {
            let margins: Vec<f64> = scores.iter().map(|score| score.margin()).collect();
            let sd = estimate::sd(&margins);
            let sd = if sd > 0.0 { sd } else { 1.0 };
            margins.iter().map(|margin| margin / sd).collect()
        })
        .collect();
    let spread = |pair: usize| {
        let own: Vec<f64> = scaled.iter().map(|margins| margins[pair]).collect();
        let mean = estimate::average(&own);
        let squares = own.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        (squares / own.len() as f64).sqrt()
    };
    let spreads: Vec<f64> = (0..n).map(spread).collect();
    let wanted = quantity(ID, "margin_spread")?;
    let spread = if spreads.iter().all(|x| *x == 0.0) {
        let same = wanted.measured(0.0).with_n(n as u64);
        same.with_interval(0.0, 0.0, "identical")
    } else {
        estimate::mean(wanted, &spreads, None, cx)?
    };
    Ok(vec![
        estimate::rate(quantity(ID, "disagreement")?, &split, None, cx)?,
        spread,
    ])
}

fn chart(scores: &[PairScore]) -> Chart {
    let bars = (0..BINS).filter_map(|at| {
        let inside: Vec<f64> = (scores.iter())
            .filter(|score| bin(confidence(**score)) == at)
            .map(|score| f64::from(u8::from(score.right())))
            .collect();
        let low = 50 + 5 * at;
        (!inside.is_empty()).then(|| Bar {
            label: format!("{low} to {}%", low + 5),
            value: estimate::average(&inside),
            interval: None,
        })
    });
    Chart::new(
        "Accuracy by confidence",
        "Pairs in bins by how sure the margin is: the share of each that is right.",
        "confidence",
        "share right",
        Plot::Bars {
            bars: bars.collect(),
        },
    )
    .with_rule("chance", 0.5)
}
