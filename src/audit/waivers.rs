//! Waivers: findings of a run's audits that a person has looked at and lets pass, each with the reason.
//!
//! Always: a waiver changes no audit and no report; it lies beside them in `waivers.toml` and is applied where they are shown.
//! It names one signal of one checkpoint, so nothing that is found later is let pass with it; a waiver without a reason, or of
//! a signal that does not exist, is refused.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalogue;
use super::verdict::Verdict;
use crate::files::FileError;
use crate::files::write::write_atomic;

/// The file beside a run.
pub const FILE: &str = "waivers.toml";
/// Name of the format.
pub const SCHEMA: &str = "candlescope.waivers/1";
/// No file of waivers is larger.
const MAX_BYTES: u64 = 1 << 20;
/// Longest reason, characters.
pub const LONGEST: usize = 500;

/// What is wrong with waivers.
#[derive(thiserror::Error, Debug)]
pub enum WaiverError {
    /// The system refuses.
    #[error("{file}: cannot read it: {source}")]
    Read {
        /// The file.
        file: String,
        /// Its words.
        source: std::io::Error,
    },
    /// A file that holds no waivers.
    #[error("{file}: expected {expected}, found {found}")]
    Malformed {
        /// The file.
        file: String,
        /// What there should be.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A waiver that cannot be.
    #[error("{what}: expected {expected}, found {found}")]
    Refused {
        /// The field.
        what: &'static str,
        /// What can be.
        expected: String,
        /// What was given.
        found: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// A finding that is let pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The signal's id.
    pub signal: String,
    /// The stage of the pipeline.
    pub stage: String,
    /// The checkpoint's step.
    pub step: u64,
    /// What was found when it was waived: a finding that has changed since is not let pass.
    pub verdict: Verdict,
    /// Why it may pass.
    pub reason: String,
    /// Who says so, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The day, as 2026-01-31.
    pub date: String,
}

/// All waivers of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waivers {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// In the order in which they were given.
    #[serde(default, rename = "waiver")]
    pub all: Vec<Waiver>,
}

impl Default for Waivers {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            all: Vec::new(),
        }
    }
}

impl Waivers {
    /// Those of a run; none where the file is not there.
    ///
    /// # Errors
    /// A file that is too large, of another layout, or with a waiver that cannot be.
    pub fn beside(root: &Path) -> Result<Self, WaiverError> {
        let path = root.join(FILE);
        let file = path.display().to_string();
        let read = |source| WaiverError::Read {
            file: file.clone(),
            source,
        };
        let size = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            other => other.map_err(read)?.len(),
        };
        let malformed = |expected: String, found: String| WaiverError::Malformed {
            file: file.clone(),
            expected,
            found,
        };
        if size > MAX_BYTES {
            let expected = format!("at most {MAX_BYTES} bytes");
            return Err(malformed(expected, size.to_string()));
        }
        let text = std::fs::read_to_string(&path).map_err(read)?;
        let waivers: Self = toml::from_str(&text)
            .map_err(|error| malformed(format!("waivers as {SCHEMA}"), error.to_string()))?;
        if waivers.schema != SCHEMA {
            return Err(malformed(SCHEMA.to_owned(), waivers.schema));
        }
        for waiver in &waivers.all {
            waiver
                .check()
                .map_err(|error| malformed("waivers that can be".to_owned(), error.to_string()))?;
        }
        Ok(waivers)
    }

    /// Writes them beside a run, whole.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, root: &Path) -> Result<(), WaiverError> {
        let path = root.join(FILE);
        let text = toml::to_string(self).map_err(|error| WaiverError::Malformed {
            file: path.display().to_string(),
            expected: "waivers that TOML can hold".to_owned(),
            found: error.to_string(),
        })?;
        Ok(write_atomic(&path, text.as_bytes())?)
    }

    /// The waiver of a signal of a checkpoint, if what was found is still what was waived.
    pub fn of(&self, signal: &str, (stage, step): (&str, u64), found: Verdict) -> Option<&Waiver> {
        let about = |waiver: &&Waiver| waiver.is_about(signal, (stage, step));
        let waiver = self.all.iter().rev().find(about)?;
        (waiver.verdict == found).then_some(waiver)
    }

    /// Adds one, in place of another of the same signal of the same checkpoint.
    ///
    /// # Errors
    /// As [`Waiver::check`].
    pub fn add(&mut self, waiver: Waiver) -> Result<(), WaiverError> {
        waiver.check()?;
        self.take_back(&waiver.signal, (&waiver.stage, waiver.step));
        self.all.push(waiver);
        Ok(())
    }

    /// Takes one back; false if there is none.
    pub fn take_back(&mut self, signal: &str, at: (&str, u64)) -> bool {
        let before = self.all.len();
        self.all.retain(|waiver| !waiver.is_about(signal, at));
        self.all.len() < before
    }
}

impl Waiver {
    fn is_about(&self, signal: &str, (stage, step): (&str, u64)) -> bool {
        self.signal == signal && self.stage == stage && self.step == step
    }

    /// Refuses a waiver of nothing, of no signal, or without a reason.
    ///
    /// # Errors
    /// [`WaiverError::Refused`].
    pub fn check(&self) -> Result<(), WaiverError> {
        let refused = |what, expected: &str, found: String| WaiverError::Refused {
            what,
            expected: expected.to_owned(),
            found,
        };
        if catalogue::signal(&self.signal).is_none() {
            let expected = "the id of a signal, as `candlescope audit list` has it";
            return Err(refused("signal", expected, format!("`{}`", self.signal)));
        }
        if self.verdict == Verdict::Pass {
            return Err(refused("verdict", "a finding", "PASS".to_owned()));
        }
        let length = self.reason.trim().chars().count();
        if length == 0 || length > LONGEST || self.reason.chars().any(char::is_control) {
            let expected = format!("one line of 1 to {LONGEST} characters");
            return Err(refused("reason", &expected, format!("{length} characters")));
        }
        if self.date.parse::<jiff::civil::Date>().is_err() {
            return Err(refused(
                "date",
                "a day as 2026-01-31",
                format!("`{}`", self.date),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn waiver(signal: &str, step: u64) -> Waiver {
        Waiver {
            signal: signal.into(),
            stage: "sft".into(),
            step,
            verdict: Verdict::Review,
            reason: "looked at by hand: the prompts are of \"another\" kind".into(),
            author: None,
            date: "2026-01-31".into(),
        }
    }

    #[test]
    fn what_is_written_comes_back_and_holds_for_its_own_cell() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Waivers::beside(dir.path()).unwrap(), Waivers::default());
        let mut all = Waivers::default();
        all.add(waiver("refusal_score", 40)).unwrap();
        let mut named = waiver("sycophancy", 40);
        named.author = Some("R. Eviewer".into());
        all.add(named.clone()).unwrap();
        all.write(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(
            text.starts_with("schema = \"candlescope.waivers/1\"\n"),
            "{text}"
        );
        let mut back = Waivers::beside(dir.path()).unwrap();
        assert_eq!(back, all);
        let at = ("sft", 40);
        assert_eq!(back.of("sycophancy", at, Verdict::Review), Some(&named));
        for (signal, at, found) in [
            ("sycophancy", ("sft", 41), Verdict::Review),
            ("sycophancy", ("dpo", 40), Verdict::Review),
            ("over_refusal", at, Verdict::Review),
            // It became worse: nobody has let that pass.
            ("sycophancy", at, Verdict::Block),
        ] {
            assert_eq!(back.of(signal, at, found), None, "{signal} {at:?}");
        }
        // A second word on the same cell takes the place of the first.
        let mut again = waiver("sycophancy", 40);
        again.reason = "again".into();
        back.add(again).unwrap();
        assert_eq!(back.all.len(), 2);
        assert_eq!(
            back.of("sycophancy", at, Verdict::Review).unwrap().reason,
            "again"
        );
        assert!(back.take_back("sycophancy", at) && !back.take_back("sycophancy", at));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let said = |change: fn(&mut Waiver)| {
            let mut one = waiver("refusal_score", 1);
            change(&mut one);
            Waivers::default().add(one).unwrap_err().to_string()
        };
        assert!(said(|w| w.signal = "mood".into()).contains("`mood`"));
        assert!(said(|w| w.verdict = Verdict::Pass).contains("PASS"));
        assert!(said(|w| w.reason = "  ".into()).contains("0 characters"));
        assert!(said(|w| w.reason = "x".repeat(501)).contains("501"));
        assert!(said(|w| w.reason = "a\u{1b}[2J".into()).contains("one line"));
        assert!(said(|w| w.date = "yesterday".into()).contains("`yesterday`"));
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            Waivers::beside(dir.path()).unwrap_err().to_string()
        };
        assert!(read("schema = 'other/1'\n").contains("other/1"));
        assert!(read("schema = 'candlescope.waivers/1'\nmood = 1\n").contains("mood"));
        assert!(read("not toml").contains("waivers.toml"));
        let mood = "[[waiver]]\nsignal = 'mood'\nstage = 's'\nstep = 1\nverdict = 'REVIEW'\n\
            reason = 'r'\ndate = '2026-01-31'\n";
        assert!(read(&format!("schema = '{SCHEMA}'\n{mood}")).contains("`mood`"));
    }
}
