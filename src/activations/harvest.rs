//! One pass over some contexts: the values at several points, token by token.
//!
//! Always: the pass ends at the last point asked for, and what comes back has neither padding nor attention points, which
//! have no values of a token. A value that is not finite is an error that says where it is.

use super::{
    StoreError,
    plan::{by_row, width},
};
use crate::hooks::{Captured, HookPoint, Hooks};
use crate::model::{Batch, Decoder, LogitsAt, ModelError};

/// A model with the points that are taken from it.
pub struct Harvest<'a> {
    model: &'a Decoder,
    points: Vec<HookPoint>,
    widths: Vec<usize>,
    hooks: Hooks,
}

/// The tokens of one context.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    /// Their ids.
    pub ids: Vec<u32>,
    /// Their values at each point, `[token, width]` one after the other.
    pub values: Vec<Vec<f32>>,
}

impl Tokens {
    /// The norms of the tokens at each point, `[point][token]`.
    pub fn norms(&self) -> Vec<Vec<f64>> {
        let of_point = |values: &Vec<f32>| norms(values, self.ids.len());
        self.values.iter().map(of_point).collect()
    }
}

/// The norms of `tokens` rows that lie one after the other.
pub(super) fn norms(values: &[f32], tokens: usize) -> Vec<f64> {
    let width = values.len() / tokens.max(1);
    let norm = |row: &[f32]| {
        let squares = row.iter().map(|v| f64::from(*v).powi(2));
        squares.sum::<f64>().sqrt()
    };
    values.chunks(width.max(1)).map(norm).collect()
}

impl<'a> Harvest<'a> {
    /// Checks the points.
    ///
    /// # Errors
    /// No point, one that the model lacks, one twice, an attention point.
    pub fn new(model: &'a Decoder, points: &[HookPoint]) -> Result<Self, StoreError> {
        let refuse = |expected, found: String| StoreError::Setting {
            option: "--points",
            expected,
            found,
        };
        if points.is_empty() {
            return Err(refuse("at least one point", "none".into()));
        }
        for (i, at) in points.iter().enumerate() {
            at.check(model.config())?;
            if by_row(*at) {
                return Err(refuse("points with values of each token", at.to_string()));
            }
            if points[..i].contains(at) {
                return Err(refuse("each point once", format!("{at} twice")));
            }
        }
        Ok(Self {
            model,
            widths: points.iter().map(|at| width(*at, model.config())).collect(),
            hooks: points.iter().fold(Hooks::new(), |h, at| h.capture(*at)),
            points: points.to_vec(),
        })
    }

    /// The points.
    pub fn points(&self) -> &[HookPoint] {
        &self.points
    }

    /// Values of a token at each.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// The tokens of some contexts, in one pass. `first` is the number of the first, for messages.
    ///
    /// # Errors
    /// The model; a value that is not finite.
    pub fn pass(&self, contexts: &[Vec<u32>], first: u64) -> Result<Vec<Tokens>, StoreError> {
        let batch = Batch::new(contexts)?;
        let captured = self
            .model
            .forward(&batch, &self.hooks, LogitsAt::None)?
            .captured;
        let context = |(slot, ids): (usize, &Vec<u32>)| {
            let values = self.points.iter().zip(&self.widths).map(|(at, width)| {
                let values = taken(&captured, *at, slot, batch.pad()[slot], ids.len())?;
                if let Some(found) = values.iter().position(|v| !v.is_finite()) {
                    return Err(StoreError::NotFinite {
                        point: at.to_string(),
                        row: format!("{}, position {}", first + slot as u64, found / width),
                        value: values[found],
                    });
                }
                Ok(values)
            });
            Ok(Tokens {
                ids: ids.clone(),
                values: values.collect::<Result<_, StoreError>>()?,
            })
        };
        contexts.iter().enumerate().map(context).collect()
    }
}

/// The values of `len` tokens behind the padding of one row of a batch, in f32.
pub(super) fn taken(
    captured: &Captured,
    at: HookPoint,
    slot: usize,
    start: usize,
    len: usize,
) -> Result<Vec<f32>, StoreError> {
    let tensor = captured.get(&at).ok_or(ModelError::Empty {
        what: "the pass captured nothing at a point",
    })?;
    let values = tensor.get(slot)?.narrow(0, start, len)?;
    let values = values.to_dtype(candle_core::DType::F32)?;
    Ok(values.flatten_all()?.to_vec1()?)
}
