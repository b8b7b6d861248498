//! All rows of a file encoded, with an account of what was cut and what was left out.

use std::collections::BTreeMap;
use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::encode::{Cut, Encoder};
use super::error::{DataError, Reason};
use super::options::Unusable;
use super::rows::{Dataset, Row};
use super::{Example, Labelled, Pair, PromptOnly};

/// Rows left out, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped(BTreeMap<Reason, DroppedRows>);

/// Rows left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRows {
    /// How many.
    pub rows: usize,
    /// What was said of the first.
    pub first: String,
}

impl Dropped {
    /// Counts a row, or gives back what is no reason to leave one out.
    pub fn count(&mut self, error: DataError) -> Result<(), DataError> {
        let Some(reason) = error.reason() else {
            return Err(error);
        };
        let first = || DroppedRows {
            rows: 0,
            first: error.to_string(),
        };
        self.0.entry(reason).or_insert_with(first).rows += 1;
        Ok(())
    }

    /// Rows of one reason.
    pub fn of(&self, reason: Reason) -> usize {
        self.0.get(&reason).map_or(0, |drop| drop.rows)
    }

    /// Rows of any reason.
    pub fn total(&self) -> usize {
        self.0.values().map(|drop| drop.rows).sum()
    }

    /// Reasons with their rows.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, &DroppedRows)> {
        self.0.iter().map(|(reason, drop)| (*reason, drop))
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let parts = self
            .iter()
            .map(|(reason, drop)| format!("{} {} ({})", drop.rows, reason.words(), drop.first));
        f.write_str(&parts.collect::<Vec<_>>().join("; "))
    }
}

/// What a file's rows became; at least one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded<T> {
    /// In the order of the file.
    pub items: Vec<T>,
    /// Index into the rows of the file, for each item.
    pub rows: Vec<usize>,
    /// Rows shortened to the limit.
    pub cut: usize,
    /// Rows left out.
    pub dropped: Dropped,
}

impl Encoder<'_> {
    /// All rows for the language-model loss.
    ///
    /// # Errors
    /// The first row that cannot be used, unless such rows are dropped; [`DataError::NothingLeft`].
    pub fn examples(&self, data: &Dataset) -> Result<Encoded<Example>, DataError> {
        self.all(data, |row| {
            let Cut { item, cut } = self.example(row)?;
            Ok((vec![item], cut))
        })
    }

    /// All rows of two answers.
    ///
    /// # Errors
    /// As [`Encoder::examples`].
    pub fn pairs(&self, data: &Dataset) -> Result<Encoded<Pair>, DataError> {
        self.all(data, |row| Ok((vec![self.pair(row)?], false)))
    }

    /// All rows of labelled answers; those of two answers give two items.
    ///
    /// # Errors
    /// As [`Encoder::examples`].
    pub fn labelled_rows(&self, data: &Dataset) -> Result<Encoded<Labelled>, DataError> {
        self.all(data, |row| Ok((self.labelled(row)?, false)))
    }

    /// The prompts of all rows.
    ///
    /// # Errors
    /// As [`Encoder::examples`].
    pub fn prompts(&self, data: &Dataset) -> Result<Encoded<PromptOnly>, DataError> {
        self.all(data, |row| Ok((vec![self.prompt(row)?], false)))
    }

    fn all<T: Send>(
        &self,
        data: &Dataset,
        one: impl Fn(&Row) -> Result<(Vec<T>, bool), DataError> + Sync,
    ) -> Result<Encoded<T>, DataError> {
        let mut out = Encoded {
            items: Vec::with_capacity(data.rows.len()),
            rows: Vec::with_capacity(data.rows.len()),
            cut: 0,
            dropped: Dropped::default(),
        };
        let encoded: Vec<_> = data.rows.par_iter().map(&one).collect();
        for (index, row) in encoded.into_iter().enumerate() {
            match row {
                Ok((items, cut)) => {
                    out.rows.extend(std::iter::repeat_n(index, items.len()));
                    out.items.extend(items);
                    out.cut += usize::from(cut);
                }
                Err(error) => {
                    // Too long is dropped whatever the policy: `Truncation` decided that, or nothing may be cut.
                    let drop = self.options.unusable == Unusable::Drop
                        || error.reason() == Some(Reason::OverLimit);
                    if !drop {
                        return Err(error);
                    }
                    out.dropped.count(error)?;
                }
            }
        }
        if out.items.is_empty() {
            return Err(DataError::NothingLeft {
                file: data.file.to_string(),
                rows: data.rows.len(),
                dropped: out.dropped.to_string(),
            });
        }
        Ok(out)
    }
}
