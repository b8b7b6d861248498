//! The worker's side: keeps a recorder for each branch and takes the one that is wanted on.
//!
//! Always: an order says all of what a branch is, so that it is made again, from the recorder that shares most with it, if
//! what it was made from is gone; the bits are the same either way. What was computed stays when an order is stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::features::FeatureError;
use crate::features::scope::{End, Limits, Recorder, Scope, Step, Trace, Turns};
use crate::model::generate::Continue;
use crate::model::sample::SampleOptions;
use crate::model::{Checkpoint, Decoder, Fingerprint, ModelError};
use crate::tui::screens::generate::run::pause;
use crate::tui::work::Ticket;

/// Turns that follow each other closer than this are one: only the last is computed.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(40);

/// The recorders by branch.
#[derive(Debug, Default)]
pub(super) struct Store(BTreeMap<usize, Recorder>);

/// A branch, and how far it is to be taken.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Which change of the pane asked for it.
    pub generation: u64,
    /// Which branch.
    pub branch: usize,
    pub scope: Scope,
    pub prompt: Vec<u32>,
    pub sample: SampleOptions,
    pub turns: Turns,
    pub max_new: usize,
    /// Files that channels came from, and the forward pass each was made on.
    pub made_on: Vec<(String, Fingerprint)>,
    /// Steps of it that the pane has already.
    pub known: usize,
    /// Waits first, for the next turn may follow at once.
    pub soon: bool,
}

/// What the pane is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// The order's.
    pub generation: u64,
    pub what: What,
}

/// See [`Told`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// Steps of a branch with their texts, from the `.1`-th on.
    Steps(usize, usize, Vec<(Step, String)>),
    /// A branch is over.
    Ended(usize, End),
    /// The order is done, or was stopped, or failed.
    Over(Option<String>),
    /// KL of the second of two branches from the first, by shared token.
    Kl([usize; 2], Result<Vec<f64>, String>),
}

/// Runs an order on the worker.
pub(super) fn record(
    order: &Order,
    store: &Mutex<Store>,
    checkpoint: &Checkpoint,
    ticket: &Ticket,
) -> Told {
    if order.soon {
        pause(DEBOUNCE, &|| ticket.cancelled());
    }
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let words = |id: u32| checkpoint.tokenizer.token(id);
    let stop = checkpoint.stop_ids();
    let ran = fits(order, checkpoint).and_then(|()| {
        let tell = &mut |told| ticket.part(told);
        store.run(order, stop, &checkpoint.decoder, &words, tell)
    });
    Told {
        generation: order.generation,
        what: What::Over(match ran {
            Ok(()) | Err(FeatureError::Model(ModelError::Cancelled)) => None,
            // A cancelled pass may come wrapped.
            Err(_) if ticket.cancelled() => None,
            Err(error) => Some(error.to_string()),
        }),
    }
}

/// Refuses probes and directions that were made on another forward pass.
fn fits(order: &Order, checkpoint: &Checkpoint) -> Result<(), FeatureError> {
    for (file, made_on) in &order.made_on {
        checkpoint.fingerprint()?.expect(made_on, file)?;
    }
    Ok(())
}

/// Measures how far two branches are apart.
pub(super) fn divergence(
    generation: u64,
    branches: [usize; 2],
    (scope, traces): (&Scope, [&Trace; 2]),
    checkpoint: &Checkpoint,
) -> Told {
    let found = scope.kl(&checkpoint.decoder, traces[0], traces[1]);
    let found = found.map_err(|error| error.to_string());
    Told {
        generation,
        what: What::Kl(branches, found),
    }
}

impl Store {
    /// Takes a branch on; `tell` gets what happens as it does.
    pub(super) fn run(
        &mut self,
        order: &Order,
        stop: Vec<u32>,
        model: &Decoder,
        words: &dyn Fn(u32) -> String,
        tell: &mut dyn FnMut(Told),
    ) -> Result<(), FeatureError> {
        let mut recorder = self.recorder(order, model)?;
        let mut say = |what| {
            tell(Told {
                generation: order.generation,
                what,
            });
        };
        let steps = |trace: &Trace, from: usize| {
            let new = trace.steps[from..].iter();
            let new = new.map(|step| (step.clone(), words(step.id))).collect();
            What::Steps(order.branch, from, new)
        };
        if order.known < recorder.trace().steps.len() {
            say(steps(recorder.trace(), order.known));
        }
        let limits = Limits {
            max_new: order.max_new,
            stop,
        };
        let ran = recorder.run(model, &limits, &mut |trace, new| {
            say(steps(trace, new.start));
            Continue::Yes
        });
        if let (Ok(()), Some(end)) = (&ran, recorder.trace().end) {
            say(What::Ended(order.branch, end));
        }
        self.0.insert(order.branch, recorder);
        ran
    }

    fn recorder(&mut self, order: &Order, model: &Decoder) -> Result<Recorder, FeatureError> {
        if let Some(own) = self.0.remove(&order.branch) {
            if own.trace().turns == order.turns {
                return Ok(own);
            }
            self.0.insert(order.branch, own);
        }
        let shared = |other: &&Recorder| {
            let trace = other.trace();
            let apart = trace.turns.differ(&order.turns).unwrap_or(usize::MAX);
            apart.min(trace.steps.len())
        };
        match self.0.values().max_by_key(shared) {
            Some(other) => other.under(model, order.turns.clone()),
            None => {
                let scope = &order.scope;
                scope.start(model, &order.prompt, &order.sample, order.turns.clone())
            }
        }
    }
}

/// A store that running orders share with the pane.
pub(super) type Shelf = Arc<Mutex<Store>>;
