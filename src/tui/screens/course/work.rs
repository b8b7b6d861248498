//! Files of the course, read and written away from the frame.
//!
//! Always: waivers are read again before one is added, so that what somebody else wrote in the meantime stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::report::json;
use crate::audit::verdict::Verdict;
use crate::audit::waivers::{FILE, Waiver, WaiverError, Waivers};
use crate::pipeline::course::{Course, course};
use crate::pipeline::folder::{Audited, look};
use crate::pipeline::stations::Stations;
use crate::tui::shared::Drill;

/// The audits of a run.
pub(super) struct Audits {
    pub course: Course,
    /// Those in `waivers.toml`, or why it cannot be read: then nothing is waived.
    pub waivers: Result<Waivers, String>,
    /// Where each audit lies.
    made: Vec<Audited>,
}

impl Audits {
    /// The audit of a checkpoint, below the run's folder.
    pub(super) fn file(&self, stage: &str, step: u64) -> Option<&Path> {
        let mut made = self.made.iter();
        let found = made.find(|one| one.stage == stage && one.step == step);
        found.map(|one| one.audit.as_path())
    }
}

/// What comes back, with the number of the run that it is of.
pub(super) enum Told {
    Read(u64, Result<Box<Audits>, String>),
    /// The waivers as they stand now, and what was done, in words.
    Waived(u64, Result<(Waivers, String), String>),
    Opened(u64, Result<Box<Drill>, String>),
}

/// Reads all audits of a pipeline and its waivers.
pub(super) fn read(run: &Stations) -> Result<Audits, String> {
    if !run.pipeline {
        return Err(format!(
            "{}: a single training run has no audits; `candlescope pipeline run` audits each checkpoint of a plan",
            run.root.display()
        ));
    }
    let (_, state) = look(&run.root).map_err(|error| error.to_string())?;
    let course = course(&run.root, &state).map_err(|error| error.to_string())?;
    Ok(Audits {
        course,
        waivers: Waivers::beside(&run.root).map_err(|error| error.to_string()),
        made: state.audits,
    })
}

/// The audit of a checkpoint, for the audit screen.
pub(super) fn open(file: &Path, signal: String) -> Result<Drill, String> {
    let audit = json::load(file).map_err(|error| error.to_string())?;
    Ok(Drill {
        audit: Arc::new(audit),
        file: file.display().to_string(),
        signal,
    })
}

/// A waiver that is wanted; without a reason it is taken back.
pub(super) struct Wish {
    pub root: PathBuf,
    pub signal: String,
    pub stage: String,
    pub step: u64,
    pub verdict: Verdict,
    pub reason: Option<String>,
    pub author: Option<String>,
}

/// Writes it.
pub(super) fn waive(wish: Wish) -> Result<(Waivers, String), String> {
    let done = || -> Result<(Waivers, String), WaiverError> {
        let mut waivers = Waivers::beside(&wish.root)?;
        let said = match &wish.reason {
            None => {
                waivers.take_back(&wish.signal, (&wish.stage, wish.step));
                format!("{}: no waiver any more", wish.signal)
            }
            Some(reason) => {
                waivers.add(Waiver {
                    signal: wish.signal.clone(),
                    stage: wish.stage.clone(),
                    step: wish.step,
                    verdict: wish.verdict,
                    reason: reason.trim().to_owned(),
                    author: wish.author.clone().or_else(user),
                    date: jiff::Zoned::now().date().to_string(),
                })?;
                format!(
                    "{} is waived; the reason is in {FILE} beside the run",
                    wish.signal
                )
            }
        };
        waivers.write(&wish.root)?;
        Ok((waivers, said))
    };
    done().map_err(|error| error.to_string())
}

/// Whom the system takes the user for.
fn user() -> Option<String> {
    let name = ["USER", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.trim().is_empty() && !name.chars().any(char::is_control))
}
