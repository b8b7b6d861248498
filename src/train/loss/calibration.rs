//! A reward model judged on held-out pairs: how often it is right, whether its margins mean what they say, and what length
//! has to do with it. Length is the most common reward hack, so every report has it.

use serde::Serialize;

use super::{LossError, error::within};

/// One pair with its scores.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    fn right(&self) -> bool {
        self.chosen > self.rejected
    }

    fn apart(&self) -> usize {
        self.chosen_tokens.abs_diff(self.rejected_tokens)
    }
}

/// Pairs of one kind and the share of them on which the chosen text scores higher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// From this value on.
    pub low: f64,
    /// Up to this value.
    pub high: f64,
    /// Pairs.
    pub n: usize,
    /// Share of them that are right; none without pairs.
    pub accuracy: Option<f64>,
}

/// Pairs whose confidence lies in a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// The pairs; the range is of confidences.
    pub share: Share,
    /// Mean confidence.
    pub confidence: Option<f64>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Pairs.
    pub n: usize,
    /// Share of pairs whose chosen text scores higher; equal scores are wrong.
    pub accuracy: f64,
    /// Mean of chosen less rejected score.
    pub margin: f64,
    /// Expected calibration error: the mean over bins, weighted by pairs, of |accuracy - confidence|, where the confidence of a
    /// pair is `σ(|chosen - rejected|)` (Naeini et al. 2015).
    pub ece: f64,
    /// The bins of confidence, 10 of equal width from ½ to 1.
    pub reliability: Vec<Bin>,
    /// By the difference in length, in quarters of the pairs (fewer where lengths are alike); the range is of tokens.
    pub by_length: Vec<Share>,
    /// Pairs whose chosen text is longer; the range is of tokens by which it is.
    pub chosen_longer: Share,
    /// Pairs whose chosen text is shorter.
    pub chosen_shorter: Share,
    /// Pearson's correlation of score and length over all texts; none where one of them never varies.
    pub length_correlation: Option<f64>,
    /// Correlation of score and being chosen, length held constant (partial correlation).
    pub partial_correlation: Option<f64>,
    /// Accuracy of scores less what a straight line on length explains of them.
    pub accuracy_without_length: f64,
}

const BINS: usize = 10;

impl Calibration {
    /// Of scored pairs.
    ///
    /// # Errors
    /// No pairs, or a score that is no number.
    pub fn of(pairs: &[PairScore]) -> Result<Self, LossError> {
        within(
            !pairs.is_empty(),
            "reward",
            "pairs to report on",
            "1 or more",
            0,
        )?;
        for pair in pairs {
            let finite = pair.chosen.is_finite() && pair.rejected.is_finite();
            let found = format!("{} and {}", pair.chosen, pair.rejected);
            within(finite, "reward", "score", "a number", found)?;
        }
        let n = pairs.len();
        let reliability = reliability(pairs);
        let gap = |bin: &Bin| {
            let gap = bin.share.accuracy.unwrap_or(0.0) - bin.confidence.unwrap_or(0.0);
            gap.abs() * bin.share.n as f64
        };
        let texts = Texts::of(pairs);
        let of = |keep: &dyn Fn(&PairScore) -> bool| {
            let kept: Vec<&PairScore> = pairs.iter().filter(|p| keep(p)).collect();
            share(&kept)
        };
        Ok(Self {
            n,
            accuracy: pairs.iter().filter(|p| p.right()).count() as f64 / n as f64,
            margin: pairs.iter().map(|p| p.chosen - p.rejected).sum::<f64>() / n as f64,
            ece: reliability.iter().map(gap).sum::<f64>() / n as f64,
            reliability,
            by_length: by_length(pairs),
            chosen_longer: of(&|p| p.chosen_tokens > p.rejected_tokens),
            chosen_shorter: of(&|p| p.chosen_tokens < p.rejected_tokens),
            length_correlation: pearson(&texts.score, &texts.length),
            partial_correlation: texts.partial(),
            accuracy_without_length: texts.accuracy_of_residuals(),
        })
    }
}

/// How far the members of an ensemble agree on the same pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Members.
    pub members: usize,
    /// Pairs.
    pub n: usize,
    /// Share of pairs on which two members prefer the same text, mean over pairs of members.
    pub pairwise: f64,
    /// Share of pairs on which all do.
    pub unanimous: f64,
    /// Mean over pairs of the deviation (over members, population) of the margin.
    pub deviation: f64,
}

impl Agreement {
    /// Of each member's scores of the same pairs.
    ///
    /// # Errors
    /// Fewer than 2 members, no pairs, or members with other numbers of pairs.
    pub fn of(members: &[Vec<PairScore>]) -> Result<Self, LossError> {
        let m = members.len();
        within(m >= 2, "ensemble", "members", "2 or more", m)?;
        let n = members[0].len();
        for member in members {
            super::same_length("pairs of each member", n, member.len())?;
        }
        let (mut pairwise, mut unanimous, mut deviation) = (0.0, 0.0, 0.0);
        for pair in 0..n {
            let all = || members.iter().map(|member| &member[pair]);
            let yes = all().filter(|p| p.right()).count();
            let no = m - yes;
            let same = yes * yes.saturating_sub(1) + no * no.saturating_sub(1);
            pairwise += same as f64 / (m * (m - 1)) as f64;
            unanimous += f64::from(u8::from(yes == 0 || no == 0));
            let margins = || all().map(|p| p.chosen - p.rejected);
            let mean = margins().sum::<f64>() / m as f64;
            let squares = margins().map(|x| (x - mean).powi(2)).sum::<f64>();
            deviation += (squares / m as f64).sqrt();
        }
        let n_pairs = n as f64;
        Ok(Self {
            members: m,
            n,
            pairwise: pairwise / n_pairs,
            unanimous: unanimous / n_pairs,
            deviation: deviation / n_pairs,
        })
    }
}

fn share(pairs: &[&PairScore]) -> Share {
    let n = pairs.len();
    let right = pairs.iter().filter(|p| p.right()).count();
    let tokens = || pairs.iter().map(|p| p.apart());
    Share {
        low: tokens().min().unwrap_or(0) as f64,
        high: tokens().max().unwrap_or(0) as f64,
        n,
        accuracy: (n > 0).then(|| right as f64 / n as f64),
    }
}

fn reliability(pairs: &[PairScore]) -> Vec<Bin> {
    let confidence = |p: &PairScore| 1.0 / (1.0 + (-(p.chosen - p.rejected).abs()).exp());
    let place = |c: f64| (((c - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
    (0..BINS)
        .map(|bin| {
            let inside: Vec<&PairScore> = pairs
                .iter()
                .filter(|p| place(confidence(p)) == bin)
                .collect();
            let n = inside.len();
            let sum: f64 = inside.iter().map(|p| confidence(p)).sum();
            let edge = |i: usize| 0.5 + 0.5 * i as f64 / BINS as f64;
            Bin {
                share: Share {
                    low: edge(bin),
                    high: edge(bin + 1),
                    ..share(&inside)
                },
                confidence: (n > 0).then(|| sum / n as f64),
            }
        })
        .collect()
}

fn by_length(pairs: &[PairScore]) -> Vec<Share> {
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
            share(&inside)
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pairs() -> Vec<PairScore> {
        let chosen = [1.2, 0.3, -0.5, 2.0, 0.1, 0.9, -1.0, 0.4];
        let rejected = [0.2, 0.5, -1.5, 1.9, -0.2, 1.4, -1.1, -2.0];
        let chosen_tokens = [12, 5, 30, 8, 9, 3, 40, 21];
        let rejected_tokens = [10, 9, 20, 8, 15, 11, 5, 4];
        (0..8)
            .map(|i| PairScore {
                chosen: chosen[i],
                rejected: rejected[i],
                chosen_tokens: chosen_tokens[i],
                rejected_tokens: rejected_tokens[i],
            })
            .collect()
    }

    /// Values from numpy: digitize, corrcoef, and least squares for what length explains.
    #[test]
    fn the_report_equals_numpy() {
        let found = Calibration::of(&pairs()).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(found.accuracy, 0.75);
        close(found.margin, 0.525);
        close(found.ece, 0.25865999766921877);
        close(found.length_correlation.unwrap(), -0.30599011579247576);
        close(found.partial_correlation.unwrap(), 0.3520795574571506);
        close(found.accuracy_without_length, 0.75);
        let (longer, shorter) = (found.chosen_longer, found.chosen_shorter);
        assert_eq!((longer.n, longer.accuracy), (4, Some(1.0)));
        assert_eq!((shorter.n, shorter.accuracy), (3, Some(1.0 / 3.0)));
        assert_eq!(
            found.reliability.iter().map(|b| b.share.n).sum::<usize>(),
            8
        );
        // Differences 0 2 4 6 8 10 17 35, two in each quarter; those of 4 and 8 are wrong.
        let quarters: Vec<_> = found
            .by_length
            .iter()
            .map(|s| (s.high, s.accuracy))
            .collect();
        let expected = [(2.0, 1.0), (6.0, 0.5), (10.0, 0.5), (35.0, 1.0)];
        assert_eq!(quarters, expected.map(|(high, share)| (high, Some(share))));
    }

    #[test]
    fn texts_of_one_length_leave_nothing_to_explain() {
        let mut pairs = pairs();
        for pair in &mut pairs {
            (pair.chosen_tokens, pair.rejected_tokens) = (7, 7);
        }
        let found = Calibration::of(&pairs).unwrap();
        assert_eq!(found.length_correlation, None);
        assert_eq!(found.accuracy_without_length, found.accuracy);
        assert_eq!(found.by_length.len(), 1);
        assert_eq!(found.chosen_longer.accuracy, None);
        assert!(Calibration::of(&[]).is_err());
        pairs[0].chosen = f64::NAN;
        assert!(Calibration::of(&pairs).is_err());
    }

    #[test]
    fn members_agree_as_counted_by_hand() {
        let pair = |margin: f64| PairScore {
            chosen: margin,
            rejected: 0.0,
            chosen_tokens: 1,
            rejected_tokens: 1,
        };
        let member = |margins: [f64; 2]| margins.map(pair).to_vec();
        let all = [member([1.0, 1.0]), member([3.0, -1.0]), member([2.0, 3.0])];
        let found = Agreement::of(&all).unwrap();
        // The first pair: all three, margins 1 2 3. The second: two of three, one couple of three, margins 1 -1 3.
        assert!((found.pairwise - f64::midpoint(1.0, 1.0 / 3.0)).abs() < 1e-15);
        assert_eq!((found.unanimous, found.members, found.n), (0.5, 3, 2));
        let deviation = f64::midpoint((2.0f64 / 3.0).sqrt(), (8.0f64 / 3.0).sqrt());
        assert!((found.deviation - deviation).abs() < 1e-15);
        assert!(Agreement::of(&all[..1]).is_err());
    }
}
