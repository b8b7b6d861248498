//! Rules as a source of rewards: what can be said of an answer without a model.
//!
//! Always: a rule's score times its weight, added up over the rules; a rule sees the answer without the token that ended it.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The sum of what each of the answer's tokens is worth; a text stands for its token with and without a space in front.
    Values {
        /// Texts of one token each, with their worth; other tokens are worth 0.
        each: BTreeMap<String, f64>,
        /// Weight.
        #[serde(default = "whole")]
        weight: f64,
    },
    /// How many of the answer's runs of `n` tokens stand in it before; with a negative weight a price of repetition.
    Repeats {
        /// Tokens of a run.
        #[serde(default = "once")]
        n: usize,
        /// Up to this many do not count.
        #[serde(default)]
        free: usize,
        /// Weight.
        #[serde(default = "whole")]
        weight: f64,
    },
    /// Distinct-n: the share of the answer's runs of `n` tokens that are different ones; 1 for an answer that has none.
    Distinct {
        /// Tokens of a run.
        #[serde(default = "once")]
        n: usize,
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
            Self::Values { each, .. } if each.is_empty() => {
                refuse("each", "at least one text with its worth", "none".into())
            }
            Self::Values { each, .. } => match each.iter().find(|(_, worth)| !worth.is_finite()) {
                Some((text, worth)) => {
                    refuse(&format!("each.{text}"), "a number", worth.to_string())
                }
                None => Ok(()),
            },
            Self::Repeats { n: 0, .. } | Self::Distinct { n: 0, .. } => {
                refuse("n", "at least 1 token", "0".into())
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
            | Self::Values { weight, .. }
            | Self::Repeats { weight, .. }
            | Self::Distinct { weight, .. }
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
    Values(BTreeMap<u32, f64>),
    Repeats(usize, usize),
    Distinct(usize),
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
                Rule::Values { each, .. } => Look::Values(values(each, tokenizer)?),
                Rule::Repeats { n, free, .. } => Look::Repeats(*n, *free),
                Rule::Distinct { n, .. } => Look::Distinct(*n),
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
        set.extend(forms(text, tokenizer)?);
        if set.len() == before {
            return Err(no_token("texts", text));
        }
    }
    Ok(set)
}

fn values(
    each: &BTreeMap<String, f64>,
    tokenizer: &Tokenizer,
) -> Result<BTreeMap<u32, f64>, TrainError> {
    let mut worths = BTreeMap::new();
    for (text, &worth) in each {
        let forms = forms(text, tokenizer)?;
        let before = worths.len();
        worths.extend(forms.iter().map(|&id| (id, worth)));
        if forms.is_empty() || worths.len() != before + forms.len() {
            return Err(no_token("each", text));
        }
    }
    Ok(worths)
}

/// The tokens that a text is, with and without a space in front.
fn forms(text: &str, tokenizer: &Tokenizer) -> Result<BTreeSet<u32>, TrainError> {
    let mut found = BTreeSet::new();
    for form in [text.to_owned(), format!(" {text}")] {
        if let [id] = tokenizer.encode(&form, false)?[..] {
            found.insert(id);
        }
    }
    Ok(found)
}

fn no_token(key: &str, text: &str) -> TrainError {
    let expected = "texts that are one token of the model each, and named once";
    TrainError::config(format!("reward.rules.{key}"), expected, format!("{text:?}"))
}

/// Runs of `n` tokens that stand in `said` before, and all there are.
fn repeated(said: &[u32], n: usize) -> (usize, usize) {
    let runs: BTreeSet<&[u32]> = said.windows(n).collect();
    let all = said.windows(n).count();
    (all - runs.len(), all)
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
            Self::Values(worths) => {
                let each = said.iter().filter_map(|id| worths.get(id));
                each.sum()
            }
            Self::Repeats(n, free) => repeated(said, *n).0.saturating_sub(*free) as f64,
            Self::Distinct(n) => match repeated(said, *n) {
                (_, 0) => 1.0,
                (again, all) => (all - again) as f64 / all as f64,
            },
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

    /// By hand.
    #[test]
    fn words_have_their_worth_and_repetition_its_price() {
        let (tokenizer, _) = crate::text::toy::words().unwrap();
        let answer = |text: &str| {
            let ids = tokenizer.encode(text, false).unwrap();
            Answer::new(&[1], &ids, &[])
        };
        let rules = |toml: &str| {
            let source: crate::train::scorer::RewardSource = toml::from_str(toml).unwrap();
            source.check("r")?;
            Rules::new(&source.rules, &tokenizer)
        };
        let score = |toml: &str, text: &str| {
            let rules = &mut rules(toml).unwrap();
            rules.scores(&[answer(text)]).unwrap()[0]
        };
        let values =
            "rules = [{ kind = 'values', each = { cat = 1.0, dog = -0.5 }, weight = 2.0 }]";
        assert_eq!(score(values, "cat cat dog king"), 2.0 * (2.0 - 0.5));
        // 3 of 5 words and 2 of 4 pairs stand there before.
        let text = " cat dog cat dog cat";
        let repeats = |more: &str| score(&format!("rules = [{{ kind = 'repeats'{more} }}]"), text);
        assert_eq!(repeats(""), 3.0);
        assert_eq!(repeats(", n = 2"), 2.0);
        assert_eq!(repeats(", free = 1, weight = -3.0"), -6.0);
        assert_eq!(repeats(", free = 9"), 0.0);
        assert_eq!(repeats(", n = 9"), 0.0);
        let distinct =
            |n: usize| score(&format!("rules = [{{ kind = 'distinct', n = {n} }}]"), text);
        assert_eq!(distinct(1), 2.0 / 5.0);
        assert_eq!(distinct(2), 2.0 / 4.0);
        assert_eq!(distinct(9), 1.0);
        for (wrong, field) in [
            ("{ kind = 'values', each = {} }", "r.rules[0].each"),
            (
                "{ kind = 'values', each = { cat = nan } }",
                "r.rules[0].each.cat",
            ),
            (
                "{ kind = 'values', each = { zebra = 1.0 } }",
                "reward.rules.each",
            ),
            ("{ kind = 'repeats', n = 0 }", "r.rules[0].n"),
            ("{ kind = 'distinct', n = 0 }", "r.rules[0].n"),
        ] {
            let said = rules(&format!("rules = [{wrong}]"))
                .err()
                .unwrap()
                .to_string();
            assert!(said.contains(field), "{said}");
        }
    }
}
