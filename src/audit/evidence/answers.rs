//! What a checkpoint says to the trials that ask for a reply: greedy, in batches.

use super::Part;
use super::choices::PerTrial;
use crate::audit::work::Work;
use crate::hooks::Hooks;
use crate::model::Checkpoint;
use crate::steer::{self, Completion, EncodedPrompt};
use crate::text::trials::Trial;

/// Trials answered in one batch.
const BATCH: usize = 50;

/// The stage's name, by which its cost is known.
pub const STAGE: &str = "answers to trials";

/// The replies to the trials that ask for one, of at most `max_new` tokens.
///
/// # Errors
/// In words: a trial that cannot be encoded, one that does not fit the context with its reply, an interruption.
pub fn answer(
    cp: &Checkpoint,
    trials: &[Trial],
    max_new: usize,
    work: &Work,
) -> Part<PerTrial<Completion>> {
    let asked: Vec<usize> = (0..trials.len())
        .filter(|&i| trials[i].ask.reply())
        .collect();
    if asked.is_empty() {
        return Err("no trials that ask for a reply were given".to_owned());
    }
    let prompts = asked
        .iter()
        .map(|&i| encoded(cp, &trials[i]))
        .collect::<Result<Vec<_>, _>>()?;
    work.stage(STAGE, asked.len(), |stage| {
        let replies = stage.run(prompts.len(), |options| {
            let options = steer::Options {
                batch: BATCH,
                ..*options
            };
            steer::completions(cp, &prompts, max_new, &Hooks::new(), &options)
        })?;
        let mut all: PerTrial<Completion> = vec![None; trials.len()];
        for (i, reply) in asked.iter().zip(replies) {
            all[*i] = Some(reply);
        }
        Ok(all)
    })
}

/// A trial as a prompt.
fn encoded(cp: &Checkpoint, trial: &Trial) -> Part<EncodedPrompt> {
    let ids = trial
        .prompt_ids(&cp.tokenizer, cp.template.as_ref())
        .map_err(|error| format!("trial `{}`: {error}", trial.id))?;
    Ok(EncodedPrompt::whole(&trial.id, ids))
}
