//! Named numbers of a step that add up over its micro-batches: a mean keeps its sum and its count.
//!
//! Always: adding the metrics of two parts gives the metrics of both together, never a mean of means.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a metric is called: fixed, or with a name of the config in it.
type Name = Cow<'static, str>;

/// One number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// A mean.
    Mean {
        /// Of the values.
        sum: f64,
        /// How many.
        count: f64,
    },
    /// A count.
    Sum(f64),
    /// The smallest value.
    Least(f64),
    /// The largest value.
    Most(f64),
}

impl Metric {
    /// Its value; NaN for the mean of nothing.
    pub fn value(self) -> f64 {
        match self {
            Self::Mean { sum, count } => sum / count,
            Self::Sum(x) | Self::Least(x) | Self::Most(x) => x,
        }
    }

    fn joined(self, other: Self) -> Self {
        match (self, other) {
            (Self::Mean { sum: a, count: m }, Self::Mean { sum: b, count: n }) => Self::Mean {
                sum: a + b,
                count: m + n,
            },
            (Self::Sum(a), Self::Sum(b)) => Self::Sum(a + b),
            (Self::Least(a), Self::Least(b)) => Self::Least(a.min(b)),
            (Self::Most(a), Self::Most(b)) => Self::Most(a.max(b)),
            (_, other) => other,
        }
    }
}

/// Metrics by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(BTreeMap<Name, Metric>);

impl Metrics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The mean of these values; nothing without values.
    pub fn mean(&mut self, name: impl Into<Name>, values: impl IntoIterator<Item = f64>) {
        let (mut sum, mut count) = (0.0, 0.0);
        for value in values {
            sum += value;
            count += 1.0;
        }
        if count > 0.0 {
            self.put(name, Metric::Mean { sum, count });
        }
    }

    /// Adds a number to what is there under the name.
    pub fn put(&mut self, name: impl Into<Name>, metric: Metric) {
        let name = name.into();
        let joined = match self.0.get(&name) {
            Some(there) => there.joined(metric),
            None => metric,
        };
        self.0.insert(name, joined);
    }

    /// Adds the metrics of another part of the step.
    pub fn add(&mut self, other: &Self) {
        for (name, &metric) in &other.0 {
            self.put(name.clone(), metric);
        }
    }

    /// One number.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|metric| metric.value())
    }

    /// All, by name.
    pub fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        let each = self.0.iter();
        each.map(|(name, metric)| (name.as_ref(), metric.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_unequal_size_add_up_to_the_whole() {
        let of = |values: &[f64]| {
            let mut m = Metrics::new();
            m.mean("x", values.iter().copied());
            m.put("sum", Metric::Sum(values[0]));
            m.put("low", Metric::Least(values[0]));
            m.put("high", Metric::Most(values[0]));
            m
        };
        let mut sum = of(&[1.0, 2.0, 6.0]);
        sum.add(&of(&[7.0]));
        assert_eq!(sum.get("x"), Some(4.0));
        assert_eq!((sum.get("low"), sum.get("high")), (Some(1.0), Some(7.0)));
        assert_eq!((sum.get("sum"), sum.get("y")), (Some(8.0), None));
        let mut none = Metrics::new();
        none.mean("x", []);
        assert_eq!(none.values().count(), 0);
    }
}
