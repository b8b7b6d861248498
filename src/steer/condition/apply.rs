//! Steering by conditions: what fires is decided for each prompt by itself, then prompts with the same rules run together.
//!
//! Always: a prompt's decision depends on its own unedited states alone, not on its neighbours in a batch, and is held for
//! the whole answer. IBM's library steers by row 0 of a batch; here prompts for which different rules fire never share one.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Condition;
use crate::hooks::{Edit, Hooks};
use crate::model::Checkpoint;
use crate::steer::content::mean_states;
use crate::steer::{
    Completion, EncodedPrompt, Options, Span, SteerError, completions, condition::Rule,
};

/// The conditions' scores of one prompt.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Fired {
    /// Score of each condition, in their order.
    pub scores: Vec<f64>,
    /// Whether it fired.
    pub fired: Vec<bool>,
}

/// Scores each prompt against each condition, in the order of the prompts: one pass over the prompts, up to the highest
/// layer that a condition looks at.
///
/// # Errors
/// A condition of another width or layer, anything a pass can fail with.
pub fn firing(
    cp: &Checkpoint,
    prompts: &[EncodedPrompt],
    content: &[Range<usize>],
    conditions: &[&Condition],
    options: &Options,
) -> Result<Vec<Fired>, SteerError> {
    let width = cp.config().d_model;
    if let Some(other) = conditions.iter().find(|c| c.direction.len() != width) {
        return Err(SteerError::Width {
            file: "a condition".into(),
            tensor: "condition".into(),
            expected: width,
            model: cp.name.clone(),
            found: other.direction.len(),
        });
    }
    let mut layers: Vec<usize> = conditions.iter().map(|c| c.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let states = mean_states(cp, prompts, content, &layers, options)?;
    let scores: Vec<Vec<f64>> = conditions
        .iter()
        .map(|condition| {
            let at = layers.binary_search(&condition.layer).unwrap_or_default();
            condition.scores(states[at].view())
        })
        .collect();
    let row = |i: usize| Fired {
        scores: scores.iter().map(|scores| scores[i]).collect(),
        fired: conditions
            .iter()
            .zip(&scores)
            .map(|(condition, scores)| condition.fires(scores[i]))
            .collect(),
    };
    Ok((0..prompts.len()).map(row).collect())
}

/// Which of the rules hold for a prompt.
///
/// # Errors
/// A rule with a condition that is not among `names`.
pub fn fired(rules: &[Rule], names: &[&str], prompt: &Fired) -> Result<Vec<bool>, SteerError> {
    rules
        .iter()
        .map(|rule| {
            if let Some(name) = rule
                .when
                .names()
                .into_iter()
                .find(|name| !names.contains(name))
            {
                return Err(SteerError::Condition {
                    name: name.to_owned(),
                    why: "is not given",
                    known: names.join(", "),
                });
            }
            let held = |name: &str| {
                let at = names.iter().position(|known| *known == name);
                at.is_some_and(|at| prompt.fired[at])
            };
            Ok(rule.when.holds(&held))
        })
        .collect()
}

/// An answer with the edits it was given under.
#[derive(Debug, Clone, PartialEq)]
pub struct Steered {
    /// The answer.
    pub answer: Completion,
    /// Which of the rules' edits were applied.
    pub applied: Vec<bool>,
}

/// Greedy answers, each under `always` and the edits of the rules that hold for its prompt (`applied[prompt][rule]`), at the
/// positions of `span`.
///
/// # Errors
/// As [`completions`].
pub fn conditional(
    cp: &Checkpoint,
    prompts: &[EncodedPrompt],
    (always, rules): (&[Edit], &[Vec<Edit>]),
    applied: &[Vec<bool>],
    (span, max_new): (Span, usize),
    options: &Options,
) -> Result<Vec<Steered>, SteerError> {
    // What a batch has in common: its edits, and where they are told from the prompt's end, how far that is.
    let mut groups: BTreeMap<(&[bool], usize), Vec<usize>> = BTreeMap::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let tail = if span == Span::After {
            prompt.tail.len()
        } else {
            0
        };
        groups.entry((&applied[i], tail)).or_default().push(i);
    }
    let mut out: Vec<Option<Steered>> = vec![None; prompts.len()];
    let mut before = 0;
    for ((which, tail), indices) in groups {
        let own: Vec<EncodedPrompt> = indices.iter().map(|&i| prompts[i].clone()).collect();
        let chosen = rules.iter().zip(which).filter(|(_, on)| **on);
        let edits = always.iter().chain(chosen.flat_map(|(edits, _)| edits));
        let hooks = Hooks::new().edits(span.restrict(edits.cloned().collect(), tail));
        let step = |done: usize, _: usize| {
            if let Some(progress) = options.progress {
                progress(before + done, prompts.len());
            }
        };
        let options = Options {
            progress: Some(&step),
            ..*options
        };
        for (&i, answer) in indices
            .iter()
            .zip(completions(cp, &own, max_new, &hooks, &options)?)
        {
            out[i] = Some(Steered {
                answer,
                applied: which.to_vec(),
            });
        }
        before += indices.len();
    }
    Ok(out.into_iter().flatten().collect())
}
