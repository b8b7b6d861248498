//! The plan of a pipeline: TOML with a list of stages.
//!
//! Always: a plan that was read names every stage once, each by a method that exists, and nothing in it is without effect;
//! what stages refer to is checked before any of them runs (`refs.rs`).

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::PipelineError;
use super::{dictionary, edited, refs};
use crate::model::built_in;
use crate::pocket::write::Sizes;
use crate::train::config::METHODS;

/// No plan is larger.
const MAX_BYTES: u64 = 1 << 20;
/// Nor has more stages.
const MAX_STAGES: usize = 64;

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it is called in reports.
    pub name: String,
    /// The seed of every stage that names none.
    #[serde(default)]
    pub seed: u64,
    /// Writes the pocket world's data first; stages name it as `@world/...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<Sizes>,
    /// The audits.
    #[serde(default)]
    pub audit: Auditing,
    /// The stages, in their order.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// `[audit]`: what is asked of each checkpoint, and what follows from the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auditing {
    /// The policy of the audit after each checkpoint: a file, or `default`; none leaves those audits out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The policy of the audit at a stage's end; none leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The dictionary that audits read through: a stage that trains one, for the audits of the stages behind it, or a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dictionary: Option<String>,
    /// Tokens on which the stage's dictionary is trained on at the end of each audited stage, on its model and on its baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refit: Option<u64>,
    /// What a BLOCK does.
    pub on_block: React,
    /// What a REVIEW does.
    pub on_review: React,
}

impl Default for Auditing {
    fn default() -> Self {
        Self {
            checkpoint: None,
            end: Some("default".to_owned()),
            dictionary: None,
            refit: None,
            on_block: React::Warn,
            on_review: React::GoOn,
        }
    }
}

/// What a verdict does to the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum React {
    /// Stops it; it can be resumed, and then goes on.
    Halt,
    /// Says so.
    Warn,
    /// Nothing.
    GoOn,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name, of letters, digits, `-` and `_`.
    pub name: String,
    /// `lm`, `sft`, `rm`, `dpo`, `kto`, `ppo`, `rloo`, `edit`, or `dictionary`.
    pub method: String,
    /// The stage whose model it begins with; or `model` names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its seed, if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The stage that its audits are paired with; the one it begins with, or its `model`, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// False leaves its audits out.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub audit: bool,
    /// `[method.NAME]` of the stage's config, or what an edit is, or `[dictionary.NAME]` and `end_to_end` of `sae train`.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub options: Table,
    /// As in the config of one run.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub model: Table,
    /// As in the config of one run.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub data: Table,
    /// As in the config of one run.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub optim: Table,
    /// As in the config of one run.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub schedule: Table,
    /// As in the config of one run.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub lora: Table,
    /// As in the config of one run.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub alerts: Table,
    /// As in the config of one run.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub output: Table,
}

fn yes() -> bool {
    true
}

// serde gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true(value: &bool) -> bool {
    *value
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// A file that cannot be read or is too large; what [`Self::parse`] refuses.
    pub fn read(path: &Path) -> Result<Self, PipelineError> {
        let size = std::fs::metadata(path)
            .map_err(PipelineError::io(path, "read"))?
            .len();
        if size > MAX_BYTES {
            let found = format!("{size} bytes in {}", path.display());
            return Err(PipelineError::plan("", "file", "at most 1 MiB", found));
        }
        let text = std::fs::read_to_string(path).map_err(PipelineError::io(path, "read"))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a plan's text; `origin` is for messages.
    ///
    /// # Errors
    /// No TOML, an unknown key, a name that is taken, a method that does not exist, a reference to what is not made.
    pub fn parse(origin: &str, text: &str) -> Result<Self, PipelineError> {
        let plan: Self = toml::from_str(text).map_err(|e| PipelineError::Syntax {
            origin: origin.to_owned(),
            message: e.to_string().trim_end().to_owned(),
        })?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as TOML.
    ///
    /// # Errors
    /// A number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, PipelineError> {
        toml::to_string(self).map_err(|e| PipelineError::Syntax {
            origin: "the plan".to_owned(),
            message: e.to_string(),
        })
    }

    fn check(&self) -> Result<(), PipelineError> {
        if self.stages.is_empty() || self.stages.len() > MAX_STAGES {
            let found = self.stages.len().to_string();
            return Err(PipelineError::plan("", "stage", "1 to 64 stages", found));
        }
        let mut names = BTreeSet::new();
        for stage in &self.stages {
            stage.check(self.seed)?;
            if !names.insert(stage.name.as_str()) {
                let expected = "a name that no other stage has";
                return Err(PipelineError::plan("", "name", expected, &stage.name));
            }
        }
        refs::check(self)?;
        self.check_dictionary()
    }

    /// What audits read through is a stage that trains a dictionary, or a file; only a stage's can be trained on.
    fn check_dictionary(&self) -> Result<(), PipelineError> {
        let refused = |key: &str, expected: &str, found: &str| {
            Err(PipelineError::plan("", key, expected, found))
        };
        let audit = &self.audit;
        let made = match &audit.dictionary {
            None => None,
            Some(name) => match self.stage(name) {
                Some(stage) if !stage.is_dictionary() => {
                    let expected = "a stage with method = \"dictionary\", or a file";
                    let found = format!("stage `{name}` by `{}`", stage.method);
                    return refused("audit.dictionary", expected, &found);
                }
                found => found,
            },
        };
        let Some(tokens) = audit.refit else {
            return Ok(());
        };
        let Some(made) = made else {
            let expected = "`audit.dictionary` with a stage that trains one: a file has not what it was trained with";
            let found = audit.dictionary.as_deref().unwrap_or("none");
            return refused("audit.refit", expected, found);
        };
        let config = dictionary::of(made, self.seed)?;
        if config.data.path.is_none() && config.data.suite.is_none() {
            let expected =
                "texts, as data.path or data.suite: a store has the rows of one model alone";
            return Err(PipelineError::plan(&made.name, "data", expected, "a store"));
        }
        let batch = config.schedule.batch;
        if tokens / (batch as u64) == 0 {
            let expected = format!(
                "at least the {batch} tokens of a step of stage `{}`",
                made.name
            );
            return refused("audit.refit", &expected, &tokens.to_string());
        }
        Ok(())
    }

    /// The plan with the path of its dictionary absolute, so that it leads there from any folder.
    ///
    /// # Errors
    /// A working directory that is gone.
    pub(super) fn anchored(&self) -> Result<Self, PipelineError> {
        let mut plan = self.clone();
        if let Some(name) = &self.audit.dictionary
            && self.stage(name).is_none()
            && built_in::dictionary(name).is_none()
        {
            let path = Path::new(name);
            let whole = std::path::absolute(path).map_err(PipelineError::io(path, "find"))?;
            plan.audit.dictionary = Some(whole.display().to_string());
        }
        Ok(plan)
    }

    /// The stage with this name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

impl Stage {
    fn check(&self, seed: u64) -> Result<(), PipelineError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let named = !self.name.is_empty() && self.name.len() <= 64 && self.name.chars().all(plain);
        if !named || self.name == refs::WORLD {
            let expected = "letters, digits, - and _, at most 64, and not `world`";
            return Err(PipelineError::plan("", "name", expected, &self.name));
        }
        if self.method == edited::METHOD {
            return edited::of(self).map(|_| ());
        }
        if self.is_dictionary() {
            return dictionary::of(self, seed).map(|_| ());
        }
        if !METHODS.contains(&self.method.as_str()) {
            let expected = format!(
                "one of {}, {}, {}",
                METHODS.join(", "),
                edited::METHOD,
                dictionary::METHOD
            );
            return Err(PipelineError::plan(
                &self.name,
                "method",
                expected,
                &self.method,
            ));
        }
        match (&self.from, self.model.is_empty()) {
            (None, true) => {
                let expected = "`from` with an earlier stage, or a [stage.model]";
                Err(PipelineError::plan(&self.name, "from", expected, "neither"))
            }
            (Some(from), false)
                if self.model.contains_key("name") || self.model.contains_key("new") =>
            {
                let expected = "`from` or a [stage.model] with a name, not both";
                Err(PipelineError::plan(&self.name, "from", expected, from))
            }
            _ => Ok(()),
        }
    }

    /// Whether it trains a model that answers, which is what audits ask.
    pub fn is_policy(&self) -> bool {
        self.method != "rm" && !self.is_dictionary()
    }

    /// Whether it trains a dictionary, which is no model.
    pub fn is_dictionary(&self) -> bool {
        self.method == dictionary::METHOD
    }

    /// Its table as the config of one run, with `name` as the model it begins with.
    pub(super) fn config(&self, seed: u64, name: Option<&Path>) -> Table {
        let mut table = Table::new();
        let seed = self.seed.unwrap_or(seed);
        table.insert("seed".to_owned(), Value::Integer(seed.cast_signed()));
        let mut model = self.model.clone();
        if let Some(name) = name {
            let name = Value::String(name.display().to_string());
            model.insert("name".to_owned(), name);
        }
        let method = Table::from_iter([(self.method.clone(), Value::Table(self.options.clone()))]);
        let sections = [
            ("model", model),
            ("data", self.data.clone()),
            ("optim", self.optim.clone()),
            ("schedule", self.schedule.clone()),
            ("lora", self.lora.clone()),
            ("alerts", self.alerts.clone()),
            ("output", self.output.clone()),
            ("method", method),
        ];
        for (section, content) in sections {
            if !content.is_empty() {
                table.insert(section.to_owned(), Value::Table(content));
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_found_from_any_folder_and_a_name_stays_a_name() {
        let anchored = |name: &str| {
            let text = format!(
                "name = 'p'\n[audit]\ndictionary = '{name}'\n\
                [[stage]]\nname = 'sae'\nmethod = 'dictionary'\nmodel = {{ name = 'toy' }}\n\
                options = {{ reads = ['resid_post.0'], d_sae = 8, architecture = {{ kind = 'top-k', k = 2 }} }}\n\
                data = {{ path = 'a.txt' }}\nschedule = {{ rows = 64, batch = 64 }}\n"
            );
            let plan = Plan::parse("plan", &text).unwrap().anchored().unwrap();
            plan.audit.dictionary.unwrap()
        };
        for name in ["sae", "pocket-sae", "/elsewhere/sae"] {
            assert_eq!(anchored(name), name);
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(Path::new(&anchored("mine/sae")), here.join("mine/sae"));
    }
}
