//! Passes over a list of prompts: batched, over a shared prefix, interruptible.
//!
//! The prefix is recomputed for each set of edits and never crosses from one to another (the KV cache refuses it).
//! What comes back for a prompt has the bits that a pass over that prompt alone gives: neither batch nor prefix nor padding
//! changes them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;

use crate::hooks::Hooks;
use crate::model::generate::Prefix;
use crate::model::{Checkpoint, Decoder, LogitsAt};

use super::{EncodedPrompt, PromptSet, SteerError};

/// How passes are run. No option changes what is computed.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Prompts in a batch.
    pub batch: usize,
    /// Called with (done, total) prompts after each batch.
    pub progress: Option<&'a dyn Fn(usize, usize)>,
    /// Set to true to stop at the next batch or, while generating, the next token.
    pub cancel: Option<&'a AtomicBool>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            batch: 16,
            progress: None,
            cancel: None,
        }
    }
}

impl Options<'_> {
    pub(super) fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// Work of several parts whose progress counts over all of them.
pub struct Tally<'a> {
    options: &'a Options<'a>,
    done: Cell<usize>,
    total: usize,
}

impl<'a> Tally<'a> {
    /// Nothing done of `total` prompts.
    pub fn new(options: &'a Options<'a>, total: usize) -> Self {
        Self {
            options,
            done: Cell::new(0),
            total,
        }
    }

    /// Runs a part of so many prompts.
    ///
    /// # Errors
    /// The part's.
    pub fn part<T>(
        &self,
        prompts: usize,
        run: impl FnOnce(&Options) -> Result<T, SteerError>,
    ) -> Result<T, SteerError> {
        let start = self.done.get();
        let step = |done: usize, _: usize| {
            if let Some(progress) = self.options.progress {
                progress(start + done, self.total);
            }
        };
        let out = run(&Options {
            progress: Some(&step),
            ..*self.options
        })?;
        self.skip(prompts);
        Ok(out)
    }

    /// Counts work that was done before.
    pub fn skip(&self, prompts: usize) {
        self.done.set(self.done.get() + prompts);
    }

    /// For work that is not counted.
    pub fn quiet(&self) -> Options<'a> {
        Options {
            progress: None,
            ..*self.options
        }
    }
}

impl AsRef<Decoder> for Checkpoint {
    fn as_ref(&self) -> &Decoder {
        &self.decoder
    }
}

impl AsRef<Decoder> for Decoder {
    fn as_ref(&self) -> &Decoder {
        self
    }
}

/// What is done with a batch: its prefix, the indices of its prompts, their tokens.
pub(super) type OnBatch<'a> =
    dyn FnMut(&Prefix, &[usize], &[&[u32]]) -> Result<(), SteerError> + 'a;

/// Runs `run(prefix, indices, rows)` for each batch of the set.
pub(super) fn each_batch(
    model: &Decoder,
    set: &PromptSet,
    hooks: &Hooks,
    options: &Options,
    run: &mut OnBatch,
) -> Result<(), SteerError> {
    let total = set.batches(usize::MAX).map(<[usize]>::len).sum();
    if total == 0 {
        return Ok(());
    }
    if options.cancelled() {
        return Err(SteerError::Interrupted);
    }
    let prefix = set.prefix(model, hooks)?;
    let mut done = 0;
    for indices in set.batches(options.batch) {
        if options.cancelled() {
            return Err(SteerError::Interrupted);
        }
        run(&prefix, indices, &set.rows(indices))?;
        done += indices.len();
        if let Some(progress) = options.progress {
            progress(done, total);
        }
    }
    Ok(())
}

/// Logits of each prompt's last position, `visit(index in prompts, [vocab])`, in running order.
///
/// # Errors
/// An edit that cannot apply, a NaN among the logits, an interruption.
pub fn last_logits(
    model: &impl AsRef<Decoder>,
    prompts: &[EncodedPrompt],
    hooks: &Hooks,
    options: &Options,
    visit: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), SteerError> {
    let model = model.as_ref();
    let set = PromptSet::under(prompts, model, hooks);
    each_batch(model, &set, hooks, options, &mut |prefix, indices, rows| {
        let (mut cache, batch) = prefix.split(rows, 0)?;
        let logits = model
            .forward_cached(&batch, &mut cache, hooks, LogitsAt::Last)?
            .logits()?
            .squeeze(1)?
            .to_dtype(DType::F32)?;
        for (row, &index) in indices.iter().enumerate() {
            let row = logits.get(row)?.to_vec1::<f32>()?;
            if row.iter().any(|x| x.is_nan()) {
                return Err(SteerError::NotFinite {
                    id: prompts[index].id.clone(),
                    what: "next-token distribution",
                });
            }
            visit(index, &row);
        }
        Ok(())
    })
}
