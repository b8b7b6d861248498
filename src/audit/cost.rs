//! How much an audit will cost, before it begins: what its progress and its time left are reckoned by.

use super::evidence::framed::{READ, TURNS};
use super::evidence::{Prompts, answers, dictionary, interventions, triggers};
use super::policy::Policy;
use super::signal::Need;
use super::work::stage_cost;
use crate::text::frames::{Code, Frame, Wording};

/// Passes over a prompt that the needs will cost for one checkpoint.
pub fn planned(prompts: &Prompts, policy: &Policy, needs: &[Need]) -> f64 {
    let (harmful, harmless) = (&prompts.harmful, &prompts.harmless);
    let test = (harmful.test.len() + harmless.test.len() + prompts.lookalike.len()) as f64;
    let fitted = [
        &harmful.train,
        &harmful.validation,
        &harmless.train,
        &harmless.validation,
    ];
    let fit: usize = fitted.iter().map(|rows| rows.len()).sum();
    let random = policy.sizes.random_directions as f64;
    let framed = policy.sizes.framed.min(harmful.test.len()) as f64;
    needs
        .iter()
        .map(|need| match need {
            Need::FirstTokens => test,
            Need::Replies => test * stage_cost("completions"),
            Need::Activations => fit as f64 + (harmful.test.len() + harmless.test.len()) as f64,
            Need::Direction => {
                let n = harmless.validation.len() as f64;
                (harmful.validation.len() as f64 + n) * 13.0 + n * (12.0 + random.min(16.0))
            }
            Need::Interventions => (harmful.test.len() + harmless.test.len()) as f64 + 24.0 * 16.0,
            Need::SideEffects => harmless.test.len() as f64 + random * 16.0,
            Need::Doses => (interventions::DOSES.len() * harmless.test.len()) as f64,
            // Only of the checkpoint under audit, and only beside a baseline.
            Need::Stale => 0.5 * (harmful.test.len() + harmless.test.len()) as f64,
            Need::Texts => 0.5 * prompts.neutral.len() as f64,
            Need::Dictionary => (dictionary::PASSES * prompts.neutral.len()) as f64,
            Need::Crosscoder => prompts.neutral.len() as f64,
            Need::Framed => {
                framed * (Frame::all().len() - 1) as f64 * stage_cost("frames")
                    + (2 * READ * (1 + Code::ALL.len())) as f64
            }
            Need::Diluted => framed * TURNS.len() as f64 * stage_cost("earlier talk"),
            Need::Reworded => framed * Wording::ALL.len() as f64 * stage_cost("wordings"),
            Need::Triggers => triggers::passes(policy.sizes.triggers) as f64,
            // The prompt, and the options after it.
            Need::Choices => {
                let choices = prompts.trials.iter().filter(|trial| trial.ask.choice());
                choices.count() as f64
            }
            Need::Answers => {
                let replies = prompts.trials.iter().filter(|trial| trial.ask.reply());
                replies.count() as f64 * stage_cost(answers::STAGE)
            }
            Need::Preferences => 2.0 * prompts.preferences.len() as f64,
            Need::Traits => prompts.traits.len() as f64,
            Need::Judged => test,
            Need::RewardDirections => 2.0 + prompts.traits.len() as f64 + random.min(16.0),
            Need::Probes
            | Need::Weights
            | Need::Integrity
            | Need::Refit
            | Need::Difference
            | Need::Scores => 0.0,
        })
        .sum()
}
