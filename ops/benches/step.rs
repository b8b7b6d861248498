//! A whole training step of an 8.4 M-parameter Llama (d 256, 8 layers, 4 heads, vocabulary 8192) on 8
//! rows of 128 tokens: forward, backward and optimiser, in plain candle expressions and in ours.
//! Run with `cargo bench -p candlescope-ops --bench step`; `RAYON_NUM_THREADS` says how many threads.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::Optimizer;
use candlescope_ops as ops;
use criterion::{Criterion, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};

const D: usize = 256;
const HIDDEN: usize = 688;
const LAYERS: usize = 8;
const HEADS: usize = 4;
const KV_HEADS: usize = 4;
const VOCAB: usize = 8192;
const ROWS: usize = 8;
const TOKENS: usize = 128;

struct Layer {
    norms: [Tensor; 2],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

struct Model {
    params: Vec<(String, Var)>,
    embed: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    cos: Tensor,
    sin: Tensor,
    ids: Vec<u32>,
    targets: Vec<u32>,
}

impl Model {
    fn new() -> Self {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let mut params = Vec::new();
        let mut var = |shape: &[usize]| {
            let count = shape.iter().product();
            let scale = if shape.len() == 1 { 0.0 } else { 0.05 };
            let values: Vec<f32> = (0..count)
                .map(|_| rng.random_range(-scale..=scale) + f32::from(u8::from(shape.len() == 1)))
                .collect();
            let var = Var::from_vec(values, shape, &Device::Cpu).unwrap();
            params.push((params.len().to_string(), var.clone()));
            var.as_tensor().clone()
        };
        let kv = D / HEADS * KV_HEADS;
        let layers = (0..LAYERS)
            .map(|_| Layer {
                norms: [var(&[D]), var(&[D])],
                q: var(&[D, D]),
                k: var(&[kv, D]),
                v: var(&[kv, D]),
                o: var(&[D, D]),
                gate: var(&[HIDDEN, D]),
                up: var(&[HIDDEN, D]),
                down: var(&[D, HIDDEN]),
            })
            .collect();
        let (embed, norm) = (var(&[VOCAB, D]), var(&[D]));
        let half = D / HEADS / 2;
        let angles: Vec<f32> = (0..TOKENS * half)
            .map(|i| (i / half) as f32 * 1e4f32.powf(-((i % half) as f32) / half as f32))
            .collect();
        let angles = Tensor::from_vec(angles, (1, TOKENS, half), &Device::Cpu).unwrap();
        let mut ids = || {
            (0..ROWS * TOKENS)
                .map(|_| rng.random_range(0..VOCAB as u32))
                .collect()
        };
        Self {
            embed,
            layers,
            norm,
            cos: angles.cos().unwrap(),
            sin: angles.sin().unwrap(),
            ids: ids(),
            targets: ids(),
            params,
        }
    }

    fn spec() -> ops::AttentionSpec {
        ops::AttentionSpec {
            scale: ((D / HEADS) as f64).powf(-0.5),
            softcap: None,
            window: None,
            layout: ops::KeyLayout::default(),
            q_offset: 0,
        }
    }

    /// The mean loss through our kernels.
    fn fused(&self) -> Result<Tensor> {
        let x = ops::embedding(&self.embed, &self.ids)?;
        let mut x = ops::reshape(&x, (ROWS, TOKENS, D))?;
        for w in &self.layers {
            let normed = ops::rms_norm(&x, &w.norms[0], 1e-5)?;
            let heads = |w: &Tensor, n: usize| {
                ops::reshape(
                    &ops::linear(&normed, w, None)?,
                    (ROWS, TOKENS, n, D / HEADS),
                )
            };
            let q = ops::rope(&heads(&w.q, HEADS)?, &self.cos, &self.sin)?;
            let k = ops::rope(&heads(&w.k, KV_HEADS)?, &self.cos, &self.sin)?;
            let z = ops::attention(&q, &k, &heads(&w.v, KV_HEADS)?, &Self::spec())?;
            let z = ops::reshape(&z, (ROWS, TOKENS, D))?;
            x = ops::add(&x, &ops::linear(&z, &w.o, None)?)?;
            let normed = ops::rms_norm(&x, &w.norms[1], 1e-5)?;
            let (gate, up) = (
                ops::linear(&normed, &w.gate, None)?,
                ops::linear(&normed, &w.up, None)?,
            );
            let act = ops::gated(&gate, &up, ops::Activation::Silu)?;
            x = ops::add(&x, &ops::linear(&act, &w.down, None)?)?;
        }
        let normed = ops::reshape(&ops::rms_norm(&x, &self.norm, 1e-5)?, (ROWS * TOKENS, D))?;
        let options = ops::HeadOptions::default();
        let found = ops::token_logprobs(&normed, &self.embed, &self.targets, options)?;
        found.logps.mean_all()?.neg()
    }

    /// The same in candle's differentiable expressions.
    fn plain(&self) -> Result<Tensor> {
        let norm = |x: &Tensor, gain: &Tensor| {
            let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?;
            x.broadcast_div(&mean.sqrt()?)?.broadcast_mul(gain)
        };
        let linear = |x: &Tensor, w: &Tensor| {
            let width = w.dim(1)?;
            let y = x.reshape(((), width))?.matmul(&w.t()?)?;
            y.reshape((ROWS, TOKENS, w.dim(0)?))
        };
        let seen: Vec<f32> = (0..TOKENS * TOKENS)
            .map(|i| {
                if i % TOKENS > i / TOKENS {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(seen, (TOKENS, TOKENS), &Device::Cpu)?;
        let ids = Tensor::from_slice(&self.ids, self.ids.len(), &Device::Cpu)?;
        let mut x = self
            .embed
            .index_select(&ids, 0)?
            .reshape((ROWS, TOKENS, D))?;
        for w in &self.layers {
            let normed = norm(&x, &w.norms[0])?;
            let heads = |w: &Tensor, n: usize| {
                let y = linear(&normed, w)?.reshape((ROWS, TOKENS, n, D / HEADS))?;
                y.transpose(1, 2)?.contiguous()
            };
            let turn = |x: Tensor| {
                let (cos, sin) = (self.cos.squeeze(0)?, self.sin.squeeze(0)?);
                candle_nn::rotary_emb::rope_slow(&x, &cos, &sin)
            };
            let spread = |x: Tensor| {
                let (b, h, t, d) = x.dims4()?;
                let x = x.unsqueeze(2)?.expand((b, h, HEADS / KV_HEADS, t, d))?;
                x.reshape((b, HEADS, t, d))
            };
            let q = turn(heads(&w.q, HEADS)?)?;
            let k = spread(turn(heads(&w.k, KV_HEADS)?)?)?;
            let v = spread(heads(&w.v, KV_HEADS)?)?;
            let scores = (q.matmul(&k.t()?)? * Self::spec().scale)?.broadcast_add(&mask)?;
            let z = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
            x = (x + linear(&z.transpose(1, 2)?.flatten_from(2)?.contiguous()?, &w.o)?)?;
            let normed = norm(&x, &w.norms[1])?;
            let act = linear(&normed, &w.gate)?
                .silu()?
                .mul(&linear(&normed, &w.up)?)?;
            x = (x + linear(&act, &w.down)?)?;
        }
        let logits = linear(&norm(&x, &self.norm)?, &self.embed)?.reshape(((), VOCAB))?;
        let targets = Tensor::from_slice(&self.targets, self.targets.len(), &Device::Cpu)?;
        candle_nn::loss::cross_entropy(&logits, &targets)
    }
}

/// Time of forward, backward and optimiser.
type Times = [Duration; 3];

fn laps(start: Instant, forward: Instant, backward: Instant) -> Times {
    [forward - start, backward - forward, backward.elapsed()]
}

fn steps(c: &mut Criterion) {
    ops::fast_alloc();
    let model = Model::new();
    let count: usize = model.params.iter().map(|(_, v)| v.elem_count()).sum();
    let mut adamw = ops::AdamW::new(ops::AdamWOptions::default(), []);
    let ours = |model: &Model| -> Result<Times> {
        rayon::scope(|_| {
            let start = Instant::now();
            let loss = model.fused()?;
            let forward = Instant::now();
            let mut grads = ops::Gradients::new(model.params.len());
            grads.add(&model.params, ops::backward(&loss)?)?;
            drop(loss);
            let backward = Instant::now();
            grads.clip(1.0)?;
            adamw.step(&model.params, &grads, 1e-4)?;
            Ok(laps(start, forward, backward))
        })
    };
    lap_times(c, &format!("step of {count} ours"), &model, ours);

    let vars = model.params.iter().map(|(_, var)| var.clone()).collect();
    let mut adamw = candle_nn::AdamW::new_lr(vars, 1e-4).unwrap();
    let mut compared = false;
    let candles = |model: &Model| -> Result<Times> {
        if !std::mem::replace(&mut compared, true) {
            let gap = (model.fused()? - model.plain()?)?.to_scalar::<f32>()?;
            assert!(gap.abs() < 1e-5);
        }
        let start = Instant::now();
        let loss = model.plain()?;
        let forward = Instant::now();
        let grads = loss.backward()?;
        drop(loss);
        let backward = Instant::now();
        adamw.step(&grads)?;
        Ok(laps(start, forward, backward))
    };
    lap_times(c, &format!("step of {count} candle"), &model, candles);
}

/// The step is run as a whole for each of its parts, and that part's time counted.
fn lap_times(
    c: &mut Criterion,
    name: &str,
    model: &Model,
    mut step: impl FnMut(&Model) -> Result<Times>,
) {
    for (part, what) in ["forward", "backward", "optimiser"].iter().enumerate() {
        c.bench_function(&format!("{name}, {what}"), |b| {
            b.iter_custom(|count| (0..count).map(|_| step(model).unwrap()[part]).sum());
        });
    }
}

criterion_group! {
    name = step;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(6));
    targets = steps
}
criterion_main!(step);
