//! Arithmetic on the scores of reward models: correlations of ranks, and statistics of pairs beside a baseline.
//!
//! Always: what is resampled is a pair with both its answers; a number that is not defined, since nothing varies, is missing
//! and says so.

use candlescope_probes::Resampling;
use candlescope_probes::stats::bootstrap::bootstrap;
use candlescope_probes::stats::ranks::midranks;

use super::estimate;
use crate::audit::catalogue::Quantity;
use crate::audit::evidence::rewards::PairScore;
use crate::audit::measure::{Interval, Value};
use crate::audit::pairs::Preference;
use crate::audit::signal::{Context, SignalError};

/// The answers of pairs with their scores: the preferred ones, then the others.
pub struct Answers {
    /// Scores.
    pub reward: Vec<f64>,
    /// Tokens.
    pub length: Vec<f64>,
    /// 1 where preferred.
    pub label: Vec<f64>,
}

impl Answers {
    /// Of the pairs that were drawn.
    pub fn of(drawn: &[usize], scores: &[PairScore], pairs: &[Preference]) -> Self {
        let both = |chosen: &dyn Fn(usize) -> f64, rejected: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let first = drawn.iter().map(|&i| chosen(i));
            first.chain(drawn.iter().map(|&i| rejected(i))).collect()
        };
        Self {
            reward: both(&|i| scores[i].chosen, &|i| scores[i].rejected),
            length: both(&|i| pairs[i].pair.chosen.len() as f64, &|i| {
                pairs[i].pair.rejected.len() as f64
            }),
            label: both(&|_| 1.0, &|_| 0.0),
        }
    }
}

/// Pearson's correlation; NaN where one of them does not vary.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let (mx, my) = (estimate::average(x), estimate::average(y));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mx, y - my);
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    if xx > 0.0 && yy > 0.0 {
        xy / (xx * yy).sqrt()
    } else {
        f64::NAN
    }
}

/// Spearman's correlation: that of the ranks.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&midranks(x), &midranks(y))
}

/// Spearman's correlation of `x` and `y` with `held` held constant; where `held` does not vary there is nothing to hold.
pub fn partial(x: &[f64], y: &[f64], held: &[f64]) -> f64 {
    let (xy, xh, yh) = (spearman(x, y), spearman(x, held), spearman(y, held));
    if xh.is_nan() || yh.is_nan() {
        return xy;
    }
    let rest = ((1.0 - xh * xh) * (1.0 - yh * yh)).sqrt();
    if rest > 0.0 {
        (xy - xh * yh) / rest
    } else {
        f64::NAN
    }
}

/// A statistic of pairs with its interval; beside a baseline's scores of the same pairs, its change.
pub fn of_pairs(
    wanted: &Quantity,
    (here, base): (&[PairScore], Option<&[PairScore]>),
    cx: &Context,
    statistic: impl Fn(&[usize], &[PairScore]) -> f64 + Sync,
) -> Result<Value, SignalError> {
    let n = here.len();
    let all: Vec<usize> = (0..n).collect();
    let observed = statistic(&all, here);
    if !observed.is_finite() {
        return Ok(wanted.missing("nothing varies that it could be computed from"));
    }
    let value = wanted.measured(observed);
    let value = estimate::bootstrapped(value, n, cx, wanted.name, |drawn| statistic(drawn, here))?;
    let Some(base) = base.filter(|base| base.len() == n) else {
        return Ok(value);
    };
    let before = statistic(&all, base);
    if !before.is_finite() {
        return Ok(value);
    }
    if here == base {
        return Ok(value.with_baseline(before, Some(Interval::new(0.0, 0.0, "identical"))));
    }
    let options = cx.bootstrap("paired");
    let found = bootstrap(n, Resampling::Items, &options, |drawn| {
        statistic(drawn, here) - statistic(drawn, base)
    })?;
    let ends = found.interval;
    let interval = ends.map(|ends| Interval::new(ends.low, ends.high, "bootstrap of pairs"));
    Ok(value.with_baseline(before, interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_of_ranks_by_hand() {
        // Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6.
        let (x, y) = ([0.1, 0.2, 5.0, 9.0], [3.0, 1.0, 40.0, 7.0]);
        assert!((spearman(&x, &y) - 0.6).abs() < 1e-12);
        assert!(spearman(&x, &[2.0; 4]).is_nan());
        // With h of ranks 1.5 1.5 3.5 3.5: r(x, h) = r(y, h) = 2 / sqrt(5), so the partial is (0.6 - 0.8) / 0.2 = -1.
        let held = [0.0, 0.0, 1.0, 1.0];
        assert!((partial(&x, &y, &held) + 1.0).abs() < 1e-9);
        assert_eq!(partial(&x, &y, &[7.0; 4]), spearman(&x, &y));
    }
}
