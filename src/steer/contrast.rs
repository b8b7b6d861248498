//! A direction from nothing but the model: the built-in harmful against harmless training prompts, at one layer's input.
//!
//! Always: the same prompts in the same order, so the same model gives the same vector. It is not chosen and not
//! validated; `candlescope audit` chooses among all layers and positions by what ablation does. Next: [`super::candidates`].

use std::sync::Arc;

use candle_core::DType;
use candlescope_probes::Direction;

use super::{Options, SteerError, Where, encode_all, residuals};
use crate::hooks::{HookPoint, Hooks, Point, Vector};
use crate::model::{Batch, Checkpoint, Decoder, LogitsAt, ModelError};
use crate::text::suites::{Label, PromptRow, Split, Suite};

/// Prompts of each class.
pub const PROMPTS: usize = 32;

/// Draws the prompts.
const SEED: u64 = 0;

/// A difference of class means.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    /// Mean of harmful minus mean of harmless prompts, `[d_model]`, at its own length.
    pub vector: Vector,
    /// Prompts behind it (harmful, harmless).
    pub n: (usize, usize),
}

/// The direction at a position, the input of block `layer`.
///
/// # Errors
/// A layer the model lacks, equal means, a prompt that does not fit, an interruption.
pub fn contrast(
    checkpoint: &Checkpoint,
    layer: usize,
    place: Where,
    options: &Options,
) -> Result<Contrast, SteerError> {
    let n_layers = checkpoint.config().n_layers;
    if layer >= n_layers {
        return Err(SteerError::Layer { layer, n_layers });
    }
    let (harmful, harmless) = (
        class("harmful", Label::Harmful)?,
        class("harmless", Label::Harmless)?,
    );
    let rows: Vec<&PromptRow> = harmful.iter().chain(&harmless).collect();
    let prompts = encode_all(checkpoint, &rows)?;
    let read = residuals(checkpoint, &prompts, &[layer], &[place], options)?;
    let (positive, negative) = read.at(0, 0).split_at(ndarray::Axis(0), harmful.len());
    let direction = Direction::difference_of_means(positive, negative)?;
    Ok(Contrast {
        vector: Arc::new(direction.scaled()),
        n: (harmful.len(), harmless.len()),
    })
}

fn class(name: &str, label: Label) -> Result<Vec<PromptRow>, SteerError> {
    let suite = Suite::builtin(name).map_err(|error| SteerError::Suite {
        why: error.to_string(),
    })?;
    Ok(suite
        .filter(Some(label), Some(Split::Train))
        .sample(PROMPTS, SEED)
        .rows)
}

/// How long residual streams are, against which a dose is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamScale {
    /// Mean norm of the stream.
    pub norm: f64,
    /// Mean size of its component along the direction.
    pub component: f64,
    /// Tokens behind both.
    pub n: usize,
    /// The layer whose input it is.
    pub layer: usize,
}

/// Measures the input of block `layer` over a prompt, without edits. The first token is left out where there are others:
/// as an attention sink its stream is often a hundred times as long.
///
/// # Errors
/// An empty prompt, a layer the model lacks, a stream that is not finite.
pub fn stream_scale(
    model: &Decoder,
    ids: &[u32],
    layer: usize,
    vector: &[f32],
) -> Result<StreamScale, SteerError> {
    let at = HookPoint::new(Point::ResidPre, layer);
    let captured = model
        .forward(
            &Batch::single(ids)?,
            &Hooks::new().capture(at),
            LogitsAt::None,
        )?
        .captured;
    let stream: Vec<Vec<f32>> = captured
        .get(&at)
        .ok_or(SteerError::Layer {
            layer,
            n_layers: model.config().n_layers,
        })?
        .get(0)?
        .to_dtype(DType::F32)?
        .to_vec2()
        .map_err(ModelError::from)?;
    let rows = &stream[usize::from(stream.len() > 1)..];
    let length = |x: &[f32]| x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let along = |x: &[f32]| -> f64 {
        x.iter()
            .zip(vector)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    let mean = |of: &dyn Fn(&[f32]) -> f64| {
        rows.iter().map(|row| of(row)).sum::<f64>() / rows.len() as f64
    };
    let unit = length(vector).max(f64::MIN_POSITIVE);
    let scale = StreamScale {
        norm: mean(&length),
        component: mean(&|row| along(row).abs() / unit),
        n: rows.len(),
        layer,
    };
    if scale.norm.is_finite() && scale.component.is_finite() {
        Ok(scale)
    } else {
        Err(SteerError::NotFinite {
            id: "the prompt".into(),
            what: "residual stream",
        })
    }
}
