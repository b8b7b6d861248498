//! "No change" as a claim that is tested: two one-sided tests (TOST, Schuirmann 1987) against a margin fixed beforehand.
//! A difference that is merely not significant proves nothing; see [`super::power`] for what the sample could have seen.

use serde::{Deserialize, Serialize};

use super::bootstrap::sd;
use super::interval::{Interval, wilson};
use super::paired::{PairedTable, alpha_in_range};
use super::special::{t_cdf, t_quantile};
use crate::error::{ProbeError, at_least, finite};

/// Result of a TOST.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// Number of pairs, or of items over both groups.
    pub n: usize,
    /// The difference that was measured.
    pub difference: f64,
    /// The margin: equivalent means the difference lies in (−margin, margin).
    pub margin: f64,
    /// The interval of level 1 − 2α, which lies inside the margin exactly if the claim is accepted.
    pub interval: Interval,
    /// The larger of the two one-sided p-values.
    pub p_value: f64,
    /// Whether equivalence was shown at α.
    pub equivalent: bool,
}

/// TOST for the mean of paired differences, by Student's t.
pub fn tost_mean(differences: &[f64], margin: f64, alpha: f64) -> Result<Equivalence, ProbeError> {
    at_least("paired differences", 2, differences.len())?;
    finite("paired differences", differences)?;
    checked(margin, alpha)?;
    let n = differences.len();
    let df = (n - 1) as f64;
    let mean = differences.iter().sum::<f64>() / n as f64;
    let se = sd(differences) / (n as f64).sqrt();
    let tail = |distance: f64| match se {
        se if se > 0.0 => t_cdf(-distance / se, df),
        _ if distance > 0.0 => 0.0,
        _ => 1.0,
    };
    let p_value = tail(margin - mean).max(tail(margin + mean));
    let reach = t_quantile(1.0 - alpha, df) * se;
    Ok(Equivalence {
        n,
        difference: mean,
        margin,
        interval: Interval {
            low: mean - reach,
            high: mean + reach,
            level: 1.0 - 2.0 * alpha,
        },
        p_value,
        equivalent: p_value < alpha,
    })
}

/// TOST for the difference of two paired rates (after − before), by inverting Newcombe's paired interval
/// ([`PairedTable::interval`]): p is the least α whose 1 − 2α interval lies inside the margin.
pub fn tost_paired_rates(
    table: PairedTable,
    margin: f64,
    alpha: f64,
) -> Result<Equivalence, ProbeError> {
    checked(margin, alpha)?;
    let n = table.n() as usize;
    at_least("pairs", 1, n)?;
    by_interval(n, table.difference(), margin, alpha, |level| {
        table.interval(level)
    })
}

/// TOST for the difference of two independent rates k₁/n₁ − k₂/n₂, by inverting Newcombe's hybrid score interval (1998, method 10).
pub fn tost_rates(
    first: (u64, u64),
    second: (u64, u64),
    margin: f64,
    alpha: f64,
) -> Result<Equivalence, ProbeError> {
    checked(margin, alpha)?;
    at_least("trials", 1, first.1.min(second.1) as usize)?;
    let difference = first.0 as f64 / first.1 as f64 - second.0 as f64 / second.1 as f64;
    let n = (first.1 + second.1) as usize;
    by_interval(n, difference, margin, alpha, |level| {
        rate_difference(first, second, level)
    })
}

/// Newcombe's hybrid score interval of k₁/n₁ − k₂/n₂, independent groups (1998, method 10): √((p₁−l₁)² + (u₂−p₂)²) below,
/// √((u₁−p₁)² + (p₂−l₂)²) above, with Wilson bounds l and u.
pub fn rate_difference(
    first: (u64, u64),
    second: (u64, u64),
    level: f64,
) -> Result<Interval, ProbeError> {
    let one = wilson(first.0, first.1, level)?;
    let two = wilson(second.0, second.1, level)?;
    let p1 = first.0 as f64 / first.1 as f64;
    let p2 = second.0 as f64 / second.1 as f64;
    Ok(Interval {
        low: p1 - p2 - (p1 - one.low).hypot(two.high - p2),
        high: p1 - p2 + (one.high - p1).hypot(p2 - two.low),
        level,
    })
}

fn by_interval(
    n: usize,
    difference: f64,
    margin: f64,
    alpha: f64,
    interval: impl Fn(f64) -> Result<Interval, ProbeError>,
) -> Result<Equivalence, ProbeError> {
    let inside =
        |alpha: f64| interval(1.0 - 2.0 * alpha).map(|ci| ci.low > -margin && ci.high < margin);
    // The interval shrinks as α grows; half of the interval (0, ½) is dropped at each step.
    let (mut low, mut high) = (1e-12, 0.5 - 1e-12);
    let p_value = if inside(high)? {
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if inside(middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    } else {
        0.5
    };
    Ok(Equivalence {
        n,
        difference,
        margin,
        interval: interval(1.0 - 2.0 * alpha)?,
        p_value,
        equivalent: inside(alpha)?,
    })
}

fn checked(margin: f64, alpha: f64) -> Result<(), ProbeError> {
    alpha_in_range(alpha)?;
    if margin > 0.0 && margin.is_finite() {
        Ok(())
    } else {
        Err(ProbeError::Range {
            what: "equivalence margin",
            value: margin,
            allowed: "a positive number",
        })
    }
}
