//! What the training screen has done away from the frame: looking at run folders, and encoding rows of a run's data.
//!
//! Always: a look reads what has come since the last one and nothing twice; it changes no file and needs no model. What goes
//! wrong with one run is said of that run, and the others are shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Checkpoint;
use crate::text::dataset::{
    Columns, DataError, EncodeOptions, Encoder, Kind, Row as DataRow, columns, table,
};
use crate::train::log::{Follower, Row};
use crate::train::{Config, Manifest, RunFolder};

/// Runs of one folder that are looked at; the others are counted.
const MOST_RUNS: usize = 200;
/// Rows of data that are shown with their targets.
const ROWS: usize = 12;
/// No config of a run is larger.
const CONFIG_BYTES: u64 = 1 << 20;

/// Reads the runs of a folder as they grow. It goes along with each look and comes back with its answer.
pub(super) struct Reader {
    root: PathBuf,
    followed: BTreeMap<PathBuf, (Follower, usize)>,
}

/// What a look found of one run.
pub(super) struct Seen {
    /// Its folder.
    pub path: PathBuf,
    /// Rows that have come.
    pub rows: Vec<Row>,
    /// The log is another one than before: what was known of it is void.
    pub anew: bool,
    /// A process of this machine trains in it.
    pub busy: bool,
    /// Lines of the log so far that are no rows.
    pub foreign: usize,
    /// Its last line is not whole.
    pub torn: bool,
    /// Why it cannot be read.
    pub trouble: Option<String>,
}

/// What a look found.
pub(super) struct Looked {
    /// For the next look.
    pub reader: Reader,
    /// The runs.
    pub seen: Vec<Seen>,
    /// Runs that were left out, since there are too many.
    pub left_out: usize,
    /// There is more to read at once.
    pub behind: bool,
    /// Seconds since 1970.
    pub now: f64,
    /// Why the folder cannot be listed.
    pub trouble: Option<String>,
}

/// A row of data, as the loss sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Masked {
    /// Where it stands: `train.jsonl:3`, and which answer.
    pub place: String,
    /// Tokens, each with whether it is a target of the loss; or why the row cannot be used.
    pub tokens: Result<Vec<(String, bool)>, String>,
}

impl Reader {
    /// Of a run, or of a folder with runs in it.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            followed: BTreeMap::new(),
        }
    }

    /// Reads what has come.
    pub(super) fn look(mut self) -> Looked {
        let (folders, trouble) = match runs(&self.root) {
            Ok(folders) => (folders, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let left_out = folders.len().saturating_sub(MOST_RUNS);
        let (mut seen, mut behind) = (Vec::new(), false);
        for folder in folders.into_iter().take(MOST_RUNS) {
            let log = folder.log_path();
            let path = folder.path().to_path_buf();
            let followed = self.followed.entry(path.clone());
            let (follower, restarts) = followed.or_insert_with(|| (Follower::new(&log), 0));
            // Before the log is read: a run that ends in between has then said so in it.
            let busy = folder.busy();
            let (rows, trouble) = match follower.poll() {
                Ok(rows) => (rows, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            behind |= trouble.is_none() && follower.behind() && !rows.is_empty();
            let anew = std::mem::replace(restarts, follower.restarts()) != follower.restarts();
            seen.push(Seen {
                path,
                rows,
                anew,
                busy,
                foreign: follower.foreign(),
                torn: follower.torn(),
                trouble,
            });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Looked {
            reader: self,
            seen,
            left_out,
            behind,
            now: now.map_or(0.0, |since| since.as_secs_f64()),
            trouble,
        }
    }
}

/// The folder itself where it is a run, else the runs in it. A folder that is not there holds none.
fn runs(root: &Path) -> Result<Vec<RunFolder>, String> {
    if let Ok(folder) = RunFolder::open(root) {
        return Ok(vec![folder]);
    }
    if !root.exists() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", root.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        if let Ok(folder) = RunFolder::open(&entry.map_err(failed)?.path()) {
            found.push(folder);
        }
    }
    found.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(found)
}

/// The first rows of a run's training data, in the tokens of the open model.
///
/// # Errors
/// What is missing or does not fit, and what to try.
pub(super) fn masks(
    checkpoint: &Checkpoint,
    run: &Path,
    method: &str,
) -> Result<Vec<Masked>, String> {
    let folder = RunFolder::open(run).map_err(words)?;
    let path = folder.config_path();
    let size = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if size.len() > CONFIG_BYTES {
        return Err(format!("{}: too large to be a config", path.display()));
    }
    let config = Config::read(&path, method, &[]).map_err(words)?;
    if let Ok(manifest) = Manifest::read(&folder.manifest_path())
        && manifest.tokenizer != checkpoint.tokenizer.hash()
    {
        return Err(format!(
            "the open model has another tokenizer than the run's model; `:open {}` opens that one",
            manifest.model
        ));
    }
    let data = &config.data;
    let file = data.train.first().ok_or("the run's config names no data")?;
    let missing = |error| {
        format!("{error}; paths of a run's config are seen from the folder where it was started")
    };
    let read = table::read(file).map_err(|error| missing(words(error)))?;
    let names: Columns = data.columns.parse().map_err(words)?;
    let rows = columns::rows(&read, &names, None).map_err(words)?;
    let date = data.date.as_deref();
    let date: Option<jiff::civil::Date> = date.and_then(|date| date.parse().ok());
    let options = EncodeOptions {
        now: date.map(|date| date.at(12, 0, 0, 0)),
        truncation: data.truncation.unwrap_or_default(),
        supervise: data.supervise.unwrap_or_default(),
        chat: data.chat,
        unusable: data.unusable,
        ..EncodeOptions::up_to(data.max_length)
    };
    let encoder = Encoder::new(&checkpoint.tokenizer, checkpoint.template.as_ref(), options);
    let encoder = encoder.map_err(words)?;
    let mut all = Vec::new();
    for row in rows.rows.iter().take(ROWS) {
        let place = row.place.to_string();
        let parts = match config.method.name() {
            "ppo" | "rloo" => prompt(&encoder, row),
            _ => match rows.kind {
                Kind::Preference => pair(&encoder, row),
                Kind::Unpaired => labelled(&encoder, row),
                _ => example(&encoder, row),
            },
        };
        match parts {
            Ok(parts) => all.extend(parts.into_iter().map(|(part, ids)| {
                let token = |(id, target)| (checkpoint.tokenizer.token(id), target);
                Masked {
                    place: format!("{place}{part}"),
                    tokens: Ok(ids.into_iter().map(token).collect()),
                }
            })),
            Err(error) => all.push(Masked {
                place,
                tokens: Err(words(error)),
            }),
        }
    }
    Ok(all)
}

/// Parts of a row: what follows its place in words, and its ids, each with whether it is a target.
type Parts = Result<Vec<(&'static str, Vec<(u32, bool)>)>, DataError>;

fn example(encoder: &Encoder, row: &DataRow) -> Parts {
    let item = encoder.example(row)?.item;
    Ok(vec![(
        "",
        item.ids.into_iter().zip(item.supervised).collect(),
    )])
}

fn pair(encoder: &Encoder, row: &DataRow) -> Parts {
    let pair = encoder.pair(row)?;
    let part = |answer| answered(&pair.prompt, answer);
    Ok(vec![
        (", chosen", part(&pair.chosen)),
        (", rejected", part(&pair.rejected)),
    ])
}

fn labelled(encoder: &Encoder, row: &DataRow) -> Parts {
    let rows = encoder.labelled(row)?.into_iter();
    let rows = rows.map(|one| {
        let label = if one.label {
            ", desirable"
        } else {
            ", undesirable"
        };
        (label, answered(&one.prompt, &one.completion))
    });
    Ok(rows.collect())
}

fn prompt(encoder: &Encoder, row: &DataRow) -> Parts {
    let prompt = encoder.prompt(row)?.prompt;
    Ok(vec![(", prompt alone", answered(&prompt, &[]))])
}

fn answered(prompt: &[u32], answer: &[u32]) -> Vec<(u32, bool)> {
    let prompt = prompt.iter().map(|&id| (id, false));
    prompt.chain(answer.iter().map(|&id| (id, true))).collect()
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
