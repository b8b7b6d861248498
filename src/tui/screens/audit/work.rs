//! What the audit screen has done on the worker: an audit of the open model, an audit read from a file, reports written.
//!
//! Always: what goes wrong comes back as a value that says what it was; an audit that was stopped comes back with what was
//! measured by then.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::policy::{self, Policy};
use crate::audit::report::{self, json};
use crate::audit::result::Audit;
use crate::audit::work::{Progress, Step};
use crate::audit::{runner, signals};
use crate::hooks::Edit;
use crate::model::Checkpoint;
use crate::tui::screens::other;
use crate::tui::work::Ticket;

use super::order::{Order, Stand};

/// What comes back.
#[derive(Debug)]
pub(super) enum Answer {
    /// An audit read from a file.
    Read {
        /// The file.
        file: String,
        /// The audit, or why not.
        result: Result<Arc<Audit>, String>,
    },
    /// An audit that was run here.
    Ran {
        /// How.
        order: Order,
        /// The audit and whether it was stopped, or why there is none.
        result: Result<(Arc<Audit>, bool), String>,
    },
    /// Reports that were written.
    Saved(Result<Vec<PathBuf>, String>),
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) fn read(file: &str) -> Answer {
    let path = Path::new(file);
    let path = if path.is_dir() {
        path.join("audit.json")
    } else {
        path.to_path_buf()
    };
    Answer::Read {
        file: path.display().to_string(),
        result: json::load(&path).map(Arc::new).map_err(words),
    }
}

pub(super) fn save(dir: &Path, audit: &Audit) -> Answer {
    Answer::Saved(report::write_all(dir, audit, &signals::pages()).map_err(words))
}

/// Audits the open checkpoint under these edits. The first [`Stand`] says that it waits no more.
pub(super) fn run(
    checkpoint: &Checkpoint,
    ticket: &Ticket,
    order: Order,
    edits: Vec<Edit>,
) -> Answer {
    ticket.part(Stand::default());
    let result = if edits.is_empty() {
        measured(checkpoint, checkpoint, ticket, &order)
    } else {
        measured(checkpoint, &checkpoint.under(edits), ticket, &order)
    };
    Answer::Ran { order, result }
}

/// The audit of `subject`, which is the open checkpoint with or without edits.
fn measured(
    open: &Checkpoint,
    subject: &Checkpoint,
    ticket: &Ticket,
    order: &Order,
) -> Result<(Arc<Audit>, bool), String> {
    let mut policy = Policy::built_in().map_err(words)?;
    if order.quick {
        policy.sizes = policy.sizes.quick();
    }
    let suites = runner::suites_for(subject).map_err(words)?;
    let trials = runner::trials_for(subject).map_err(words)?;
    let begun = Instant::now();
    let read;
    let baseline = match &order.baseline {
        // Paired with itself: the interventions are what differs.
        Some(name) if *name == order.model => Some(open),
        Some(name) => {
            ticket.part(Stand {
                stage: format!("opening baseline {name}"),
                ..Stand::default()
            });
            read = other::open(name, open).map_err(|why| format!("baseline {name}: {why}"))?;
            Some(&read)
        }
        None => None,
    };
    let told = Told {
        ticket,
        begun,
        said: Mutex::new(None),
    };
    let command = order.without_paths().command();
    let options = runner::Options {
        suites: &suites,
        trials: &trials,
        seed: None,
        refusal_phrases: &[],
        command: &command,
        dictionaries: None,
        inputs: None,
        progress: &told,
        cancel: ticket.cancel().flag(),
        kept: None,
    };
    let mut audited = runner::run(subject, baseline, &policy, &options).map_err(words)?;
    if order.quick {
        audited.audit.warnings.push(policy::QUICK.to_owned());
    }
    if !order.under.is_empty() {
        let text = format!(
            "The checkpoint was audited under interventions: {}. What is stored was not changed.",
            order.under.join(", ")
        );
        audited.audit.warnings.insert(0, text);
    }
    Ok((Arc::new(audited.audit), audited.interrupted))
}

/// Tells a ticket where an audit stands.
struct Told<'a> {
    ticket: &'a Ticket,
    begun: Instant,
    said: Mutex<Option<Instant>>,
}

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(100);

impl Progress for Told<'_> {
    fn step(&self, step: &Step) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= PAUSE) {
            *said = Some(Instant::now());
            let count = match step.total {
                0 => String::new(),
                total => format!(" {}/{total}", step.done),
            };
            self.ticket.progress(step.overall, "audit");
            self.ticket.part(Stand {
                share: step.overall,
                stage: format!("{} of {}{count}", step.stage, step.checkpoint),
                spent: self.begun.elapsed(),
                left: step.eta,
            });
        }
    }
}
