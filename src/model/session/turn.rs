//! A session that is watched, and turned another way in mid-answer: its captures, and its edits changed from a position on.

use super::{Captured, Session, plan};
use crate::hooks::Hooks;
use crate::model::{Decoder, ModelError};

impl Session {
    /// Prompt and answer.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Runs the tokens that have not been run, the last one included. The next draw takes its logits, so this costs nothing
    /// where an answer goes on.
    ///
    /// # Errors
    /// The context is full, an edit that cannot apply, a cancelled pass.
    pub fn read(&mut self, model: &Decoder) -> Result<(), ModelError> {
        self.logits(model)?;
        Ok(())
    }

    /// What the session's captures held in its last pass, and the position of that pass's first token.
    pub fn captured(&self) -> (usize, &Captured) {
        (self.seen.0, &self.seen.1)
    }

    /// A copy that goes on under other hooks, which the caller knows to do the same as the old ones before position `first`.
    /// The token at `first` stays, as do those of the prompt; what the answer had after it is forgotten. Keys and values
    /// before `first` are kept and the rest is run again; a prompt that is changed is run again whole, so that the copy has
    /// the bits of a session that was begun under these hooks.
    ///
    /// # Errors
    /// An edit that cannot apply; no memory for the cache.
    pub fn turned(&self, model: &Decoder, hooks: &Hooks, first: usize) -> Result<Self, ModelError> {
        if first < self.prompt {
            return Self::new(model, self.prompt(), &self.sample, hooks);
        }
        let plan = plan(model, hooks)?;
        let mut new = self.fork()?;
        new.rewind_to((first + 1 - self.prompt).min(self.steps.len()))?;
        if new.cache.len() > first {
            new.cache.truncate(first)?;
            new.next = None;
        }
        new.hooks = hooks.clone();
        new.edits_id = plan.edits_id();
        new.marks = plan.marks().clone();
        new.cache.set_edits_id(new.edits_id);
        (new.keep, new.kept, new.begin) = (None, None, false);
        Ok(new)
    }
}
