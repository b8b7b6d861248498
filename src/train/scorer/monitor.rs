//! Rewards that are watched and do not train: `[method.NAME.monitor.WATCHED]`, each a source as `[method.NAME.reward]` is.
//!
//! Always: a monitor sees the answers that the reward sees, and nothing that trains sees it. What the field calls the gold
//! reward is one: the reward that was meant, beside the one that is optimised (Gao, Schulman and Hilton 2023).

use std::collections::BTreeMap;

use super::{Answer, LengthRule, RewardSource, Scorer, TrainError};
use crate::text::Tokenizer;

/// `[method.NAME.monitor]`: sources by name.
pub type Watched = BTreeMap<String, RewardSource>;

/// A source that is watched.
pub struct Monitor {
    /// Its name in the log.
    pub name: String,
    scorer: Box<dyn Scorer>,
    length: LengthRule,
}

/// Refuses a name that no metric can have, and a source that is none.
///
/// # Errors
/// Naming the field, which begins with `section`.
pub fn check_monitors(watched: &Watched, section: &str) -> Result<(), TrainError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    watched.iter().try_for_each(|(name, source)| {
        if name.is_empty() || !name.chars().all(plain) {
            let expected = "a name of letters, digits, `-` and `_`";
            return Err(TrainError::config(section, expected, format!("{name:?}")));
        }
        source.check(&format!("{section}.{name}"))
    })
}

impl Monitor {
    /// Opens all of them. `batch` answers are given to a model at a time.
    ///
    /// # Errors
    /// As [`RewardSource::open`].
    pub fn open(
        watched: &Watched,
        tokenizer: &Tokenizer,
        batch: usize,
    ) -> Result<Vec<Self>, TrainError> {
        let open =
            |(name, source): (&String, &RewardSource)| Self::of(name, source, tokenizer, batch);
        watched.iter().map(open).collect()
    }

    /// Opens one.
    ///
    /// # Errors
    /// As [`RewardSource::open`].
    pub fn of(
        name: &str,
        source: &RewardSource,
        tokenizer: &Tokenizer,
        batch: usize,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            name: name.to_owned(),
            scorer: source.open(tokenizer, batch)?,
            length: source.length,
        })
    }

    /// A score for each answer, in their order, by the source's length rule.
    ///
    /// # Errors
    /// A source that gives no number.
    pub fn scores(&mut self, answers: &[Answer]) -> Result<Vec<f64>, TrainError> {
        let raw = self.scorer.scores(answers)?;
        let tokens: Vec<usize> = answers.iter().map(|answer| answer.ids.len()).collect();
        let scores = self.length.rewards(&raw, &tokens);
        match scores.iter().position(|score| !score.is_finite()) {
            None => Ok(scores),
            Some(at) => Err(TrainError::Reward {
                origin: format!("monitor `{}`", self.name),
                why: format!("it is {} for the answer {:?}", scores[at], answers[at].text),
            }),
        }
    }
}
