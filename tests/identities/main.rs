//! What must hold in every family whatever the weights: the arithmetic between hook points, the equality of the ways a
//! row can be computed, the effect of every edit, and refusal by name of what cannot be served.
#![allow(clippy::unwrap_used, missing_docs)]

mod arithmetic;
mod edits;
mod equality;
mod refusals;
mod sessions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candlescope::hooks::{
    Axis, Edge, Edit, EditOp, HookPoint, Hooks, Keep, POINTS, Point, PositionSelect, Selector,
    expand,
};
use candlescope::model::generate::{GenerateOptions, Prefix, generate};
use candlescope::model::{Batch, Decoder, KvCache, LoadOptions, LogitsAt, Opened};
use candlescope_ops as ops;

pub const FAMILIES: [&str; 14] = [
    "gpt2",
    "gpt_neox",
    "gpt_neox_serial",
    "llama",
    "llama3",
    "mistral",
    "qwen2",
    "qwen2_sliding",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3_partial",
    "olmo2",
    "llama_rope_yarn",
];

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name)
}

pub fn open(name: &str, dtype: DType) -> Decoder {
    let options = LoadOptions {
        dtype,
        ..LoadOptions::default()
    };
    Opened::at(&folder(name), &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

/// A row of tokens, from a small linear congruence.
pub fn row(len: usize, seed: u32, vocab: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (i * 37 + seed * 101 + i * i * 7) % vocab as u32)
        .collect()
}

pub fn rows(model: &Decoder, lens: &[usize]) -> Vec<Vec<u32>> {
    lens.iter()
        .enumerate()
        .map(|(i, &n)| row(n, i as u32 + 1, model.config().vocab_size))
        .collect()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Largest difference over the largest value.
pub fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let scale = b.iter().fold(1e-30_f64, |m, x| m.max(x.abs()));
    a.iter()
        .zip(&b)
        .fold(0.0_f64, |m, (x, y)| m.max((x - y).abs()))
        / scale
}

pub fn at(text: &str) -> HookPoint {
    text.parse().unwrap()
}

pub fn all_points(model: &Decoder) -> Vec<HookPoint> {
    let config = model.config();
    let layers = |per_layer| if per_layer { config.n_layers } else { 1 };
    POINTS
        .iter()
        .flat_map(|info| (0..layers(info.per_layer)).map(|layer| HookPoint::new(info.point, layer)))
        .filter(|point| point.check(config).is_ok())
        .collect()
}

pub fn capture_all(model: &Decoder, batch: &Batch) -> candlescope::model::Output {
    let hooks = all_points(model)
        .into_iter()
        .fold(Hooks::new(), Hooks::capture);
    model.forward(batch, &hooks, LogitsAt::All).unwrap()
}
