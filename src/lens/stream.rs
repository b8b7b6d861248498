//! The residual stream itself, at the rows and positions of the logit lens: its length, and its part along a direction.
//!
//! Always: one pass; sums are in f64; the direction is brought to length 1 here, so that its own length does not matter.

use candle_core::DType;
use serde::Serialize;

use super::logit::{pick, refuse_late, rows_of};
use super::{LensError, LensRow, Positions};
use crate::hooks::{Edit, Hooks};
use crate::model::{Batch, Decoder, LogitsAt, ModelError};

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    /// Which positions.
    pub positions: Positions,
    /// Which rows; all when empty.
    pub rows: Vec<LensRow>,
    /// Project on this, `[d_model]`, of any length but 0.
    pub direction: Option<Vec<f32>>,
}

/// The stream over `[row][position]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamLens {
    /// The layers, in the order of the forward pass.
    pub rows: Vec<LensRow>,
    /// The positions, rising.
    pub positions: Vec<usize>,
    /// The token at each position.
    pub tokens: Vec<u32>,
    /// Euclidean norm, `[row][position]`.
    pub norms: Vec<Vec<f64>>,
    /// The part along the direction, if one was given.
    pub projections: Option<Projections>,
}

/// The part of a stream along a direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Projections {
    /// Dot product with the unit vector, `[row][position]`.
    pub dots: Vec<Vec<f64>>,
    /// The same divided by the stream's norm, in `[-1, 1]`; 0 where the stream is 0.
    pub cosines: Vec<Vec<f64>>,
}

/// Reads the stream of a row of tokens under these edits.
///
/// # Errors
/// Positions or layers out of range; a direction of another width, of length 0 or with an entry that is not finite; an edit
/// that cannot apply or lies after the stream; a stream that is not finite.
pub fn stream_lens(
    model: &Decoder,
    ids: &[u32],
    options: &StreamOptions,
    edits: &[Edit],
) -> Result<StreamLens, LensError> {
    let positions = options.positions.resolve(ids.len())?;
    let rows = rows_of(model, &options.rows)?;
    refuse_late(edits)?;
    let direction = options
        .direction
        .as_deref()
        .map(|d| unit(d, model.config().d_model))
        .transpose()?;
    let hooks = rows
        .iter()
        .fold(Hooks::new().edits(edits.iter().cloned()), |h, row| {
            h.capture(row.point())
        });
    let captured = model
        .forward(&Batch::single(ids)?, &hooks, LogitsAt::None)?
        .captured;
    let mut norms = Vec::with_capacity(rows.len());
    let (mut dots, mut cosines) = (Vec::new(), Vec::new());
    for row in &rows {
        let stream = captured.get(&row.point()).ok_or(ModelError::Empty {
            what: "the pass captured no residual stream",
        })?;
        let read = || -> candle_core::Result<Vec<Vec<f64>>> {
            pick(stream, &positions)?
                .squeeze(0)?
                .to_dtype(DType::F64)?
                .to_vec2()
        };
        let stream = read().map_err(ModelError::from)?;
        let lengths: Vec<f64> = stream.iter().map(|x| length(x)).collect();
        if let Some(i) = lengths.iter().position(|x| !x.is_finite()) {
            return Err(LensError::NotFinite {
                row: row.point().to_string(),
                position: positions[i],
            });
        }
        if let Some(direction) = &direction {
            let along: Vec<f64> = stream.iter().map(|x| dot(x, direction)).collect();
            let cosine = |(d, n): (&f64, &f64)| {
                if *n > 0.0 {
                    (d / n).clamp(-1.0, 1.0)
                } else {
                    0.0
                }
            };
            cosines.push(along.iter().zip(&lengths).map(cosine).collect());
            dots.push(along);
        }
        norms.push(lengths);
    }
    Ok(StreamLens {
        tokens: positions.iter().map(|&p| ids[p]).collect(),
        projections: direction.map(|_| Projections { dots, cosines }),
        rows,
        positions,
        norms,
    })
}

/// The direction at length 1.
fn unit(direction: &[f32], width: usize) -> Result<Vec<f64>, LensError> {
    let refuse = |expected: String, found: String| LensError::Direction { expected, found };
    if direction.len() != width {
        return Err(refuse(
            format!("{width} numbers, the width of the stream"),
            direction.len().to_string(),
        ));
    }
    let wide: Vec<f64> = direction.iter().map(|&x| f64::from(x)).collect();
    let n = length(&wide);
    if !n.is_finite() || n == 0.0 {
        return Err(refuse(
            "a vector of finite length above 0".into(),
            n.to_string(),
        ));
    }
    Ok(wide.iter().map(|x| x / n).collect())
}

fn length(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}
