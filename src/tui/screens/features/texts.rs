//! Records of latents made here, from a text of the user's: what `sae dashboard` does, for the latents that are looked at.
//!
//! Always: the records are in memory alone, and are those that the command line makes of the same tokens.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;

use super::records::Records;
use super::work::{Answer, Open};
use crate::activations::{
    Column, PackedContexts, Packing, Policy, Rows as _, Source, StoreError, TextOptions, TextRows,
};
use crate::features::FeatureError;
use crate::features::dashboard::{CollectOptions, Dashboard, collect, dashboard};
use crate::model::{Checkpoint, ModelError};
use crate::tui::work::Ticket;

/// Tokens that are read: enough for a latent that fires on one in a thousand to show itself, in about a minute.
pub(super) const TOKENS: usize = 16_384;
/// Latents that are followed.
pub(super) const FOLLOWED: usize = 64;
/// Tokens of a context where the dictionary does not say.
const CONTEXT: usize = 128;

/// Follows latents over a text: lines of JSON with `text`, or plain text.
pub(super) fn read(
    checkpoint: &Checkpoint,
    ticket: &Ticket,
    open: &Open,
    latents: &[usize],
    (file, mut records): (PathBuf, Records),
) -> Answer {
    let made = followed(checkpoint, ticket, open, latents, &file);
    let result = match made {
        Err(_) if ticket.cancelled() => return Answer::Ended(None),
        Err(error) => Err(error.to_string()),
        Ok(dashboard) => records.add(dashboard, &open.splice).map(|n| (records, n)),
    };
    Answer::Records(open.number, result)
}

fn followed(
    checkpoint: &Checkpoint,
    ticket: &Ticket,
    open: &Open,
    latents: &[usize],
    file: &Path,
) -> Result<Dashboard, FeatureError> {
    let contexts = contexts(checkpoint, ticket, open, file)?;
    let all: usize = contexts.iter().map(Vec::len).sum();
    let policy = Policy::training(&checkpoint.tokenizer);
    let options = CollectOptions::page(policy.clone());
    let mut done = 0;
    let mut progress = |more: u64| {
        done += more;
        let note = format!("{done} of {all} tokens");
        ticket.progress(done as f64 / all.max(1) as f64, &note);
        if ticket.cancelled() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let splice = &open.splice;
    let collected = collect(
        checkpoint,
        splice,
        &contexts,
        latents,
        &options,
        &mut progress,
    )?;
    let names = [open.ask.path.display().to_string(), policy.to_string()];
    dashboard(checkpoint, splice, names, &collected)
}

/// The first contexts of a text, of the length that the dictionary was trained with.
fn contexts(
    checkpoint: &Checkpoint,
    ticket: &Ticket,
    open: &Open,
    file: &Path,
) -> Result<Vec<Vec<u32>>, FeatureError> {
    let lines = file.extension().is_some_and(|e| e == "jsonl");
    let source = if lines {
        Source::Jsonl(file.to_owned(), Column::Text)
    } else {
        Source::Documents(file.to_owned())
    };
    let options = TextOptions {
        chat: None,
        max_len: None,
        truncate: false,
        limit: None,
        now: DateTime::constant(2026, 1, 1, 0, 0, 0, 0),
    };
    let about = open.splice.dictionary().about();
    let most = checkpoint.config().max_positions();
    let length = about.context.unwrap_or(CONTEXT).min(most);
    let texts = TextRows::new(checkpoint, source, options)?;
    let packing = Packing::new(length, about.prepend_bos, &checkpoint.tokenizer)?;
    let packed = PackedContexts::new(texts, packing)?;
    let (mut contexts, mut tokens) = (Vec::new(), 0);
    for ids in packed.rows()? {
        let ids: Vec<u32> = ids.map_err(|e: StoreError| FeatureError::from(e))?;
        if ticket.cancelled() {
            return Err(ModelError::Cancelled.into());
        }
        tokens += ids.len();
        contexts.push(ids);
        if tokens >= TOKENS {
            break;
        }
    }
    if contexts.is_empty() {
        let what = format!("{}: the text does not fill one context", file.display());
        return Err(FeatureError::Nothing { what });
    }
    Ok(contexts)
}
