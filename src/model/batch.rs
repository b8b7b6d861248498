//! Rows of token ids for one pass, padded on the left so that the last slot is the last token of every row.

use super::ModelError;

/// Token ids of equal-length rows, `[batch, pos]`, padded on the left.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) ids: Vec<u32>,
    pad: Vec<usize>,
    len: usize,
}

impl Batch {
    /// Rows of any lengths; shorter ones are padded on the left (the padding is masked and never read).
    pub fn new<R: AsRef<[u32]>>(rows: &[R]) -> Result<Self, ModelError> {
        let len = rows.iter().map(|r| r.as_ref().len()).max().unwrap_or(0);
        if rows.is_empty() || rows.iter().any(|r| r.as_ref().is_empty()) {
            return Err(ModelError::Empty {
                what: "a batch needs at least one row, and every row at least one token",
            });
        }
        let mut ids = Vec::with_capacity(rows.len() * len);
        let mut pad = Vec::with_capacity(rows.len());
        for row in rows {
            let row = row.as_ref();
            pad.push(len - row.len());
            ids.extend(std::iter::repeat_n(0, len - row.len()));
            ids.extend_from_slice(row);
        }
        Ok(Self { ids, pad, len })
    }

    /// One row.
    pub fn single(ids: &[u32]) -> Result<Self, ModelError> {
        Self::new(&[ids])
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.pad.len()
    }

    /// Slots of a row, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true; batches have tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Padding slots of each row.
    pub fn pad(&self) -> &[usize] {
        &self.pad
    }

    /// Tokens of a row without its padding.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.ids[row * self.len + self.pad[row]..(row + 1) * self.len]
    }
}
