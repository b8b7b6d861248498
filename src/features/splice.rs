//! A dictionary in the forward pass: what it rebuilds takes the place of the activation, with latents edited on the way.
//!
//! Always: padding is left alone; with the error kept, and no latent edited, the pass is what it was, bit for bit. Gradients
//! do not flow through. A transcoder reads one point and writes another: between them the pass holds what was read, by the
//! thread that it runs on, so edits of one [`Splice::edits`] serve one pass of a thread at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use candle_core::{DType, Result as CandleResult, Tensor};
use candlescope_sae::{Codes, Dictionary, SaeError};
use ndarray::{Array2, ArrayView2, Axis};

use super::{FeatureError, LatentEdit, latents::edited};
use crate::config::ModelConfig;
use crate::hooks::{Edit, EditOp, HookPoint, Pass, Selector, Shape};

/// Tokens of a pass by row of the batch and logical position: true where something is replaced. What lies beyond is not.
pub type Places = Arc<Vec<Vec<bool>>>;

/// A dictionary with the points that it reads and writes in a model.
#[derive(Debug, Clone)]
pub struct Splice {
    dictionary: Arc<Dictionary>,
    name: String,
    read: HookPoint,
    write: HookPoint,
    latents: Vec<LatentEdit>,
    keep_error: bool,
    select: Selector,
}

/// Values that a token has at a point of a model.
///
/// # Errors
/// A point that the model lacks.
pub fn width(at: HookPoint, config: &ModelConfig) -> Result<usize, FeatureError> {
    let info = at.check(config)?.point.info();
    Ok(info.dims(config, 1, 1, 1)[2..].iter().product())
}

impl Splice {
    /// A dictionary, called `name` in messages, between two points of a model; the same point for an autoencoder.
    ///
    /// # Errors
    /// A point that the model lacks or that has no row for each token, another width, a write before the read.
    pub fn new(
        dictionary: Arc<Dictionary>,
        name: &str,
        [read, write]: [HookPoint; 2],
        config: &ModelConfig,
    ) -> Result<Self, FeatureError> {
        let sides = [
            ("reads", read, dictionary.d_in()),
            ("writes", write, dictionary.d_out()),
        ];
        for (side, at, found) in sides {
            if at.check(config)?.point.info().shape == Shape::Attention {
                return Err(FeatureError::Place {
                    artefact: name.into(),
                    side,
                    why: format!("{at} is about pairs of tokens and has no row for each"),
                });
            }
            let expected = width(at, config)?;
            if found != expected {
                return Err(FeatureError::Width {
                    artefact: name.into(),
                    side,
                    at,
                    expected,
                    found,
                });
            }
        }
        if write.order() < read.order() {
            let artefact = name.into();
            return Err(FeatureError::Order {
                artefact,
                read,
                write,
            });
        }
        Ok(Self {
            dictionary,
            name: name.into(),
            read,
            write,
            latents: Vec::new(),
            keep_error: false,
            select: Selector::all(),
        })
    }

    /// With these edits of its latents, in this order.
    ///
    /// # Errors
    /// As [`LatentEdit::check`].
    pub fn editing(mut self, latents: Vec<LatentEdit>) -> Result<Self, FeatureError> {
        for edit in &latents {
            edit.check(&self.dictionary)?;
        }
        self.latents = latents;
        Ok(self)
    }

    /// Adds what the dictionary does not explain, `x − x̂`, so that only edits of latents change anything.
    pub fn keeping_error(mut self) -> Self {
        self.keep_error = true;
        self
    }

    /// Only at these entries of what is written.
    pub fn on(mut self, select: Selector) -> Self {
        self.select = select;
        self
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dictionary.
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The point it reads.
    pub fn read(&self) -> HookPoint {
        self.read
    }

    /// The point it writes.
    pub fn write(&self) -> HookPoint {
        self.write
    }

    /// What is written in the place of `target` `[n, d_out]` where `rows` `[n, d_in]` were read.
    ///
    /// # Errors
    /// Other widths, values that are not finite.
    pub fn written(
        &self,
        rows: ArrayView2<f32>,
        target: ArrayView2<f32>,
    ) -> Result<Array2<f32>, SaeError> {
        if self.keep_error && self.latents.is_empty() {
            return Ok(target.to_owned());
        }
        let codes = self.dictionary.encode(rows)?;
        self.put(&codes, &edited(&codes, &self.latents), rows, target)
    }

    /// What is written in the place of `target` for rows whose codes `read` became `edited`.
    pub(super) fn put(
        &self,
        read: &Codes,
        edited: &Codes,
        rows: ArrayView2<f32>,
        target: ArrayView2<f32>,
    ) -> Result<Array2<f32>, SaeError> {
        let mut out = self.dictionary.decode(edited, rows)?;
        if self.keep_error {
            // Where no latent moved the two are the same bits, and the difference is 0.
            out -= &self.dictionary.decode(read, rows)?;
            out += &target;
        }
        Ok(out)
    }

    /// The edits of a pass.
    pub fn edits(&self) -> Vec<Edit> {
        self.edits_where(None)
    }

    /// The edits of one pass, at these tokens alone.
    pub fn edits_at(&self, places: Places) -> Vec<Edit> {
        self.edits_where(Some(places))
    }

    fn edits_where(&self, places: Option<Places>) -> Vec<Edit> {
        let splice = self.clone();
        let closure = |at, what: &str, function: Function| {
            let name = format!("{what} {}", self.name);
            Edit::new(at, EditOp::Closure { name, function })
        };
        if self.read == self.write {
            let function: Function =
                Arc::new(move |x, pass| splice.replace(x, x, pass, places.as_ref()));
            return vec![closure(self.write, "splice", function).on(self.select.clone())];
        }
        let held: Arc<Mutex<HashMap<ThreadId, Tensor>>> = Arc::default();
        let kept = Arc::clone(&held);
        let keep: Function = Arc::new(move |x, _| {
            if let Ok(mut kept) = kept.lock() {
                kept.insert(thread::current().id(), x.clone());
            }
            Ok(x.clone())
        });
        let write: Function = Arc::new(move |y, pass| {
            let read = (held.lock().ok()).and_then(|mut held| held.remove(&thread::current().id()));
            let Some(x) = read else {
                candle_core::bail!("{} was not read in this pass", splice.read);
            };
            splice.replace(&x, y, pass, places.as_ref())
        });
        vec![
            closure(self.read, "read for", keep),
            closure(self.write, "splice", write).on(self.select.clone()),
        ]
    }

    /// `y` with the rows of the tokens replaced by what the dictionary makes of those of `x`.
    fn replace(
        &self,
        x: &Tensor,
        y: &Tensor,
        pass: &Pass,
        places: Option<&Places>,
    ) -> CandleResult<Tensor> {
        let slots = slots(pass, places);
        if slots.is_empty() {
            return Ok(y.clone());
        }
        let rows = matrix(x, pass)?;
        let mut out = matrix(y, pass)?;
        if rows.nrows() != out.nrows() {
            candle_core::bail!("{} was read in another pass", self.read);
        }
        let target = out.select(Axis(0), &slots);
        let written = self.written(rows.select(Axis(0), &slots).view(), target.view());
        let written = written.map_err(candle_core::Error::wrap)?;
        for (&slot, row) in slots.iter().zip(written.outer_iter()) {
            out.row_mut(slot).assign(&row);
        }
        of_matrix(out, y)
    }
}

pub(super) type Function = Arc<dyn Fn(&Tensor, &Pass) -> CandleResult<Tensor> + Send + Sync>;

/// An edit that sets the rows of these tokens to 0.
pub(super) fn ablation(at: HookPoint, places: Places) -> Edit {
    let function: Function = Arc::new(move |x, pass| {
        let mut rows = matrix(x, pass)?;
        for slot in slots(pass, Some(&places)) {
            rows.row_mut(slot).fill(0.0);
        }
        of_matrix(rows, x)
    });
    let name = "zero ablation".into();
    Edit::new(at, EditOp::Closure { name, function })
}

/// Slots of a pass, over all its rows, that are tokens and are wanted.
fn slots(pass: &Pass, places: Option<&Places>) -> Vec<usize> {
    let wanted = |row: usize, position: usize| {
        places.is_none_or(|places| {
            let flag = places.get(row).and_then(|row| row.get(position));
            flag.copied().unwrap_or(false)
        })
    };
    let all = (0..pass.batch).flat_map(|row| (0..pass.queries).map(move |query| (row, query)));
    let tokens = all.filter(|&(row, query)| {
        let position = pass.position(row, pass.offset + query);
        position.is_some_and(|position| wanted(row, position))
    });
    tokens
        .map(|(row, query)| row * pass.queries + query)
        .collect()
}

/// `[batch, pos, ..]` as `[batch * pos, width]` in f32.
pub(super) fn matrix(x: &Tensor, pass: &Pass) -> CandleResult<Array2<f32>> {
    let rows = pass.batch * pass.queries;
    let values: Vec<f32> = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let width = values.len() / rows.max(1);
    Array2::from_shape_vec((rows, width), values).map_err(candle_core::Error::wrap)
}

/// The inverse, in shape and dtype of `like`.
pub(super) fn of_matrix(rows: Array2<f32>, like: &Tensor) -> CandleResult<Tensor> {
    let (values, _) = rows.into_raw_vec_and_offset();
    Tensor::from_vec(values, like.dims(), like.device())?.to_dtype(like.dtype())
}
