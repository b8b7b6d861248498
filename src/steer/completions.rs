//! Greedy answers to a list of prompts.

use crate::hooks::Hooks;
use crate::model::Checkpoint;
use crate::model::generate::{Continue, GenerateOptions, generate_after};
use crate::model::sample::SampleOptions;

use super::pass::each_batch;
use super::{EncodedPrompt, Options, PromptSet, SteerError};

/// What a model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// New token ids, the stop token included.
    pub ids: Vec<u32>,
    /// The same as text, without special tokens.
    pub text: String,
    /// True when the model ended it, false when it ran into the limit.
    pub finished: bool,
}

/// Greedy answers of at most `max_new` tokens under these edits, in the order of the prompts.
///
/// # Errors
/// A prompt without room for the answer, an edit that cannot apply, an interruption.
pub fn completions(
    cp: &Checkpoint,
    prompts: &[EncodedPrompt],
    max_new: usize,
    hooks: &Hooks,
    options: &Options,
) -> Result<Vec<Completion>, SteerError> {
    let generate = GenerateOptions {
        max_new,
        sample: SampleOptions::default(),
        stop: cp.stop_ids(),
    };
    let mut out: Vec<Option<Completion>> = vec![None; prompts.len()];
    let set = PromptSet::under(prompts, &cp.decoder, hooks);
    each_batch(
        &cp.decoder,
        &set,
        hooks,
        options,
        &mut |prefix, indices, rows| {
            let mut on_token = |_, _| {
                if options.cancelled() {
                    Continue::No
                } else {
                    Continue::Yes
                }
            };
            let answers =
                generate_after(&cp.decoder, prefix, rows, &generate, hooks, &mut on_token)?;
            if options.cancelled() {
                return Err(SteerError::Interrupted);
            }
            for (&index, answer) in indices.iter().zip(answers) {
                let text = cp
                    .tokenizer
                    .decode(&answer.ids, true)
                    .map_err(crate::model::ModelError::from)?;
                out[index] = Some(Completion {
                    ids: answer.ids,
                    text,
                    finished: answer.finished,
                });
            }
            Ok(())
        },
    )?;
    Ok(out.into_iter().flatten().collect())
}
