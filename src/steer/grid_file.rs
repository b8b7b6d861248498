//! A [`Ledger`] on disk: `grid.jsonl`, first what it belongs to, then a line for each candidate that was tried.
//!
//! How it is kept and refused is `keyed.rs`.

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use super::keyed::Key;
use super::keyed::KeyedLines;
use super::{Candidate, Ledger, Measures, SteerError};

/// The file's name in a selection's folder.
pub const NAME: &str = "grid.jsonl";

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Random { kl: Vec<f64> },
    Candidate(Measures),
}

/// The open file with what it holds.
#[derive(Debug)]
pub struct GridFile {
    lines: KeyedLines,
    measures: Vec<Measures>,
    random: Option<Vec<f64>>,
}

impl GridFile {
    /// Opens the grid of a folder, or begins one.
    ///
    /// # Errors
    /// [`SteerError::Ledger`]: it belongs to something else, cannot be read or written, or is damaged before its end.
    pub fn open(folder: &Path, key: &Key) -> Result<Self, SteerError> {
        let (lines, read) = KeyedLines::open(folder, NAME, key)?;
        let mut found = Self {
            lines,
            measures: Vec::new(),
            random: None,
        };
        for line in read {
            match line {
                Line::Random { kl } => found.random = Some(kl),
                Line::Candidate(measures) => found.measures.push(measures),
            }
        }
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
}

impl Ledger for GridFile {
    fn known(&self, candidate: &Candidate) -> Option<Measures> {
        let found = self.measures.iter().find(|m| m.is_of(candidate));
        found.cloned()
    }

    fn note(&mut self, measures: &Measures) -> Result<(), SteerError> {
        self.lines.write(&Line::Candidate(measures.clone()))?;
        self.measures.push(measures.clone());
        Ok(())
    }

    fn random(&self) -> Option<Vec<f64>> {
        self.random.clone()
    }

    fn note_random(&mut self, kl: &[f64]) -> Result<(), SteerError> {
        self.lines.write(&Line::Random { kl: kl.to_vec() })?;
        self.random = Some(kl.to_vec());
        Ok(())
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
