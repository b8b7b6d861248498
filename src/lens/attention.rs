//! Attention patterns of a text as plain numbers, and how much each look actually carries.
//!
//! A weight α says how much of a value is mixed in, not how large that value is: a first token that is looked at a lot
//! usually has a value near 0. The value-weighted pattern is the length of what is moved, `α · ‖W_O^h v_k‖`, with v_k the
//! value of key k (bias included) and W_O^h the head's slice of the output projection (Kobayashi et al. 2020, "Attention
//! is not only a weight"). A post-norm after attention (Gemma, OLMo 2) is not part of it.
//!
//! Always: one pass; the last axis is the key; rows sum to 1 unless an edit says otherwise. What kind of head a pattern
//! makes is in `heads.rs`.

use candle_core::{DType, Tensor};
use candlescope_ops as ops;

use super::LensError;
use crate::hooks::{Captured, Edit, HookPoint, Hooks, Point};
use crate::model::{Batch, Decoder, LogitsAt, ModelError};

/// The most attention weights that are kept at once: 256 MiB.
pub const MOST_WEIGHTS: usize = 64 << 20;

/// Patterns and value norms of some layers over one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    layers: Vec<usize>,
    n_heads: usize,
    tokens: Vec<u32>,
    /// `[layer][head][query][key]`
    weights: Vec<f32>,
    /// `[layer][head][key]`
    value_norms: Vec<f32>,
}

impl Attention {
    /// Of numbers that are there already: `weights[layer][head][query][key]`, `value_norms[layer][head][key]`, flat.
    pub(super) fn new(
        layers: Vec<usize>,
        n_heads: usize,
        tokens: Vec<u32>,
        weights: Vec<f32>,
        value_norms: Vec<f32>,
    ) -> Self {
        debug_assert_eq!(
            weights.len(),
            layers.len() * n_heads * tokens.len() * tokens.len()
        );
        debug_assert_eq!(value_norms.len(), layers.len() * n_heads * tokens.len());
        Self {
            layers,
            n_heads,
            tokens,
            weights,
            value_norms,
        }
    }

    /// The layers, in the order asked for. The methods below take an index into this list.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// Heads of each layer.
    pub fn n_heads(&self) -> usize {
        self.n_heads
    }

    /// The text.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Where a query looks: its weights by key, `[key]`; keys after it have weight 0.
    ///
    /// # Panics
    /// For an index that is not there.
    pub fn row(&self, layer: usize, head: usize, query: usize) -> &[f32] {
        let n = self.tokens.len();
        let at = ((layer * self.n_heads + head) * n + query) * n;
        &self.weights[at..at + n]
    }

    /// `‖W_O^h v_k‖` by key, `[key]`.
    ///
    /// # Panics
    /// For an index that is not there.
    pub fn value_norms(&self, layer: usize, head: usize) -> &[f32] {
        let n = self.tokens.len();
        let at = (layer * self.n_heads + head) * n;
        &self.value_norms[at..at + n]
    }

    /// What a query takes from each key: the length of what is moved, `[key]`.
    ///
    /// # Panics
    /// For an index that is not there.
    pub fn weighted_row(&self, layer: usize, head: usize, query: usize) -> Vec<f32> {
        let norms = self.value_norms(layer, head);
        let row = self.row(layer, head, query).iter();
        row.zip(norms).map(|(weight, norm)| weight * norm).collect()
    }

    /// A head's whole pattern, `[query][key]`.
    ///
    /// # Panics
    /// For an index that is not there.
    pub fn pattern(&self, layer: usize, head: usize) -> Vec<Vec<f32>> {
        let rows = 0..self.tokens.len();
        rows.map(|query| self.row(layer, head, query).to_vec())
            .collect()
    }

    /// A head's whole value-weighted pattern, `[query][key]`.
    ///
    /// # Panics
    /// For an index that is not there.
    pub fn weighted_pattern(&self, layer: usize, head: usize) -> Vec<Vec<f32>> {
        let rows = 0..self.tokens.len();
        rows.map(|query| self.weighted_row(layer, head, query))
            .collect()
    }
}

/// How many layers of patterns over a text of this length fit into [`MOST_WEIGHTS`]; at least one.
pub(super) fn layers_at_once(n_heads: usize, tokens: usize) -> usize {
    (MOST_WEIGHTS / (n_heads * tokens * tokens).max(1)).max(1)
}

/// Reads the patterns of some layers (all when empty) under these edits.
///
/// # Errors
/// [`LensError::TooLarge`] beyond [`MOST_WEIGHTS`]; a layer that is not there; an edit that cannot apply.
pub fn attention(
    model: &Decoder,
    ids: &[u32],
    layers: &[usize],
    edits: &[Edit],
) -> Result<Attention, LensError> {
    let config = model.config();
    let layers = if layers.is_empty() {
        (0..config.n_layers).collect()
    } else {
        layers.to_vec()
    };
    if let Some(&layer) = layers.iter().find(|&&layer| layer >= config.n_layers) {
        return Err(LensError::OutOfRange {
            axis: "layer",
            index: layer as i64,
            size: config.n_layers,
        });
    }
    let (heads, n) = (config.n_heads, ids.len());
    let weights = layers.len().saturating_mul(heads).saturating_mul(n * n);
    if weights > MOST_WEIGHTS {
        return Err(LensError::TooLarge {
            layers: layers.len(),
            heads,
            tokens: n,
            weights,
            most: MOST_WEIGHTS,
        });
    }
    let hooks = layers
        .iter()
        .fold(Hooks::new().edits(edits.iter().cloned()), |h, &layer| {
            h.capture(HookPoint::new(Point::Pattern, layer))
                .capture(HookPoint::new(Point::V, layer))
        });
    let captured = model
        .forward(&Batch::single(ids)?, &hooks, LogitsAt::None)?
        .captured;
    let (mut all, mut norms) = (Vec::with_capacity(weights), Vec::new());
    for &layer in &layers {
        let pattern = at(&captured, Point::Pattern, layer)?;
        let read = || {
            pattern
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()
        };
        all.extend(read().map_err(ModelError::from)?);
        norms.extend(value_norms(model, &captured, layer)?);
    }
    Ok(Attention::new(layers, heads, ids.to_vec(), all, norms))
}

/// `[head][key]` of a layer, flat.
fn value_norms(model: &Decoder, captured: &Captured, layer: usize) -> Result<Vec<f32>, LensError> {
    let c = model.config();
    // [1, pos, kv_head, d_head]
    let values = at(captured, Point::V, layer)?;
    let out = model.weights().layers[layer]
        .o
        .matrix()
        .map_err(ModelError::from)?;
    let head = |h: usize| -> candle_core::Result<Vec<f32>> {
        let value = values.narrow(2, h * c.n_kv_heads / c.n_heads, 1)?;
        let slice = out.narrow(1, h * c.d_head, c.d_head)?.contiguous()?;
        let written = ops::linear(&value.squeeze(2)?.contiguous()?, &slice, None)?;
        let squares = written.to_dtype(DType::F64)?.sqr()?.sum(2)?;
        let norms = squares.sqrt()?.to_dtype(DType::F32)?;
        norms.flatten_all()?.to_vec1()
    };
    let mut norms = Vec::new();
    for h in 0..c.n_heads {
        norms.extend(head(h).map_err(ModelError::from)?);
    }
    Ok(norms)
}

fn at(captured: &Captured, point: Point, layer: usize) -> Result<&Tensor, LensError> {
    let found = captured.get(&HookPoint::new(point, layer));
    Ok(found.ok_or(ModelError::Empty {
        what: "the pass captured no attention",
    })?)
}
