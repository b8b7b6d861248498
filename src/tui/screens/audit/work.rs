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
use crate::model::fetch::{self, Cache};
use crate::model::{Checkpoint, LoadOptions, toy};
use crate::tui::shared::quoted;
use crate::tui::work::Ticket;

/// An audit has begun: before, it waited for the jobs in front of it.
#[derive(Debug)]
pub(super) struct Started;

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

/// What an audit is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// What the user called the model.
    pub model: String,
    /// What it is paired with.
    pub baseline: Option<String>,
    /// Less of everything.
    pub quick: bool,
}

impl Order {
    /// The command that does the same.
    pub(super) fn command(&self) -> String {
        let mut line = format!("candlescope audit run {}", quoted(&self.model));
        if let Some(baseline) = &self.baseline {
            line += &format!(" --baseline {}", quoted(baseline));
        }
        if self.quick {
            line += " --quick";
        }
        line
    }
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

pub(super) fn run(checkpoint: &Checkpoint, ticket: &Ticket, order: Order) -> Answer {
    ticket.part(Started);
    let result = measured(checkpoint, ticket, &order);
    Answer::Ran { order, result }
}

fn measured(
    checkpoint: &Checkpoint,
    ticket: &Ticket,
    order: &Order,
) -> Result<(Arc<Audit>, bool), String> {
    let mut policy = Policy::built_in().map_err(words)?;
    if order.quick {
        policy.sizes = policy.sizes.quick();
    }
    let suites = runner::builtin_suites().map_err(words)?;
    let baseline = match &order.baseline {
        Some(name) => {
            ticket.progress(0.0, &format!("opening baseline {name}"));
            Some(open(name, checkpoint).map_err(|why| format!("baseline {name}: {why}"))?)
        }
        None => None,
    };
    let told = Told {
        ticket,
        said: Mutex::new(None),
    };
    let command = without_paths(order).command();
    let options = runner::Options {
        suites: &suites,
        seed: None,
        refusal_phrases: &[],
        command: &command,
        progress: &told,
        cancel: ticket.cancel().flag(),
    };
    let mut audited =
        runner::run(checkpoint, baseline.as_ref(), &policy, &options).map_err(words)?;
    if order.quick {
        audited.audit.warnings.push(policy::QUICK.to_owned());
    }
    Ok((Arc::new(audited.audit), audited.interrupted))
}

/// A report names no folder of this machine.
fn without_paths(order: &Order) -> Order {
    let name = |spec: &String| {
        let path = Path::new(spec);
        match path.file_name() {
            Some(name) if path.exists() => name.to_string_lossy().into_owned(),
            _ => spec.clone(),
        }
    };
    Order {
        model: name(&order.model),
        baseline: order.baseline.as_ref().map(name),
        quick: order.quick,
    }
}

/// The baseline, in the subject's dtype and from this machine alone.
fn open(name: &str, subject: &Checkpoint) -> Result<Checkpoint, String> {
    let options = LoadOptions {
        dtype: subject.decoder.weight_dtype(),
        ..LoadOptions::default()
    };
    if let Some(seed) = toy::seed(name) {
        return Checkpoint::toy_as(seed, &options).map_err(words);
    }
    let cache = Cache::new().map_err(words)?;
    let path = fetch::resolve(name, &cache, false, &fetch::Silent).map_err(words)?;
    Checkpoint::open(name, &path, &options).map_err(words)
}

/// Tells a ticket where an audit stands.
struct Told<'a> {
    ticket: &'a Ticket,
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
            let note = format!("audit of {}: {}{count}", step.checkpoint, step.stage);
            self.ticket.progress(step.overall, &note);
        }
    }
}
