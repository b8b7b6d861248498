//! Each kernel beside the candle expression it replaces, on the shapes of a 135 M-parameter Llama.
//! Run with `cargo bench -p candlescope-ops`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use candle_core::{DType, Device, Result, Tensor};
use candlescope_ops::{
    Activation, AttentionSpec, KeyLayout, attention, fast_alloc, gated, linear, rms_norm,
    softmax_last_dim,
};
use criterion::{Criterion, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};

fn random(shape: &[usize]) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let values = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0f32..1.0))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// One line for ours and one for candle's.
fn pair(
    c: &mut Criterion,
    name: &str,
    ours: impl Fn() -> Result<Tensor>,
    candle: impl Fn() -> Result<Tensor>,
) {
    c.bench_function(&format!("{name} ours"), |b| {
        b.iter(|| black_box(ours().unwrap()));
    });
    c.bench_function(&format!("{name} candle"), |b| {
        b.iter(|| black_box(candle().unwrap()));
    });
}

fn products(c: &mut Criterion) {
    let (x, w) = (random(&[512, 576]), random(&[1536, 576]));
    pair(
        c,
        "linear 512x576x1536",
        || linear(&x, &w, None),
        || x.matmul(&w.t()?),
    );
    let w = random(&[49152, 576]);
    let narrow = w.to_dtype(DType::BF16).unwrap();
    for rows in [1, 4, 8] {
        let x = random(&[rows, 576]);
        pair(
            c,
            &format!("linear {rows}x576x49152"),
            || linear(&x, &w, None),
            || x.matmul(&w.t()?),
        );
        let candle = || x.matmul(&narrow.to_dtype(DType::F32)?.t()?);
        pair(
            c,
            &format!("linear bf16 {rows}x576x49152"),
            || linear(&x, &narrow, None),
            candle,
        );
    }
}

fn rows(c: &mut Criterion) {
    let (x, gain) = (random(&[1024, 576]), random(&[576]));
    pair(
        c,
        "rms_norm 1024x576",
        || rms_norm(&x, &gain, 1e-5),
        || candle_nn::ops::rms_norm(&x, &gain, 1e-5),
    );
    let (gate, up) = (random(&[512, 1536]), random(&[512, 1536]));
    pair(
        c,
        "silu gate 512x1536",
        || gated(&gate, &up, Activation::Silu),
        || gate.silu()?.mul(&up),
    );
    for shape in [[72, 128, 128], [1, 512, 49152]] {
        let x = random(&shape);
        let candle = || candle_nn::ops::softmax_last_dim(&x);
        pair(
            c,
            &format!("softmax {shape:?}"),
            || softmax_last_dim(&x),
            candle,
        );
    }
}

fn candle_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    mask: &Tensor,
) -> Result<Tensor> {
    let (b, s, h, d) = q.dims4()?;
    let (_, t, hk, _) = k.dims4()?;
    let spread = |x: &Tensor| {
        x.unsqueeze(3)?
            .broadcast_as((b, t, hk, h / hk, d))?
            .reshape((b, t, h, d))
    };
    let heads = |x: &Tensor| x.transpose(1, 2)?.contiguous();
    let (q, k, v) = (heads(q)?, heads(&spread(k)?)?, heads(&spread(v)?)?);
    let scores = (q.matmul(&k.t()?)? * scale)?.broadcast_add(mask)?;
    let out = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
    out.transpose(1, 2)?.reshape((b, s, h, d))
}

fn attentions(c: &mut Criterion) {
    for (b, s, t) in [(1, 512, 512), (8, 128, 128), (1, 1, 512)] {
        let (q, k, v) = (
            random(&[b, s, 9, 64]),
            random(&[b, t, 3, 64]),
            random(&[b, t, 3, 64]),
        );
        let layout = KeyLayout {
            prefix: 0,
            pad: Vec::new(),
        };
        let spec = AttentionSpec {
            scale: 0.125,
            softcap: None,
            window: None,
            layout,
            q_offset: t - s,
        };
        let mask: Vec<f32> = (0..s * t)
            .map(|i| {
                if i % t > t - s + i / t {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(mask, (s, t), &Device::Cpu).unwrap();
        let candle = || candle_attention(&q, &k, &v, 0.125, &mask);
        pair(
            c,
            &format!("attention {b}x{s} of {t}"),
            || attention(&q, &k, &v, &spec),
            candle,
        );
    }
}

fn all(c: &mut Criterion) {
    fast_alloc();
    products(c);
    rows(c);
    attentions(c);
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600));
    targets = all
}
criterion_main!(kernels);
