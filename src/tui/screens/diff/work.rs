//! What the diff has done on the worker: the other model opened, and the two compared part by part.
//!
//! Always: each part is sent as soon as it is done, and what goes wrong with one is said of that one; a stop is no failure.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Other;
use crate::compare::{
    Crossed, Parting, TokenChange, WeightChange, latents_on, parting, token_changes, weight_changes,
};
use crate::features::{self, Splice};
use crate::model::{Checkpoint, Decoder};
use crate::tui::screens::other;
use crate::tui::work::Ticket;

/// What is compared, and what is known already.
pub(super) struct Ask {
    pub model: usize,
    pub job: u64,
    pub other: Other,
    pub held: Option<Arc<Checkpoint>>,
    pub swapped: bool,
    /// Whether the weights are wanted.
    pub weights: bool,
    pub ids: Vec<u32>,
    pub stop: Vec<u32>,
    pub max_new: usize,
    pub dictionary: Option<PathBuf>,
}

/// Latents that crossed over, and what is to be known of their dictionary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub crossed: Crossed,
    /// The dictionary's name and the point it reads.
    pub of: String,
    /// It was made on neither of the two.
    pub foreign: bool,
}

/// What comes back.
pub(super) enum Answer {
    Beside(Other, Arc<Checkpoint>),
    Weights(Result<Vec<WeightChange>, String>),
    Tokens(Result<Vec<TokenChange>, String>),
    Parting(Result<Parting, String>),
    Latents(Result<Found, String>),
    Words(BTreeMap<u32, String>),
    /// It is over; why, if it could not begin.
    Ended(Option<String>),
}

/// An answer with the request it belongs to.
pub(super) struct Told {
    pub model: usize,
    pub job: u64,
    pub answer: Answer,
}

/// Compares the open model with the other.
pub(super) fn compare(open: &Checkpoint, ticket: &Ticket, ask: &Ask) -> Told {
    let tell = |answer: Answer| Told {
        model: ask.model,
        job: ask.job,
        answer,
    };
    let ended = match parts(open, ticket, ask, &tell) {
        Err(why) if !ticket.cancelled() => Some(why),
        _ => None,
    };
    tell(Answer::Ended(ended))
}

fn parts(
    open: &Checkpoint,
    ticket: &Ticket,
    ask: &Ask,
    tell: &dyn Fn(Answer) -> Told,
) -> Result<(), String> {
    let spec = ask.other.spec().ok_or("there is no other model")?;
    let other = match &ask.held {
        Some(held) => Arc::clone(held),
        None => {
            ticket.progress(0.0, &format!("opening {spec}"));
            let opened = other::open(&spec, open).map_err(|why| format!("{spec}: {why}"))?;
            let opened = Arc::new(opened);
            ticket.part(tell(Answer::Beside(ask.other.clone(), Arc::clone(&opened))));
            opened
        }
    };
    let pair = if ask.swapped {
        [open, other.as_ref()]
    } else {
        [other.as_ref(), open]
    };
    let [first, second] = pair.map(|checkpoint| &checkpoint.decoder);
    // What was asked to stop is neither sent nor gone on with.
    let send = |answer: Answer| -> Result<(), String> {
        if ticket.cancelled() {
            return Err("stopped".into());
        }
        ticket.part(tell(answer));
        Ok(())
    };
    if ask.weights {
        let mut told = |done: usize, of: usize| {
            let note = format!("weights {done} of {of}");
            ticket.progress(0.1 + 0.5 * done as f64 / of.max(1) as f64, &note);
            if ticket.cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let changes = weight_changes(first, second, &mut told).map_err(|e| e.to_string());
        send(Answer::Weights(changes))?;
    }
    if pair[0].tokenizer.hash() != pair[1].tokenizer.hash() {
        let why = format!(
            "{} and {} have different tokenizers: the prompt's tokens mean other things to one of them",
            pair[0].name, pair[1].name
        );
        send(Answer::Tokens(Err(why.clone())))?;
        send(Answer::Parting(Err(why.clone())))?;
        return send(Answer::Latents(Err(why)));
    }
    if ask.ids.is_empty() {
        let why = "the prompt has no tokens; p edits it".to_owned();
        send(Answer::Tokens(Err(why.clone())))?;
        send(Answer::Parting(Err(why.clone())))?;
        return send(Answer::Latents(Err(why)));
    }
    ticket.progress(0.65, "next tokens");
    let tokens = token_changes(first, second, &ask.ids).map_err(|e| e.to_string());
    let named = tokens.iter().flatten();
    let named = named.flat_map(|token| [token.id, token.top[0].id, token.top[1].id]);
    send(Answer::Words(words(open, named)))?;
    send(Answer::Tokens(tokens))?;
    ticket.progress(0.75, "answers");
    let parted = parting(first, second, &ask.ids, ask.max_new, &ask.stop);
    let parted = parted.map_err(|e| e.to_string());
    let said = parted
        .iter()
        .flat_map(|p| p.answers.iter().flatten().copied());
    send(Answer::Words(words(open, said)))?;
    send(Answer::Parting(parted))?;
    if let Some(path) = &ask.dictionary {
        ticket.progress(0.9, "latents");
        send(Answer::Latents(latents(
            pair,
            [first, second],
            path,
            &ask.ids,
        )))?;
    }
    Ok(())
}

fn words(open: &Checkpoint, ids: impl Iterator<Item = u32>) -> BTreeMap<u32, String> {
    ids.map(|id| (id, open.tokenizer.token(id))).collect()
}

fn latents(
    pair: [&Checkpoint; 2],
    [first, second]: [&Decoder; 2],
    path: &Path,
    ids: &[u32],
) -> Result<Found, String> {
    let said = |error: features::FeatureError| error.to_string();
    let opened = features::open(path).map_err(said)?;
    let foreign = pair.iter().all(|one| opened.expect(one).is_err());
    let read = opened.read().map_err(said)?;
    let write = opened.write().map_err(said)?;
    let dictionary = Arc::new(opened.dictionary);
    let splice = Splice::new(dictionary, &opened.name, [read, write], first.config());
    let splice = splice.map_err(said)?;
    let crossed = latents_on(first, second, &splice, ids).map_err(|e| e.to_string())?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(Found {
        crossed,
        of: format!("{} at {read}", name.to_string_lossy()),
        foreign,
    })
}
