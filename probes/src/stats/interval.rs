//! Intervals for one proportion that stay honest at 0 and at 1: Wilson's score interval and Clopper-Pearson's exact one.
//! Intervals for other statistics are in [`super::bootstrap`], for AUROC in [`crate::roc`].

use serde::{Deserialize, Serialize};

use super::special::{beta_quantile, normal_quantile};
use crate::error::{ProbeError, open_unit};

/// A confidence interval with its two-sided level (0.95 for 95 %).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided confidence level, in (0, 1).
    pub level: f64,
}

impl Interval {
    /// Whether `value` lies in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Upper end minus lower end.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// A rate with its count and its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Items that count.
    pub successes: u64,
    /// Items in all.
    pub n: u64,
    /// successes / n.
    pub rate: f64,
    /// The interval of the rate.
    pub interval: Interval,
}

impl Proportion {
    /// A rate with its Wilson interval.
    pub fn wilson(successes: u64, n: u64, level: f64) -> Result<Self, ProbeError> {
        Ok(Self {
            successes,
            n,
            rate: successes as f64 / n.max(1) as f64,
            interval: wilson(successes, n, level)?,
        })
    }

    /// A rate with its Clopper-Pearson interval.
    pub fn exact(successes: u64, n: u64, level: f64) -> Result<Self, ProbeError> {
        Ok(Self {
            successes,
            n,
            rate: successes as f64 / n.max(1) as f64,
            interval: clopper_pearson(successes, n, level)?,
        })
    }
}

/// Half of a two-sided level as a normal quantile: 0.95 → 1.95996.
pub fn two_sided_z(level: f64) -> f64 {
    normal_quantile(0.5 + 0.5 * level)
}

/// Wilson's score interval of k successes in n (Wilson 1927):
/// (k + z²/2 ± z·√(k(n−k)/n + z²/4)) / (n + z²). Close to nominal coverage on average, for small n and extreme rates too.
pub fn wilson(k: u64, n: u64, level: f64) -> Result<Interval, ProbeError> {
    checked(k, n, level)?;
    let z = two_sided_z(level);
    let (k, n) = (k as f64, n as f64);
    let centre = k + 0.5 * z * z;
    let spread = z * (k * (n - k) / n + 0.25 * z * z).sqrt();
    let scale = n + z * z;
    // At the ends the formula gives 0 or 1 up to rounding; the exact value is known.
    let low = if k == 0.0 {
        0.0
    } else {
        (centre - spread) / scale
    };
    let high = if k == n {
        1.0
    } else {
        (centre + spread) / scale
    };
    Ok(Interval { low, high, level })
}

/// Clopper and Pearson's interval (1934), from quantiles of the beta distribution. Never covers less than its level,
/// so it is wider than Wilson's; the choice where a bound is a promise (false positives, recall).
pub fn clopper_pearson(k: u64, n: u64, level: f64) -> Result<Interval, ProbeError> {
    checked(k, n, level)?;
    let tail = 0.5 * (1.0 - level);
    let (hits, misses) = (k as f64, (n - k) as f64);
    let low = if k == 0 {
        0.0
    } else {
        beta_quantile(tail, hits, misses + 1.0)
    };
    let high = if k == n {
        1.0
    } else {
        beta_quantile(1.0 - tail, hits + 1.0, misses)
    };
    Ok(Interval { low, high, level })
}

fn checked(k: u64, n: u64, level: f64) -> Result<(), ProbeError> {
    open_unit("confidence level", level)?;
    if n == 0 {
        return Err(ProbeError::TooFew {
            what: "trials",
            needed: 1,
            found: 0,
        });
    }
    if k > n {
        return Err(ProbeError::Range {
            what: "successes",
            value: k as f64,
            allowed: "0 to the number of trials",
        });
    }
    Ok(())
}
