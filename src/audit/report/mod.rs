//! Reports: one evaluated audit, several ways to show it.
//!
//! Always: every renderer reads the same [`Audit`] and decides nothing, and all foreign text goes through [`text`]. For a
//! person: [`html`], [`terminal`], [`markdown`], [`card`]; for a machine: [`json`], [`junit`], [`inspect`]; several audits:
//! [`compare`].

pub mod card;
pub mod compare;
pub mod draw;
pub mod html;
pub mod inspect;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod svg;
pub mod terminal;
pub mod text;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::result::Audit;
use super::verdict::Verdict;

/// The page of each signal by id: plain text, paragraphs parted by empty lines, `- ` for lists, back-ticks for code.
pub type Docs = BTreeMap<String, String>;

/// Why a report could not be written or read.
#[derive(thiserror::Error, Debug)]
pub enum ReportError {
    /// A file or folder could not be written; nothing of the report is left behind.
    #[error("cannot write report `{}`: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("cannot read audit `{}`: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is larger than any audit.
    #[error("`{}` is larger than {limit} bytes, and no audit is; was another file meant?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// A text that is not an audit.
    #[error("`{file}` is not an audit: {message}")]
    Foreign {
        /// Where the text came from.
        file: String,
        /// What is wrong, with line and column.
        message: String,
    },
    /// An audit of another layout.
    #[error(
        "`{file}` has schema `{found}`, expected `{expected}`; read it with the candlescope that wrote it"
    )]
    Schema {
        /// Where the text came from.
        file: String,
        /// The schema this version reads.
        expected: &'static str,
        /// The schema it has.
        found: String,
    },
}

/// Writes `report.html`, `audit.json`, `report.md` and `junit.xml` into `dir`, which is made when it is not there.
///
/// All four are written beside their places first and moved only when every one is complete and on the disk, so a full
/// disk leaves the former report, or none. Returns the paths.
pub fn write_all(dir: &Path, audit: &Audit, docs: &Docs) -> Result<Vec<PathBuf>, ReportError> {
    write_files(
        dir,
        &[
            ("report.html", html::render(audit, docs)),
            ("audit.json", json::render(audit)?),
            ("report.md", markdown::render(audit)),
            ("junit.xml", junit::render(audit)),
        ],
    )
}

/// Writes `compare.html` and `compare.md` into `dir` in the same way.
pub fn write_comparison(dir: &Path, audits: &[Audit]) -> Result<Vec<PathBuf>, ReportError> {
    write_files(
        dir,
        &[
            ("compare.html", compare::html(audits)),
            ("compare.md", compare::markdown(audits)),
        ],
    )
}

/// What a calibration says where it raises no alarm; an alarm is among the audit's reasons.
fn quiet(audit: &Audit) -> Option<String> {
    let said = audit.calibrated.as_ref()?;
    (!said.diagnosis.alarm).then(|| said.words())
}

fn write_files(dir: &Path, files: &[(&str, String)]) -> Result<Vec<PathBuf>, ReportError> {
    std::fs::create_dir_all(dir).map_err(|source| ReportError::Write {
        file: dir.to_owned(),
        source,
    })?;
    let places: Vec<_> = files
        .iter()
        .map(|(name, _)| {
            (
                dir.join(format!(".{name}.{}.tmp", std::process::id())),
                dir.join(name),
            )
        })
        .collect();
    let written = files
        .iter()
        .zip(&places)
        .try_for_each(|((_, text), (waiting, place))| {
            if place.is_dir() {
                return Err(ReportError::Write {
                    file: place.clone(),
                    source: std::io::ErrorKind::IsADirectory.into(),
                });
            }
            write_synced(waiting, text).map_err(|source| ReportError::Write {
                file: place.clone(),
                source,
            })
        });
    let moved = written.and_then(|()| {
        places.iter().try_for_each(|(waiting, place)| {
            std::fs::rename(waiting, place).map_err(|source| ReportError::Write {
                file: place.clone(),
                source,
            })
        })
    });
    if moved.is_err() {
        for (waiting, _) in &places {
            // What was never written, or is already in place, is not there to remove.
            let _ = std::fs::remove_file(waiting);
        }
    }
    moved.map(|()| places.into_iter().map(|(_, place)| place).collect())
}

fn write_synced(place: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(place)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// `2 block, 1 review, 5 pass`: verdicts and how many signals have each, worst first, without those that none has.
pub fn tally(audit: &Audit) -> Vec<(Verdict, usize)> {
    Verdict::ALL
        .into_iter()
        .map(|verdict| {
            (
                verdict,
                audit
                    .signals
                    .iter()
                    .filter(|signal| signal.verdict == verdict)
                    .count(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The mark that stands beside a verdict's word; each has its own shape.
pub fn glyph(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✔",
        Verdict::Underpowered => "?",
        Verdict::Review => "▲",
        Verdict::Block => "✖",
    }
}

/// [`glyph`] where only ASCII may be shown.
pub fn plain_glyph(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "+",
        Verdict::Underpowered => "?",
        Verdict::Review => "!",
        Verdict::Block => "x",
    }
}

#[cfg(test)]
pub(crate) mod tests;
