//! The BCa bootstrap (Efron 1987) of any statistic of n items, resampled singly, within strata or by whole clusters.
//!
//! Every result says which interval it holds and why: BCa where it is defined, the percentile interval with the reason
//! where it is not, and no interval at all, with the reason, where the data cannot give one. Seeded; the number of threads does not matter.

use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::interval::Interval;
use super::special::{normal_cdf, normal_quantile};
use crate::error::{ProbeError, at_least, finite, open_unit, same_length};
use crate::random::stream;

/// How the bootstrap is run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BootstrapOptions {
    /// Number of resamples.
    pub resamples: usize,
    /// Two-sided level of the interval.
    pub level: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        Self {
            resamples: 2_000,
            level: 0.95,
            seed: 0,
        }
    }
}

/// What is drawn with replacement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Resampling<'a> {
    /// Single items.
    Items,
    /// Single items within each stratum, whose sizes stay fixed; one stratum id for each item.
    Strata(&'a [usize]),
    /// Whole clusters (templates, topics, documents); one cluster id for each item.
    Clusters(&'a [usize]),
}

/// Which interval a [`Bootstrap`] holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "reason")]
pub enum BootstrapMethod {
    /// Bias-corrected and accelerated.
    Bca,
    /// Plain percentiles, because BCa is not defined here.
    Percentile(String),
    /// No interval can be given.
    Degenerate(String),
}

/// A statistic with its bootstrap interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of items.
    pub n: usize,
    /// Number of units that are drawn: items, or clusters.
    pub units: usize,
    /// The statistic of the items as they came.
    pub estimate: f64,
    /// Standard deviation over the resamples; `None` if no interval could be given.
    pub standard_error: Option<f64>,
    /// The interval; `None` exactly if `method` is `Degenerate`.
    pub interval: Option<Interval>,
    /// Which interval this is, and why.
    pub method: BootstrapMethod,
    /// Resamples asked for.
    pub resamples: usize,
    /// Resamples on which the statistic was defined.
    pub defined: usize,
}

/// Bootstraps `statistic`, a function of item indices (with repeats), over items `0..n`.
///
/// BCa ends are the percentiles Φ(z₀ + (z₀+z)/(1 − a(z₀+z))), with z₀ from the share of resamples below the estimate
/// (ties count half) and a from the jackknife over the drawn units (Efron and Tibshirani 1993, eq. 14.9-14.15;
/// with strata the influence values are weighted by 1/n of their stratum, Davison and Hinkley 1997, 5.3).
/// A statistic may answer NaN where a resample leaves it undefined; such resamples are dropped and counted, and over 10 % of them is `Degenerate`.
pub fn bootstrap(
    n: usize,
    resampling: Resampling,
    options: &BootstrapOptions,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Result<Bootstrap, ProbeError> {
    at_least("bootstrap items", 1, n)?;
    at_least("bootstrap resamples", 20, options.resamples)?;
    open_unit("confidence level", options.level)?;
    let plan = Plan::new(n, resampling)?;
    let everything: Vec<usize> = (0..n).collect();
    let estimate = statistic(&everything);
    finite("the statistic of the whole sample", &[estimate])?;

    let mut draws: Vec<f64> = (0..options.resamples)
        .into_par_iter()
        .map(|draw| statistic(&plan.draw(options.seed, draw)))
        .filter(|v| v.is_finite())
        .collect();
    draws.sort_by(f64::total_cmp);
    let result = |standard_error, interval, method| Bootstrap {
        n,
        units: plan.units(),
        estimate,
        standard_error,
        interval,
        method,
        resamples: options.resamples,
        defined: draws.len(),
    };
    if let Some(reason) = degenerate(&plan, &draws, options.resamples) {
        return Ok(result(None, None, BootstrapMethod::Degenerate(reason)));
    }

    let shape = Bca::of(&plan, &draws, estimate, &statistic);
    let (ends, method) = match shape.and_then(|bca| bca.levels(options.level)) {
        Ok(ends) => (ends, BootstrapMethod::Bca),
        Err(reason) => {
            let tail = 0.5 * (1.0 - options.level);
            ((tail, 1.0 - tail), BootstrapMethod::Percentile(reason))
        }
    };
    let interval = Interval {
        low: quantile(&draws, ends.0),
        high: quantile(&draws, ends.1),
        level: options.level,
    };
    Ok(result(Some(sd(&draws)), Some(interval), method))
}

/// The mean of `values` with its bootstrap interval.
pub fn bootstrap_mean(
    values: &[f64],
    resampling: Resampling,
    options: &BootstrapOptions,
) -> Result<Bootstrap, ProbeError> {
    finite("bootstrap values", values)?;
    bootstrap(values.len(), resampling, options, |items| {
        items.iter().map(|&i| values[i]).sum::<f64>() / items.len() as f64
    })
}

/// The mean of `after − before` over paired items, with its bootstrap interval. Both have shape `[n]`.
pub fn bootstrap_paired_difference(
    before: &[f64],
    after: &[f64],
    resampling: Resampling,
    options: &BootstrapOptions,
) -> Result<Bootstrap, ProbeError> {
    same_length("paired values", before.len(), after.len())?;
    let differences: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    bootstrap_mean(&differences, resampling, options)
}

/// The units to draw, grouped by stratum: `strata[h][u]` lists the items of unit u.
struct Plan {
    n: usize,
    strata: Vec<Vec<Vec<usize>>>,
}

impl Plan {
    fn new(n: usize, resampling: Resampling) -> Result<Self, ProbeError> {
        let strata = match resampling {
            Resampling::Items => vec![(0..n).map(|i| vec![i]).collect()],
            Resampling::Strata(ids) => {
                same_length("stratum ids", n, ids.len())?;
                by_id(ids)
                    .into_iter()
                    .map(|items| items.into_iter().map(|i| vec![i]).collect())
                    .collect()
            }
            Resampling::Clusters(ids) => {
                same_length("cluster ids", n, ids.len())?;
                vec![by_id(ids)]
            }
        };
        Ok(Self { n, strata })
    }

    fn units(&self) -> usize {
        self.strata.iter().map(Vec::len).sum()
    }

    fn draw(&self, seed: u64, draw: usize) -> Vec<usize> {
        let mut rng = stream(seed, draw);
        let mut items = Vec::with_capacity(self.n);
        for units in &self.strata {
            for _ in 0..units.len() {
                items.extend_from_slice(&units[rng.random_range(0..units.len())]);
            }
        }
        items
    }

    /// All items but those of one unit.
    fn without(&self, stratum: usize, unit: usize) -> Vec<usize> {
        let mut items: Vec<usize> = Vec::with_capacity(self.n);
        for (h, units) in self.strata.iter().enumerate() {
            for (u, members) in units.iter().enumerate() {
                if (h, u) != (stratum, unit) {
                    items.extend_from_slice(members);
                }
            }
        }
        items.sort_unstable();
        items
    }
}

/// Items grouped by id, groups in order of their id.
fn by_id(ids: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: std::collections::BTreeMap<usize, Vec<usize>> =
        std::collections::BTreeMap::new();
    for (item, &id) in ids.iter().enumerate() {
        groups.entry(id).or_default().push(item);
    }
    groups.into_values().collect()
}

fn degenerate(plan: &Plan, draws: &[f64], resamples: usize) -> Option<String> {
    let units = plan.units();
    if units < 2 {
        return Some("one unit only, nothing to resample".to_owned());
    }
    let undefined = resamples - draws.len();
    if undefined * 10 > resamples {
        return Some(format!(
            "the statistic is undefined on {undefined} of {resamples} resamples"
        ));
    }
    let same = draws.first() == draws.last();
    same.then(|| "every resample gives the same value; use an interval for proportions".to_owned())
}

/// The two constants of the BCa interval.
struct Bca {
    bias: f64,
    acceleration: f64,
}

impl Bca {
    fn of(
        plan: &Plan,
        draws: &[f64],
        estimate: f64,
        statistic: &(impl Fn(&[usize]) -> f64 + Sync),
    ) -> Result<Self, String> {
        let below = draws.partition_point(|&v| v < estimate) as f64;
        let not_above = draws.partition_point(|&v| v <= estimate) as f64;
        let share = 0.5 * (below + not_above) / draws.len() as f64;
        if share <= 0.0 || share >= 1.0 {
            return Err("all resamples lie on one side of the estimate".to_owned());
        }
        Ok(Self {
            bias: normal_quantile(share),
            acceleration: acceleration(plan, statistic)?,
        })
    }

    /// The percentiles of the resamples that the interval ends at.
    fn levels(&self, level: f64) -> Result<(f64, f64), String> {
        let at = |p: f64| {
            let z = self.bias + normal_quantile(p);
            let stretch = 1.0 - self.acceleration * z;
            (stretch > 0.0).then(|| normal_cdf(self.bias + z / stretch))
        };
        let tail = 0.5 * (1.0 - level);
        at(tail)
            .zip(at(1.0 - tail))
            .ok_or_else(|| format!("acceleration {:.3} is too large", self.acceleration))
    }
}

/// a = Σ l³/n_h³ / (6 (Σ l²/n_h²)^1.5) over jackknife influence values l; with one stratum, Efron's Σl³ / (6 (Σl²)^1.5).
fn acceleration(plan: &Plan, statistic: &(impl Fn(&[usize]) -> f64 + Sync)) -> Result<f64, String> {
    let mut cubes = 0.0;
    let mut squares = 0.0;
    for (h, units) in plan.strata.iter().enumerate() {
        if units.len() < 2 {
            continue;
        }
        let left_out: Vec<f64> = (0..units.len())
            .into_par_iter()
            .map(|u| statistic(&plan.without(h, u)))
            .collect();
        if left_out.iter().any(|v| !v.is_finite()) {
            return Err("the statistic is undefined with one unit left out".to_owned());
        }
        let mean = left_out.iter().sum::<f64>() / left_out.len() as f64;
        let weight = (units.len() - 1) as f64 / units.len() as f64;
        for value in left_out {
            let influence = weight * (mean - value);
            squares += influence.powi(2);
            cubes += influence.powi(3);
        }
    }
    if squares <= 0.0 {
        return Err("leaving one unit out never changes the statistic".to_owned());
    }
    Ok(cubes / (6.0 * squares.powf(1.5)))
}

/// The quantile of sorted values, interpolated linearly between neighbours (numpy's default).
pub(crate) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// The standard deviation with n − 1; 0 for fewer than two values.
pub(crate) fn sd(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}
