//! Kernels on the tape: the forward has the bits of the untracked one, the backward equals that of the f64 expression
//! (which `gradients` holds against finite differences), is linear in what comes in, and gives each input the same
//! gradient whichever others track.

use candle_core::{Result, Tensor, Var};
use candlescope_ops::*;
use proptest::prelude::*;

use super::{bits, close, f64s, flat, random};

pub(super) type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// The gradients of `Σ f(inputs) · r` for the inputs that are to track.
pub(super) fn gradients(
    inputs: &[Tensor],
    tracked: &[bool],
    r: &dyn Fn(&Tensor) -> Tensor,
    f: Function,
) -> Vec<Option<Tensor>> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(x).unwrap())
        .collect();
    let tensors: Vec<Tensor> = vars
        .iter()
        .zip(tracked)
        .map(|(v, &t)| {
            if t {
                v.as_tensor().clone()
            } else {
                v.as_detached_tensor()
            }
        })
        .collect();
    let y = f(&tensors).unwrap();
    let loss = y.mul(&r(&y)).unwrap().sum_all().unwrap();
    let grads = backward(&loss).unwrap();
    vars.iter()
        .zip(tracked)
        .map(|(v, &t)| {
            assert_eq!(grads.get(v).is_some(), t);
            grads.get(v).cloned()
        })
        .collect()
}

/// All that is claimed at the head of this file, for inputs in f32. `tolerance` is relative to the largest component of
/// each gradient.
pub(super) fn check(name: &str, inputs: &[Tensor], tolerance: f64, f: Function) {
    let vars: Vec<Tensor> = inputs
        .iter()
        .map(|x| Var::from_tensor(x).unwrap().as_tensor().clone())
        .collect();
    let (on, off) = (f(&vars).unwrap(), f(inputs).unwrap());
    assert_eq!(bits(&on), bits(&off), "{name}: tracking changed the result");

    let all = vec![true; inputs.len()];
    let r = |y: &Tensor| random(77, y.dims()).to_dtype(y.dtype()).unwrap();
    let found = gradients(inputs, &all, &r, f);
    let wide: Vec<Tensor> = inputs.iter().map(f64s).collect();
    let exact = gradients(&wide, &all, &r, f);
    for (which, (found, exact)) in found.iter().zip(&exact).enumerate() {
        let (found, exact) = (found.as_ref().unwrap(), exact.as_ref().unwrap());
        assert_eq!(found.dims(), inputs[which].dims(), "{name}");
        let size = flat(exact)
            .into_iter()
            .fold(1e-3, |m: f64, x| m.max(x.abs()));
        let worst = super::distance(found, exact) / size;
        assert!(worst <= tolerance, "{name}: input {which}: {worst:e}");
    }

    let twice = gradients(inputs, &all, &|y| (r(y) * 2.0).unwrap(), f);
    let other = |y: &Tensor| random(78, y.dims());
    let second = gradients(inputs, &all, &other, f);
    let sum = gradients(inputs, &all, &|y| (r(y) + other(y)).unwrap(), f);
    for which in 0..inputs.len() {
        let of = |grads: &[Option<Tensor>]| grads[which].clone().unwrap();
        assert_eq!(
            bits(&of(&twice)),
            bits(&(of(&found) * 2.0).unwrap()),
            "{name}: twice what comes in is not twice what goes out"
        );
        let expected = (of(&found) + of(&second)).unwrap();
        let size = flat(&expected)
            .into_iter()
            .fold(1e-3, |m: f64, x| m.max(x.abs()));
        close(&of(&sum), &expected, 3.0 * tolerance * size);
    }

    for which in 0..inputs.len() {
        let alone: Vec<bool> = (0..inputs.len()).map(|i| i == which).collect();
        let alone = gradients(inputs, &alone, &r, f);
        let (alone, found) = (
            alone[which].as_ref().unwrap(),
            found[which].as_ref().unwrap(),
        );
        assert_eq!(bits(alone), bits(found), "{name}: input {which} alone");
    }
}

/// f64 in, candle's own tape; f32 in, ours. Sums of some dozens of products at 6e-8 each.
const TIGHT: f64 = 2e-6;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linear_backward(rows in 1usize..70, inputs in 1usize..150, outputs in 1usize..70, bias: bool, seed: u64) {
        let mut all = vec![random(seed, &[rows, inputs]), random(seed ^ 1, &[outputs, inputs])];
        if bias {
            all.push(random(seed ^ 2, &[outputs]));
        }
        check("linear", &all, 5e-6, &|t| linear(&t[0], &t[1], t.get(2)));
    }

    #[test]
    fn norms_backward(rows in 1usize..40, width in 2usize..700, bias: bool, seed: u64) {
        let mut all = vec![random(seed, &[rows, width]), random(seed ^ 1, &[width])];
        check("rms_norm", &all, 5e-6, &|t| rms_norm(&t[0], &t[1], 1e-5));
        if bias {
            all.push(random(seed ^ 2, &[width]));
        }
        // A row of two numbers is nearly constant once centred: its gradient cancels.
        if width > 8 {
            check("layer_norm", &all, 1e-5, &|t| layer_norm(&t[0], &t[1], t.get(2), 1e-5));
        }
    }

    #[test]
    fn elementwise_backward(rows in 1usize..9, width in 1usize..1500, seed: u64) {
        let (x, y) = (random(seed, &[rows, width]), random(seed ^ 1, &[rows, width]));
        for act in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf, Activation::Relu] {
            check("activation", std::slice::from_ref(&x), TIGHT, &|t| activation(&t[0], act));
            check("gated", &[x.clone(), y.clone()], TIGHT, &|t| gated(&t[0], &t[1], act));
        }
        check("add", &[x, y], TIGHT, &|t| add(&t[0], &t[1]));
    }

    #[test]
    fn rope_backward(rows in 1usize..4, positions in 1usize..9, heads in 1usize..4, width in 1usize..70, shared: bool, seed: u64) {
        let half = (width / 2).max(1);
        let width = width.max(2);
        let angle = random(seed, &[if shared { 1 } else { rows }, positions, half]);
        let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
        let x = random(seed ^ 1, &[rows, positions, heads, width]);
        check("rope", &[x], TIGHT, &|t| rope(&t[0], &cos, &sin));
    }

    #[test]
    fn embedding_backward(vocab in 1usize..50, width in 1usize..200, count in 1usize..80, seed: u64) {
        let ids: Vec<u32> = (0..count as u64).map(|i| ((seed ^ (i * 2_654_435_761)) % vocab as u64) as u32).collect();
        check("embedding", &[random(seed, &[vocab, width])], TIGHT, &|t| embedding(&t[0], &ids));
    }

    #[test]
    fn attention_backward(
        batch in 1usize..4, queries in 1usize..40, cached in 0usize..20, kv_heads in 1usize..4, group in 1usize..4,
        width in 1usize..40, value_width in 1usize..40, prefix in 0usize..3, pads in prop::collection::vec(0usize..9, 3),
        window in prop::option::of(1usize..20), capped: bool, seed: u64,
    ) {
        let keys = queries + cached;
        let prefix = prefix.min(cached);
        let pad = pads[..batch].iter().map(|&pad| pad.min(keys - prefix)).collect();
        let spec = AttentionSpec {
            scale: 0.3,
            softcap: capped.then_some(3.0),
            window,
            layout: KeyLayout { prefix, pad },
            q_offset: cached,
        };
        let inputs = [
            random(seed, &[batch, queries, kv_heads * group, width]),
            random(seed ^ 1, &[batch, keys, kv_heads, width]),
            random(seed ^ 2, &[batch, keys, kv_heads, value_width]),
        ];
        check("attention", &inputs, 2e-5, &|t| attention(&t[0], &t[1], &t[2], &spec));
    }
}

/// More queries than one block, more keys than one block of the softmax, both pieces of the layout.
#[test]
fn attention_backward_over_several_blocks() {
    for window in [None, Some(70)] {
        let spec = AttentionSpec {
            scale: 0.2,
            softcap: Some(5.0),
            window,
            layout: KeyLayout {
                prefix: 40,
                pad: vec![9, 0],
            },
            q_offset: 440,
        };
        let inputs = [
            random(1, &[2, 150, 4, 16]),
            random(2, &[2, 590, 2, 16]),
            random(3, &[2, 590, 2, 8]),
        ];
        check("attention", &inputs, 2e-5, &|t| {
            attention(&t[0], &t[1], &t[2], &spec)
        });
    }
}

/// Keys and values as views into a larger cache, queries as a transposed view.
#[test]
fn attention_backward_of_views() {
    let spec = AttentionSpec {
        scale: 0.3,
        softcap: None,
        window: None,
        layout: KeyLayout::default(),
        q_offset: 0,
    };
    let inputs = [
        random(1, &[2, 4, 7, 5]),
        random(2, &[2, 12, 2, 5]),
        random(3, &[2, 12, 2, 5]),
    ];
    check("attention", &inputs, 2e-5, &|t| {
        let q = t[0].transpose(1, 2)?;
        attention(&q, &t[1].narrow(1, 3, 7)?, &t[2].narrow(1, 0, 7)?, &spec)
    });
}

#[test]
fn frozen_narrow_weights_pass_the_gradient_on() {
    let (x, w) = (random(1, &[9, 33]), random(2, &[21, 33]));
    let w = w.to_dtype(candle_core::DType::BF16).unwrap();
    let r = |y: &Tensor| random(77, y.dims()).to_dtype(y.dtype()).unwrap();
    let f: Function = &|t| linear(&t[0], &w, None);
    let found = gradients(std::slice::from_ref(&x), &[true], &r, f);
    let exact = gradients(&[f64s(&x)], &[true], &r, f);
    close(found[0].as_ref().unwrap(), exact[0].as_ref().unwrap(), 2e-5);
}

/// A kernel whose result nobody wants a gradient of leaves no trace on the tape.
#[test]
fn untracked_inputs_make_untracked_results() {
    let (x, w) = (random(1, &[2, 8]), random(2, &[8]));
    assert!(!rms_norm(&x, &w, 1e-5).unwrap().track_op());
    assert!(!embedding(&x, &[1, 0]).unwrap().track_op());
    let var = Var::from_tensor(&x).unwrap();
    assert!(rms_norm(var.as_tensor(), &w, 1e-5).unwrap().track_op());
}

#[test]
fn embedding_refuses_what_is_not_in_the_table() {
    let table = random(1, &[3, 2]);
    let error = embedding(&table, &[0, 3]).unwrap_err().to_string();
    assert!(
        error.contains("id 3 is not in a table of 3 rows"),
        "{error}"
    );
    assert!(embedding(&table, &[]).is_err());
}
