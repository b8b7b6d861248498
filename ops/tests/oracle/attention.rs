//! Attention against loops in f64 that follow the definition, not the implementation.

use candle_core::{Result, Tensor};
use candlescope_ops::*;
use proptest::prelude::*;

use super::{close, f64s, flat, random};

fn naive(q: &Tensor, k: &Tensor, v: &Tensor, spec: &AttentionSpec) -> (Tensor, Tensor) {
    let (b, s, h, d) = q.dims4().unwrap();
    let (_, t, hk, dv) = v.dims4().unwrap();
    let (qs, ks, vs) = (flat(q), flat(k), flat(v));
    let mut scores = vec![f64::NEG_INFINITY; b * h * s * t];
    let mut out = vec![0.0; b * s * h * dv];
    for row in 0..b {
        let pad = spec.layout.pad.get(row).copied().unwrap_or(0);
        let prefix = spec.layout.prefix;
        let position = |slot: usize| {
            if slot < prefix {
                slot as i64
            } else {
                slot as i64 - pad as i64
            }
        };
        for head in 0..h {
            let kv = head / (h / hk);
            for i in 0..s {
                let own = spec.q_offset + i;
                let line = ((row * h + head) * s + i) * t;
                for j in 0..=own.min(t - 1) {
                    let token = j < prefix || j >= prefix + pad;
                    let near = spec
                        .window
                        .is_none_or(|w| position(own) - position(j) < w as i64);
                    if !token || !near {
                        continue;
                    }
                    let dot: f64 = (0..d)
                        .map(|c| {
                            qs[((row * s + i) * h + head) * d + c]
                                * ks[((row * t + j) * hk + kv) * d + c]
                        })
                        .sum();
                    let score = dot * spec.scale;
                    scores[line + j] = spec.softcap.map_or(score, |cap| cap * (score / cap).tanh());
                }
                let total: f64 = scores[line..line + t].iter().map(|x| x.exp()).sum();
                for j in 0..t {
                    let weight = scores[line + j].exp();
                    for c in 0..dv {
                        let value = vs[((row * t + j) * hk + kv) * dv + c];
                        if weight > 0.0 {
                            out[((row * s + i) * h + head) * dv + c] += weight / total * value;
                        }
                    }
                }
            }
        }
    }
    let device = q.device();
    (
        Tensor::from_vec(scores, (b, h, s, t), device).unwrap(),
        Tensor::from_vec(out, (b, s, h, dv), device).unwrap(),
    )
}

fn spec(d: usize, q_offset: usize) -> AttentionSpec {
    let layout = KeyLayout {
        prefix: 0,
        pad: Vec::new(),
    };
    AttentionSpec {
        scale: 1.0 / (d as f64).sqrt(),
        softcap: None,
        window: None,
        layout,
        q_offset,
    }
}

/// All three functions, both ways, with k and v as views into a longer cache.
fn check(q: &Tensor, k: &Tensor, v: &Tensor, spec: &AttentionSpec) -> Result<()> {
    let (scores, out) = naive(q, k, v, spec);
    for (tolerance, cast) in [
        (6e-6, (|x| x.clone()) as fn(&Tensor) -> Tensor),
        (1e-11, f64s),
    ] {
        let (q, k, v) = (cast(q), cast(k), cast(v));
        close(&attention(&q, &k, &v, spec)?, &out, tolerance);
        let ours = attention_scores(&q, &k, spec)?;
        close(&ours, &scores, 2.0 * tolerance);
        let pattern = softmax_last_dim(&ours)?;
        close(&attention_from_pattern(&pattern, &v)?, &out, tolerance);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn matches_the_definition(
        batch in 1usize..4, queries in 1usize..20, before in 0usize..30, after in 0usize..5,
        kv_heads in 1usize..3, group in 1usize..4, d in 1usize..40, dv in 1usize..70,
        softcap in proptest::option::of(0.5f64..5.0), window in proptest::option::of(1usize..20),
        prefix in 0usize..6, pads in proptest::collection::vec(0usize..12, 3), padded: bool, seed: u64,
    ) {
        let keys = before + queries + after;
        let q = random(seed, &[batch, queries, kv_heads * group, d]);
        let cache = |seed, width| random(seed, &[batch, keys + 7, kv_heads, width]).narrow(1, 3, keys).unwrap();
        let (k, v) = (cache(seed ^ 1, d), cache(seed ^ 2, dv));
        let pad = if padded { pads[..batch].to_vec() } else { Vec::new() };
        let layout = KeyLayout { prefix, pad };
        let spec = AttentionSpec { softcap, window, layout, ..spec(d, before) };
        check(&q, &k, &v, &spec).unwrap();
    }
}

/// The outputs of one sequence of 700 tokens, and the same when it is computed otherwise: to the bit.
#[test]
fn a_query_has_the_same_bits_decoded_padded_behind_a_shared_prefix_and_in_company() {
    let (t, d) = (700, 64);
    let (q, k, v) = (
        random(1, &[1, t, 6, d]),
        random(2, &[1, t, 2, d]),
        random(3, &[1, t, 2, d]),
    );
    for window in [None, Some(33), Some(600)] {
        let spec = |q_offset| AttentionSpec {
            window,
            ..spec(d, q_offset)
        };
        let whole = flat(&attention(&q, &k, &v, &spec(0)).unwrap());
        let width = 6 * d;
        // One by one, and in pieces that are cut elsewhere than the blocks of the whole.
        for (from, count) in [(0, 1), (1, 1), (64, 1), (699, 1), (100, 77), (600, 100)] {
            let some = q.narrow(1, from, count).unwrap();
            let decoded = flat(&attention(&some, &k, &v, &spec(from)).unwrap());
            assert_eq!(decoded, whole[from * width..(from + count) * width]);
        }
        // Beside another row, after empty slots, which may also follow a prefix.
        for (prefix, pad) in [(0, 3), (5, 0), (5, 4), (650, 41)] {
            let shift = |x: &Tensor| {
                let (head, tail) = (x.narrow(1, 0, prefix), x.narrow(1, prefix, t - prefix));
                let junk = random(9, &[1, pad, x.dim(2).unwrap(), d]);
                let row = Tensor::cat(&[&head.unwrap(), &junk, &tail.unwrap()], 1).unwrap();
                let other = random(10, &[1, t + pad, x.dim(2).unwrap(), d]);
                Tensor::cat(&[&other, &row], 0).unwrap()
            };
            let padded = AttentionSpec {
                layout: KeyLayout {
                    prefix,
                    pad: vec![0, pad],
                },
                ..spec(0)
            };
            let out = attention(&shift(&q), &shift(&k), &shift(&v), &padded).unwrap();
            let row = out.narrow(0, 1, 1).unwrap();
            let after = row.narrow(1, prefix + pad, t - prefix).unwrap();
            assert_eq!(flat(&after), whole[prefix * width..]);
            if prefix == 0 {
                let empty = flat(&row.narrow(1, 0, pad).unwrap());
                assert!(
                    empty.iter().all(|&x| x == 0.0),
                    "padding queries see nothing"
                );
            }
        }
    }
}

#[test]
fn prefill_longer_than_a_block_agrees_with_the_definition() {
    let (t, d) = (150, 64);
    let (q, k, v) = (
        random(1, &[2, t, 9, d]),
        random(2, &[2, t, 3, d]),
        random(3, &[2, t, 3, d]),
    );
    for window in [None, Some(33)] {
        let spec = AttentionSpec {
            window,
            ..spec(d, 0)
        };
        check(&q, &k, &v, &spec).unwrap();
    }
}

#[test]
fn nan_in_a_visible_key_is_seen_and_in_a_later_cache_slot_is_not_read() {
    let (q, v) = (random(1, &[1, 1, 2, 8]), random(3, &[1, 4, 1, 8]));
    let k = random(2, &[1, 4, 1, 8]).to_vec3_flat();
    let put = |slot: usize| {
        let mut k = k.clone();
        k[slot * 8] = f32::NAN;
        Tensor::from_vec(k, (1, 4, 1, 8), q.device()).unwrap()
    };
    let out = |k: &Tensor| flat(&attention(&q, k, &v, &spec(8, 2)).unwrap());
    assert!(out(&put(1)).iter().all(|x| x.is_nan()));
    assert!(out(&put(3)).iter().all(|x| x.is_finite()));
}

trait Flat {
    fn to_vec3_flat(&self) -> Vec<f32>;
}

impl Flat for Tensor {
    fn to_vec3_flat(&self) -> Vec<f32> {
        self.flatten_all().unwrap().to_vec1().unwrap()
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let x = |shape: &[usize]| random(1, shape);
    let (q, k) = (x(&[1, 2, 4, 8]), x(&[1, 2, 2, 8]));
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(
        message(attention(&q, &x(&[1, 2, 3, 8]), &k, &spec(8, 0))).contains("do not go together")
    );
    assert!(
        message(attention(&q, &k, &x(&[1, 3, 2, 8]), &spec(8, 0))).contains("does not go with k")
    );
    assert!(message(attention(&q, &k, &k, &spec(8, 1))).contains("2 key slots"));
    let layout = KeyLayout {
        prefix: 0,
        pad: vec![1, 1],
    };
    let wrong = AttentionSpec {
        layout,
        ..spec(8, 0)
    };
    assert!(message(attention_scores(&q, &k, &wrong)).contains("padding for 2 rows"));
    let wrong = AttentionSpec {
        softcap: Some(0.0),
        ..spec(8, 0)
    };
    assert!(message(attention(&q, &k, &k, &wrong)).contains("softcap"));
    let wrong = AttentionSpec {
        window: Some(0),
        ..spec(8, 0)
    };
    assert!(message(attention(&q, &k, &k, &wrong)).contains("window is 0"));
    assert!(message(attention_from_pattern(&x(&[1, 4, 2, 3]), &k)).contains("do not go together"));
    let empty = Tensor::zeros((1, 0, 2, 8), candle_core::DType::F32, q.device()).unwrap();
    assert!(message(attention(&q, &empty, &empty, &spec(8, 0))).contains("k has shape"));
}
