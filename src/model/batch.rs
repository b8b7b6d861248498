//! Rows of token ids for one pass, padded on the left so that the last slot is the last token of every row.
//!
//! A packed row holds several documents, each of which sees only itself and counts its positions from 0.

use std::ops::Range;

use candle_core::Tensor;
use candlescope_ops as ops;

use super::ModelError;

/// Token ids of equal-length rows, `[batch, pos]`, padded on the left.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) ids: Vec<u32>,
    pad: Vec<usize>,
    len: usize,
    /// First tokens of each row's documents, padding not counted; empty for rows that are not packed.
    starts: Vec<Vec<usize>>,
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
        Ok(Self {
            ids,
            pad,
            len,
            starts: Vec::new(),
        })
    }

    /// Rows of several documents each: `(tokens, first token of each document)`. A document's hidden states are those it has
    /// alone, whatever lies beside it.
    ///
    /// # Errors
    /// Starts that do not begin at 0, do not rise, or lie beyond the row.
    pub fn packed<R: AsRef<[u32]>>(rows: &[(R, Vec<usize>)]) -> Result<Self, ModelError> {
        for (i, (row, starts)) in rows.iter().enumerate() {
            let rising = starts.windows(2).all(|w| w[0] < w[1]);
            let within = starts.last().is_some_and(|&s| s < row.as_ref().len());
            if starts.first() != Some(&0) || !rising || !within {
                let why = format!(
                    "row {i} of {} tokens has documents that start at {starts:?}; the first starts at 0 and each has a token",
                    row.as_ref().len()
                );
                return Err(ModelError::Packed { why });
            }
        }
        let ids: Vec<&[u32]> = rows.iter().map(|(row, _)| row.as_ref()).collect();
        Ok(Self {
            starts: rows.iter().map(|(_, starts)| starts.clone()).collect(),
            ..Self::new(&ids)?
        })
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

    /// Whether rows hold several documents.
    pub fn is_packed(&self) -> bool {
        !self.starts.is_empty()
    }

    /// The slots of each document of a row; of the whole row where it is not packed.
    pub fn documents(&self, row: usize) -> Vec<Range<usize>> {
        let pad = self.pad[row];
        match self.starts.get(row) {
            None => std::iter::once(pad..self.len).collect(),
            Some(starts) => {
                let ends = starts[1..].iter().map(|&s| s + pad).chain([self.len]);
                starts.iter().zip(ends).map(|(s, e)| s + pad..e).collect()
            }
        }
    }

    /// Logical positions of all slots, `[batch * pos]`: from 0 in each document; 0 for padding.
    pub(super) fn positions(&self) -> Vec<u32> {
        let mut positions = vec![0; self.ids.len()];
        for row in 0..self.rows() {
            for document in self.documents(row) {
                for (i, slot) in document.enumerate() {
                    positions[row * self.len + slot] = i as u32;
                }
            }
        }
        positions
    }
}

/// The documents of packed rows as rows of their own, for attention: where to fetch each slot and where to put it back.
pub(super) struct Documents {
    /// Padding of each document.
    pub pad: Vec<usize>,
    longest: usize,
    /// `[documents * longest]`: the slot each comes from; any slot for padding.
    apart: Vec<u32>,
    /// `[batch * pos]`: the document's slot each slot goes to; any for padding.
    together: Vec<u32>,
}

impl Documents {
    /// Of a packed batch; none otherwise.
    pub fn of(batch: &Batch) -> Option<Self> {
        if !batch.is_packed() {
            return None;
        }
        let rows = (0..batch.rows()).flat_map(|row| {
            let documents = batch.documents(row).into_iter();
            documents.map(move |d| row * batch.len + d.start..row * batch.len + d.end)
        });
        let documents: Vec<Range<usize>> = rows.collect();
        let longest = documents
            .iter()
            .map(ExactSizeIterator::len)
            .max()
            .unwrap_or(0);
        let mut apart = vec![0u32; documents.len() * longest];
        let mut together = vec![0u32; batch.ids.len()];
        for (i, document) in documents.iter().enumerate() {
            let first = (i + 1) * longest - document.len();
            for (j, slot) in document.clone().enumerate() {
                apart[first + j] = slot as u32;
                together[slot] = (first + j) as u32;
            }
        }
        Some(Self {
            pad: documents.iter().map(|d| longest - d.len()).collect(),
            longest,
            apart,
            together,
        })
    }

    /// `[batch, pos, heads, d_head]` to `[documents, longest, heads, d_head]`.
    pub fn apart(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, pos, heads, width) = x.dims4()?;
        let rows = ops::reshape(&x.contiguous()?, (batch * pos, heads * width))?;
        let shape = (self.pad.len(), self.longest, heads, width);
        ops::reshape(&ops::embedding(&rows, &self.apart)?, shape)
    }

    /// The inverse of [`Self::apart`], for a batch of `rows`.
    pub fn together(&self, x: &Tensor, rows: usize) -> candle_core::Result<Tensor> {
        let (documents, longest, heads, width) = x.dims4()?;
        let flat = ops::reshape(&x.contiguous()?, (documents * longest, heads * width))?;
        let shape = (rows, self.together.len() / rows, heads, width);
        ops::reshape(&ops::embedding(&flat, &self.together)?, shape)
    }
}
