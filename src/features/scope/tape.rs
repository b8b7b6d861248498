//! Inside a pass: the dictionary's codes are read, edited where a turn says so, and kept for the trace.
//!
//! Always: rows at positions without edits flow on as they are, bit for bit; where latents are edited the dictionary's error
//! stays, as in a [`Splice`] that keeps it.

use std::sync::{Arc, Mutex};

use candle_core::{Result as CandleResult, Tensor};
use candlescope_sae::Codes;
use ndarray::{Array2, Axis};

use super::Turns;
use crate::features::latents::edited;
use crate::features::splice::{Function, matrix, of_matrix};
use crate::features::{FeatureError, Splice};
use crate::hooks::{Edit, EditOp, Pass};
use crate::model::ModelError;

/// What a pass read.
#[derive(Debug)]
pub(super) struct Seen {
    /// Position of its first row.
    pub first: usize,
    /// The codes of its rows.
    pub read: Codes,
    /// What became of them.
    pub written: Codes,
}

/// Where passes leave what they read.
#[derive(Debug, Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Option<Seen>>>);

/// Between what is read and what is written.
struct Held {
    rows: Array2<f32>,
    seen: Seen,
    /// Rows that are edited.
    touched: Vec<usize>,
}

impl Tape {
    /// What the newest pass read.
    ///
    /// # Errors
    /// No pass was run since the last call.
    pub fn take(&self) -> Result<Seen, FeatureError> {
        let seen = self.0.lock().ok().and_then(|mut seen| seen.take());
        let what = "the pass read nothing where the dictionary reads";
        Ok(seen.ok_or(ModelError::Empty { what })?)
    }

    /// The edits of a session's passes.
    pub fn edits(&self, splice: &Splice, turns: &Turns) -> Vec<Edit> {
        let closure = |at, what: &str, function: Function| {
            let name = format!("{what} {}", splice.name());
            Edit::new(at, EditOp::Closure { name, function })
        };
        let (tape, own, turns) = (self.clone(), splice.clone(), turns.clone());
        if splice.read() == splice.write() {
            let function: Function = Arc::new(move |x, pass| {
                let held = Held::of(&own, &turns, x, pass)?;
                let out = held.written(&own, x, pass)?;
                tape.keep(held.seen);
                Ok(out)
            });
            return vec![closure(splice.write(), "scope", function)];
        }
        let between: Arc<Mutex<Option<Held>>> = Arc::default();
        let (held, reader) = (Arc::clone(&between), own.clone());
        let read: Function = Arc::new(move |x, pass| {
            let new = Held::of(&reader, &turns, x, pass)?;
            if let Ok(mut held) = held.lock() {
                *held = Some(new);
            }
            Ok(x.clone())
        });
        let write: Function = Arc::new(move |y, pass| {
            let held = between.lock().ok().and_then(|mut held| held.take());
            let Some(held) = held else {
                candle_core::bail!("{} was not read in this pass", own.read());
            };
            let out = held.written(&own, y, pass)?;
            tape.keep(held.seen);
            Ok(out)
        });
        vec![
            closure(splice.read(), "read for", read),
            closure(splice.write(), "scope", write),
        ]
    }

    fn keep(&self, seen: Seen) {
        if let Ok(mut kept) = self.0.lock() {
            *kept = Some(seen);
        }
    }
}

impl Held {
    fn of(splice: &Splice, turns: &Turns, x: &Tensor, pass: &Pass) -> CandleResult<Self> {
        if pass.batch != 1 {
            candle_core::bail!("the scope reads one row, the batch has {}", pass.batch);
        }
        let rows = matrix(x, pass)?;
        let read = splice.dictionary().encode(rows.view());
        let read = read.map_err(candle_core::Error::wrap)?;
        let (mut written, mut touched) = (Codes::new(), Vec::new());
        for row in 0..read.rows() {
            let edits = turns.at(pass.offset + row);
            let mut own = picked(&read, &[row]);
            if !edits.is_empty() {
                own = edited(&own, edits);
                touched.push(row);
            }
            written.push(entries(&own, 0));
        }
        let first = pass.offset;
        let seen = Seen {
            first,
            read,
            written,
        };
        Ok(Self {
            rows,
            seen,
            touched,
        })
    }

    /// `y` with the edited rows as the dictionary writes them.
    fn written(&self, splice: &Splice, y: &Tensor, pass: &Pass) -> CandleResult<Tensor> {
        if self.touched.is_empty() {
            return Ok(y.clone());
        }
        let mut out = matrix(y, pass)?;
        let rows = self.rows.select(Axis(0), &self.touched);
        let target = out.select(Axis(0), &self.touched);
        let [read, written] =
            [&self.seen.read, &self.seen.written].map(|codes| picked(codes, &self.touched));
        let new = splice.put(&read, &written, rows.view(), target.view());
        let new = new.map_err(candle_core::Error::wrap)?;
        for (&row, values) in self.touched.iter().zip(new.outer_iter()) {
            out.row_mut(row).assign(&values);
        }
        of_matrix(out, y)
    }
}

/// A row's latents with their values.
pub(super) fn entries(codes: &Codes, row: usize) -> impl Iterator<Item = (u32, f32)> {
    let (latents, values) = codes.row(row);
    latents.iter().copied().zip(values.iter().copied())
}

fn picked(codes: &Codes, rows: &[usize]) -> Codes {
    let mut out = Codes::new();
    for &row in rows {
        out.push(entries(codes, row));
    }
    out
}
