//! Gradients reach every input of every function, and equal central differences in f64.

use candle_core::{DType, Result, Tensor, Var};
use candlescope_ops::*;

use super::{f64s, flat, random};

/// Compares the gradients of `Σ f(inputs) · r`, r random, with central differences; then that f32 variables get one too.
fn check(name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(&f64s(x)).unwrap())
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors).unwrap();
    assert_eq!(y.dtype(), DType::F64, "{name}");
    let direction = f64s(&random(77, y.dims()));
    let loss = |y: &Tensor| y.mul(&direction).unwrap().sum_all().unwrap();
    let grads = loss(&y).backward().unwrap();
    for (which, var) in vars.iter().enumerate() {
        let grad = grads
            .get(var)
            .unwrap_or_else(|| panic!("{name}: input {which} got no gradient"));
        let (grad, values) = (flat(grad), flat(var.as_tensor()));
        for i in (0..values.len()).step_by(values.len().div_ceil(12)) {
            let at = |step: f64| {
                let mut moved = values.clone();
                moved[i] += step;
                let mut all: Vec<Tensor> = tensors.iter().map(Tensor::detach).collect();
                all[which] = Tensor::from_vec(moved, var.dims(), var.device()).unwrap();
                flat(&loss(&f(&all).unwrap()))[0]
            };
            let step = 1e-5;
            let slope = (at(step) - at(-step)) / (2.0 * step);
            let error = (slope - grad[i]).abs();
            assert!(
                error <= 1e-7 * (1.0 + slope.abs()),
                "{name}: input {which}[{i}]: {} and {slope}",
                grad[i]
            );
        }
    }
    for which in 0..inputs.len() {
        let var = Var::from_tensor(&inputs[which]).unwrap();
        let mut all = inputs.to_vec();
        all[which] = var.as_tensor().clone();
        let grads = f(&all).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(
            grads.get(&var).is_some(),
            "{name}: f32 input {which} got no gradient"
        );
    }
}

#[test]
fn of_linear() {
    let (x, w, b) = (random(1, &[2, 3, 5]), random(2, &[4, 5]), random(3, &[4]));
    check("linear", &[x.clone(), w.clone(), b], |t| {
        linear(&t[0], &t[1], Some(&t[2]))
    });
    let narrow = w.to_dtype(DType::BF16).unwrap();
    check("linear, frozen bf16 weights", &[x], |t| {
        linear(&t[0], &narrow, None)
    });
}

#[test]
fn of_norms() {
    let (x, g, b) = (random(1, &[2, 3, 6]), random(2, &[6]), random(3, &[6]));
    check("rms_norm", &[x.clone(), g.clone()], |t| {
        rms_norm(&t[0], &t[1], 1e-5)
    });
    check("layer_norm", &[x.clone(), g.clone()], |t| {
        layer_norm(&t[0], &t[1], None, 1e-5)
    });
    check("layer_norm with bias", &[x, g, b], |t| {
        layer_norm(&t[0], &t[1], Some(&t[2]), 1e-5)
    });
}

#[test]
fn of_rope() {
    let (x, angle) = (random(1, &[2, 3, 2, 7]), random(2, &[1, 3, 3]));
    let inputs = [x, angle.cos().unwrap(), angle.sin().unwrap()];
    check("rope", &inputs, |t| rope(&t[0], &t[1], &t[2]));
}

#[test]
fn of_activations() {
    for act in [
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Relu,
    ] {
        check("activation", &[random(1, &[3, 5])], |t| {
            activation(&t[0], act)
        });
        check("gated", &[random(1, &[3, 5]), random(2, &[3, 5])], |t| {
            gated(&t[0], &t[1], act)
        });
    }
}

#[test]
fn of_softmax() {
    let x = [random(1, &[3, 5])];
    check("softmax", &x, |t| softmax_last_dim(&t[0]));
    check("log_softmax", &x, |t| log_softmax_last_dim(&t[0]));
    check("logsumexp", &x, |t| logsumexp_last_dim(&t[0]));
}

#[test]
fn of_embedding_and_log_sigmoid() {
    check("embedding", &[random(1, &[4, 3])], |t| {
        embedding(&t[0], &[2, 0, 2, 3])
    });
    check("log_sigmoid", &[random(1, &[3, 5])], |t| log_sigmoid(&t[0]));
    check("add", &[random(1, &[3, 5]), random(2, &[3, 5])], |t| {
        add(&t[0], &t[1])
    });
}

#[test]
fn of_the_head() {
    let inputs = [random(1, &[3, 5]), random(2, &[7, 5])];
    for softcap in [None, Some(3.0)] {
        let options = HeadOptions {
            temperature: 0.7,
            softcap,
        };
        check("token_logprobs", &inputs, |t| {
            Ok(token_logprobs(&t[0], &t[1], &[6, 0, 3], options)?.logps)
        });
    }
}

#[test]
fn of_attention() {
    let inputs = [
        random(1, &[2, 3, 4, 5]),
        random(2, &[2, 6, 2, 5]),
        random(3, &[2, 6, 2, 4]),
    ];
    // Row 1 has a query (slot 2) whose every key is padding or outside: it must not turn gradients into NaN.
    let layout = KeyLayout {
        prefix: 0,
        pad: vec![0, 3],
    };
    let spec = AttentionSpec {
        scale: 0.4,
        softcap: Some(2.0),
        window: Some(3),
        layout,
        q_offset: 2,
    };
    check("attention", &inputs, |t| {
        attention(&t[0], &t[1], &t[2], &spec)
    });
    check("attention_scores", &inputs[..2], |t| {
        softmax_last_dim(&attention_scores(&t[0], &t[1], &spec)?)
    });
    let pattern = random(4, &[2, 4, 3, 6]);
    check("from_pattern", &[pattern, inputs[2].clone()], |t| {
        attention_from_pattern(&t[0], &t[1])
    });
}
