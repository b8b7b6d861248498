//! The same bits with one thread and with three.

use candle_core::{DType, Tensor};
use candlescope_ops::*;

use super::random;

fn all() -> Vec<Vec<u32>> {
    let bits = |x: Tensor| -> Vec<u32> {
        let x: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        x.into_iter().map(f32::to_bits).collect()
    };
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
    .map(|x| bits(x.unwrap()))
    .collect()
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
