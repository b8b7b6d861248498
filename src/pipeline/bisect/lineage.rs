//! The audited checkpoints that lead to a stage, and the first of them where a signal broke.
//!
//! Always: checkpoints stand in the order in which the weights went through them: the audits of the stage that the first
//! stage began with come first, each stage's by step; a checkpoint that did not ask the signal is passed over.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BisectError, Rule, Target};
use crate::audit::measure::Value;
use crate::audit::report::json;
use crate::audit::result::SignalResult;
use crate::audit::verdict::Verdict;
use crate::audit::wording;
use crate::pipeline::plan::Stage;
use crate::pipeline::{Plan, State};

/// What was found on a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The stage.
    pub stage: String,
    /// The step; 0 is the model that the stage began with.
    pub step: u64,
    /// How far from good.
    pub grade: u8,
    /// The verdict.
    pub verdict: Verdict,
    /// The quantity, with its interval.
    pub value: Option<Value>,
    /// Why the verdict is what it is.
    pub reason: String,
    /// Hash of the weights.
    pub weights: String,
    /// Hash of the policy that it was asked by.
    pub policy: String,
}

impl Seen {
    /// Of a signal's result.
    pub fn of(
        (stage, step): (&str, u64),
        (target, rule): (&Target, Rule),
        signal: &SignalResult,
        (weights, policy): (&str, &str),
    ) -> Self {
        let (verdict, value) = (target.verdict(signal), target.value(signal).cloned());
        Self {
            stage: stage.to_owned(),
            step,
            grade: rule.grade(verdict, value.as_ref()),
            verdict,
            value,
            reason: signal.reason.clone(),
            weights: weights.to_owned(),
            policy: policy.to_owned(),
        }
    }

    /// Stage and step.
    pub fn name(&self) -> String {
        format!("{} step {}", self.stage, self.step)
    }

    /// The verdict with the number.
    pub fn words(&self) -> String {
        let value = self.value.as_ref().map(wording::estimate);
        match value {
            Some(value) => format!("{} at {value}", self.verdict.word()),
            None => self.verdict.word().to_owned(),
        }
    }
}

/// The stages that lead to one, it last.
pub(super) fn stages<'a>(plan: &'a Plan, last: &'a Stage) -> Vec<&'a Stage> {
    let mut way = vec![last];
    let mut at = last;
    while let Some(before) = at.from.as_deref().and_then(|name| plan.stage(name)) {
        way.push(before);
        at = before;
    }
    way.reverse();
    way
}

/// What the stored audits on the way to a stage say of a signal.
///
/// # Errors
/// An audit that cannot be read; none that asked the signal, or no limit on the quantity.
pub(super) fn course(
    root: &Path,
    state: &State,
    way: &[&Stage],
    (target, rule): (&Target, Rule),
) -> Result<Vec<Seen>, BisectError> {
    let (mut seen, mut asked, mut limited) = (Vec::new(), Vec::<String>::new(), false);
    for stage in way {
        let mut own: Vec<_> = state
            .audits
            .iter()
            .filter(|audited| audited.stage == stage.name)
            .collect();
        own.sort_by_key(|audited| audited.step);
        for audited in own {
            let audit = json::load(&root.join(&audited.audit))
                .map_err(crate::pipeline::PipelineError::from)?;
            for signal in &audit.signals {
                if !asked.contains(&signal.id) {
                    asked.push(signal.id.clone());
                }
            }
            let Some(signal) = audit.signal(target.signal.id) else {
                continue;
            };
            limited |= match target.quantity {
                Some(name) => signal.checks.iter().any(|check| check.value == name),
                None => true,
            };
            let of = (
                audit.subject.weights_hash.as_str(),
                audit.policy.hash.as_str(),
            );
            seen.push(Seen::of(
                (&stage.name, audited.step),
                (target, rule),
                signal,
                of,
            ));
        }
    }
    let last = way.last().map_or("", |stage| stage.name.as_str());
    if seen.is_empty() {
        return Err(BisectError::NeverMeasured {
            stage: last.to_owned(),
            signal: target.signal.id.to_owned(),
            known: if asked.is_empty() {
                "nothing".to_owned()
            } else {
                asked.join(", ")
            },
        });
    }
    if rule == Rule::Verdict && !limited {
        return Err(BisectError::NoLimit {
            signal: target.name(),
        });
    }
    Ok(seen)
}

/// The first checkpoint that is worse than the one before it: the places of both.
///
/// # Errors
/// It never got worse; it was never good.
pub(super) fn first_break(
    seen: &[Seen],
    (target, rule): (&Target, Rule),
) -> Result<(usize, usize), BisectError> {
    let worse = (1..seen.len()).find(|&i| seen[i].grade > seen[i - 1].grade);
    if let Some(bad) = worse {
        return Ok((bad - 1, bad));
    }
    let course: Vec<String> = seen
        .iter()
        .map(|seen| format!("{} {}", seen.name(), seen.words()))
        .collect();
    let (course, rule) = (course.join("; "), rule.words(target));
    let (signal, first) = (target.name(), &seen[0]);
    Err(if first.grade > 0 {
        BisectError::BrokenFromTheFirst {
            signal,
            first: first.name(),
            course,
            rule,
        }
    } else {
        BisectError::NeverBroke {
            signal,
            stage: seen[seen.len() - 1].stage.clone(),
            course,
            rule,
        }
    })
}

/// How often it got worse from one checkpoint to the next.
pub(super) fn breaks(seen: &[Seen]) -> usize {
    let pairs = seen.windows(2);
    pairs.filter(|pair| pair[1].grade > pair[0].grade).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seen(grades: &[u8]) -> Vec<Seen> {
        let each = grades.iter().enumerate();
        each.map(|(i, &grade)| Seen {
            stage: "a".to_owned(),
            step: i as u64 + 1,
            grade,
            verdict: [Verdict::Pass, Verdict::Review, Verdict::Block][usize::from(grade)],
            value: None,
            reason: String::new(),
            weights: String::new(),
            policy: String::new(),
        })
        .collect()
    }

    #[test]
    fn the_first_worse_checkpoint_is_found() {
        let target = Target::parse("refusal_rate").unwrap();
        let of = |grades: &[u8]| first_break(&seen(grades), (&target, Rule::Verdict));
        assert_eq!(of(&[0, 0, 1, 2]).unwrap(), (1, 2));
        // A model that nobody has taught yet is broken; what counts is where it breaks after it was good.
        assert_eq!(of(&[2, 2, 0, 0, 1, 0, 2]).unwrap(), (3, 4));
        assert_eq!(of(&[1, 2]).unwrap(), (0, 1));
        assert_eq!(breaks(&seen(&[2, 2, 0, 0, 1, 0, 2])), 2);
        let error = of(&[0, 0]).unwrap_err().to_string();
        assert!(
            error.contains("never broke") && error.contains("a step 2 PASS"),
            "{error}"
        );
        let error = of(&[2, 1, 0, 0]).unwrap_err().to_string();
        assert!(
            error.contains("broken from the first audited checkpoint on, a step 1"),
            "{error}"
        );
    }
}
