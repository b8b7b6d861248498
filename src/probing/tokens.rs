//! A probe read at every token of a text, not only where it was fitted.
//!
//! Always: a score at another position than the probe's own says what it would say there; its threshold and probability were
//! set at its own position alone. One row at a time; many rows at their positions: `harvest.rs`.

use candle_core::DType;
use candlescope_probes::Score;
use ndarray::Array2;

use super::ProbingError;
use super::file::ProbeFile;
use crate::hooks::{Edit, Hooks};
use crate::model::{Batch, Decoder, LogitsAt, ModelError};

/// The probe's score at each of these tokens `[position]`, under edits.
///
/// # Errors
/// A point that the model lacks, another width, an activation that is not finite, anything a pass can fail with.
pub fn token_scores(
    model: &Decoder,
    ids: &[u32],
    probe: &ProbeFile,
    edits: &[Edit],
) -> Result<Vec<f64>, ProbingError> {
    let at = probe.about.place.point.check(model.config())?;
    let hooks = Hooks::new().edits(edits.iter().cloned()).capture(at);
    let captured = model
        .forward(&Batch::single(ids)?, &hooks, LogitsAt::None)?
        .captured;
    let read = captured.get(&at).ok_or(ModelError::Empty {
        what: "the pass captured nothing where the probe reads",
    })?;
    let rows = || -> candle_core::Result<Vec<Vec<f32>>> {
        read.squeeze(0)?
            .to_dtype(DType::F32)?
            .flatten_from(1)?
            .to_vec2()
    };
    let rows = rows().map_err(ModelError::from)?;
    let width = rows.first().map_or(0, Vec::len);
    let x = Array2::from_shape_fn((rows.len(), width), |(i, j)| rows[i][j]);
    Ok(probe.probe.scores(x.view())?)
}
