//! Did two runs over the same items differ? Exact McNemar for yes/no outcomes, the sign test, the sign-flip permutation
//! test and the paired bootstrap test for numbers. Wilcoxon's test is in [`super::ranks`]; "they are the same" is a
//! different claim, made in [`super::equivalence`].

use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::bootstrap::sd;
use super::interval::{Interval, wilson};
use super::special::fair_binomial_cdf;
use crate::error::{ProbeError, at_least, finite, open_unit, same_length};
use crate::random::stream;

/// How often two yes/no outcomes of the same item went together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairedTable {
    /// Yes before and after.
    pub both: u64,
    /// Yes before only.
    pub only_before: u64,
    /// Yes after only.
    pub only_after: u64,
    /// No before and after.
    pub neither: u64,
}

impl PairedTable {
    /// Counts the four kinds of pairs.
    pub fn of(before: &[bool], after: &[bool]) -> Result<Self, ProbeError> {
        same_length("paired outcomes", before.len(), after.len())?;
        let count = |b, a| {
            let pairs = before.iter().zip(after);
            pairs.filter(|&(&x, &y)| x == b && y == a).count() as u64
        };
        Ok(Self {
            both: count(true, true),
            only_before: count(true, false),
            only_after: count(false, true),
            neither: count(false, false),
        })
    }

    /// Number of pairs.
    pub fn n(&self) -> u64 {
        self.both + self.only_before + self.only_after + self.neither
    }

    /// Rate after minus rate before.
    pub fn difference(&self) -> f64 {
        (self.only_after as f64 - self.only_before as f64) / self.n() as f64
    }

    /// The interval of [`difference`](Self::difference): Wilson intervals of both rates joined by square-and-add with
    /// the pairs' correlation (Newcombe 1998, method 10). Holds up at 0 and at n.
    pub fn interval(&self, level: f64) -> Result<Interval, ProbeError> {
        let n = self.n();
        let after = wilson(self.both + self.only_after, n, level)?;
        let before = wilson(self.both + self.only_before, n, level)?;
        let rate_after = (self.both + self.only_after) as f64 / n as f64;
        let rate_before = (self.both + self.only_before) as f64 / n as f64;
        let phi = self.correlation();
        let join = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
        let difference = self.difference();
        Ok(Interval {
            low: difference - join(rate_after - after.low, before.high - rate_before),
            high: difference + join(after.high - rate_after, rate_before - before.low),
            level,
        })
    }

    /// φ of the table with Newcombe's continuity correction for positive correlation; 0 where it is undefined.
    fn correlation(&self) -> f64 {
        let [a, b, c, d] =
            [self.both, self.only_before, self.only_after, self.neither].map(|v| v as f64);
        let margins = (a + b) * (c + d) * (a + c) * (b + d);
        if margins == 0.0 {
            return 0.0;
        }
        let product = a * d - b * c;
        let corrected = if product > 0.0 {
            (product - 0.5 * (a + b + c + d)).max(0.0)
        } else {
            product
        };
        corrected / margins.sqrt()
    }
}

/// Result of [`mcnemar`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Number of pairs.
    pub n: u64,
    /// The counts; `only_before` and `only_after` are the discordant pairs b and c.
    pub table: PairedTable,
    /// Rate after minus rate before.
    pub difference: f64,
    /// Newcombe's interval of the difference.
    pub interval: Interval,
    /// Two-sided exact p-value; 1 without discordant pairs.
    pub p_value: f64,
}

/// Exact McNemar test: under no change the discordant pairs split like fair coins, so p = 2·P(Bin(b+c, ½) ≤ min(b, c)), at most 1.
pub fn mcnemar(table: PairedTable, level: f64) -> Result<McNemar, ProbeError> {
    Ok(McNemar {
        n: table.n(),
        table,
        interval: table.interval(level)?,
        difference: table.difference(),
        p_value: fair_split_p(table.only_before, table.only_after),
    })
}

fn fair_split_p(a: u64, b: u64) -> f64 {
    (2.0 * fair_binomial_cdf(a.min(b), a + b)).min(1.0)
}

/// Which null distribution a p-value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullMethod {
    /// All outcomes under the null were counted.
    Exact,
    /// A normal approximation.
    Normal,
    /// Seeded draws; p = (1 + as extreme) / (1 + draws).
    MonteCarlo,
}

/// A two-sided test on paired numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedTest {
    /// Number of pairs.
    pub n: usize,
    /// Pairs that count (tests on signs and ranks drop differences of 0).
    pub used: usize,
    /// The test statistic; its meaning is in the test's own documentation.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// Where the p-value comes from.
    pub method: NullMethod,
}

/// Sign test of the median of `differences` against 0. The statistic is the number of positive differences.
pub fn sign_test(differences: &[f64]) -> Result<PairedTest, ProbeError> {
    at_least("paired differences", 1, differences.len())?;
    finite("paired differences", differences)?;
    let positive = differences.iter().filter(|&&d| d > 0.0).count() as u64;
    let negative = differences.iter().filter(|&&d| d < 0.0).count() as u64;
    Ok(PairedTest {
        n: differences.len(),
        used: (positive + negative) as usize,
        statistic: positive as f64,
        p_value: fair_split_p(positive, negative),
        method: NullMethod::Exact,
    })
}

/// The largest n for which the sign-flip test visits all 2ⁿ sign patterns.
const ENUMERATE_UP_TO: usize = 14;

/// Permutation test of mean 0 by flipping signs, which are exchangeable if the differences are symmetric about 0.
/// All 2ⁿ patterns up to n = 14, `draws` seeded ones above. The statistic is the mean difference.
pub fn sign_flip_test(
    differences: &[f64],
    draws: usize,
    seed: u64,
) -> Result<PairedTest, ProbeError> {
    at_least("paired differences", 1, differences.len())?;
    finite("paired differences", differences)?;
    let n = differences.len();
    let observed: f64 = differences.iter().sum();
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    // Sums of the same numbers in another sign pattern may differ in the last bits; equal means equal up to that.
    let extreme = observed.abs() - 1e-12 * scale;
    let exact = n <= ENUMERATE_UP_TO;
    let p_value = if exact {
        let patterns = 1_usize << n;
        let hits = (0..patterns).filter(|pattern| {
            let signed = differences.iter().enumerate();
            let sum: f64 = signed
                .map(|(i, d)| if pattern >> i & 1 == 1 { -d } else { *d })
                .sum();
            sum.abs() >= extreme
        });
        hits.count() as f64 / patterns as f64
    } else {
        at_least("permutation draws", 100, draws)?;
        let hits = (0..draws).into_par_iter().filter(|&draw| {
            let mut rng = stream(seed, draw);
            let sum: f64 = differences
                .iter()
                .map(|d| if rng.random() { -d } else { *d })
                .sum();
            sum.abs() >= extreme
        });
        (1 + hits.count()) as f64 / (1 + draws) as f64
    };
    Ok(PairedTest {
        n,
        used: n,
        statistic: observed / n as f64,
        p_value,
        method: if exact {
            NullMethod::Exact
        } else {
            NullMethod::MonteCarlo
        },
    })
}

/// Bootstrap test of mean 0: the differences are centred, resampled, and |t*| is compared with |t| (Efron and Tibshirani 1993, 16.4).
/// The statistic is t = mean/(sd/√n). Differences that are all equal have no spread to resample and are refused.
pub fn paired_bootstrap_test(
    differences: &[f64],
    resamples: usize,
    seed: u64,
) -> Result<PairedTest, ProbeError> {
    at_least("paired differences", 2, differences.len())?;
    at_least("bootstrap resamples", 100, resamples)?;
    finite("paired differences", differences)?;
    let n = differences.len();
    let mean = differences.iter().sum::<f64>() / n as f64;
    let spread = sd(differences);
    if spread <= 1e-14 * mean.abs() {
        return Err(ProbeError::Numerical {
            what: "paired bootstrap test",
            reason: format!("all {n} differences equal {mean}; use the sign test"),
        });
    }
    let studentised = |mean: f64, sd: f64| {
        if sd > 0.0 {
            mean / (sd / (n as f64).sqrt())
        } else {
            mean.signum() * f64::INFINITY
        }
    };
    let observed = studentised(mean, spread);
    let hits = (0..resamples).into_par_iter().filter(|&draw| {
        let mut rng = stream(seed, draw);
        let sample: Vec<f64> = (0..n)
            .map(|_| differences[rng.random_range(0..n)] - mean)
            .collect();
        let centre = sample.iter().sum::<f64>() / n as f64;
        studentised(centre, sd(&sample)).abs() >= observed.abs()
    });
    Ok(PairedTest {
        n,
        used: n,
        statistic: observed,
        p_value: (1 + hits.count()) as f64 / (1 + resamples) as f64,
        method: NullMethod::MonteCarlo,
    })
}

/// Refuses a significance level outside (0, 0.5).
pub(crate) fn alpha_in_range(alpha: f64) -> Result<(), ProbeError> {
    open_unit("alpha", alpha)?;
    if alpha < 0.5 {
        Ok(())
    } else {
        Err(ProbeError::Range {
            what: "alpha",
            value: alpha,
            allowed: "(0, 0.5)",
        })
    }
}
