//! What these tests share: tiny models, a drawn dictionary, passes to compare with.

use std::path::Path;
use std::sync::Arc;

use candlescope::features::scope::{Channel, Limits, Recorder, Scope, Trace, Turns};
use candlescope::features::{LatentEdit, Splice};
use candlescope::hooks::{Edit, HookPoint, Hooks};
use candlescope::model::generate::Continue;
use candlescope::model::sample::SampleOptions;
use candlescope::model::{Batch, Decoder, LoadOptions, LogitsAt, Opened};
use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling};
use ndarray::{Array1, Array2};

pub const PROMPT: [u32; 6] = [3, 1, 4, 1, 5, 9];
pub const FAMILIES: [&str; 5] = ["llama", "gemma2", "gpt2", "qwen3", "olmo2"];

pub fn open(name: &str) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let options = LoadOptions::default();
    let opened = Opened::at(&path.join(name), &options).unwrap();
    opened.decoder(&options).unwrap()
}

pub fn at(text: &str) -> HookPoint {
    text.parse().unwrap()
}

pub fn edits(list: &[&str]) -> Vec<LatentEdit> {
    list.iter().map(|edit| edit.parse().unwrap()).collect()
}

/// Numbers in -1..1 from a multiplicative generator.
pub fn drawn(rows: usize, columns: usize, mut seed: u64) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) as f32 / (1u64 << 31) as f32).mul_add(2.0, -1.0)
    })
}

pub fn dictionary(d_in: usize, d_out: usize) -> Dictionary {
    let latents = 40;
    Dictionary::new(Parts {
        encoder: drawn(latents, d_in, 1),
        decoder: drawn(latents, d_out, 2),
        encoder_bias: Array1::zeros(latents),
        decoder_bias: Array1::zeros(d_out),
        centred: false,
        activation: Activation::TopK { k: 6 },
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    })
    .unwrap()
}

pub fn splice(model: &Decoder, read: &str, write: &str) -> Splice {
    let d = model.config().d_model;
    let points = [at(read), at(write)];
    Splice::new(Arc::new(dictionary(d, d)), "drawn", points, model.config()).unwrap()
}

pub fn direction(model: &Decoder, point: &str) -> Channel {
    let vector = drawn(1, model.config().d_model, 7)
        .into_raw_vec_and_offset()
        .0;
    Channel::direction("drawn", at(point), &vector).unwrap()
}

pub fn scope(model: &Decoder) -> Scope {
    let channels = vec![direction(model, "resid_post.1")];
    let splice = splice(model, "resid_post.0", "resid_post.0");
    Scope::new(model.config(), splice, channels, Vec::new()).unwrap()
}

pub fn warm(seed: u64) -> SampleOptions {
    SampleOptions {
        temperature: 1.0,
        seed,
        ..SampleOptions::default()
    }
}

pub fn limits(max_new: usize) -> Limits {
    Limits {
        max_new,
        stop: Vec::new(),
    }
}

pub fn go_on(recorder: &mut Recorder, model: &Decoder, max_new: usize) {
    let told = &mut |_: &Trace, _| Continue::Yes;
    recorder.run(model, &limits(max_new), told).unwrap();
}

pub fn run(scope: &Scope, model: &Decoder, sample: &SampleOptions, turns: Turns) -> Recorder {
    let mut recorder = scope.start(model, &PROMPT, sample, turns).unwrap();
    go_on(&mut recorder, model, 8);
    recorder
}

/// Rows `[pos, width]` of a point in a pass over all tokens at once.
pub fn rows(model: &Decoder, ids: &[u32], point: HookPoint, edits: Vec<Edit>) -> Array2<f32> {
    let hooks = Hooks::new().edits(edits).capture(point);
    let batch = Batch::single(ids).unwrap();
    let out = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
    let rows = out.captured[&point].squeeze(0).unwrap();
    let rows: Vec<Vec<f32>> = rows.flatten_from(1).unwrap().to_vec2().unwrap();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
}

pub fn logits(model: &Decoder, ids: &[u32], edits: Vec<Edit>) -> Vec<Vec<f32>> {
    let hooks = Hooks::new().edits(edits);
    let batch = Batch::single(ids).unwrap();
    let out = model.forward(&batch, &hooks, LogitsAt::All).unwrap();
    out.logits().unwrap().squeeze(0).unwrap().to_vec2().unwrap()
}

/// The library's own edits of latents, from a position on.
pub fn plain_edits(splice: &Splice, tokens: usize, from: usize, list: &[&str]) -> Vec<Edit> {
    let places = Arc::new(vec![(0..tokens).map(|position| position >= from).collect()]);
    let splice = splice.clone().keeping_error().editing(edits(list)).unwrap();
    splice.edits_at(places)
}

pub fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-4 * (1.0 + a.abs().max(b.abs()))
}
