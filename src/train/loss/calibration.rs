//! A reward model judged on held-out pairs: how often it is right, whether its margins mean what they say, and what length
//! has to do with it. Length is the most common reward hack, so every report has it.
//!
//! Always: a number has its n and a 95 % interval (`interval.rs`); equal scores are no preference, and so wrong. Several
//! models together are `agreement.rs`.

use serde::Serialize;

use super::{
    LossError,
    error::within,
    interval::{Estimate, Resampling, quantile, uniform},
};

/// One pair with its scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairScore {
    /// Score of the chosen text.
    pub chosen: f64,
    /// Score of the rejected text.
    pub rejected: f64,
    /// Tokens of the chosen completion.
    pub chosen_tokens: usize,
    /// Tokens of the rejected completion.
    pub rejected_tokens: usize,
}

impl PairScore {
    /// Whether the chosen text scores higher.
    pub fn right(&self) -> bool {
        self.chosen > self.rejected
    }

    /// Chosen less rejected score.
    pub fn margin(&self) -> f64 {
        self.chosen - self.rejected
    }

    /// What the model says of its own preference: `σ(|margin|)`.
    fn confidence(&self) -> f64 {
        1.0 / (1.0 + (-self.margin().abs()).exp())
    }

    fn apart(&self) -> usize {
        self.chosen_tokens.abs_diff(self.rejected_tokens)
    }

    fn longer_preferred(&self) -> bool {
        let longer_chosen = self.chosen_tokens > self.rejected_tokens;
        self.right() == longer_chosen && self.margin() != 0.0
    }
}

/// Pairs of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bucket {
    /// From this value on.
    pub low: f64,
    /// Up to this value.
    pub high: f64,
    /// Pairs.
    pub n: usize,
    /// Share of them whose chosen text scores higher; none without pairs.
    pub accuracy: Option<Estimate>,
}

/// Pairs whose confidence lies in a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// The pairs; the range is of confidences.
    #[serde(flatten)]
    pub bucket: Bucket,
    /// Mean confidence.
    pub confidence: Option<f64>,
}

/// The calibration error that a calibrated model would show on as many pairs: never 0, since shares are of few pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Null {
    /// Mean.
    pub mean: f64,
    /// 95 % are below.
    pub high: f64,
}

/// The report on one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Pairs.
    pub n: usize,
    /// Share of pairs whose chosen text scores higher.
    pub accuracy: Estimate,
    /// Mean of chosen less rejected score.
    pub margin: Estimate,
    /// Expected calibration error: the mean over bins, weighted by pairs, of |accuracy - confidence|, where the confidence of a
    /// pair is `σ(|chosen - rejected|)` (Naeini et al. 2015). Biased upward, by about what `ece_if_calibrated` says.
    pub ece: Estimate,
    /// Of pairs that are right with the probability that the model says.
    pub ece_if_calibrated: Null,
    /// The bins of confidence, 10 of equal width from ½ to 1.
    pub reliability: Vec<Bin>,
    /// By the difference in length, in quarters of the pairs (fewer where lengths are alike); the range is of tokens.
    pub by_length: Vec<Bucket>,
    /// Pairs whose chosen text is longer; the range is of tokens by which it is.
    pub chosen_longer: Bucket,
    /// Pairs whose chosen text is shorter.
    pub chosen_shorter: Bucket,
    /// The data: share of the pairs of unlike length whose longer text is the chosen one.
    pub longer_chosen: Option<Estimate>,
    /// The model: share of the same pairs whose longer text scores higher.
    pub longer_preferred: Option<Estimate>,
    /// Pearson's correlation of score and length over all texts; none where one of them never varies. `n` counts pairs.
    pub length_correlation: Option<Estimate>,
    /// Correlation of score and being chosen, length held constant (partial correlation).
    pub partial_correlation: Option<Estimate>,
    /// Accuracy of scores less what a straight line on length explains of them.
    pub accuracy_without_length: Estimate,
    /// How intervals were drawn.
    pub resampling: Resampling,
}

const BINS: usize = 10;

impl Calibration {
    /// Of scored pairs.
    ///
    /// # Errors
    /// No pairs, or a score that is no number.
    pub fn of(pairs: &[PairScore], resampling: &Resampling) -> Result<Self, LossError> {
        check(pairs)?;
        let n = pairs.len();
        let here = points(pairs);
        let ends = resampling.intervals(pairs, points);
        let [margin, ece, length, partial, rest] =
            std::array::from_fn(|k| here[k].map(|value| Estimate::drawn(value, n, ends[k])));
        let of = |keep: &dyn Fn(&PairScore) -> bool| {
            let kept: Vec<&PairScore> = pairs.iter().filter(|p| keep(p)).collect();
            bucket(&kept)
        };
        let unlike: Vec<&PairScore> = pairs.iter().filter(|p| p.apart() > 0).collect();
        let share = |holds: &dyn Fn(&PairScore) -> bool| {
            let count = unlike.iter().filter(|p| holds(p)).count();
            Estimate::share(count, unlike.len())
        };
        let whole = |value: Option<Estimate>| value.unwrap_or(Estimate::drawn(f64::NAN, n, None));
        Ok(Self {
            n,
            accuracy: whole(of(&|_| true).accuracy),
            margin: whole(margin),
            ece: whole(ece),
            ece_if_calibrated: null(pairs, resampling),
            reliability: reliability(pairs),
            by_length: by_length(pairs),
            chosen_longer: of(&|p| p.chosen_tokens > p.rejected_tokens),
            chosen_shorter: of(&|p| p.chosen_tokens < p.rejected_tokens),
            longer_chosen: share(&|p| p.chosen_tokens > p.rejected_tokens),
            longer_preferred: share(&PairScore::longer_preferred),
            length_correlation: length,
            partial_correlation: partial,
            accuracy_without_length: whole(rest),
            resampling: *resampling,
        })
    }
}

/// Refuses what no report can be made of.
pub(super) fn check(pairs: &[PairScore]) -> Result<(), LossError> {
    let found = pairs.len();
    within(
        found > 0,
        "reward",
        "pairs to report on",
        "1 or more",
        found,
    )?;
    for pair in pairs {
        let finite = pair.chosen.is_finite() && pair.rejected.is_finite();
        let found = format!("{} and {}", pair.chosen, pair.rejected);
        within(finite, "reward", "score", "a number", found)?;
    }
    Ok(())
}

/// What the bootstrap gives intervals to: mean margin, calibration error, both correlations, accuracy without length.
fn points(pairs: &[PairScore]) -> [Option<f64>; 5] {
    let texts = Texts::of(pairs);
    let margin = pairs.iter().map(PairScore::margin).sum::<f64>() / pairs.len() as f64;
    let ece = ece(pairs.iter().map(|p| (p.confidence(), p.right())));
    [
        Some(margin),
        Some(ece),
        pearson(&texts.score, &texts.length),
        texts.partial(),
        Some(texts.accuracy_of_residuals()),
    ]
}

fn place(confidence: f64) -> usize {
    (((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1)
}

fn ece(all: impl Iterator<Item = (f64, bool)>) -> f64 {
    let (mut gaps, mut n) = ([0.0; BINS], 0usize);
    for (confidence, right) in all {
        gaps[place(confidence)] += f64::from(u8::from(right)) - confidence;
        n += 1;
    }
    gaps.iter().map(|gap| gap.abs()).sum::<f64>() / n as f64
}

fn null(pairs: &[PairScore], resampling: &Resampling) -> Null {
    let mut drawn = resampling.each(|rng| {
        let confidences = pairs.iter().map(PairScore::confidence);
        ece(confidences.map(|confidence| (confidence, uniform(rng) < confidence)))
    });
    drawn.sort_by(f64::total_cmp);
    Null {
        mean: drawn.iter().sum::<f64>() / drawn.len() as f64,
        high: quantile(&drawn, 0.95),
    }
}

fn bucket(pairs: &[&PairScore]) -> Bucket {
    let n = pairs.len();
    let right = pairs.iter().filter(|p| p.right()).count();
    let tokens = || pairs.iter().map(|p| p.apart());
    Bucket {
        low: tokens().min().unwrap_or(0) as f64,
        high: tokens().max().unwrap_or(0) as f64,
        n,
        accuracy: Estimate::share(right, n),
    }
}

fn reliability(pairs: &[PairScore]) -> Vec<Bin> {
    (0..BINS)
        .map(|bin| {
            let inside: Vec<&PairScore> = pairs
                .iter()
                .filter(|p| place(p.confidence()) == bin)
                .collect();
            let n = inside.len();
            let sum: f64 = inside.iter().map(|p| p.confidence()).sum();
            let edge = |i: usize| 0.5 + 0.5 * i as f64 / BINS as f64;
            Bin {
                bucket: Bucket {
                    low: edge(bin),
                    high: edge(bin + 1),
                    ..bucket(&inside)
                },
                confidence: (n > 0).then(|| sum / n as f64),
            }
        })
        .collect()
}

fn by_length(pairs: &[PairScore]) -> Vec<Bucket> {
    let mut sorted: Vec<usize> = pairs.iter().map(PairScore::apart).collect();
    sorted.sort_unstable();
    let quarter = |i: usize| sorted[(i * sorted.len()).div_ceil(4) - 1];
    let mut ends: Vec<usize> = (1..=4).map(quarter).collect();
    ends.dedup();
    let mut from = 0;
    ends.iter()
        .map(|&end| {
            let range = from..=end;
            from = end + 1;
            let inside: Vec<&PairScore> = pairs
                .iter()
                .filter(|p| range.contains(&p.apart()))
                .collect();
            bucket(&inside)
        })
        .collect()
}

/// Both texts of every pair, chosen ones first.
struct Texts {
    score: Vec<f64>,
    length: Vec<f64>,
    /// 1 where chosen.
    label: Vec<f64>,
}

impl Texts {
    fn of(pairs: &[PairScore]) -> Self {
        let both = |chosen: &dyn Fn(&PairScore) -> f64, rejected: &dyn Fn(&PairScore) -> f64| {
            pairs
                .iter()
                .map(chosen)
                .chain(pairs.iter().map(rejected))
                .collect()
        };
        Self {
            score: both(&|p| p.chosen, &|p| p.rejected),
            length: both(&|p| p.chosen_tokens as f64, &|p| p.rejected_tokens as f64),
            label: both(&|_| 1.0, &|_| 0.0),
        }
    }

    fn partial(&self) -> Option<f64> {
        let label = pearson(&self.score, &self.label)?;
        // Where all texts are of one length there is nothing to hold constant.
        let (Some(score), Some(chosen)) = (
            pearson(&self.score, &self.length),
            pearson(&self.label, &self.length),
        ) else {
            return Some(label);
        };
        let rest = ((1.0 - score * score) * (1.0 - chosen * chosen)).sqrt();
        (rest > 0.0).then(|| (label - score * chosen) / rest)
    }

    fn accuracy_of_residuals(&self) -> f64 {
        let slope = slope(&self.length, &self.score).unwrap_or(0.0);
        let n = self.score.len() / 2;
        let rest = |i: usize| self.score[i] - slope * self.length[i];
        (0..n).filter(|&i| rest(i) > rest(n + i)).count() as f64 / n as f64
    }
}

/// Sums of squares and products about the means: `(xx, xy, yy)`.
fn moments(x: &[f64], y: &[f64]) -> (f64, f64, f64) {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    x.iter()
        .zip(y)
        .fold((0.0, 0.0, 0.0), |(xx, xy, yy), (x, y)| {
            let (x, y) = (x - mx, y - my);
            (xx + x * x, xy + x * y, yy + y * y)
        })
}

fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (xx, xy, yy) = moments(x, y);
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

fn slope(x: &[f64], y: &[f64]) -> Option<f64> {
    let (xx, xy, _) = moments(x, y);
    (xx > 0.0).then(|| xy / xx)
}

#[cfg(test)]
mod tests;
