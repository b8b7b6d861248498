//! A [`Ledger`] on disk: `grid.jsonl`, first what it belongs to, then a line for each candidate that was tried.
//!
//! Always: a line is whole or not there (a line that a kill cut off is dropped when the file is opened again), and a file that
//! belongs to another model, other prompts or another policy is refused.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Candidate, Ledger, Measures, SteerError};

/// The file's name in a selection's folder.
pub const NAME: &str = "grid.jsonl";

/// No grid is larger: ten thousand candidates with a thousand numbers each.
const MOST: u64 = 1 << 30;

/// What measures belong to. A file whose key differs is refused, naming the first field that does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// `candlescope.direction.grid/1`
    pub schema: String,
    /// Hash of the weights.
    pub weights: String,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Hash of the chat template.
    pub template: String,
    /// Hash of validation and training prompts.
    pub prompts: String,
    /// The policy and everything else that decides the numbers, as JSON.
    pub settings: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Key(Key),
    Random { kl: Vec<f64> },
    Candidate(Measures),
}

/// The open file with what it holds.
#[derive(Debug)]
pub struct GridFile {
    path: PathBuf,
    file: File,
    measures: Vec<Measures>,
    random: Option<Vec<f64>>,
}

impl GridFile {
    /// Opens the grid of a folder, or begins one.
    ///
    /// # Errors
    /// [`SteerError::Ledger`]: it belongs to something else, cannot be read or written, or is damaged before its end.
    pub fn open(folder: &Path, key: &Key) -> Result<Self, SteerError> {
        let path = folder.join(NAME);
        let failed = |error: std::io::Error| at(&path, error.to_string());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file = (options.read(true).write(true).create(true).truncate(false))
            .open(&path)
            .map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > MOST {
            return Err(at(&path, format!("{size} bytes; at most {MOST} are read")));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines().enumerate();
        let mut found = Self {
            file,
            measures: Vec::new(),
            random: None,
            path: path.clone(),
        };
        match lines.next() {
            None => {
                found.file.set_len(0).map_err(failed)?;
                found.file.seek(SeekFrom::Start(0)).map_err(failed)?;
                found.write(&Line::Key(key.clone()))?;
                return Ok(found);
            }
            Some((_, line)) => match serde_json::from_str(line) {
                Ok(Line::Key(theirs)) => same(&path, &theirs, key)?,
                _ => return Err(at(&path, "its first line does not say what it belongs to")),
            },
        }
        for (number, line) in lines {
            match serde_json::from_str(line) {
                Ok(Line::Random { kl }) => found.random = Some(kl),
                Ok(Line::Candidate(measures)) => found.measures.push(measures),
                _ => return Err(at(&path, format!("line {} cannot be read", number + 1))),
            }
        }
        found.file.set_len(whole as u64).map_err(failed)?;
        found.file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(found)
    }

    /// Candidates that it holds.
    pub fn len(&self) -> usize {
        self.measures.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.measures.is_empty()
    }

    fn write(&mut self, line: &Line) -> Result<(), SteerError> {
        let text = serde_json::to_string(line).map_err(|e| at(&self.path, e.to_string()))?;
        let written = (self.file.write_all(format!("{text}\n").as_bytes()))
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| at(&self.path, error.to_string()))
    }
}

impl Ledger for GridFile {
    fn known(&self, candidate: &Candidate) -> Option<Measures> {
        let found = self.measures.iter().find(|m| m.is_of(candidate));
        found.cloned()
    }

    fn note(&mut self, measures: &Measures) -> Result<(), SteerError> {
        self.write(&Line::Candidate(measures.clone()))?;
        self.measures.push(measures.clone());
        Ok(())
    }

    fn random(&self) -> Option<Vec<f64>> {
        self.random.clone()
    }

    fn note_random(&mut self, kl: &[f64]) -> Result<(), SteerError> {
        self.write(&Line::Random { kl: kl.to_vec() })?;
        self.random = Some(kl.to_vec());
        Ok(())
    }
}

pub(super) fn same(path: &Path, theirs: &Key, ours: &Key) -> Result<(), SteerError> {
    let fields = [
        ("schema", &theirs.schema, &ours.schema),
        ("weights", &theirs.weights, &ours.weights),
        ("tokenizer", &theirs.tokenizer, &ours.tokenizer),
        ("template", &theirs.template, &ours.template),
        ("prompts", &theirs.prompts, &ours.prompts),
    ];
    let settings = [theirs.settings.to_string(), ours.settings.to_string()];
    let differs = fields.into_iter().find(|(_, a, b)| a != b);
    let differs = differs.or_else(|| {
        let [a, b] = &settings;
        (a != b).then_some(("settings", a, b))
    });
    let Some((field, found, expected)) = differs else {
        return Ok(());
    };
    Err(at(
        path,
        format!(
            "it was made with other {field}: expected {expected}, found {found}; name another folder, or delete this file"
        ),
    ))
}

pub(super) fn at(path: &Path, why: impl Into<String>) -> SteerError {
    SteerError::Ledger {
        file: path.display().to_string(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::steer::{Method, Where};
    use candlescope_probes::Direction;
    use ndarray::array;

    fn key(prompts: &str) -> Key {
        Key {
            schema: "s".into(),
            weights: "w".into(),
            tokenizer: "t".into(),
            template: String::new(),
            prompts: prompts.into(),
            settings: serde_json::json!({"a": 1}),
        }
    }

    fn measures(layer: usize) -> Measures {
        Measures {
            layer,
            where_: Where::FromEnd(1),
            method: Method::Means,
            bypass: vec![0.1, 1.0 / 3.0],
            induce: vec![-2.5e-300],
            kl: vec![f64::MIN_POSITIVE],
        }
    }

    fn candidate(layer: usize) -> Candidate {
        Candidate {
            layer,
            where_: Where::FromEnd(1),
            method: Method::Means,
            direction: Direction::from_vector(array![1.0].view()).unwrap(),
            separation: 0.5,
        }
    }

    #[test]
    fn what_is_noted_is_known_again_to_the_bit_and_a_cut_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut grid = GridFile::open(folder.path(), &key("p")).unwrap();
        assert!(grid.is_empty() && grid.random().is_none());
        grid.note_random(&[0.1, 0.2]).unwrap();
        grid.note(&measures(3)).unwrap();
        drop(grid);
        let path = folder.path().join(NAME);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"kind\":\"candidate\",\"layer\":4");
        std::fs::write(&path, &text).unwrap();
        let mut grid = GridFile::open(folder.path(), &key("p")).unwrap();
        assert_eq!(grid.random(), Some(vec![0.1, 0.2]));
        assert_eq!(grid.known(&candidate(3)), Some(measures(3)));
        assert_eq!(grid.known(&candidate(4)), None);
        grid.note(&measures(4)).unwrap();
        drop(grid);
        let grid = GridFile::open(folder.path(), &key("p")).unwrap();
        assert_eq!(
            (grid.len(), grid.known(&candidate(4))),
            (2, Some(measures(4)))
        );
    }

    #[test]
    fn a_grid_of_something_else_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        drop(GridFile::open(folder.path(), &key("p")).unwrap());
        let error = GridFile::open(folder.path(), &key("q"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("other prompts") && error.contains("expected q, found p"),
            "{error}"
        );
        let other = Key {
            settings: serde_json::json!({"a": 2}),
            ..key("p")
        };
        let error = GridFile::open(folder.path(), &other)
            .unwrap_err()
            .to_string();
        assert!(error.contains("other settings"), "{error}");
        std::fs::write(folder.path().join(NAME), "{}\n").unwrap();
        let error = GridFile::open(folder.path(), &key("p"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("first line"), "{error}");
    }
}
