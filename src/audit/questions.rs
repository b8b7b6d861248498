//! What a checkpoint is asked: the suites and trials for it, and which of their rows a policy's sizes take.
//!
//! Always: the choice depends on the suites, the sizes and the seed alone, so two checkpoints are asked the same.

use super::evidence::{Prompts, Splits};
use super::policy::Policy;
use super::result::SuiteUsed;
use super::runner::RunError;
use crate::model::Checkpoint;
use crate::pocket;
use crate::text::suites::{Label, Split, Suite, SuiteError, pick};
use crate::text::trials::{self, Protocol, TrialError, Trials};

/// The suites built into the binary.
pub fn builtin_suites() -> Result<Vec<Suite>, SuiteError> {
    Suite::names().into_iter().map(Suite::builtin).collect()
}

/// The sets of trials built into the binary.
pub fn builtin_trials() -> Result<Vec<Trials>, TrialError> {
    Trials::names().into_iter().map(Trials::builtin).collect()
}

/// The prompts for a checkpoint: a model of the pocket world knows no other words than its own, and is asked in those.
pub fn suites_for(checkpoint: &Checkpoint) -> Result<Vec<Suite>, RunError> {
    if pocket::suites::speaks(checkpoint.template.as_ref()) {
        Ok(pocket::suites::suites())
    } else {
        Ok(builtin_suites()?)
    }
}

/// The trials for a checkpoint, in the same way.
pub fn trials_for(checkpoint: &Checkpoint) -> Result<Vec<Trials>, RunError> {
    if pocket::suites::speaks(checkpoint.template.as_ref()) {
        Ok(pocket::trials::trials())
    } else {
        Ok(builtin_trials()?)
    }
}

/// What an audit by this policy and seed asks: prompts of the suites, and trials.
///
/// # Errors
/// Suites without prompts of a kind that every audit needs; trials that cannot be told apart.
pub fn asked(
    (suites, trials): (&[Suite], &[Trials]),
    policy: &Policy,
    seed: u64,
) -> Result<(Prompts, Vec<SuiteUsed>), RunError> {
    let (mut prompts, mut used) = prompts(suites, policy, seed)?;
    for protocol in Protocol::ALL {
        let picked = trials::pick(trials, protocol, policy.sizes.trials, seed)?;
        prompts.trials.extend(picked);
    }
    used.extend(trials.iter().map(|set| trials_used(set, &prompts)));
    Ok((prompts, used))
}

/// The prompts of the suites in the policy's sizes, and which rows were used.
fn prompts(
    suites: &[Suite],
    policy: &Policy,
    seed: u64,
) -> Result<(Prompts, Vec<SuiteUsed>), RunError> {
    let sizes = policy.sizes;
    let pick = |label: Label, split: Split, n: usize| pick(suites, label, split, n, seed);
    let class = |label: Label, test: usize| Splits {
        train: pick(label, Split::Train, sizes.fit),
        validation: pick(label, Split::Validation, sizes.select),
        test: pick(label, Split::Test, test),
    };
    let prompts = Prompts {
        harmful: class(Label::Harmful, sizes.harmful),
        harmless: class(Label::Harmless, sizes.harmless),
        lookalike: pick(Label::Lookalike, Split::Test, sizes.lookalikes),
        neutral: pick(Label::Neutral, Split::Test, sizes.lookalikes),
        trials: Vec::new(),
        preferences: Vec::new(),
        traits: Vec::new(),
    };
    for (label, rows) in [
        (Label::Harmful, &prompts.harmful.test),
        (Label::Harmless, &prompts.harmless.test),
    ] {
        if rows.is_empty() {
            return Err(RunError::Empty {
                label: label.name(),
                split: Split::Test.name(),
                needed: 1,
            });
        }
    }
    let used = suites
        .iter()
        .map(|suite| suite_used(suite, &prompts))
        .collect();
    Ok((prompts, used))
}

fn trials_used(set: &Trials, prompts: &Prompts) -> SuiteUsed {
    SuiteUsed {
        name: format!("trials: {}", set.name),
        hash: set.hash.clone(),
        licence: licences(set.rows.iter().map(|row| row.licence.as_str())),
        n: (set.rows.iter())
            .filter(|row| prompts.trials.contains(row))
            .count(),
    }
}

/// Each licence once.
fn licences<'a>(rows: impl Iterator<Item = &'a str>) -> String {
    let distinct: std::collections::BTreeSet<&str> = rows.collect();
    distinct.into_iter().collect::<Vec<_>>().join(", ")
}

fn suite_used(suite: &Suite, prompts: &Prompts) -> SuiteUsed {
    let all: Vec<_> = [&prompts.harmful, &prompts.harmless]
        .into_iter()
        .flat_map(|splits| [&splits.train, &splits.validation, &splits.test])
        .chain([&prompts.lookalike, &prompts.neutral])
        .flatten()
        .collect();
    SuiteUsed {
        name: suite.name.clone(),
        hash: suite.hash.clone(),
        licence: licences(suite.rows.iter().map(|row| row.licence.as_str())),
        n: suite.rows.iter().filter(|row| all.contains(row)).count(),
    }
}
