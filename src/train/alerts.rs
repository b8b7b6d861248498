//! What should be looked at while a run goes on: rules over the metrics of each step.
//!
//! Always: an alert is raised when its condition begins to hold, and again only after it has ceased to; what the rules
//! remember is part of a checkpoint, so that a resumed run raises the same alerts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::config::Alerting;
use super::log::{Kind, Numbers, Row, number};

/// Steps whose mean is what later steps are compared with, and of the running mean.
const WINDOW: u64 = 5;

/// A rule's finding.
struct Finding {
    name: &'static str,
    value: f64,
    limit: f64,
    message: String,
}

/// Limits where the config names none.
mod limit {
    /// Nats from the reference.
    pub const KL: f64 = 10.0;
    /// Times as long or as short.
    pub const LENGTH: f64 = 2.0;
    /// Nats that the preferred answers lose.
    pub const CHOSEN: f64 = 10.0;
}

/// The mean of a metric's first steps, and its running mean.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Course {
    seen: u64,
    first: f64,
    now: f64,
}

impl Course {
    fn add(&mut self, value: f64) {
        self.seen += 1;
        if self.seen <= WINDOW {
            self.first += (value - self.first) / self.seen as f64;
            self.now = self.first;
        } else {
            self.now += (value - self.now) / WINDOW as f64;
        }
    }

    /// Whether there is something to compare.
    fn settled(&self) -> bool {
        self.seen > WINDOW
    }
}

/// The rules with what they remember.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    courses: BTreeMap<String, Course>,
    holding: BTreeSet<String>,
}

impl Alerts {
    /// Looks at the metrics of a step; gives the rows to log.
    pub fn look(&mut self, step: u64, metrics: &Numbers, config: &Alerting) -> Vec<Row> {
        for name in ["completions/mean_length", "logps/chosen", "rewards/margins"] {
            if let Some(value) = metrics.get(name).filter(|v| v.is_finite()) {
                self.courses.entry(name.to_owned()).or_default().add(value);
            }
        }
        let found = [
            kl(metrics, config),
            self.length(config),
            self.displaced(config),
        ];
        let found: Vec<Finding> = found.into_iter().flatten().collect();
        let names: BTreeSet<String> = found.iter().map(|f| f.name.to_owned()).collect();
        let fresh = found.iter().filter(|f| !self.holding.contains(f.name));
        let rows = fresh.map(|f| f.row(step)).collect();
        self.holding = names;
        rows
    }

    fn length(&self, config: &Alerting) -> Option<Finding> {
        let limit = config.length_ratio.unwrap_or(limit::LENGTH);
        let course = self.courses.get("completions/mean_length")?;
        let ratio = course.now / course.first;
        let beyond = ratio > limit || ratio < 1.0 / limit;
        (course.settled() && beyond).then(|| Finding {
            name: "length_ratio",
            value: ratio,
            limit,
            message: format!("answers are {ratio:.2} times as long as in the first {WINDOW} steps"),
        })
    }

    /// The likelihood of preferred answers falls while the margin still grows (arXiv:2402.13228).
    fn displaced(&self, config: &Alerting) -> Option<Finding> {
        let limit = config.chosen_drop.unwrap_or(limit::CHOSEN);
        let (chosen, margin) = (
            self.courses.get("logps/chosen")?,
            self.courses.get("rewards/margins")?,
        );
        let drop = chosen.first - chosen.now;
        let holds = chosen.settled() && drop > limit && margin.now > margin.first;
        holds.then(|| Finding {
            name: "chosen_falls",
            value: drop,
            limit,
            message: format!(
                "the preferred answers have lost {drop:.2} nats while the margin grows: both answers become unlikely"
            ),
        })
    }
}

impl Finding {
    fn row(&self, step: u64) -> Row {
        Row::new(Kind::Alert, step)
            .with("alert", self.name)
            .with("value", number(self.value))
            .with("limit", number(self.limit))
            .with("message", self.message.as_str())
    }
}

fn kl(metrics: &Numbers, config: &Alerting) -> Option<Finding> {
    let limit = config.kl.unwrap_or(limit::KL);
    let value = metrics.get("objective/kl").or_else(|| metrics.get("kl"))?;
    (value > limit).then(|| Finding {
        name: "kl",
        value,
        limit,
        message: format!("the policy is {value:.2} nats from its reference"),
    })
}

/// A parameter that should train and never received a gradient.
pub fn dead(step: u64, names: &[String]) -> Row {
    let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    let more = match names.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Row::new(Kind::Alert, step)
        .with("alert", "dead_gradient")
        .with("value", names.len())
        .with(
            "message",
            format!(
                "{} trained tensors have received no gradient in {step} steps: {}{more}",
                names.len(),
                shown.join(", ")
            ),
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn metrics(values: &[(&str, f64)]) -> Numbers {
        let mut metrics = Numbers::new();
        for (name, value) in values {
            metrics.set(name, *value);
        }
        metrics
    }

    fn names(rows: &[Row]) -> Vec<String> {
        rows.iter()
            .map(|row| row.text("alert").unwrap().to_owned())
            .collect()
    }

    #[test]
    fn divergence_is_told_once_until_it_has_ceased() {
        let mut alerts = Alerts::default();
        let config = Alerting {
            kl: Some(1.0),
            ..Alerting::default()
        };
        let told: Vec<usize> = [0.5, 1.5, 2.0, 0.9, 1.1]
            .into_iter()
            .map(|kl| {
                alerts
                    .look(1, &metrics(&[("objective/kl", kl)]), &config)
                    .len()
            })
            .collect();
        assert_eq!(told, [0, 1, 0, 0, 1]);
    }

    #[test]
    fn growing_answers_and_falling_preferred_ones_are_told() {
        let mut alerts = Alerts::default();
        let config = Alerting::default();
        let mut told = Vec::new();
        for step in 0..40u32 {
            let (length, chosen, margin) = (
                10.0 + f64::from(step),
                -20.0 - f64::from(step),
                f64::from(step) * 0.1,
            );
            let values = [
                ("completions/mean_length", length),
                ("logps/chosen", chosen),
                ("rewards/margins", margin),
            ];
            let rows = alerts.look(u64::from(step), &metrics(&values), &config);
            told.extend(names(&rows));
            // What is remembered comes back through JSON.
            let json = serde_json::to_string(&alerts).unwrap();
            alerts = serde_json::from_str(&json).unwrap();
        }
        told.sort();
        assert_eq!(told, ["chosen_falls", "length_ratio"]);
    }

    #[test]
    fn a_fall_without_a_growing_margin_is_none() {
        let mut alerts = Alerts::default();
        for step in 0..40u32 {
            let values = [
                ("logps/chosen", -20.0 - f64::from(step)),
                ("rewards/margins", -0.1 * f64::from(step)),
            ];
            let rows = alerts.look(u64::from(step), &metrics(&values), &Alerting::default());
            assert!(rows.is_empty());
        }
    }
}
