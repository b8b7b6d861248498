//! The same bits with one thread and with three.

use candle_core::{DType, Var};
use candlescope_ops::*;

use super::{bits, random};

fn all() -> Vec<Vec<u32>> {
    let x = random(1, &[130, 576]);
    let one = random(2, &[1, 576]);
    let w = random(3, &[1000, 576]);
    let narrow = w.to_dtype(DType::BF16).unwrap();
    let bias = random(4, &[1000]);
    let gain = random(5, &[576]);
    let (q, k) = (random(6, &[2, 130, 6, 32]), random(7, &[2, 130, 2, 32]));
    let angle = random(8, &[1, 130, 16]);
    let spec = |q_offset| AttentionSpec {
        scale: 0.2,
        softcap: None,
        window: None,
        layout: KeyLayout {
            prefix: 0,
            pad: vec![0, 5],
        },
        q_offset,
    };
    let scores = attention_scores(&q, &k, &spec(0)).unwrap();
    let pattern = softmax_last_dim(&scores).unwrap();
    [
        linear(&x, &w, Some(&bias)),
        linear(&x, &narrow, Some(&bias)),
        linear(&one, &w, Some(&bias)),
        linear(&one, &narrow, None),
        rms_norm(&x, &gain, 1e-5),
        layer_norm(&x, &gain, None, 1e-5),
        rope(&q, &angle.cos().unwrap(), &angle.sin().unwrap()),
        activation(&x, Activation::GeluErf),
        gated(&x, &x, Activation::Silu),
        log_softmax_last_dim(&x),
        logsumexp_last_dim(&x),
        attention(&q, &k, &k, &spec(0)),
        attention(&q.narrow(1, 0, 1).unwrap(), &k, &k, &spec(129)),
        attention_from_pattern(&pattern, &k),
        Ok(scores),
        Ok(pattern),
    ]
    .into_iter()
    .map(|x| bits(&x.unwrap()))
    .collect()
}

/// A block of a decoder, small but large enough that every backward goes to several threads, and its gradients.
fn gradients() -> Vec<Vec<u32>> {
    let var = |seed, shape: &[usize]| Var::from_tensor(&random(seed, shape)).unwrap();
    let (b, s, heads, kv, d) = (2, 130, 6, 2, 32);
    let width = heads * d;
    let table = var(1, &[500, width]);
    let (gain, bias) = (var(2, &[width]), var(3, &[width]));
    let (q, k, v) = (
        var(4, &[width, width]),
        var(5, &[kv * d, width]),
        var(6, &[kv * d, width]),
    );
    let (gate, up, down) = (
        var(7, &[300, width]),
        var(8, &[300, width]),
        var(9, &[width, 300]),
    );
    let offsets = var(10, &[300]);
    let angle = random(11, &[1, s, d / 2]);
    let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
    let spec = AttentionSpec {
        scale: 0.02,
        softcap: Some(8.0),
        window: Some(100),
        layout: KeyLayout {
            prefix: 0,
            pad: vec![0, 5],
        },
        q_offset: 0,
    };
    let ids: Vec<u32> = (0..b * s).map(|i| (i * i % 500) as u32).collect();
    let loss = (|| {
        let x = embedding(&table, &ids)?.reshape((b, s, width))?;
        let normed = layer_norm(&x, &gain, Some(&bias), 1e-5)?;
        let of = |w: &Var, n| linear(&normed, w, None)?.reshape((b, s, n, d));
        let (q, k) = (
            rope(&of(&q, heads)?, &cos, &sin)?,
            rope(&of(&k, kv)?, &cos, &sin)?,
        );
        let z = attention(&q, &k, &of(&v, kv)?, &spec)?.flatten_from(2)?;
        let x = add(&x, &z)?;
        let normed = rms_norm(&x, &gain, 1e-5)?;
        let act = gated(
            &linear(&normed, &gate, Some(&offsets))?,
            &linear(&normed, &up, None)?,
            Activation::GeluErf,
        )?;
        add(&x, &linear(&act, &down, None)?)?.sqr()?.mean_all()
    })()
    .unwrap();
    let grads = backward(&loss).unwrap();
    [
        &table, &gain, &bias, &q, &k, &v, &gate, &up, &down, &offsets,
    ]
    .into_iter()
    .map(|v| bits(grads.get(v).unwrap()))
    .collect()
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(gradients)
    };
    let one = with(1);
    for threads in [2, 3] {
        for (i, (a, b)) in one.iter().zip(&with(threads)).enumerate() {
            assert!(a == b, "gradient {i} differs with {threads} threads");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(all)
    };
    let (one, three) = (with(1), with(3));
    for (i, (a, b)) in one.iter().zip(&three).enumerate() {
        assert!(a == b, "result {i} differs");
    }
}
