//! Everything but attention: f32 kernel against candle expressions written here, in f64.

use candle_core::{D, DType, Device, Result, Tensor};
use candlescope_ops::*;
use proptest::prelude::*;

use super::{close, distance, f64s, flat, random};

const ACTIVATIONS: [Activation; 4] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::Relu,
];

fn product(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = f64s(x).broadcast_matmul(&f64s(w).t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(&f64s(bias)),
        None => Ok(y),
    }
}

/// `y` against the exact product, each element within the bound of its own sum (Higham 2002, section 3.1):
/// `(m + 1) u Σ|x||w|`, with `u` = 2^-24 and `m` the most roundings a term goes through: a chain of at most n/8 lane sums
/// and as many products where they are not fused, the folding of lanes and pieces, and the bias.
fn within_the_bound(y: &Tensor, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) {
    let exact = product(x, w, bias).unwrap();
    let sizes = |t: &Tensor| f64s(t).abs().unwrap();
    let size = product(&sizes(x), &sizes(w), bias.map(sizes).as_ref()).unwrap();
    let inputs = w.dim(1).unwrap() as f64;
    let roundings = 2.0 * (inputs / 8.0).ceil() + (inputs / 1024.0).ceil() + 8.0;
    assert_eq!(y.dims(), exact.dims());
    for ((y, exact), size) in flat(y).into_iter().zip(flat(&exact)).zip(flat(&size)) {
        let bound = roundings * 2f64.powi(-24) * size;
        assert!((y - exact).abs() <= bound, "{y} {exact} {bound}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn linear_matches(rows in 1usize..60, inputs in 1usize..1300, outputs in 1usize..80, with_bias: bool, seed: u64) {
        let (x, w) = (random(seed, &[rows, inputs]), random(seed ^ 1, &[outputs, inputs]));
        let bias = with_bias.then(|| random(seed ^ 2, &[outputs]));
        let y = linear(&x, &w, bias.as_ref()).unwrap();
        within_the_bound(&y, &x, &w, bias.as_ref());
        let narrow = w.to_dtype(DType::BF16).unwrap();
        let y = linear(&x, &narrow, bias.as_ref()).unwrap();
        prop_assert_eq!(y.dtype(), DType::F32);
        within_the_bound(&y, &x, &narrow, bias.as_ref());
    }

    #[test]
    fn a_row_of_linear_has_the_same_bits_alone(rows in 2usize..300, inputs in 1usize..1200, outputs in 1usize..80, seed: u64) {
        let (x, w) = (random(seed, &[rows, inputs]), random(seed ^ 1, &[outputs, inputs]));
        for w in [w.clone(), w.to_dtype(DType::BF16).unwrap()] {
            let all = linear(&x, &w, None).unwrap();
            for row in [0, rows / 2, rows - 1] {
                let alone = linear(&x.narrow(0, row, 1).unwrap(), &w, None).unwrap();
                prop_assert_eq!(flat(&alone), flat(&all.narrow(0, row, 1).unwrap()));
            }
        }
    }

    #[test]
    fn sums_are_candles_own(rows in 1usize..40, width in 1usize..700, seed: u64) {
        let (x, y) = (random(seed, &[rows, width]), random(seed ^ 1, &[width, rows]).t().unwrap());
        prop_assert_eq!(flat(&add(&x, &y).unwrap()), flat(&(&x + &y).unwrap()));
        prop_assert!(add(&x, &random(seed, &[rows, width + 1])).is_err());
    }

    #[test]
    fn row_functions_match(rows in 1usize..6, width in 1usize..1400, seed: u64) {
        let x = random(seed, &[rows, width]);
        let x64 = f64s(&x);
        let exp = x64.exp().unwrap();
        let sum = exp.sum_keepdim(D::Minus1).unwrap();
        close(&softmax_last_dim(&x).unwrap(), &exp.broadcast_div(&sum).unwrap(), 5e-7);
        let lse = sum.log().unwrap();
        // Half a unit in the last place of the sum, which is below 16.
        close(&logsumexp_last_dim(&x).unwrap(), &lse.squeeze(D::Minus1).unwrap(), 1e-6);
        close(&log_softmax_last_dim(&x).unwrap(), &x64.broadcast_sub(&lse).unwrap(), 2e-6);
    }

    #[test]
    fn norms_match(rows in 1usize..6, width in 2usize..1400, offset in -10.0f64..10.0, seed: u64) {
        let x = (random(seed, &[rows, width]) + offset).unwrap();
        let (gain, bias) = (random(seed ^ 1, &[width]), random(seed ^ 2, &[width]));
        let (x64, gain64) = (f64s(&x), f64s(&gain));
        let norm = |x: &Tensor| {
            let mean = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
            x.broadcast_div(&(mean + 1e-5).unwrap().sqrt().unwrap()).unwrap().broadcast_mul(&gain64).unwrap()
        };
        let y = rms_norm(&x, &gain, 1e-5).unwrap();
        for (a, b) in flat(&y).into_iter().zip(flat(&norm(&x64))) {
            // Three roundings: the factor and two products.
            prop_assert!((a - b).abs() <= 2e-7 * b.abs(), "{} {}", a, b);
        }
        let centred = x64.broadcast_sub(&x64.mean_keepdim(D::Minus1).unwrap()).unwrap();
        // Two numbers may lie close together while far from 0: their distance carries the rounding of the mean.
        let spread = centred.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let smallest = flat(&spread).into_iter().fold(f64::INFINITY, f64::min).sqrt().max(3e-3);
        let tolerance = 1e-5 / smallest.min(1.0);
        close(&layer_norm(&x, &gain, None, 1e-5).unwrap(), &norm(&centred), tolerance);
        let y = norm(&centred).broadcast_add(&f64s(&bias)).unwrap();
        close(&layer_norm(&x, &gain, Some(&bias), 1e-5).unwrap(), &y, tolerance);
    }

    #[test]
    fn rope_turns_pairs(
        batch in 1usize..3, positions in 1usize..5, heads in 1usize..4, half in 1usize..20, rest in 0usize..9,
        own_rows: bool, seed: u64,
    ) {
        let width = 2 * half + rest;
        let x = random(seed, &[batch, positions, heads, width]);
        let rows = if own_rows { batch } else { 1 };
        let angle = random(seed ^ 1, &[rows, positions, half]);
        let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
        let y = flat(&rope(&x, &cos, &sin).unwrap());
        let (x, cos, sin) = (flat(&x), flat(&cos), flat(&sin));
        for b in 0..batch { for s in 0..positions { for h in 0..heads {
            let head = ((b * positions + s) * heads + h) * width;
            let line = ((b % rows) * positions + s) * half;
            for i in 0..width {
                let expected = if i < half {
                    x[head + i] * cos[line + i] - x[head + half + i] * sin[line + i]
                } else if i < 2 * half {
                    x[head + i] * cos[line + i - half] + x[head + i - half] * sin[line + i - half]
                } else {
                    x[head + i]
                };
                prop_assert!((y[head + i] - expected).abs() < 1e-6);
            }
        }}}
    }

    #[test]
    fn activations_match(len in 1usize..9000, seed: u64) {
        let (x, up) = ((random(seed, &[len]) * 4.0).unwrap(), random(seed ^ 1, &[len]));
        for act in ACTIVATIONS {
            let oracle = activation(&f64s(&x), act).unwrap();
            close(&activation(&x, act).unwrap(), &oracle, 4e-6);
            let y = gated(&x, &up, act).unwrap();
            close(&y, &oracle.mul(&f64s(&up)).unwrap(), 8e-6);
        }
    }

    #[test]
    fn top_k_is_the_head_of_a_stable_sort(values in proptest::collection::vec(-3i8..3, 1..200), k in 0usize..50) {
        let row: Vec<f32> = values.iter().map(|&v| if v == 2 { f32::NAN } else { f32::from(v) }).collect();
        let k = k.min(row.len());
        let key = |v: f32| if v.is_nan() { f32::INFINITY } else { v };
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        order.sort_by(|&a, &b| key(row[b as usize]).total_cmp(&key(row[a as usize])));
        let x = Tensor::from_vec(row.clone(), (1, row.len()), &Device::Cpu).unwrap();
        let (indices, values) = top_k(&x, k).unwrap();
        prop_assert_eq!(&indices[0], &order[..k]);
        for (&i, v) in indices[0].iter().zip(&values[0]) {
            prop_assert_eq!(row[i as usize].to_bits(), v.to_bits());
        }
    }
}

#[test]
fn activations_have_their_golden_values() {
    // silu, tanh gelu, exact gelu, relu at -1, 0.5, 2, by mpmath with 40 digits from the definitions.
    let x = Tensor::new(&[-1.0f64, 0.5, 2.0], &Device::Cpu).unwrap();
    let golden = [
        [-0.2689414213699951, 0.3112296656009273, 1.7615941559557649],
        [-0.1588080093917233, 0.34571400982514394, 1.954597694087775],
        [
            -0.15865525393145705,
            0.34573123063700656,
            1.9544997361036416,
        ],
        [0.0, 0.5, 2.0],
    ];
    for (act, expected) in ACTIVATIONS.into_iter().zip(golden) {
        let expected = Tensor::new(&expected, &Device::Cpu).unwrap();
        close(&activation(&x, act).unwrap(), &expected, 1e-12);
        let x = x.to_dtype(DType::F32).unwrap();
        close(&activation(&x, act).unwrap(), &expected, 3e-7);
    }
}

#[test]
fn many_rows_take_any_strides_and_leading_dimensions() {
    let x = random(1, &[3, 17, 2, 40]);
    let w = random(2, &[40, 70]);
    let turned = w.t().unwrap();
    let y = linear(&x, &turned, None).unwrap();
    assert_eq!(y.dims(), [3, 17, 2, 70]);
    within_the_bound(&y, &x, &turned, None);
    let view = random(3, &[90, 40]).narrow(0, 11, 70).unwrap();
    for x in [
        x.clone(),
        x.narrow(0, 1, 1).unwrap().narrow(1, 2, 3).unwrap(),
    ] {
        let y = linear(&x, &view, None).unwrap();
        within_the_bound(&y, &x, &view, None);
        let narrow = view.to_dtype(DType::BF16).unwrap();
        let y = linear(&x, &narrow, None).unwrap();
        within_the_bound(&y, &x, &narrow, None);
    }
}

#[test]
fn empty_rows_are_zero_and_nan_is_seen() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let x = Tensor::new(
        &[
            [-inf, -inf, -inf],
            [nan, -inf, -inf],
            [1.0, nan, 2.0],
            [-inf, 0.0, -inf],
        ],
        &Device::Cpu,
    )
    .unwrap();
    for x in [x.clone(), f64s(&x)] {
        let soft = flat(&softmax_last_dim(&x).unwrap());
        assert_eq!(soft[..3], [0.0; 3]);
        assert!(soft[3..9].iter().all(|v| v.is_nan()));
        assert_eq!(soft[9..], [0.0, 1.0, 0.0]);
        let log = flat(&log_softmax_last_dim(&x).unwrap());
        assert_eq!(log[..3], [f64::NEG_INFINITY; 3]);
        assert!(log[3..9].iter().all(|v| v.is_nan()));
        let lse = flat(&logsumexp_last_dim(&x).unwrap());
        assert_eq!((lse[0], lse[3]), (f64::NEG_INFINITY, 0.0));
        assert!(lse[1].is_nan() && lse[2].is_nan());
        for act in ACTIVATIONS {
            assert!(flat(&activation(&x, act).unwrap())[7].is_nan(), "{act:?}");
        }
        let gain = Tensor::ones(3, x.dtype(), &Device::Cpu).unwrap();
        assert!(
            flat(&rms_norm(&x, &gain, 1e-5).unwrap())[6..9]
                .iter()
                .all(|v| v.is_nan())
        );
        assert!(
            flat(&layer_norm(&x, &gain, None, 1e-5).unwrap())[6..9]
                .iter()
                .all(|v| v.is_nan())
        );
        assert!(
            flat(
                &linear(
                    &x,
                    &Tensor::ones((2, 3), x.dtype(), &Device::Cpu).unwrap(),
                    None
                )
                .unwrap()
            )[4]
            .is_nan()
        );
    }
}

#[test]
fn large_rows_do_not_overflow() {
    let x = Tensor::new(&[1e4f32, 1e4 - 1.0, -1e4], &Device::Cpu).unwrap();
    let soft = flat(&softmax_last_dim(&x).unwrap());
    assert!((soft[0] - 0.7310585786300049).abs() < 1e-6 && soft[2] == 0.0);
    let lse = flat(&logsumexp_last_dim(&x).unwrap())[0];
    assert!((lse - 10000.313261687518).abs() < 1e-3, "{lse}");
}

#[test]
fn a_vocabulary_row_is_as_good_as_f64() {
    let x = (random(5, &[2, 49152]) * 4.0).unwrap();
    let oracle = f64s(&x);
    close(
        &logsumexp_last_dim(&x).unwrap(),
        &logsumexp_last_dim(&oracle).unwrap(),
        2e-6,
    );
    let sums = flat(&softmax_last_dim(&x).unwrap().sum_keepdim(1).unwrap());
    assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-5), "{sums:?}");
    let (indices, values) = top_k(&x, 3).unwrap();
    assert_eq!(f64::from(values[1][0]), flat(&x.max(1).unwrap())[1]);
    assert_eq!(indices.len(), 2);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let empty = Tensor::zeros((2, 0), DType::F32, &Device::Cpu).unwrap();
    let x = random(1, &[2, 3]);
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(message(softmax_last_dim(&empty)).contains("softmax_last_dim: x has shape [2, 0]"));
    assert!(message(linear(&empty, &x, None)).contains("linear: x"));
    assert!(message(linear(&x, &random(1, &[3, 2]), None)).contains("3 channels"));
    assert!(message(linear(&x, &random(1, &[4, 3]), Some(&x))).contains("expected [4]"));
    assert!(message(rms_norm(&x, &random(1, &[2]), 1e-5)).contains("expected [3]"));
    assert!(message(gated(&x, &random(1, &[3, 2]), Activation::Silu)).contains("differ in shape"));
    assert!(message(activation(&empty, Activation::Relu)).contains("activation"));
    let four = random(1, &[1, 2, 1, 4]);
    assert!(
        message(rope(&four, &random(1, &[1, 2, 3]), &random(1, &[1, 2, 3]))).contains("at most 2")
    );
    assert!(top_k(&x, 4).unwrap_err().to_string().contains("k is 4"));
    assert!(distance(&x, &x) == 0.0);
}
