//! Prompts as tokens, and the order in which they are run.
//!
//! A [`PromptSet`] runs prompts sorted by length, so that a batch holds little padding, after the prefix that all of
//! them share (the template's opening and system turn), which is computed once for each set of edits. Results carry the
//! prompt's index in the input, so the order of running never shows. Next: [`super::last_logits`].

use std::ops::Range;

use crate::hooks::{Hooks, tail};
use crate::model::generate::Prefix;
use crate::model::{Checkpoint, Decoder};
use crate::text::suites::PromptRow;

use super::SteerError;

/// A prompt under the chat template, ready for the first token of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// The row's id.
    pub id: String,
    /// Token ids, template included.
    pub ids: Vec<u32>,
    /// Index of the last token that holds something of the instruction.
    pub instruction_end: usize,
    /// Indices of the template's tokens after the instruction; empty for models without a template.
    pub tail: Range<usize>,
}

impl EncodedPrompt {
    /// A conversation of any length, of which nothing is read at its instruction's end, so that any place will do.
    pub fn whole(id: &str, ids: Vec<u32>) -> Self {
        let end = ids.len().saturating_sub(1);
        Self {
            id: id.to_owned(),
            instruction_end: end,
            tail: end + 1..ids.len(),
            ids,
        }
    }
}

/// Encodes rows, each with its own system turn if it has one.
///
/// # Errors
/// A prompt that does not fit the context or whose instruction cannot be found again, by the row's id; an empty list.
pub fn encode_all(cp: &Checkpoint, rows: &[&PromptRow]) -> Result<Vec<EncodedPrompt>, SteerError> {
    if rows.is_empty() {
        return Err(SteerError::TooFew {
            what: "prompts",
            needed: 1,
            found: 0,
        });
    }
    let n_ctx = cp.config().max_positions();
    let encode = |row: &&PromptRow| {
        let encoded = cp.encode_prompt(&row.prompt, row.system.as_deref())?;
        let tokens = encoded.ids.len();
        if tokens > n_ctx {
            return Err(SteerError::PromptTooLong {
                id: row.id.clone(),
                tokens,
                n_ctx,
            });
        }
        let end = encoded
            .instruction_end
            .ok_or_else(|| SteerError::NoInstruction { id: row.id.clone() })?;
        Ok(EncodedPrompt {
            id: row.id.clone(),
            ids: encoded.ids,
            instruction_end: end,
            tail: end + 1..tokens,
        })
    };
    rows.iter().map(encode).collect()
}

/// Prompts in running order with the prefix they share.
#[derive(Debug)]
pub struct PromptSet<'a> {
    prompts: &'a [EncodedPrompt],
    order: Vec<usize>,
    shared: usize,
}

impl<'a> PromptSet<'a> {
    /// Sorts prompts by length and finds the prefix they share; each keeps at least its last token for itself.
    pub fn new(prompts: &'a [EncodedPrompt]) -> Self {
        Self::keeping(prompts, |prompt| prompt.ids.len().saturating_sub(1))
    }

    /// The same, and the tokens that edits count from a prompt's end stay outside the prefix too.
    pub(super) fn under(prompts: &'a [EncodedPrompt], model: &Decoder, hooks: &Hooks) -> Self {
        let own = tail(model.standing_edits().iter().chain(hooks.edit_list())).max(1);
        Self::keeping(prompts, |prompt| prompt.ids.len().saturating_sub(own))
    }

    /// The same, and the token at `first` of each prompt stays outside the prefix, so that it can be captured.
    pub fn keeping(prompts: &'a [EncodedPrompt], first: impl Fn(&EncodedPrompt) -> usize) -> Self {
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&i| (prompts[i].ids.len(), i));
        let rows: Vec<&[u32]> = prompts.iter().map(|p| p.ids.as_slice()).collect();
        // A prefix pays when more than one prompt uses it.
        let shared = if prompts.len() > 1 {
            prompts
                .iter()
                .map(first)
                .fold(Prefix::common(&rows), usize::min)
        } else {
            0
        };
        Self {
            prompts,
            order,
            shared,
        }
    }

    /// Tokens of the shared prefix.
    pub fn shared(&self) -> usize {
        self.shared
    }

    /// Keys and values of the shared prefix under these edits.
    pub fn prefix(&self, model: &Decoder, hooks: &Hooks) -> Result<Prefix, SteerError> {
        let ids = self
            .prompts
            .first()
            .map_or(&[][..], |p| &p.ids[..self.shared]);
        Ok(Prefix::new(model, ids, hooks)?)
    }

    /// Batches of at most `size` indices into the input, shortest prompts first.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = &[usize]> {
        self.order.chunks(size.max(1))
    }

    /// The token ids of these prompts.
    pub fn rows(&self, indices: &[usize]) -> Vec<&'a [u32]> {
        indices
            .iter()
            .map(|&i| self.prompts[i].ids.as_slice())
            .collect()
    }
}
