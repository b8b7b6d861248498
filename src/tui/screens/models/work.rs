//! What the models screen has done on the worker: listing, describing, checking, comparing, fetching.
//!
//! Always: what goes wrong comes back as a value that names what it was; the screen never touches disk or network itself.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{self, Difference, ModelConfig};
use crate::model::describe::Description;
use crate::model::fetch::{self, Cache, Progress};
use crate::model::listing::{self, Listing, Local};
use crate::model::self_check::{self, Finding};
use crate::model::{Checkpoint, LoadOptions, Opened, toy};
use crate::text::amount::bytes;
use crate::tui::work::Ticket;

/// What comes back.
#[derive(Debug)]
pub(super) enum Answer {
    /// Models by name and in the cache, and those of the folder.
    Listed {
        /// By name and in the cache.
        models: Result<Listing, String>,
        /// Of the folder, if one was given.
        local: Option<Result<Vec<Local>, String>>,
    },
    /// The open model.
    Described(Result<Box<Description>, String>),
    /// The open model held against itself.
    Checked(Result<Vec<Finding>, String>),
    /// Another model's config beside the open one's.
    Compared {
        /// What it was compared with.
        with: String,
        /// The fields that differ.
        result: Result<Vec<Difference>, String>,
    },
    /// A model that was fetched.
    Fetched {
        /// Its name.
        name: String,
        /// How much of it there is, or why not.
        result: Result<u64, String>,
    },
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) fn list(folder: Option<&Path>) -> Answer {
    let read = |folder: &Path| {
        listing::local(folder)
            .map_err(|why| format!("{}: {why}; `:folder DIR` names another", folder.display()))
    };
    Answer::Listed {
        models: Cache::new()
            .map(|cache| listing::listing(&cache))
            .map_err(words),
        local: folder.map(read),
    }
}

pub(super) fn describe(checkpoint: &Checkpoint) -> Answer {
    Answer::Described(
        Description::of_open(checkpoint)
            .map(Box::new)
            .map_err(words),
    )
}

pub(super) fn check(checkpoint: &Checkpoint) -> Answer {
    Answer::Checked(self_check::all(checkpoint, self_check::TOLERANCE).map_err(words))
}

/// Reads the other model's headers; its weights stay where they are.
pub(super) fn compare(checkpoint: &Checkpoint, spec: &str) -> Answer {
    Answer::Compared {
        with: spec.to_owned(),
        result: config_of(spec).map(|other| config::differences(checkpoint.config(), &other)),
    }
}

fn config_of(spec: &str) -> Result<ModelConfig, String> {
    let opened = match toy::seed(spec) {
        Some(seed) => Opened::toy(seed).map_err(words)?,
        None => {
            let cache = Cache::new().map_err(words)?;
            let path = fetch::resolve(spec, &cache, false, &fetch::Silent).map_err(words)?;
            Opened::at(&path, &LoadOptions::default()).map_err(words)?
        }
    };
    Ok(opened.config().clone())
}

pub(super) fn get(name: &str, ticket: &Ticket) -> Answer {
    let told = Told {
        ticket,
        step: Mutex::default(),
    };
    let fetched = Cache::new().and_then(|cache| fetch::fetch(name, &cache, &told));
    Answer::Fetched {
        name: name.to_owned(),
        result: fetched.map(|fetched| fetched.bytes).map_err(words),
    }
}

/// Tells a ticket how far a transfer is.
struct Told<'a> {
    ticket: &'a Ticket,
    step: Mutex<Step>,
}

#[derive(Default)]
struct Step {
    what: String,
    total: Option<u64>,
    have: u64,
    said: Option<Instant>,
}

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(100);

impl Step {
    /// The share and the words, when it is time for them.
    fn say(&mut self) -> Option<(f64, String)> {
        if self.said.is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        self.said = Some(Instant::now());
        let of = self
            .total
            .map_or(String::new(), |total| format!(" of {}", bytes(total)));
        let share = self
            .total
            .map_or(0.0, |total| self.have as f64 / total.max(1) as f64);
        Some((
            share.min(1.0),
            format!("{}: {}{of}", self.what, bytes(self.have)),
        ))
    }
}

impl Told<'_> {
    fn change(&self, change: impl FnOnce(&mut Step)) {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut step);
        if let Some((share, note)) = step.say() {
            self.ticket.progress(share, &note);
        }
    }
}

impl Progress for Told<'_> {
    fn start(&self, what: &str, total: Option<u64>) {
        self.change(|step| {
            *step = Step {
                what: what.to_owned(),
                total,
                ..Step::default()
            };
        });
    }

    fn advance(&self, bytes: u64) {
        self.change(|step| step.have += bytes);
    }

    fn note(&self, line: &str) {
        self.ticket.progress(0.0, line);
    }

    fn done(&self) {}

    fn stopped(&self) -> bool {
        self.ticket.cancelled()
    }
}
