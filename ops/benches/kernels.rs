//! Each kernel beside the candle expression it replaces, on the shapes of a 135 M-parameter Llama.
//! Run with `cargo bench -p candlescope-ops`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candlescope_ops::{
    Activation, AttentionSpec, HeadOptions, KeyLayout, attention, backward, embedding, fast_alloc,
    gated, linear, rms_norm, softmax_last_dim, token_logprobs,
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
    // The fast softmax has no backward.
    let pattern = if scores.track_op() {
        candle_nn::ops::softmax(&scores, D::Minus1)?
    } else {
        candle_nn::ops::softmax_last_dim(&scores)?
    };
    let out = pattern.matmul(&v)?;
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

/// Forward and backward of a function of variables of these shapes.
fn train(
    shapes: &[&[usize]],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> impl Fn() -> Result<Tensor> {
    let vars: Vec<Var> = shapes
        .iter()
        .map(|shape| Var::from_tensor(&random(shape)).unwrap())
        .collect();
    move || {
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let grads = backward(&f(&tensors)?.sum_all()?)?;
        Ok(grads.get(&vars[0]).unwrap().clone())
    }
}

fn backwards(c: &mut Criterion) {
    let shapes: [&[usize]; 2] = [&[1024, 576], &[1536, 576]];
    pair(
        c,
        "linear 1024x576x1536, both ways",
        train(&shapes, |t| linear(&t[0], &t[1], None)),
        train(&shapes, |t| t[0].matmul(&t[1].t()?)),
    );
    let shapes: [&[usize]; 2] = [&[1024, 576], &[576]];
    pair(
        c,
        "rms_norm 1024x576, both ways",
        train(&shapes, |t| rms_norm(&t[0], &t[1], 1e-5)),
        train(&shapes, |t| {
            candle_nn::ops::rms_norm_slow(&t[0], &t[1], 1e-5)
        }),
    );
    let shapes: [&[usize]; 2] = [&[1024, 1536], &[1024, 1536]];
    pair(
        c,
        "silu gate 1024x1536, both ways",
        train(&shapes, |t| gated(&t[0], &t[1], Activation::Silu)),
        train(&shapes, |t| t[0].silu()?.mul(&t[1])),
    );
    let ids: Vec<u32> = (0..1024).map(|i| i * 17 % 8192).collect();
    let index = Tensor::from_slice(&ids, ids.len(), &Device::Cpu).unwrap();
    pair(
        c,
        "embedding 1024 of 8192x576, both ways",
        train(&[&[8192, 576]], |t| embedding(&t[0], &ids)),
        train(&[&[8192, 576]], |t| t[0].index_select(&index, 0)),
    );
    let shapes: [&[usize]; 3] = [&[8, 128, 9, 64], &[8, 128, 3, 64], &[8, 128, 3, 64]];
    let spec = AttentionSpec {
        scale: 0.125,
        softcap: None,
        window: None,
        layout: KeyLayout::default(),
        q_offset: 0,
    };
    let mask: Vec<f32> = (0..128 * 128)
        .map(|i| {
            if i % 128 > i / 128 {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
        .collect();
    let mask = Tensor::from_vec(mask, (128, 128), &Device::Cpu).unwrap();
    pair(
        c,
        "attention 8x128, both ways",
        train(&shapes, |t| attention(&t[0], &t[1], &t[2], &spec)),
        train(&shapes, |t| {
            candle_attention(&t[0], &t[1], &t[2], 0.125, &mask)
        }),
    );
    let shapes: [&[usize]; 2] = [&[512, 576], &[49152, 576]];
    let targets: Vec<u32> = (0..512).map(|i| i * 91 % 49152).collect();
    let index = Tensor::from_slice(&targets, targets.len(), &Device::Cpu).unwrap();
    pair(
        c,
        "log-probabilities 512x576x49152, both ways",
        train(&shapes, |t| {
            Ok(token_logprobs(&t[0], &t[1], &targets, HeadOptions::default())?.logps)
        }),
        train(&shapes, |t| {
            candle_nn::loss::cross_entropy(&t[0].matmul(&t[1].t()?)?, &index)
        }),
    );
}

fn all(c: &mut Criterion) {
    fast_alloc();
    products(c);
    rows(c);
    attentions(c);
    backwards(c);
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
