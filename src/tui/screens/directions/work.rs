//! What the directions screen has done on the worker: a candidate for every place, what trying one does, the prompt's score.
//!
//! Always: what goes wrong comes back as a value; work that was stopped comes back with what it had by then. Directions are
//! made of the prompts that `contrast:LAYER:POSITION` names, so that a command line makes the same vector again.

use candlescope_probes::Bootstrap;
use candlescope_probes::stats::bootstrap::{Resampling, bootstrap_mean};
use std::sync::Arc;

use crate::hooks::{Edit, Hooks, Vector};
use crate::model::Checkpoint;
use crate::steer::{
    Candidate, EncodedPrompt, GridCell, Ledger, Measures, Options, RefusalTokens, SelectionPolicy,
    Sets, Sizes, Source, SteerError, StreamScale, Validation, Where, admissible, candidates,
    refusal_scores, refusal_tokens, residuals, select_noting, stream_scale,
};
use crate::text::suites::Suite;
use crate::tui::work::Ticket;

/// Prompts of each class: as many make a direction as behind `contrast:`, and as many others judge it.
pub(super) const SIZES: Sizes = Sizes {
    train: 32,
    validation: 32,
    test: 2,
};
/// Validation prompts of each class that a direction is tried on.
pub(super) const TRIED: usize = 16;

/// A place of the grid: layer and position.
pub(super) type Place = (usize, Where);

/// Candidates of every place, and what trying them needs.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Positions, first to last.
    pub wheres: Vec<Where>,
    /// The token at each; empty where prompts differ in it.
    pub tokens: Vec<String>,
    /// Blocks of the model.
    pub n_layers: usize,
    /// A candidate for each place whose class means differ.
    pub candidates: Vec<Candidate>,
    /// Validation prompts (harmful, harmless) that separation is judged on.
    pub judged: [usize; 2],
    /// Prompts (harmful, harmless) that directions are tried on.
    pub prompts: [Vec<EncodedPrompt>; 2],
    /// Their mean refusal scores without edits.
    pub base: [f64; 2],
    /// What a refusal opens with.
    pub refusal: RefusalTokens,
}

/// What trying a candidate gave.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    /// Prompt by prompt.
    pub measures: Measures,
    /// Mean refusal score of harmful prompts without the direction.
    pub bypass: Bootstrap,
    /// Mean refusal score of harmless prompts with it added.
    pub induce: Bootstrap,
    /// Mean KL of harmless prompts without it, nats.
    pub kl: Bootstrap,
    /// Whether it may be chosen, or why not.
    pub admissible: Result<(), String>,
}

impl Tried {
    /// What the policy goes by.
    pub(super) fn cell(&self, n_layers: usize) -> GridCell {
        GridCell {
            layer: self.measures.layer,
            n_layers,
            bypass: self.bypass.estimate,
            induce: self.induce.estimate,
            kl: self.kl.estimate,
            kl_z: None,
            drop_low: None,
        }
    }
}

/// How candidates are judged: Arditi's rule, since random directions to compare KL with would cost more than all the rest.
pub(super) fn policy() -> SelectionPolicy {
    SelectionPolicy::arditi()
}

/// The refusal score of the prompt that is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    /// Of this state of prompt and interventions.
    pub version: u64,
    /// Without edits.
    pub plain: f64,
    /// With those that are on, if any.
    pub edited: Option<f64>,
    /// The stream where the chip under the dose keys acts, and its direction.
    pub scale: Option<(Source, StreamScale)>,
}

/// What the score of a prompt is asked for with.
pub(super) struct LiveAsk {
    pub version: u64,
    pub ids: Vec<u32>,
    pub edits: Vec<Edit>,
    /// Direction, layer and vector of the chip under the dose keys.
    pub dosed: Option<(Source, usize, Vector)>,
}

/// What comes back.
pub(super) enum Answer {
    /// All candidates.
    Found(Box<Found>),
    /// One was tried.
    Tried(Box<Tried>),
    /// A job ended; why, if it failed.
    Ended(Option<String>),
    /// The prompt's score, or why there is none.
    Live(u64, Result<Live, String>),
}

/// An answer with the request it belongs to.
pub(super) struct Told {
    pub model: usize,
    /// Which job; jobs alone have one.
    pub job: Option<u64>,
    pub answer: Answer,
}

/// Without the words of an interruption, which is no failure.
fn ended(result: Result<(), SteerError>, ticket: &Ticket) -> Answer {
    Answer::Ended(match result {
        Ok(()) => None,
        Err(_) if ticket.cancelled() => None,
        Err(error) => Some(error.to_string()),
    })
}

/// Reads the stream at every layer and position in one pass over the prompts, and makes a candidate of each.
pub(super) fn find(checkpoint: &Checkpoint, ticket: &Ticket) -> Answer {
    match found(checkpoint, ticket) {
        Ok(found) => Answer::Found(Box::new(found)),
        Err(error) => ended(Err(error), ticket),
    }
}

fn found(checkpoint: &Checkpoint, ticket: &Ticket) -> Result<Found, SteerError> {
    let builtin = |name| {
        Suite::builtin(name).map_err(|error| SteerError::Suite {
            why: error.to_string(),
        })
    };
    let sets = Sets::new(&[builtin("harmful")?, builtin("harmless")?], SIZES, 0)?;
    let [harmful, harmless] = sets.encoded(checkpoint)?;
    let parts = [&harmful[0], &harmless[0], &harmful[1], &harmless[1]];
    let all: Vec<EncodedPrompt> = parts.iter().flat_map(|part| part.iter().cloned()).collect();
    let wheres = Where::all(&all);
    let n_layers = checkpoint.config().n_layers;
    let layers: Vec<usize> = (0..n_layers).collect();
    let tried =
        [&harmful[1], &harmless[1]].map(|prompts| prompts[..TRIED.min(prompts.len())].to_vec());
    let total = all.len() + tried.iter().map(Vec::len).sum::<usize>();
    let mut before = 0;
    let mut read = Vec::new();
    for part in parts {
        let progress = |done: usize, _: usize| told(ticket, before + done, total);
        let options = options(ticket, &progress);
        read.push(residuals(checkpoint, part, &layers, &wheres, &options)?);
        before += part.len();
    }
    let [th, tn, vh, vn] = &read[..] else {
        return Err(SteerError::Places { what: "parts" });
    };
    let candidates = candidates(th, tn, vh, vn, 0)?;
    let refusal = refusal_tokens(checkpoint)?;
    let mut base = [0.0; 2];
    for (mean, prompts) in base.iter_mut().zip(&tried) {
        let progress = |done: usize, _: usize| told(ticket, before + done, total);
        let options = options(ticket, &progress);
        let scores = refusal_scores(checkpoint, prompts, &Hooks::new(), &refusal, &options)?;
        *mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
        before += prompts.len();
    }
    Ok(Found {
        tokens: wheres.iter().map(|w| token(checkpoint, &all, *w)).collect(),
        wheres,
        n_layers,
        candidates,
        judged: [harmful[1].len(), harmless[1].len()],
        prompts: tried,
        base,
        refusal,
    })
}

/// The token that all prompts have there.
fn token(checkpoint: &Checkpoint, prompts: &[EncodedPrompt], place: Where) -> String {
    let mut ids = prompts
        .iter()
        .map(|prompt| place.index(prompt).and_then(|at| prompt.ids.get(at)));
    match ids.next().flatten() {
        Some(first) if ids.all(|id| id == Some(first)) => checkpoint.tokenizer.token(*first),
        _ => String::new(),
    }
}

fn told(ticket: &Ticket, done: usize, total: usize) {
    let note = format!("directions {done} of {total} prompts");
    ticket.progress(done as f64 / total.max(1) as f64, &note);
}

fn options<'a>(ticket: &'a Ticket, progress: &'a dyn Fn(usize, usize)) -> Options<'a> {
    Options {
        progress: Some(progress),
        cancel: Some(ticket.cancel().flag()),
        ..Options::default()
    }
}

/// Sends every candidate on as soon as it was tried.
struct Notes<'a> {
    ticket: &'a Ticket,
    of: (usize, u64),
    n_layers: usize,
}

impl Ledger for Notes<'_> {
    fn known(&self, _: &Candidate) -> Option<Measures> {
        None
    }

    fn note(&mut self, measures: &Measures) -> Result<(), SteerError> {
        let tried = tried(measures.clone(), self.n_layers)?;
        self.ticket.part(Told {
            model: self.of.0,
            job: Some(self.of.1),
            answer: Answer::Tried(Box::new(tried)),
        });
        Ok(())
    }

    fn random(&self) -> Option<Vec<f64>> {
        None
    }

    fn note_random(&mut self, _: &[f64]) -> Result<(), SteerError> {
        Ok(())
    }
}

/// Means with their intervals, and what the policy says of them.
pub(super) fn tried(measures: Measures, n_layers: usize) -> Result<Tried, SteerError> {
    let policy = policy();
    let mean = |values: &[f64]| bootstrap_mean(values, Resampling::Items, &policy.bootstrap);
    let mut tried = Tried {
        bypass: mean(&measures.bypass)?,
        induce: mean(&measures.induce)?,
        kl: mean(&measures.kl)?,
        measures,
        admissible: Ok(()),
    };
    tried.admissible = admissible(&tried.cell(n_layers), &policy);
    Ok(tried)
}

/// Tries these candidates, in their order.
pub(super) fn try_all(
    checkpoint: &Checkpoint,
    ticket: &Ticket,
    of: (usize, u64),
    found: &Arc<Found>,
    which: &[Candidate],
) -> Answer {
    let progress = |done: usize, total: usize| {
        let note = format!("trying {} directions", which.len());
        ticket.progress(done as f64 / total.max(1) as f64, &note);
    };
    let validation = Validation {
        harmful: &found.prompts[0],
        harmless: &found.prompts[1],
    };
    let mut notes = Notes {
        ticket,
        of,
        n_layers: found.n_layers,
    };
    let result = select_noting(
        checkpoint,
        validation,
        which,
        &found.refusal,
        &policy(),
        &options(ticket, &progress),
        &mut notes,
    );
    ended(result.map(|_| ()), ticket)
}

/// The prompt's score with and without the interventions.
pub(super) fn live(checkpoint: &Checkpoint, ask: LiveAsk) -> Answer {
    let version = ask.version;
    let score = || -> Result<Live, SteerError> {
        let refusal = refusal_tokens(checkpoint)?;
        let n = ask.ids.len();
        let prompt = [EncodedPrompt {
            id: "the prompt".into(),
            ids: ask.ids.clone(),
            instruction_end: n.saturating_sub(1),
            tail: n..n,
        }];
        let of = |edits: Vec<Edit>| {
            let hooks = Hooks::new().edits(edits);
            let scores = refusal_scores(checkpoint, &prompt, &hooks, &refusal, &Options::default());
            scores.map(|scores| scores[0])
        };
        Ok(Live {
            version,
            plain: of(Vec::new())?,
            edited: if ask.edits.is_empty() {
                None
            } else {
                Some(of(ask.edits.clone())?)
            },
            scale: match &ask.dosed {
                Some((source, layer, vector)) => {
                    let scale = stream_scale(&checkpoint.decoder, &ask.ids, *layer, vector)?;
                    Some((source.clone(), scale))
                }
                None => None,
            },
        })
    };
    Answer::Live(version, score().map_err(|error| error.to_string()))
}

/// The name of a position in tables and files.
pub(super) fn short(place: Where) -> String {
    match place {
        Where::InstructionEnd => "instr".into(),
        Where::FromEnd(back) => format!("-{back}"),
    }
}
