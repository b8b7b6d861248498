//! What a direction is learned from: prompts with the answers that a model should give once the direction is taken out, added,
//! or taken out where it should not matter.
//!
//! Always: every answer is the model's own, greedy, under the starting direction or none; nobody wrote a target.

use serde::Serialize;

use super::Place;
use crate::hooks::{Hooks, Vector};
use crate::model::{Checkpoint, ModelError};
use crate::steer::{
    Completion, EncodedPrompt, Options, SteerError, ablation, addition, completions,
};

/// A prompt with an answer: `ids` are those of the prompt and of the answer but for its last token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// What the model reads.
    pub ids: Vec<u32>,
    /// What it should say at the last of them.
    pub answer: Vec<u32>,
}

impl Example {
    /// Of a prompt and what follows it; `None` for an empty answer.
    pub fn new(prompt: &[u32], answer: &[u32]) -> Option<Self> {
        let (_, but_last) = answer.split_last()?;
        Some(Self {
            ids: [prompt, but_last].concat(),
            answer: answer.to_vec(),
        })
    }
}

/// Where learning begins: a direction, the block at whose input it is added, and how far.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// `[d_model]`, of any length but 0.
    pub direction: &'a Vector,
    /// Block and dose of additions.
    pub place: Place,
}

/// Examples of each of the three kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lessons {
    /// Harmful prompts with the answers under ablation.
    pub bypass: Vec<Example>,
    /// Harmless prompts with the first sentence of the answers under addition.
    pub induce: Vec<Example>,
    /// Harmless prompts with the unedited answers.
    pub retain: Vec<Example>,
}

impl Lessons {
    /// Of prompts, with answers of at most `tokens` tokens.
    ///
    /// # Errors
    /// A pass's; prompts to which the model says nothing at all.
    pub fn new(
        cp: &Checkpoint,
        [harmful, harmless]: [&[EncodedPrompt]; 2],
        start: &Start,
        tokens: usize,
        options: &Options,
    ) -> Result<Self, SteerError> {
        let length = start.direction.iter().map(|&x| f64::from(x).powi(2));
        let unit = start.place.alpha / length.sum::<f64>().sqrt();
        let ablated = Hooks::new().edits(ablation(start.direction, cp.config()));
        let added = addition(start.direction, start.place.layer, unit);
        let said = |prompts, hooks: &Hooks| completions(cp, prompts, tokens, hooks, options);
        let bypass = examples(harmful, &said(harmful, &ablated)?);
        let mut refusals = said(harmless, &Hooks::new().edits(added))?;
        for answer in &mut refusals {
            *answer = first_sentence(cp, answer)?;
        }
        let lessons = Self {
            bypass,
            induce: examples(harmless, &refusals),
            retain: examples(harmless, &said(harmless, &Hooks::new())?),
        };
        for (what, found) in [
            ("answers under ablation", lessons.bypass.len()),
            ("answers under addition", lessons.induce.len()),
            ("unedited answers", lessons.retain.len()),
        ] {
            if found == 0 {
                return Err(SteerError::TooFew {
                    what,
                    needed: 1,
                    found,
                });
            }
        }
        Ok(lessons)
    }
}

fn examples(prompts: &[EncodedPrompt], answers: &[Completion]) -> Vec<Example> {
    let pairs = prompts.iter().zip(answers);
    pairs
        .filter_map(|(prompt, answer)| Example::new(&prompt.ids, &answer.ids))
        .collect()
}

/// An answer up to the end of its first sentence.
fn first_sentence(cp: &Checkpoint, answer: &Completion) -> Result<Completion, SteerError> {
    let mut kept = answer.clone();
    for n in 1..=answer.ids.len() {
        let text = cp.tokenizer.decode(&answer.ids[..n], true);
        let text = text.map_err(ModelError::from)?;
        if text.trim_end().ends_with(['.', '!', '?']) {
            kept.ids.truncate(n);
            kept.text = text;
            break;
        }
    }
    Ok(kept)
}
