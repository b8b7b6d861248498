//! Numbers before anything is trained: medians that the policy goes by, and how far from zero the activations lie.
//!
//! Outlier severity is `|mean| / std` of a dimension: activations whose mean is large against their spread make latents die at
//! the start of training (rank correlation 0.82 to 0.89 with initial death over 454 model-layer pairs, arXiv 2605.31518);
//! taking the mean off cures it.
//!
//! Always: they are of the first contexts of the source, so that whoever harvests the same again leaves out the same.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Harvest, Policy, Rows, StoreError, Tally, harvest::Tokens, policy::Reason};
use crate::hooks::HookPoint;

/// Most tokens of a sample, whatever the number of contexts: they are held in memory.
pub(super) const MOST: usize = 1 << 14;

/// The numbers of one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointFacts {
    /// The point.
    pub point: HookPoint,
    /// Values of a token.
    pub width: usize,
    /// Median norm of the tokens that neither their position nor their id leaves out.
    pub median_norm: f64,
    /// Largest norm of all tokens.
    pub largest_norm: f64,
    /// Largest `|mean| / std` of a dimension, over the tokens that are kept. A dimension that never changes has none.
    pub severity_max: f64,
    /// Its dimension.
    pub severity_at: usize,
    /// `|mean| / sqrt(sum of variances)` of the whole vector, over the tokens that are kept.
    pub severity: f64,
    /// Share of the variance of all tokens that the tokens left out carry.
    pub variance_left_out: f64,
}

/// What a sample of a source says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// What is left out.
    pub policy: Policy,
    /// Contexts of the sample.
    pub contexts: usize,
    /// Its tokens, by what becomes of them.
    pub tally: Tally,
    /// The points.
    pub points: Vec<PointFacts>,
}

impl Facts {
    /// Harvests the first contexts of a source, `batch` a pass; also says how many tokens a second went through the model.
    ///
    /// # Errors
    /// The model or the source; a policy that keeps nothing.
    pub fn measure(
        harvest: &Harvest,
        source: &dyn Rows,
        policy: &Policy,
        batch: usize,
    ) -> Result<(Self, f64), StoreError> {
        let mut contexts = source.rows()?;
        let (mut sample, mut tokens, mut seconds) = (Vec::new(), 0, 0.0);
        while sample.len() < policy.sample && tokens < MOST {
            let most = batch.min(policy.sample - sample.len());
            let ids: Vec<Vec<u32>> = contexts.by_ref().take(most).collect::<Result<_, _>>()?;
            if ids.is_empty() {
                break;
            }
            tokens += ids.iter().map(Vec::len).sum::<usize>();
            let begun = Instant::now();
            sample.extend(harvest.pass(&ids, sample.len() as u64)?);
            seconds += begun.elapsed().as_secs_f64();
        }
        Ok((
            Self::of(harvest, policy, &sample)?,
            tokens as f64 / seconds.max(1e-9),
        ))
    }

    fn of(harvest: &Harvest, policy: &Policy, sample: &[Tokens]) -> Result<Self, StoreError> {
        let norms: Vec<Vec<Vec<f64>>> = sample.iter().map(Tokens::norms).collect();
        let before = Policy {
            norm: None,
            ..policy.clone()
        };
        let inside: Vec<Vec<Reason>> = sample
            .iter()
            .map(|c| before.judge(&c.ids, &[], &[]))
            .collect();
        let widths = harvest.widths().len();
        let medians: Vec<f64> = (0..widths)
            .map(|point| median(chosen(&norms, &inside, point)))
            .collect();
        let mut tally = Tally::default();
        let reasons: Vec<Vec<Reason>> = sample
            .iter()
            .zip(&norms)
            .map(|(c, norms)| policy.judge(&c.ids, norms, &medians))
            .collect();
        for reasons in &reasons {
            tally.count(reasons);
        }
        if tally.kept < 2 {
            return Err(StoreError::NothingKept {
                what: "the first contexts".into(),
                tokens: tally.kept + tally.left_out(),
                left_out: tally.left_out(),
            });
        }
        let point = |(i, (at, width)): (usize, (&HookPoint, &usize))| {
            let all = norms.iter().flat_map(|c| &c[i]);
            let kept = Moments::of(sample, &reasons, i, *width, |r| r == Reason::Kept);
            let whole = Moments::of(sample, &reasons, i, *width, |_| true);
            let (severity_at, severity_max) = kept.severest();
            PointFacts {
                point: *at,
                width: *width,
                median_norm: medians[i],
                largest_norm: all.fold(0.0, |m: f64, n| m.max(*n)),
                severity_max,
                severity_at,
                severity: kept.severity(),
                variance_left_out: 1.0 - kept.scatter() / whole.scatter().max(f64::MIN_POSITIVE),
            }
        };
        let points = harvest.points().iter().zip(harvest.widths()).enumerate();
        Ok(Self {
            policy: policy.clone(),
            contexts: sample.len(),
            tally,
            points: points.map(point).collect(),
        })
    }

    /// The medians of these points, in their order; of a point that is not among the facts none.
    pub fn medians(&self, points: &[HookPoint]) -> Option<Vec<f64>> {
        let median = |at: &HookPoint| {
            let found = self.points.iter().find(|p| p.point == *at)?;
            Some(found.median_norm)
        };
        points.iter().map(median).collect()
    }
}

/// The norms of the tokens that are kept so far.
fn chosen(norms: &[Vec<Vec<f64>>], inside: &[Vec<Reason>], point: usize) -> Vec<f64> {
    let pairs = norms.iter().zip(inside);
    let kept = pairs.flat_map(|(norms, reasons)| {
        let pairs = norms[point].iter().zip(reasons);
        pairs.filter(|(_, r)| **r == Reason::Kept).map(|(n, _)| *n)
    });
    kept.collect()
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => values[n / 2],
        _ => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Mean and sum of squared deviations of each dimension.
struct Moments {
    n: f64,
    mean: Vec<f64>,
    scatter: Vec<f64>,
}

impl Moments {
    /// Welford's recurrence, token by token.
    fn of(
        sample: &[Tokens],
        reasons: &[Vec<Reason>],
        point: usize,
        width: usize,
        wanted: impl Fn(Reason) -> bool,
    ) -> Self {
        let mut all = Self {
            n: 0.0,
            mean: vec![0.0; width],
            scatter: vec![0.0; width],
        };
        for (tokens, reasons) in sample.iter().zip(reasons) {
            let rows = tokens.values[point].chunks(width).zip(reasons);
            for (row, _) in rows.filter(|(_, r)| wanted(**r)) {
                all.n += 1.0;
                for ((x, mean), scatter) in row.iter().zip(&mut all.mean).zip(&mut all.scatter) {
                    let x = f64::from(*x);
                    let off = x - *mean;
                    *mean += off / all.n;
                    *scatter += off * (x - *mean);
                }
            }
        }
        all
    }

    fn scatter(&self) -> f64 {
        self.scatter.iter().sum()
    }

    fn severity(&self) -> f64 {
        let mean = self.mean.iter().map(|m| m * m).sum::<f64>().sqrt();
        mean / (self.scatter() / self.n).sqrt().max(f64::MIN_POSITIVE)
    }

    /// The dimension whose mean is largest against its spread.
    fn severest(&self) -> (usize, f64) {
        let mut found = (0, 0.0);
        for (at, (mean, scatter)) in self.mean.iter().zip(&self.scatter).enumerate() {
            let severity = mean.abs() / (scatter / self.n).sqrt();
            if severity.is_finite() && severity > found.1 {
                found = (at, severity);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_moments_by_hand() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        // Two dimensions: (1, 10), (3, 10), (5, 13): means 3 and 11, population variances 8/3 and 2.
        let sample = [Tokens {
            ids: vec![0, 1, 2],
            values: vec![vec![1.0, 10.0, 3.0, 10.0, 5.0, 13.0]],
        }];
        let reasons = [vec![Reason::Kept; 3]];
        let all = Moments::of(&sample, &reasons, 0, 2, |_| true);
        assert!((all.scatter() - 14.0).abs() < 1e-12);
        let (at, severity) = all.severest();
        assert_eq!(at, 1);
        assert!((severity - 11.0 / 2.0_f64.sqrt()).abs() < 1e-12);
        let whole = 130.0_f64.sqrt() / (14.0_f64 / 3.0).sqrt();
        assert!((all.severity() - whole).abs() < 1e-12);
    }
}
