//! What one checkpoint says at one place of a text, layer by layer: the logit lens, the stream's length and its part along a
//! direction, how near each layer is to a refusal, and the distribution that the model ends with.
//!
//! Always: one pass; the last layer's row is the model's own distribution; sums are in f64. What is kept of a checkpoint is
//! the size of its vocabulary and a few numbers a layer, never a tensor of the model.

use candle_core::{DType, Tensor};

use super::CompareError;
use crate::hooks::Hooks;
use crate::lens::{LensError, LensRow, Ranked};
use crate::model::{Batch, Decoder, LogitsAt, ModelError};
use crate::steer::{self, RefusalTokens};

/// What is read.
#[derive(Debug, Clone, Default)]
pub struct MomentOptions {
    /// The token after which it is read.
    pub position: usize,
    /// How many of the likeliest tokens a layer keeps.
    pub top_k: usize,
    /// The stream is projected on this, `[d_model]`, of any length but 0.
    pub direction: Option<Vec<f32>>,
    /// Tokens that refusals open with.
    pub refusal: Option<RefusalTokens>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Which.
    pub row: LensRow,
    /// The likeliest next tokens, falling; equal ones by id.
    pub top: Vec<Ranked>,
    /// Euclidean norm of the stream.
    pub norm: f64,
    /// Product of the stream with the unit direction, where one was given.
    pub along: Option<f64>,
    /// The refusal score of the layer's distribution, where its tokens were given.
    pub refusal: Option<f64>,
}

/// A checkpoint at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// In the order of the forward pass, the embedding first.
    pub layers: Vec<Layer>,
    /// The model's own log-probability of every token, nats.
    pub log_probs: Vec<f32>,
}

impl Moment {
    /// The model's likeliest tokens, falling; equal ones by id.
    pub fn top(&self, count: usize) -> Vec<Ranked> {
        ranked(&self.log_probs, 0.0, count)
    }

    /// The model's probability of a token; none for an id beyond the vocabulary.
    pub fn probability(&self, id: u32) -> Option<f64> {
        let log = self.log_probs.get(id as usize)?;
        Some(f64::from(*log).exp())
    }

    /// `KL(first ‖ this)`, nats; none where the vocabularies differ in size.
    pub fn kl_from(&self, first: &Self) -> Option<f64> {
        if self.log_probs.len() != first.log_probs.len() {
            return None;
        }
        if self.log_probs == first.log_probs {
            return Some(0.0);
        }
        Some(steer::kl(&first.log_probs, &self.log_probs))
    }

    /// The stream's length after the last layer.
    pub fn norm(&self) -> Option<f64> {
        self.layers.last().map(|layer| layer.norm)
    }
}

/// Reads a row of tokens at one position.
///
/// # Errors
/// A position beyond the text, no top tokens, a direction of another width or of length 0, logits that are not finite.
pub fn moment(
    model: &Decoder,
    ids: &[u32],
    options: &MomentOptions,
) -> Result<Moment, CompareError> {
    let config = model.config();
    if options.position >= ids.len() {
        return Err(LensError::OutOfRange {
            axis: "position",
            index: options.position as i64,
            size: ids.len(),
        }
        .into());
    }
    if options.top_k == 0 || options.top_k > config.vocab_size {
        return Err(LensError::TopK {
            found: options.top_k,
            vocab: config.vocab_size,
        }
        .into());
    }
    let direction = options.direction.as_deref();
    let direction = direction.map(|d| unit(d, config.d_model)).transpose()?;
    let rows = LensRow::all(config.n_layers);
    let hooks = rows
        .iter()
        .fold(Hooks::new(), |hooks, row| hooks.capture(row.point()));
    // What comes after the place cannot change it.
    let read = &ids[..=options.position];
    let captured = model
        .forward(&Batch::single(read)?, &hooks, LogitsAt::None)?
        .captured;
    let mut layers = Vec::with_capacity(rows.len());
    let mut last = Vec::new();
    for row in rows {
        let stream = captured.get(&row.point()).ok_or(ModelError::Empty {
            what: "the pass captured no residual stream",
        })?;
        let stream = stream.narrow(1, options.position, 1)?.contiguous()?;
        let values = flat(&stream)?;
        let logits: Vec<f32> = model
            .unembed(&stream)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1()?;
        let total = log_sum_exp(&logits);
        if !total.is_finite() {
            return Err(LensError::NotFinite {
                row: row.point().to_string(),
                position: options.position,
            }
            .into());
        }
        let along = direction
            .as_ref()
            .map(|d| d.iter().zip(&values).map(|(a, b)| a * b).sum());
        let refusal = options.refusal.as_ref();
        layers.push(Layer {
            row,
            top: ranked(&logits, total, options.top_k),
            norm: values.iter().map(|x| x * x).sum::<f64>().sqrt(),
            along,
            refusal: refusal.map(|tokens| steer::log_odds(&logits, tokens)),
        });
        last = logits
            .iter()
            .map(|&x| (f64::from(x) - total) as f32)
            .collect();
    }
    Ok(Moment {
        layers,
        log_probs: last,
    })
}

fn flat(stream: &Tensor) -> Result<Vec<f64>, CompareError> {
    Ok(stream.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The direction at length 1.
fn unit(direction: &[f32], width: usize) -> Result<Vec<f64>, LensError> {
    let refused = |expected: String, found: String| LensError::Direction { expected, found };
    if direction.len() != width {
        return Err(refused(
            format!("{width} numbers, the width of the stream"),
            direction.len().to_string(),
        ));
    }
    let square: f64 = direction.iter().map(|&x| f64::from(x).powi(2)).sum();
    if !square.is_finite() || square == 0.0 {
        return Err(refused(
            "finite numbers that are not all 0".to_owned(),
            format!("a vector of length {}", square.sqrt()),
        ));
    }
    let length = square.sqrt();
    Ok(direction.iter().map(|&x| f64::from(x) / length).collect())
}

/// `log Σ exp`, in f64.
pub(super) fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    most + sum.ln()
}

/// The likeliest tokens of logits whose `log Σ exp` is known.
pub(super) fn ranked(logits: &[f32], total: f64, count: usize) -> Vec<Ranked> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let before = |a: &u32, b: &u32| {
        let of = |id: u32| logits[id as usize];
        of(*b).total_cmp(&of(*a)).then(a.cmp(b))
    };
    let count = count.min(order.len());
    if count < order.len() {
        order.select_nth_unstable_by(count, before);
        order.truncate(count);
    }
    order.sort_unstable_by(before);
    let ranked = |id: u32| Ranked {
        id,
        probability: (f64::from(logits[id as usize]) - total).exp(),
    };
    order.into_iter().map(ranked).collect()
}
