//! One measured quantity of an audit and everything needed to believe it: sample size, interval, null, test, baseline.
//!
//! Always: a quantity that could not be measured has no number and says why; a number that is not finite is written
//! to JSON as `null`, never as text, and is read back. Who decides on it: [`super::verdict`]. Who carries it:
//! [`super::result::SignalResult`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which way is better, so that a reader and a renderer know which side of a limit is the bad one.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better, such as the refusal rate on harmful prompts.
    Higher,
    /// Less is better, such as the refusal rate on benign look-alikes.
    Lower,
    /// Neither: a change either way is a change.
    Neither,
}

/// A confidence or credible interval, closed at both ends.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Interval {
    /// Lower end, in the unit of its value.
    #[serde(deserialize_with = "null::real")]
    pub low: f64,
    /// Upper end, in the unit of its value.
    #[serde(deserialize_with = "null::real")]
    pub high: f64,
    /// Coverage, such as 0.95.
    #[serde(deserialize_with = "null::real")]
    pub level: f64,
    /// How it was made: `wilson`, `bca bootstrap`, `delong`.
    pub method: String,
}

impl Interval {
    /// A 95 % interval made by `method`.
    pub fn new(low: f64, high: f64, method: &str) -> Self {
        Self {
            low,
            high,
            level: 0.95,
            method: method.to_owned(),
        }
    }

    /// True when both ends are finite and in order; anything else cannot carry a decision.
    pub fn is_sound(&self) -> bool {
        self.low.is_finite() && self.high.is_finite() && self.low <= self.high
    }
}

/// What the quantity would be if there were nothing to find.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Null {
    /// How it was made: `label shuffles`, `random directions`.
    pub kind: String,
    /// Number of draws.
    pub n: usize,
    /// Mean of the draws.
    #[serde(deserialize_with = "null::real")]
    pub mean: f64,
    /// Standard deviation of the draws.
    #[serde(deserialize_with = "null::real")]
    pub sd: f64,
    /// Share of draws at least as extreme as the value, with the +1 correction; absent when not computed.
    pub p: Option<f64>,
    /// `(probability, quantile)` pairs of the draws, ascending.
    #[serde(deserialize_with = "null::pairs")]
    pub quantiles: Vec<(f64, f64)>,
}

impl Null {
    /// How many standard deviations of the null `value` lies from its mean; absent when the null has no spread.
    pub fn z(&self, value: f64) -> Option<f64> {
        (self.sd > 0.0).then(|| (value - self.mean) / self.sd)
    }
}

/// A hypothesis test on the quantity, or on its change against the baseline.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Test {
    /// Which test: `exact McNemar`, `paired bootstrap`, `DeLong`, `sign test`.
    pub name: String,
    /// The test statistic, where the test has one.
    pub statistic: Option<f64>,
    /// The p value by itself.
    #[serde(deserialize_with = "null::real")]
    pub p: f64,
    /// The p value after Holm's correction within the family; filled in by [`super::verdict::evaluate`].
    pub p_adjusted: Option<f64>,
}

/// The change against the baseline, computed on the same prompts.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Delta {
    /// This checkpoint minus the baseline.
    #[serde(deserialize_with = "null::real")]
    pub value: f64,
    /// Paired interval of the change.
    pub interval: Option<Interval>,
}

/// One named quantity.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Value {
    /// Stable name within its signal, as in [`super::catalogue`]; a policy's limits use it.
    pub name: String,
    /// The estimate; `None` when it could not be measured, and then `why` says why.
    pub value: Option<f64>,
    /// Why there is no estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// `fraction`, `nats`, `auroc`, `count`, …; `fraction` is shown as per cent.
    pub unit: String,
    /// Number of independent observations behind it.
    pub n: Option<u64>,
    /// Its uncertainty; `None` for exact quantities such as a count of mismatched hashes.
    pub interval: Option<Interval>,
    /// What chance alone gives.
    pub null: Option<Null>,
    /// The test on it.
    pub test: Option<Test>,
    /// The same quantity on the baseline.
    pub baseline: Option<f64>,
    /// Its change against the baseline.
    pub delta: Option<Delta>,
    /// Minimum detectable difference with this n at the policy's alpha and power, in the unit of the value.
    pub mdd: Option<f64>,
    /// Which way is better.
    pub better: Better,
}

impl Value {
    /// A quantity with an estimate and nothing else yet. An estimate that is not finite becomes a missing one.
    pub fn new(name: &str, unit: &str, better: Better, value: f64) -> Self {
        let finite = value.is_finite();
        Self {
            name: name.to_owned(),
            value: finite.then_some(value),
            why: (!finite).then(|| format!("the computation gave {value}")),
            unit: unit.to_owned(),
            n: None,
            interval: None,
            null: None,
            test: None,
            baseline: None,
            delta: None,
            mdd: None,
            better,
        }
    }

    /// A quantity that could not be measured, and why.
    pub fn missing(name: &str, unit: &str, better: Better, why: &str) -> Self {
        Self {
            value: None,
            why: Some(why.to_owned()),
            ..Self::new(name, unit, better, 0.0)
        }
    }

    /// With the number of observations.
    pub fn with_n(mut self, n: u64) -> Self {
        self.n = Some(n);
        self
    }

    /// With a 95 % interval made by `method`; ends that are not finite or out of order leave it without one.
    pub fn with_interval(mut self, low: f64, high: f64, method: &str) -> Self {
        let interval = Interval::new(low, high, method);
        self.interval = interval.is_sound().then_some(interval);
        self
    }

    /// With a null distribution.
    pub fn with_null(mut self, null: Null) -> Self {
        self.null = Some(null);
        self
    }

    /// With a test; its adjusted p value is filled in later, over the whole family.
    pub fn with_test(mut self, name: &str, statistic: Option<f64>, p: f64) -> Self {
        self.test = Some(Test {
            name: name.to_owned(),
            statistic,
            p,
            p_adjusted: None,
        });
        self
    }

    /// With the baseline's value and the paired change against it (`None` where no paired interval can be made).
    pub fn with_baseline(mut self, baseline: f64, interval: Option<Interval>) -> Self {
        self.baseline = baseline.is_finite().then_some(baseline);
        self.delta = match (self.value, self.baseline) {
            (Some(value), Some(base)) => Some(Delta {
                value: value - base,
                interval: interval.filter(Interval::is_sound),
            }),
            _ => None,
        };
        self
    }

    /// With the minimum detectable difference.
    pub fn with_mdd(mut self, mdd: f64) -> Self {
        self.mdd = mdd.is_finite().then_some(mdd);
        self
    }
}

/// Reading of numbers that were not finite when written: JSON has no NaN, so they come back from `null`.
pub(super) mod null {
    use super::BTreeMap;
    use serde::{Deserialize, Deserializer};

    fn number(value: Option<f64>) -> f64 {
        value.unwrap_or(f64::NAN)
    }

    pub fn real<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Option::<f64>::deserialize(from).map(number)
    }

    pub fn reals<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let read = Vec::<Option<f64>>::deserialize(from)?;
        Ok(read.into_iter().map(number).collect())
    }

    pub fn pairs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(f64, f64)>, D::Error> {
        let read = Vec::<(Option<f64>, Option<f64>)>::deserialize(from)?;
        Ok(read
            .into_iter()
            .map(|(x, y)| (number(x), number(y)))
            .collect())
    }

    pub fn map<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let read = BTreeMap::<String, Option<f64>>::deserialize(from)?;
        Ok(read
            .into_iter()
            .map(|(key, value)| (key, number(value)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_missing_and_says_so() {
        let value = Value::new("kl", "nats", Better::Lower, f64::NAN).with_interval(
            0.1,
            f64::INFINITY,
            "bca bootstrap",
        );
        assert_eq!(value.value, None);
        assert_eq!(value.why.as_deref(), Some("the computation gave NaN"));
        assert_eq!(value.interval, None);
    }

    #[test]
    fn nan_is_written_as_null_and_read_back() {
        let null = Null {
            kind: "shuffles".into(),
            n: 3,
            mean: f64::NAN,
            sd: 1.0,
            p: None,
            quantiles: vec![(0.5, f64::NAN)],
        };
        let text = serde_json::to_string(&null).unwrap();
        assert!(!text.contains("NaN"), "{text}");
        let back: Null = serde_json::from_str(&text).unwrap();
        assert!(back.mean.is_nan() && back.quantiles[0].1.is_nan());
        assert_eq!((back.n, back.sd), (3, 1.0));
    }

    #[test]
    fn the_change_is_this_minus_the_baseline() {
        let value = Value::new("harmful_refusal", "fraction", Better::Higher, 0.25)
            .with_baseline(0.75, None);
        assert_eq!(value.delta.unwrap().value, -0.5);
    }
}
