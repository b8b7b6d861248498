//! The event log of a run, `metrics.jsonl`: one JSON object a line, written once and never changed.
//!
//! Always: a row has `kind`, `step` and `wall` first, then its fields flat under TRL's names. A number that JSON cannot hold
//! is written as the string `NaN`, `Infinity` or `-Infinity`. [`Writer`] appends, [`Follower`] reads a file that grows,
//! [`standing`] leaves out what a resumed run did again. TensorBoard's files beside it are `tensorboard.rs`.

mod reader;
mod tensorboard;
mod writer;

pub use reader::{Follower, Log, read};
pub use tensorboard::Events;
pub use writer::Writer;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// How names of fields begin that say how long something took, in seconds: `time/step_s`, and of a rollout and of the updates
/// on it `time/rollout_s` and `time/update_s`.
pub const TIMES: &str = "time/";

/// What a row tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The run began: method, model, planned steps.
    Started,
    /// It went on from the checkpoint of this step; rows of later steps that stand before this one were done again.
    Resumed,
    /// Numbers of training, at the end of this step.
    Step,
    /// Numbers on the evaluation data, with the weights after this step.
    Eval,
    /// A text of the model's, or rows of a rollout.
    Sample,
    /// Something that should be looked at: `alert` names it, `message` says it.
    Alert,
    /// A checkpoint of this step is whole on disk.
    Checkpoint,
    /// The run ended: `reason` is `finished`, `interrupted` or `failed`.
    Stopped,
}

impl Kind {
    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Resumed => "resumed",
            Self::Step => "step",
            Self::Eval => "eval",
            Self::Sample => "sample",
            Self::Alert => "alert",
            Self::Checkpoint => "checkpoint",
            Self::Stopped => "stopped",
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it tells.
    pub kind: Kind,
    /// Optimiser steps done when it was written.
    pub step: u64,
    /// When, in seconds since 1970 (UTC).
    pub wall: f64,
    /// Everything else, flat.
    pub fields: Map<String, Value>,
}

impl Row {
    /// A row of now, without fields.
    pub fn new(kind: Kind, step: u64) -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64());
        Self {
            kind,
            step,
            wall,
            fields: Map::new(),
        }
    }

    /// With one more field.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// With these metrics.
    pub fn with_numbers(mut self, metrics: &Numbers) -> Self {
        for (name, value) in metrics.iter() {
            self.fields.insert(name.to_owned(), number(value));
        }
        self
    }

    /// Without what depends on the clock: `wall` is 0 and the fields under [`TIMES`] are left out. What is left is the same
    /// in every run of a config and a seed.
    pub fn timeless(mut self) -> Self {
        self.wall = 0.0;
        self.fields.retain(|name, _| !name.starts_with(TIMES));
        self
    }

    /// A field as a number; also one that JSON cannot hold.
    pub fn number(&self, name: &str) -> Option<f64> {
        as_number(self.fields.get(name)?)
    }

    /// A field as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// All fields that are numbers, by name.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        self.fields
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), as_number(value)?)))
    }

    /// A line of a log; `None` if it is not one.
    pub fn parse(line: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(line).ok()? else {
            return None;
        };
        let kind = serde_json::from_value(fields.remove("kind")?).ok()?;
        let step = fields.remove("step")?.as_u64()?;
        let wall = fields.remove("wall")?.as_f64()?;
        Some(Self {
            kind,
            step,
            wall,
            fields,
        })
    }

    /// The line, without its end.
    pub fn line(&self) -> String {
        // Serialising maps of strings and numbers cannot fail; an empty line would be skipped by every reader.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3 + self.fields.len()))?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("wall", &self.wall)?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A number as the log holds it.
pub fn number(value: f64) -> Value {
    match value {
        v if v.is_nan() => Value::from("NaN"),
        f64::INFINITY => Value::from("Infinity"),
        f64::NEG_INFINITY => Value::from("-Infinity"),
        v => Value::from(v),
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Named numbers of one step, in the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers(Vec<(String, f64)>);

impl Numbers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one, in place of one of the same name.
    pub fn set(&mut self, name: &str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets all of a loss's metrics.
    pub fn set_all(&mut self, metrics: &super::loss::Metrics) {
        for (name, value) in metrics.values() {
            self.set(name, value);
        }
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Each name with `prefix` in front, such as `eval_`.
    pub fn prefixed(self, prefix: &str) -> Self {
        let named = self.0.into_iter();
        Self(
            named
                .map(|(name, value)| (format!("{prefix}{name}"), value))
                .collect(),
        )
    }
}

/// The rows that stand: without those of steps that a resumed run did again.
pub fn standing(rows: Vec<Row>) -> Vec<Row> {
    let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        if row.kind == Kind::Resumed {
            kept.retain(|old| old.step <= row.step || matches!(old.kind, Kind::Started));
        }
        kept.push(row);
    }
    kept
}

#[cfg(test)]
mod tests;
