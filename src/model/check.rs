//! Proof that a model is served exactly: our tensors beside a dump from another implementation.
//!
//! A dump is a safetensors file with `input_ids` `[B, T]`, and any of `logits` `[B, T, V]`, `hidden.i` `[B, T, d]` (input of
//! layer i; the last one after the final norm, as transformers returns them) and `pattern.i` `[B, H, T, T]`.

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::{Batch, Decoder, LogitsAt, ModelError};
use crate::files::{SafetensorsFolder, TensorSource};
use crate::hooks::{HookPoint, Hooks, Point};

/// How far one tensor is from the dump's.
#[derive(Debug, Clone, Serialize)]
pub struct TensorError {
    /// Its name in the dump.
    pub tensor: String,
    /// The hook point it was compared with.
    pub point: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// That, over the largest absolute value of the dump's tensor.
    pub max_rel: f64,
}

/// Compares every tensor of a dump that has a counterpart here; the order is that of the forward pass.
///
/// # Errors
/// A dump without `input_ids`, with other shapes, or with tensors of unknown names.
pub fn against(model: &Decoder, dump: &SafetensorsFolder) -> Result<Vec<TensorError>, ModelError> {
    let rows = input_rows(dump)?;
    let batch = Batch::new(&rows)?;
    let n_layers = model.config().n_layers;
    let mut wanted = Vec::new();
    for name in dump.names() {
        if let Some(at) = counterpart(&name, n_layers) {
            wanted.push((at.check(model.config())?, name));
        } else if name != "input_ids" {
            return Err(refuse(
                dump,
                &name,
                "input_ids, logits, hidden.LAYER or pattern.LAYER",
                "another name",
            ));
        }
    }
    wanted.sort();
    let hooks = wanted
        .iter()
        .fold(Hooks::new(), |hooks, (at, _)| hooks.capture(*at));
    let captured = model.forward(&batch, &hooks, LogitsAt::None)?.captured;
    wanted
        .iter()
        .map(|(at, name)| {
            let ours = captured
                .get(at)
                .ok_or_else(|| refuse(dump, name, "a captured tensor", "nothing"))?;
            compare(dump, name, *at, ours)
        })
        .collect()
}

/// The rows of `input_ids`.
pub fn input_rows(dump: &SafetensorsFolder) -> Result<Vec<Vec<u32>>, ModelError> {
    let ids = dump.load_ints("input_ids")?;
    let rows = ids.to_vec2::<i64>();
    let rows = rows.map_err(|_| {
        refuse(
            dump,
            "input_ids",
            "shape [batch, pos]",
            &format!("{:?}", ids.dims()),
        )
    })?;
    let id = |i: i64| {
        u32::try_from(i).map_err(|_| refuse(dump, "input_ids", "token ids", &i.to_string()))
    };
    rows.into_iter()
        .map(|row| row.into_iter().map(id).collect())
        .collect()
}

fn counterpart(name: &str, n_layers: usize) -> Option<HookPoint> {
    let (kind, layer) = name.split_once('.').unwrap_or((name, "0"));
    let layer = layer.parse().ok()?;
    match kind {
        "logits" => Some(HookPoint::new(Point::Logits, 0)),
        "hidden" if layer == n_layers => Some(HookPoint::new(Point::FinalNorm, 0)),
        "hidden" => Some(HookPoint::new(Point::ResidPre, layer)),
        "pattern" => Some(HookPoint::new(Point::Pattern, layer)),
        _ => None,
    }
}

fn compare(
    dump: &SafetensorsFolder,
    name: &str,
    at: HookPoint,
    ours: &Tensor,
) -> Result<TensorError, ModelError> {
    let theirs = dump.load(name, DType::F64)?;
    if theirs.dims() != ours.dims() {
        return Err(refuse(
            dump,
            name,
            &format!("shape {:?}", ours.dims()),
            &format!("{:?}", theirs.dims()),
        ));
    }
    let flat = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (ours_flat, theirs) = (flat(ours)?, flat(&theirs)?);
    // A NaN on one side only must not hide behind `max`, which drops it.
    let difference = |(a, b): (&f64, &f64)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) => (a - b).abs(),
        _ => f64::INFINITY,
    };
    let max_abs = ours_flat
        .iter()
        .zip(&theirs)
        .map(difference)
        .fold(0.0, f64::max);
    let scale = theirs.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let max_rel = if max_abs == 0.0 { 0.0 } else { max_abs / scale };
    Ok(TensorError {
        tensor: name.into(),
        point: at.to_string(),
        shape: ours.dims().to_vec(),
        max_abs,
        max_rel,
    })
}

fn refuse(dump: &SafetensorsFolder, tensor: &str, expected: &str, found: &str) -> ModelError {
    ModelError::Dump {
        file: dump.describe(),
        tensor: tensor.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}
