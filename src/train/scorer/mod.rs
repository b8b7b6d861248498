//! Where rewards come from: reward models, rules of the config, or a command that is asked over a pipe.
//!
//! Always: one number for each answer, a finite one, which depends on the answer alone; what goes wrong says which source it
//! was and what to do, before any weight has changed. `[method.NAME.reward]` is [`RewardSource`].

mod command;
mod models;
mod monitor;
mod rules;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    TrainError,
    loss::{Ensemble, LengthRule},
    rollout::Answer,
};
use crate::text::Tokenizer;

pub use command::Ask;
pub use models::open_scored;
pub use monitor::{Monitor, Watched, check_monitors};
pub use rules::Rule;

/// `[method.NAME.reward]`: one of `models`, `rules` and `command`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardSource {
    /// Folders of reward models, as `train rm` writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<PathBuf>,
    /// How the scores of several become one: `mean`, `min`, or `uwo` with its `lambda`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<Ensemble>,
    /// Rules, whose scores add up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// A program that is given each answer as a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Ask>,
    /// How the score counts the length of an answer: `none`, `per_token`, `residual` (less what length explains of a rollout's
    /// scores), or `penalty` with `each` and `free`.
    pub length: LengthRule,
}

/// Something that scores answers.
pub trait Scorer {
    /// A score for each answer, in their order.
    ///
    /// # Errors
    /// A source that gives no number.
    fn scores(&mut self, answers: &[Answer]) -> Result<Vec<f64>, TrainError>;
}

impl RewardSource {
    /// Refuses a source that is none, or several.
    ///
    /// # Errors
    /// Naming the field, which begins with `section`.
    pub fn check(&self, section: &str) -> Result<(), TrainError> {
        let given = [
            !self.models.is_empty(),
            !self.rules.is_empty(),
            self.command.is_some(),
        ];
        let count = given.iter().filter(|given| **given).count();
        if count != 1 {
            return Err(TrainError::config(
                section,
                "one of `models`, `rules` and `command`",
                match count {
                    0 => "none of them",
                    _ => "more than one",
                },
            ));
        }
        let several = self.models.len() > 1;
        if several && self.ensemble.is_none() {
            let expected = "mean, min or uwo, since there are several models";
            let field = format!("{section}.ensemble");
            return Err(TrainError::config(field, expected, "none"));
        }
        if self.ensemble.is_some() && !several {
            return Err(TrainError::Ignored {
                field: format!("{section}.ensemble"),
                why: "there are no several models".into(),
            });
        }
        self.length.check()?;
        for (i, rule) in self.rules.iter().enumerate() {
            rule.check(&format!("{section}.rules[{i}]"))?;
        }
        self.command
            .iter()
            .try_for_each(|ask| ask.check(&format!("{section}.command")))
    }

    /// Opens it. `batch` answers are given to a reward model at a time.
    ///
    /// # Errors
    /// A model that cannot be opened or has other words; a rule's word that is no token.
    pub fn open(&self, tokenizer: &Tokenizer, batch: usize) -> Result<Box<dyn Scorer>, TrainError> {
        if let Some(ask) = &self.command {
            return Ok(Box::new(command::Piped::new(ask.clone())));
        }
        if !self.rules.is_empty() {
            return Ok(Box::new(rules::Rules::new(&self.rules, tokenizer)?));
        }
        let by = self.ensemble.unwrap_or(Ensemble::Mean);
        Ok(Box::new(models::Judges::open(
            &self.models,
            by,
            tokenizer,
            batch,
        )?))
    }
}
