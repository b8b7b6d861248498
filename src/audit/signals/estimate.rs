//! From numbers to a [`Value`]: estimate, interval, null, and against a baseline the paired change with its test.
//!
//! Always: when both checkpoints gave the same number on every prompt the change is exactly 0 with an interval of [0, 0]
//! and p = 1; a change is never reported from unpaired numbers. The statistics themselves: `candlescope_probes`.

use candlescope_probes::error::ProbeError;
use candlescope_probes::roc::{auroc_value, delong_paired};
use candlescope_probes::stats::bootstrap::{BootstrapMethod, bootstrap, bootstrap_mean};
use candlescope_probes::stats::interval::{Proportion, two_sided_z};
use candlescope_probes::stats::paired::{PairedTable, mcnemar, paired_bootstrap_test, sign_test};
use candlescope_probes::stats::power::{Power, detectable_flips, detectable_mean, detectable_rise};
use candlescope_probes::stats::special::normal_quantile;
use candlescope_probes::{Auroc, Bootstrap, NullDistribution, Resampling, auroc, controls};

use crate::audit::catalogue::Quantity;
use crate::audit::measure::{Interval, Null, Value};
use crate::audit::signal::{Context, SignalError};

/// Two-sided level of every interval.
pub const LEVEL: f64 = 0.95;

/// The share of pairs assumed to flip when a detectable change of a rate is stated and fewer did.
const FLIPS: f64 = 0.15;

/// A mean over prompts; with the baseline's numbers on the same prompts, its paired change.
pub fn mean(
    quantity: &Quantity,
    here: &[f64],
    base: Option<&[f64]>,
    cx: &Context,
) -> Result<Value, SignalError> {
    if here.is_empty() {
        return Ok(quantity.missing("there are no prompts"));
    }
    let options = cx.bootstrap(quantity.name);
    let found = bootstrap_mean(here, Resampling::Items, &options)?;
    let mut value = quantity
        .measured(found.estimate)
        .with_n(here.len() as u64)
        .with_mdd(mean_mdd(here, cx)?);
    value = with_bootstrap(value, &found);
    match base {
        Some(base) => with_paired_mean(value, here, base, cx),
        None => Ok(value),
    }
}

/// [`mean`] of numbers that cannot leave `low..high`: where all are alike, which gives a bootstrap nothing to resample, it has
/// an interval all the same, so that a checkpoint without a single failure can pass.
pub fn mean_within(
    quantity: &Quantity,
    here: &[f64],
    base: Option<&[f64]>,
    (low, high): (f64, f64),
    cx: &Context,
) -> Result<Value, SignalError> {
    let mut value = mean(quantity, here, base, cx)?;
    if let (Some(estimate), None) = (value.value, &value.interval) {
        value.interval = Some(all_alike(estimate, here.len(), (low, high))?);
    }
    if let Some(delta) = &mut value.delta
        && delta.interval.is_none()
    {
        let widest = high - low;
        delta.interval = Some(all_alike(delta.value, here.len(), (-widest, widest))?);
    }
    Ok(value)
}

/// The interval of a bootstrap, named by the way it was made.
pub fn with_bootstrap(value: Value, found: &Bootstrap) -> Value {
    match found.interval {
        Some(ends) => value.with_interval(ends.low, ends.high, bootstrap_name(&found.method)),
        None => value,
    }
}

fn bootstrap_name(method: &BootstrapMethod) -> &'static str {
    match method {
        BootstrapMethod::Bca => "bca bootstrap",
        BootstrapMethod::Percentile(_) => "percentile bootstrap",
        BootstrapMethod::Degenerate(_) => "none",
    }
}

/// The smallest change of a mean that these values, or differences, show.
pub fn mean_mdd(values: &[f64], cx: &Context) -> Result<f64, SignalError> {
    if values.len() < 2 {
        return Ok(f64::NAN);
    }
    let found = detectable_mean(values.len(), sd(values), cx.power())?;
    Ok(found.difference.unwrap_or(f64::NAN))
}

/// Standard deviation with n − 1.
pub fn sd(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt()
}

/// The arithmetic mean; NaN of nothing.
pub fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn with_paired_mean(
    value: Value,
    here: &[f64],
    base: &[f64],
    cx: &Context,
) -> Result<Value, SignalError> {
    let differences = differences(here, base)?;
    let before = average(base);
    if differences.iter().all(|d| *d == 0.0) {
        return Ok(value
            .with_baseline(before, Some(Interval::new(0.0, 0.0, "identical")))
            .with_test("paired bootstrap", Some(0.0), 1.0)
            .with_mdd(0.0));
    }
    let options = cx.bootstrap("paired");
    let found = bootstrap_mean(&differences, Resampling::Items, &options)?;
    let interval = found
        .interval
        .map(|ends| Interval::new(ends.low, ends.high, bootstrap_name(&found.method)));
    let mdd = mean_mdd(&differences, cx)?;
    let value = value.with_baseline(before, interval).with_mdd(mdd);
    with_paired_test(value, &differences, cx)
}

/// The change against the baseline over the items that count in both, where those of the value itself are others.
///
/// `here` and `base` are numbers from -1 to 1 of the same items; without any the value stays without a change.
pub fn with_change_among(
    value: Value,
    here: &[f64],
    base: &[f64],
    cx: &Context,
) -> Result<Value, SignalError> {
    if here.is_empty() {
        return Ok(value);
    }
    let differences = differences(here, base)?;
    let mut value = with_paired_mean(value, here, base, cx)?;
    if let Some(delta) = &mut value.delta {
        delta.value = average(&differences);
        if delta.interval.is_none() {
            delta.interval = Some(all_alike(delta.value, differences.len(), (-2.0, 2.0))?);
        }
    }
    Ok(value)
}

/// The mean of n numbers that are all the same and cannot leave `low..high`, where a bootstrap has nothing to resample: at
/// least Wilson's share of all items is like those seen, and of the rest nothing is known.
fn all_alike(number: f64, n: usize, (low, high): (f64, f64)) -> Result<Interval, SignalError> {
    let like = Proportion::wilson(n as u64, n as u64, LEVEL)?.interval.low;
    let of_rest = |end: f64| number * like + end * (1.0 - like);
    Ok(Interval::new(
        of_rest(low),
        of_rest(high),
        "wilson, all alike",
    ))
}

/// The test of paired differences against 0: by bootstrap, or where that has nothing to resample by signs.
pub fn with_paired_test(
    value: Value,
    differences: &[f64],
    cx: &Context,
) -> Result<Value, SignalError> {
    let options = cx.bootstrap("paired");
    Ok(
        match paired_bootstrap_test(differences, options.resamples.max(100), options.seed) {
            Ok(test) => value.with_test("paired bootstrap", Some(test.statistic), test.p_value),
            Err(_) => {
                let test = sign_test(differences)?;
                value.with_test("sign test", Some(test.statistic), test.p_value)
            }
        },
    )
}

/// `here - base`, prompt by prompt.
pub fn differences(here: &[f64], base: &[f64]) -> Result<Vec<f64>, SignalError> {
    if here.len() != base.len() {
        return Err(ProbeError::Length {
            what: "paired values",
            expected: base.len(),
            found: here.len(),
        }
        .into());
    }
    Ok(here.iter().zip(base).map(|(h, b)| h - b).collect())
}

/// A share of prompts with its Wilson interval; with the baseline's outcomes, exact McNemar and Newcombe's interval.
pub fn rate(
    quantity: &Quantity,
    here: &[bool],
    base: Option<&[bool]>,
    cx: &Context,
) -> Result<Value, SignalError> {
    if here.is_empty() {
        return Ok(quantity.missing("there are no prompts"));
    }
    let (k, n) = (count(here), here.len() as u64);
    let found = Proportion::wilson(k, n, LEVEL)?;
    let value = quantity.measured(found.rate).with_n(n).with_interval(
        found.interval.low,
        found.interval.high,
        "wilson",
    );
    let Some(base) = base else {
        return Ok(value.with_mdd(rise_mdd(found.rate, here.len(), cx.power())?));
    };
    let table = PairedTable::of(base, here)?;
    let test = mcnemar(table, LEVEL)?;
    let before = count(base) as f64 / n as f64;
    let interval = Interval::new(test.interval.low, test.interval.high, "newcombe");
    Ok(value
        .with_baseline(before, Some(interval))
        .with_test(
            "exact McNemar",
            Some(table.only_after.min(table.only_before) as f64),
            test.p_value,
        )
        .with_mdd(flips_mdd(table, cx)?))
}

/// A rate among some items; against the baseline by the pairs (this, baseline) of those that count in both.
pub fn rate_among(
    quantity: &Quantity,
    here: &[bool],
    pairs: Option<(Vec<bool>, Vec<bool>)>,
    cx: &Context,
) -> Result<Value, SignalError> {
    let value = rate(quantity, here, None, cx)?;
    let Some((both, base)) = pairs.filter(|(both, _)| !both.is_empty()) else {
        return Ok(value);
    };
    let paired = rate(quantity, &both, Some(&base), cx)?;
    Ok(Value {
        test: paired.test,
        baseline: paired.baseline,
        delta: paired.delta,
        mdd: paired.mdd,
        ..value
    })
}

/// The smallest difference of two rates that so many pairs show.
pub fn flips_mdd(table: PairedTable, cx: &Context) -> Result<f64, SignalError> {
    let flips = (table.only_before + table.only_after) as f64 / table.n() as f64;
    let found = detectable_flips(table.n() as usize, flips.max(FLIPS), cx.power())?;
    Ok(found.difference.unwrap_or(f64::NAN))
}

/// [`rate`] with the exact interval of Clopper and Pearson, as rates near 0 and 1 are usually stated.
pub fn exact_rate(
    quantity: &Quantity,
    here: &[bool],
    base: Option<&[bool]>,
    cx: &Context,
) -> Result<Value, SignalError> {
    let value = rate(quantity, here, base, cx)?;
    if here.is_empty() {
        return Ok(value);
    }
    let ends = Proportion::exact(count(here), here.len() as u64, LEVEL)?.interval;
    Ok(value.with_interval(ends.low, ends.high, "clopper-pearson"))
}

/// How many are true.
pub fn count(outcomes: &[bool]) -> u64 {
    outcomes.iter().filter(|yes| **yes).count() as u64
}

/// The smallest change of a rate that n items show, in the direction that has room.
fn rise_mdd(rate: f64, n: usize, power: Power) -> Result<f64, SignalError> {
    let from = if rate > 0.5 { 1.0 - rate } else { rate };
    Ok(detectable_rise(n, from, power)?
        .difference
        .unwrap_or(f64::NAN))
}

/// Scores with labels, positives first.
pub struct Scored {
    /// One score for each item.
    pub scores: Vec<f64>,
    /// True for the positive class.
    pub labels: Vec<bool>,
}

impl Scored {
    /// Positives, then negatives.
    pub fn new(positive: &[f64], negative: &[f64]) -> Self {
        let labels = [vec![true; positive.len()], vec![false; negative.len()]].concat();
        Self {
            scores: [positive, negative].concat(),
            labels,
        }
    }
}

/// An AUROC with DeLong's interval; with the baseline's scores on the same items, the paired change.
pub fn area(
    quantity: &Quantity,
    here: &Scored,
    base: Option<&Scored>,
    cx: &Context,
) -> Result<Value, SignalError> {
    let found = auroc(&here.scores, &here.labels, LEVEL)?;
    let z = area_reach(cx.power());
    let mut value =
        with_area(quantity.measured(found.value), &found).with_mdd(z * standard_error(&found));
    if let Some(base) = base {
        let change = area_change(base, here)?;
        value = value
            .with_baseline(
                auroc_value(&base.scores, &base.labels)?,
                Some(change.interval),
            )
            .with_test("DeLong", None, change.p)
            .with_mdd(z * change.standard_error);
    }
    Ok(value)
}

/// n and interval of an AUROC.
pub fn with_area(value: Value, found: &Auroc) -> Value {
    value
        .with_n(found.n as u64)
        .with_interval(found.interval.low, found.interval.high, "delong")
}

/// How many standard errors a change must be to be detected.
pub fn area_reach(power: Power) -> f64 {
    normal_quantile(1.0 - 0.5 * power.alpha) + normal_quantile(power.power)
}

/// Standard error of an AUROC: DeLong's, or read off the interval where that is 0.
fn standard_error(found: &Auroc) -> f64 {
    if found.variance > 1e-14 {
        found.variance.sqrt()
    } else {
        found.interval.width() / (2.0 * two_sided_z(LEVEL))
    }
}

/// The change of an AUROC between two scorings of the same items.
pub struct AreaChange {
    /// Second minus first.
    pub difference: f64,
    /// Its interval.
    pub interval: Interval,
    /// Two-sided p value.
    pub p: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// Paired DeLong. Where it has no variance although the scores differ (two perfect separations), the interval joins
/// those of the two areas by square and add, which is wide rather than wrong.
pub fn area_change(first: &Scored, second: &Scored) -> Result<AreaChange, SignalError> {
    let found = delong_paired(&first.scores, &second.scores, &first.labels, LEVEL)?;
    if first.scores == second.scores {
        return Ok(AreaChange {
            difference: 0.0,
            interval: Interval::new(0.0, 0.0, "identical"),
            p: 1.0,
            standard_error: 0.0,
        });
    }
    if found.determined {
        return Ok(AreaChange {
            difference: found.difference,
            interval: Interval::new(found.interval.low, found.interval.high, "delong"),
            p: found.p_value,
            standard_error: found.standard_error,
        });
    }
    let one = auroc(&first.scores, &first.labels, LEVEL)?;
    let two = auroc(&second.scores, &second.labels, LEVEL)?;
    let low = (two.value - two.interval.low).hypot(one.interval.high - one.value);
    let high = (two.interval.high - two.value).hypot(one.value - one.interval.low);
    Ok(AreaChange {
        difference: found.difference,
        interval: Interval::new(
            found.difference - low,
            found.difference + high,
            "square and add",
        ),
        p: if found.difference == 0.0 {
            1.0
        } else {
            found.p_value
        },
        standard_error: standard_error(&one).hypot(standard_error(&two)),
    })
}

/// A null distribution as the result type has it, with the upper or the two-sided share.
pub fn null_of(kind: &str, found: &NullDistribution) -> Null {
    Null {
        kind: kind.to_owned(),
        n: found.draws,
        mean: found.mean,
        sd: found.sd,
        p: Some(found.p_upper),
        quantiles: found.quantiles.clone(),
    }
}

/// The AUROC beside the AUROCs of shuffled labels, for a score that was not fitted on these labels.
pub fn shuffled_area(scored: &Scored, cx: &Context, purpose: &str) -> Result<Null, SignalError> {
    let found = controls::label_shuffle(
        &scored.labels,
        cx.policy.sizes.shuffles.max(2),
        cx.seed_for(purpose),
        |labels| auroc_value(&scored.scores, labels),
    )?;
    Ok(null_of("label shuffles", &found))
}

/// With an interval of itself where a bootstrap of several items had nothing to resample, since they are all alike.
pub fn or_alike(value: Value) -> Value {
    match (value.value, &value.interval) {
        (Some(estimate), None) => value.with_interval(estimate, estimate, "all alike"),
        _ => value,
    }
}

/// Bootstraps any statistic of item indices and sets it as interval; `n` items.
pub fn bootstrapped(
    value: Value,
    n: usize,
    cx: &Context,
    purpose: &str,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Result<Value, SignalError> {
    let found = bootstrap(n, Resampling::Items, &cx.bootstrap(purpose), statistic)?;
    Ok(with_bootstrap(value.with_n(n as u64), &found))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_that_are_all_alike_have_wilsons_interval_within_their_range() {
        // Wilson's lower end of 24 of 24 is n / (n + z²) = 24 / 27.8415.
        let like = 24.0 / 27.841_458_8;
        let ends = |number: f64, range: (f64, f64)| {
            let found = all_alike(number, 24, range).unwrap();
            (found.low, found.high)
        };
        let near = |(a, b): (f64, f64), (c, d): (f64, f64)| {
            assert!((a - c).abs() < 1e-8 && (b - d).abs() < 1e-8, "{a} {b}");
        };
        near(ends(0.0, (-1.0, 1.0)), (like - 1.0, 1.0 - like));
        near(ends(1.0, (0.0, 1.0)), (like, 1.0));
        near(
            ends(-1.0, (-2.0, 2.0)),
            (-like - 2.0 * (1.0 - like), -like + 2.0 * (1.0 - like)),
        );
    }
}
