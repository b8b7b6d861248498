//! Packing: examples put end to end into rows of a fixed length, none of them split.
//!
//! Best-fit-decreasing: the longest first, each into the row where the least room is left over. Always: the documents of a
//! row do not see each other (the block-diagonal mask is [`Packed::documents`]), positions begin again with each, and
//! the first token of each is no target. Concatenating and cutting, as `wrapped` elsewhere does, is not offered: it lets
//! documents into each other.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{DataError, Example};

/// Documents in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Token ids.
    pub ids: Vec<u32>,
    /// As long as `ids`: this token is a target of the loss.
    pub supervised: Vec<bool>,
    /// First token of each document, ascending, beginning with 0.
    pub starts: Vec<usize>,
}

impl Packed {
    /// One document by itself.
    pub fn single(example: Example) -> Self {
        Self {
            ids: example.ids,
            supervised: example.supervised,
            starts: vec![0],
        }
    }

    /// Where each document lies: a token sees those of its own up to itself.
    pub fn documents(&self) -> impl Iterator<Item = Range<usize>> {
        let ends = self.starts.iter().skip(1).copied().chain([self.ids.len()]);
        self.starts
            .iter()
            .copied()
            .zip(ends)
            .map(|(start, end)| start..end)
    }

    /// Position of each token in its document.
    pub fn positions(&self) -> Vec<usize> {
        self.documents()
            .flat_map(|document| 0..document.len())
            .collect()
    }

    /// Number of the document that each token belongs to.
    pub fn segments(&self) -> Vec<usize> {
        let numbered = self.documents().enumerate();
        numbered
            .flat_map(|(n, document)| std::iter::repeat_n(n, document.len()))
            .collect()
    }

    /// Targets of the loss.
    pub fn targets(&self) -> usize {
        self.supervised.iter().filter(|s| **s).count()
    }

    fn push(&mut self, example: &Example) {
        self.starts.push(self.ids.len());
        self.ids.extend_from_slice(&example.ids);
        let rest = example.supervised.iter().skip(1).copied();
        self.supervised.extend(example.ids.first().map(|_| false));
        self.supervised.extend(rest);
    }
}

/// Rows of at most `max_length` tokens that hold all examples, without padding. The same examples give the same rows.
/// Examples without tokens are passed over.
///
/// # Errors
/// [`DataError::TooLongToPack`].
pub fn pack(examples: &[Example], max_length: usize) -> Result<Vec<Packed>, DataError> {
    if let Some(example) = examples.iter().position(|e| e.ids.len() > max_length) {
        return Err(DataError::TooLongToPack {
            example,
            tokens: examples[example].ids.len(),
            limit: max_length,
        });
    }
    let mut order: Vec<usize> = (0..examples.len())
        .filter(|&i| !examples[i].ids.is_empty())
        .collect();
    order.sort_by_key(|&i| (Reverse(examples[i].ids.len()), i));
    let mut rows: Vec<Packed> = Vec::new();
    // Rows by the room that is left in them.
    let mut room: BTreeSet<(usize, usize)> = BTreeSet::new();
    for i in order {
        let tokens = examples[i].ids.len();
        let fit = room.range((tokens, 0)..).next().copied();
        let (left, row) = fit.unwrap_or((max_length, rows.len()));
        if fit.is_none() {
            rows.push(Packed {
                ids: Vec::new(),
                supervised: Vec::new(),
                starts: Vec::new(),
            });
        }
        room.remove(&(left, row));
        rows[row].push(&examples[i]);
        room.insert((left - tokens, row));
    }
    Ok(rows)
}
