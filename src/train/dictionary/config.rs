//! `run.toml` of a run that trains dictionaries; every key known, none without effect.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candlescope_sae::train::{Balanced, Recipe, Shape, Weight};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::activations::{Column, Mixing};
use crate::hooks::{HookPoint, expand};
use crate::train::{TrainError, config::apply, manifest::read_text};

/// No config is larger than this.
const MAX_BYTES: u64 = 1 << 20;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DictionaryConfig {
    /// Of everything random: first weights, order of the rows.
    #[serde(default)]
    pub seed: u64,
    /// Whose activations.
    pub model: Model,
    /// On which texts, or from which store.
    pub data: Data,
    /// How much.
    pub schedule: Plan,
    /// Steps behind these in which what is rebuilt goes on through the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_to_end: Option<EndToEnd>,
    /// The dictionaries, by name.
    pub dictionary: BTreeMap<String, OneDictionary>,
    /// What is written when.
    #[serde(default)]
    pub output: Output,
}

/// Whose activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A folder, a .gguf file, a known name, or ORG/NAME on the hub.
    pub name: String,
    /// Config keys that candlescope does not know and that change nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_config_keys: Vec<String>,
}

/// On which texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Texts: .jsonl, .json or .parquet with a column, .txt or .md, or a folder of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Which column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<Column>,
    /// A prompt suite instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// A finished store of `capture --pack` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// Such stores of several models over the same tokens instead, for crosscoders: that of `[model]` first. A point of
    /// `reads` is then that point in each of them, and is called `resid_post.15@0`, `resid_post.15@1` in what comes out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<PathBuf>,
    /// Tokens of a context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Contexts begin with the token that begins a text; where it is left out, if the tokenizer does so of its own accord.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<bool>,
    /// What is left out of training, as `capture --drop` has it [default: first:1,special,norm:10].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<String>,
    /// The buffer that mixes contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixing: Option<Buffer>,
    /// The time that chat templates with a date are told; the day of the run's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// The buffer that mixes contexts of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    /// Rows in it.
    pub rows: usize,
    /// Share that stays at each refill.
    pub keep: f64,
    /// Contexts of one pass.
    pub batch: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        let Mixing {
            rows, keep, batch, ..
        } = Mixing::default();
        Self { rows, keep, batch }
    }
}

/// How much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Rows (tokens) to train on; those held out come on top.
    pub rows: u64,
    /// Rows of a step.
    #[serde(default = "Plan::batch")]
    pub batch: usize,
    /// Rows that are held out for evaluation: the first ones.
    #[serde(default = "Plan::held_out")]
    pub held_out: usize,
}

impl Plan {
    fn batch() -> usize {
        4096
    }

    fn held_out() -> usize {
        8192
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.rows / self.batch as u64
    }
}

/// Steps in which what the model says differently pulls at the dictionaries, too (Karvonen 2025, arXiv 2503.17272).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndToEnd {
    /// Tokens to train on.
    pub tokens: u64,
    /// Tokens of a step; whole contexts are taken.
    #[serde(default = "EndToEnd::batch")]
    pub batch: usize,
    /// Learning rate, which falls linearly to 0.
    #[serde(default = "EndToEnd::lr")]
    pub lr: f64,
    /// What the KL weighs: a number, or `balanced`, as much as the squared error in every step.
    #[serde(default = "EndToEnd::weight")]
    pub weight: Weight,
}

impl EndToEnd {
    fn batch() -> usize {
        1024
    }

    fn lr() -> f64 {
        1e-4
    }

    fn weight() -> Weight {
        Weight::Named(Balanced::Balanced)
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.tokens / self.batch.max(1) as u64
    }
}

/// What is written when, in steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// A row of the log.
    pub log_every: u64,
    /// An evaluation on the rows held out.
    pub eval_every: u64,
    /// A checkpoint.
    pub checkpoint_every: u64,
    /// Checkpoints that stay.
    pub keep_last: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            log_every: 1,
            eval_every: 50,
            checkpoint_every: 100,
            keep_last: 1,
        }
    }
}

/// A dictionary of the run: what it reads and writes, and its recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct OneDictionary {
    /// The points that are read, side by side where there are several (a crosscoder).
    pub reads: Vec<String>,
    /// The points that are written, where they are others: a transcoder.
    pub writes: Vec<String>,
    /// With a linear way around the latents.
    pub skip: bool,
    /// Rows are scaled to a mean norm of √d, and the scale folded into the weights at the end.
    pub unit_scale: bool,
    /// How it is trained.
    pub recipe: Recipe,
}

/// The keys of a dictionary that are not the recipe's.
#[derive(Serialize, Deserialize)]
struct Places {
    reads: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    writes: Vec<String>,
    #[serde(default)]
    skip: bool,
    #[serde(default = "yes")]
    unit_scale: bool,
}

fn yes() -> bool {
    true
}

const PLACES: [&str; 4] = ["reads", "writes", "skip", "unit_scale"];

impl TryFrom<Table> for OneDictionary {
    type Error = toml::de::Error;

    fn try_from(table: Table) -> Result<Self, Self::Error> {
        let (places, recipe): (Table, Table) = table
            .into_iter()
            .partition(|(key, _)| PLACES.contains(&key.as_str()));
        let places: Places = Value::Table(places).try_into()?;
        Ok(Self {
            reads: places.reads,
            writes: places.writes,
            skip: places.skip,
            unit_scale: places.unit_scale,
            recipe: Value::Table(recipe).try_into()?,
        })
    }
}

impl From<OneDictionary> for Table {
    fn from(one: OneDictionary) -> Self {
        let places = Places {
            reads: one.reads,
            writes: one.writes,
            skip: one.skip,
            unit_scale: one.unit_scale,
        };
        // Both are structs of plain values, which a table can hold; a number that it cannot shows up when it is written.
        let mut table = Table::try_from(places).unwrap_or_default();
        table.extend(Table::try_from(one.recipe).unwrap_or_default());
        table
    }
}

impl OneDictionary {
    /// The points read and written, as the model has them; written are none for an autoencoder.
    ///
    /// # Errors
    /// A point that the model lacks, a pattern for several, none.
    pub fn points(
        &self,
        name: &str,
        config: &crate::config::ModelConfig,
    ) -> Result<[Vec<HookPoint>; 2], TrainError> {
        let of = |key: &str, names: &[String]| {
            let mut points = Vec::new();
            for pattern in names {
                let found = expand(pattern, config).map_err(|e| {
                    let field = format!("dictionary.{name}.{key}");
                    TrainError::config(field, "a hook point of the model", e.to_string())
                })?;
                points.extend(found);
            }
            Ok::<_, TrainError>(points)
        };
        let reads = of("reads", &self.reads)?;
        if reads.is_empty() {
            let field = format!("dictionary.{name}.reads");
            return Err(TrainError::config(field, "a hook point", "none"));
        }
        Ok([reads, of("writes", &self.writes)?])
    }

    /// The shape for points of these widths.
    pub fn shape(&self, reads: &[usize], writes: &[usize]) -> Shape {
        let transcoder = !writes.is_empty();
        Shape {
            d_in: reads.iter().sum(),
            blocks: if transcoder { writes } else { reads }.to_vec(),
            transcoder,
            skip: self.skip,
        }
    }
}

impl DictionaryConfig {
    /// Reads a config file, with `sets` (`section.key=value`) over it; its paths become absolute.
    ///
    /// # Errors
    /// No file, no TOML, a key or value that cannot be used.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, TrainError> {
        let text = read_text(path, MAX_BYTES)?;
        let mut config = Self::parse(&path.display().to_string(), &text, sets)?;
        let data = &mut config.data;
        let one = [&mut data.path, &mut data.store].into_iter().flatten();
        for path in one.chain(&mut data.stores) {
            *path = std::path::absolute(&*path).map_err(TrainError::io(path, "find"))?;
        }
        Ok(config)
    }

    /// [`Self::read`] of a text; `origin` is for messages.
    ///
    /// # Errors
    /// As there.
    pub fn parse(origin: &str, text: &str, sets: &[String]) -> Result<Self, TrainError> {
        let syntax = |message: String| TrainError::Syntax {
            origin: origin.to_owned(),
            message: message.trim_end().to_owned(),
        };
        let mut table: Table = toml::from_str(text).map_err(|e| syntax(e.to_string()))?;
        for set in sets {
            apply(&mut table, set)?;
        }
        let read: Result<Self, _> = Self::deserialize(Value::Table(table));
        let mut config = read.map_err(|e| syntax(e.to_string()))?;
        config.resolve()?;
        Ok(config)
    }

    /// The config as TOML, whole.
    ///
    /// # Errors
    /// A number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string_pretty(self).map_err(|e| TrainError::Syntax {
            origin: "the resolved config".into(),
            message: e.to_string(),
        })
    }

    /// All that decides the weights: the config without `[output]` and the paths of the data.
    pub fn decisive(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("output");
            fields.remove("model");
            if let Some(data) = fields.get_mut("data").and_then(|d| d.as_object_mut()) {
                data.remove("path");
                data.remove("store");
                data.remove("stores");
            }
        }
        value
    }

    /// Steps of the run: those on rows, and those through the model.
    pub fn steps(&self) -> u64 {
        self.schedule.steps() + self.end_to_end.map_or(0, |plan| plan.steps())
    }

    fn resolve(&mut self) -> Result<(), TrainError> {
        let refuse = |field: &str, expected: &str, found: &dyn std::fmt::Display| {
            Err(TrainError::config(field, expected, found.to_string()))
        };
        let data = &mut self.data;
        let given = [
            data.path.is_some(),
            data.suite.is_some(),
            data.store.is_some(),
            !data.stores.is_empty(),
        ];
        let count = given.iter().filter(|g| **g).count();
        if count != 1 {
            return refuse(
                "data",
                "one of path, suite, store and stores",
                &format!("{count} of them"),
            );
        }
        if data.stores.len() == 1 {
            return refuse("data.stores", "two or more; `store` names one", &1);
        }
        if data.store.is_some() || !data.stores.is_empty() {
            let own = [
                ("context", data.context.is_some()),
                ("bos", data.bos.is_some()),
                ("drop", data.drop.is_some()),
                ("mixing", data.mixing.is_some()),
                ("column", data.column.is_some()),
            ];
            if let Some((key, _)) = own.iter().find(|(_, there)| *there) {
                return Err(TrainError::Ignored {
                    field: format!("data.{key}"),
                    why: "the store was made with its own".into(),
                });
            }
        } else {
            data.context.get_or_insert(128);
            data.mixing.get_or_insert_default();
            data.date
                .get_or_insert_with(|| jiff::Zoned::now().date().at(0, 0, 0, 0).to_string());
        }
        let plan = &self.schedule;
        if plan.batch == 0 || plan.steps() == 0 {
            let found = format!("{} rows in batches of {}", plan.rows, plan.batch);
            return refuse("schedule.rows", "at least one batch", &found);
        }
        if plan.held_out == 0 {
            return refuse("schedule.held_out", "at least 1 row", &0);
        }
        if let Some(plan) = &self.end_to_end {
            if self.data.path.is_none() && self.data.suite.is_none() {
                let expected = "texts, as data.path or data.suite: a store has no model behind it";
                return refuse("end_to_end", expected, &"a store");
            }
            if plan.steps() == 0 {
                let found = format!("{} tokens in batches of {}", plan.tokens, plan.batch);
                return refuse("end_to_end.tokens", "at least one batch", &found);
            }
            if !(plan.lr.is_finite() && plan.lr > 0.0) {
                return refuse("end_to_end.lr", "a number above 0", &plan.lr);
            }
            if let Weight::Fixed(weight) = plan.weight
                && !(weight.is_finite() && weight > 0.0)
            {
                return refuse(
                    "end_to_end.weight",
                    "`balanced` or a number above 0",
                    &weight,
                );
            }
        }
        let output = &self.output;
        for (key, value) in [
            ("log_every", output.log_every),
            ("eval_every", output.eval_every),
            ("checkpoint_every", output.checkpoint_every),
        ] {
            if value == 0 {
                return refuse(&format!("output.{key}"), "at least 1 step", &0);
            }
        }
        if self.dictionary.is_empty() {
            return refuse("dictionary", "at least one, as [dictionary.NAME]", &"none");
        }
        let steps = self.schedule.steps();
        for (name, one) in &mut self.dictionary {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
                let expected = "a name of letters, digits, `-`, `_` and `.`";
                return refuse("dictionary", expected, &format!("`{name}`"));
            }
            if one.recipe.schedule.steps == 0 {
                one.recipe.schedule.steps = steps;
            }
            if one.recipe.dead.after == 0 {
                // SAELens's 4 million and dictionary_learning's 10 million rows are for runs of hundreds of millions.
                let batches = 16 * self.schedule.batch as u64;
                one.recipe.dead.after =
                    (self.schedule.rows / 20).clamp(batches, 10_000_000.max(batches));
            }
            if one.recipe.seed == 0 {
                one.recipe.seed = self.seed;
            }
        }
        Ok(())
    }
}
