//! `[method.NAME.rollout]`: how answers are drawn, and what is refused.

use serde::{Deserialize, Serialize};

use crate::train::TrainError;

/// How answers are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Of drawing and of every log-probability.
    pub temperature: f64,
    /// Most tokens of an answer.
    pub response_length: usize,
    /// What an answer loses that runs into that length.
    pub missing_eos_penalty: f64,
    /// Answers drawn side by side.
    pub batch: usize,
    /// Answers in the log at each checkpoint and evaluation.
    pub samples: usize,
    /// Refused: see [`Self::check`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Refused as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            response_length: 53,
            missing_eos_penalty: 1.0,
            batch: 32,
            samples: 4,
            top_p: None,
            top_k: None,
        }
    }
}

impl Sampling {
    /// Refuses values outside their range, and drawing from less than the whole distribution: the ratio of the policy now to
    /// that of the rollout would be of other distributions than those that were drawn from.
    ///
    /// # Errors
    /// Naming the field, which begins with `section`.
    pub fn check(&self, section: &str) -> Result<(), TrainError> {
        let refuse = |key: &str, expected: &str, found: String| {
            Err(TrainError::config(
                format!("{section}.{key}"),
                expected,
                found,
            ))
        };
        let whole = "nothing: answers are drawn from the whole distribution, whose log-probabilities train; remove it";
        if let Some(p) = self.top_p {
            return refuse("top_p", whole, p.to_string());
        }
        if let Some(k) = self.top_k {
            return refuse("top_k", whole, k.to_string());
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return refuse("temperature", "above 0", self.temperature.to_string());
        }
        if !(self.missing_eos_penalty >= 0.0 && self.missing_eos_penalty.is_finite()) {
            let found = self.missing_eos_penalty.to_string();
            return refuse("missing_eos_penalty", "0 or more", found);
        }
        for (key, count) in [
            ("response_length", self.response_length),
            ("batch", self.batch),
        ] {
            if count == 0 {
                return refuse(key, "at least 1", "0".into());
            }
        }
        Ok(())
    }
}
