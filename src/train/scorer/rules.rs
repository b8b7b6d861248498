//! Rules as a source of rewards: what can be said of an answer without a model.
//!
//! Always: a rule's score times its weight, added up over the rules; a rule sees the answer without the token that ended it.

use std::collections::BTreeSet;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{Answer, Scorer, TrainError};
use crate::text::Tokenizer;

/// One rule: `[[method.NAME.reward.rules]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// How often a text occurs.
    Count {
        /// The text.
        text: String,
        /// Occurrences beyond this many do not count.
        #[serde(default = "once")]
        most: usize,
        /// Weight.
        #[serde(default = "whole")]
        weight: f64,
    },
    /// How often a regular expression matches.
    Pattern {
        /// The expression.
        regex: String,
        /// Matches beyond this many do not count.
        #[serde(default = "once")]
        most: usize,
        /// Weight.
        #[serde(default = "whole")]
        weight: f64,
    },
    /// The share of the answer's tokens that are among these, each also with a space in front.
    Tokens {
        /// Texts of one token each.
        texts: Vec<String>,
        /// Weight.
        #[serde(default = "whole")]
        weight: f64,
    },
    /// Minus the distance of the answer's length from a target, as a share of the target.
    Length {
        /// Tokens.
        target: usize,
        /// Weight.
        #[serde(default = "whole")]
        weight: f64,
    },
    /// 1 for an answer that ended by itself.
    Stops {
        /// Weight.
        #[serde(default = "whole")]
        weight: f64,
    },
}

fn once() -> usize {
    1
}

fn whole() -> f64 {
    1.0
}

impl Rule {
    /// Refuses a rule that says nothing.
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
        if !self.weight().is_finite() {
            return refuse("weight", "a number", self.weight().to_string());
        }
        match self {
            Self::Count { text, .. } if text.is_empty() => {
                refuse("text", "at least one character", "none".into())
            }
            Self::Pattern { regex, .. } => match Regex::new(regex) {
                Ok(_) => Ok(()),
                Err(error) => refuse("regex", "a regular expression", error.to_string()),
            },
            Self::Tokens { texts, .. } if texts.is_empty() => {
                refuse("texts", "at least one", "none".into())
            }
            Self::Length { target: 0, .. } => refuse("target", "at least 1 token", "0".into()),
            _ => Ok(()),
        }
    }

    fn weight(&self) -> f64 {
        match self {
            Self::Count { weight, .. }
            | Self::Pattern { weight, .. }
            | Self::Tokens { weight, .. }
            | Self::Length { weight, .. }
            | Self::Stops { weight } => *weight,
        }
    }
}

/// What a rule looks at, made ready.
enum Look {
    Count(String, usize),
    Pattern(Regex, usize),
    Tokens(BTreeSet<u32>),
    Length(usize),
    Stops,
}

/// All rules with their weights.
pub struct Rules(Vec<(Look, f64)>);

impl Rules {
    /// With the policy's words.
    ///
    /// # Errors
    /// A text that is no token; a pattern that is none.
    pub fn new(rules: &[Rule], tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        let ready = |rule: &Rule| -> Result<_, TrainError> {
            let look = match rule {
                Rule::Count { text, most, .. } => Look::Count(text.clone(), *most),
                Rule::Pattern { regex, most, .. } => {
                    let wrong = |error: regex::Error| {
                        TrainError::config("reward.rules.regex", "a regular expression", error)
                    };
                    Look::Pattern(Regex::new(regex).map_err(wrong)?, *most)
                }
                Rule::Tokens { texts, .. } => Look::Tokens(tokens(texts, tokenizer)?),
                Rule::Length { target, .. } => Look::Length(*target),
                Rule::Stops { .. } => Look::Stops,
            };
            Ok((look, rule.weight()))
        };
        rules.iter().map(ready).collect::<Result<_, _>>().map(Self)
    }
}

fn tokens(texts: &[String], tokenizer: &Tokenizer) -> Result<BTreeSet<u32>, TrainError> {
    let mut set = BTreeSet::new();
    for text in texts {
        let before = set.len();
        for form in [text.clone(), format!(" {text}")] {
            if let [id] = tokenizer.encode(&form, false)?[..] {
                set.insert(id);
            }
        }
        if set.len() == before {
            let expected = "texts that are one token of the model each, and named once";
            return Err(TrainError::config(
                "reward.rules.texts",
                expected,
                format!("{text:?}"),
            ));
        }
    }
    Ok(set)
}

impl Look {
    fn score(&self, answer: &Answer) -> f64 {
        let said = answer.said();
        match self {
            Self::Count(text, most) => answer.text.matches(text).take(*most).count() as f64,
            Self::Pattern(regex, most) => regex.find_iter(&answer.text).take(*most).count() as f64,
            Self::Tokens(set) => {
                let among = said.iter().filter(|id| set.contains(id)).count();
                among as f64 / said.len().max(1) as f64
            }
            Self::Length(target) => -(said.len().abs_diff(*target) as f64) / *target as f64,
            Self::Stops => f64::from(u8::from(answer.ended)),
        }
    }
}

impl Scorer for Rules {
    fn scores(&mut self, answers: &[Answer]) -> Result<Vec<f64>, TrainError> {
        let score = |answer: &Answer| {
            let each = self.0.iter();
            each.map(|(look, weight)| weight * look.score(answer)).sum()
        };
        Ok(answers.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules_by_hand() {
        let (tokenizer, _) = crate::text::toy::words().unwrap();
        let stop = tokenizer.stop_ids()[0];
        let answer = |text: &str, ended: bool| {
            let mut ids = tokenizer.encode(text, false).unwrap();
            ids.extend(ended.then_some(stop));
            let mut answer = Answer::new(&[1], &ids, &[stop]);
            answer.text = text.to_owned();
            answer
        };
        let toml = "rules = [{ kind = 'count', text = 'cat', most = 2, weight = 10.0 },\n\
            { kind = 'pattern', regex = '^ ?a ', weight = 100.0 },\n\
            { kind = 'tokens', texts = ['cat', 'dog'] },\n\
            { kind = 'length', target = 4, weight = 1000.0 },\n\
            { kind = 'stops', weight = 10000.0 }]";
        let source: crate::train::scorer::RewardSource = toml::from_str(toml).unwrap();
        source.check("r").unwrap();
        let mut rules = Rules::new(&source.rules, &tokenizer).unwrap();
        // Three times the word counts twice; 3 of 5 tokens; 1 token too long, of 4; ended.
        let found = rules.scores(&[answer(" a cat cat and cat", true)]).unwrap();
        assert_eq!(found, [20.0 + 100.0 + 0.6 - 250.0 + 10000.0]);
        let found = rules.scores(&[answer(" the dog", false)]).unwrap();
        assert_eq!(found, [0.5 - 500.0]);
        let no_token = Rule::Tokens {
            texts: vec!["zebra".into()],
            weight: 1.0,
        };
        assert!(Rules::new(&[no_token], &tokenizer).is_err());
        let broken = Rule::Pattern {
            regex: "(".into(),
            most: 1,
            weight: 1.0,
        };
        let said = broken.check("rules[0]").unwrap_err().to_string();
        assert!(said.contains("rules[0].regex"), "{said}");
    }
}
