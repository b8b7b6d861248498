//! AdamW, gathered gradients and the log-sigmoid against PyTorch 2.15's numbers, and the identities a trainer relies on.

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use candlescope_ops::*;
use proptest::prelude::*;

use super::{bits, flat, random};

fn var(values: &[f32]) -> Var {
    Var::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

/// A backward that gives these gradients; `None` where a parameter is not reached.
fn store(params: &[(String, Var)], grads: &[Option<Tensor>]) -> GradStore {
    let terms: Vec<Tensor> = params
        .iter()
        .zip(grads)
        .filter_map(|((_, var), grad)| Some(var.mul(grad.as_ref()?).unwrap().sum_all().unwrap()))
        .collect();
    let loss = Tensor::stack(&terms, 0).unwrap().sum_all().unwrap();
    backward(&loss).unwrap()
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn near(found: &Tensor, expected: &[f64]) {
    for (x, y) in flat(found).into_iter().zip(expected) {
        assert!((x - y).abs() <= 2e-7 * y.abs(), "{x} {y}");
    }
}

/// Three steps of `torch.optim.AdamW` (2.15, CPU, f32): betas 0.9 and 0.95, decay 0.1 for `w` and 0 for `b`, another
/// learning rate each step, and a step at which `b` has no gradient.
#[test]
fn adamw_has_pytorchs_numbers() {
    let params = vec![
        ("w".to_owned(), var(&[0.5, -1.25, 2.0, 0.1])),
        ("b".to_owned(), var(&[1.5, -0.5])),
    ];
    let options = AdamWOptions {
        beta2: 0.95,
        weight_decay: 0.1,
        ..AdamWOptions::default()
    };
    let mut adamw = AdamW::new(options, ["b".to_owned()]);
    let steps: [(f64, [f32; 4], Option<Tensor>); 3] = [
        (1e-2, [0.3, -0.02, 1e-5, 4.0], Some(tensor(&[1.0, 0.5]))),
        (5e-3, [-0.1, 0.5, 1e-5, -2.0], None),
        (2e-2, [0.2, 0.2, 0.0, 0.7], Some(tensor(&[-3.0, 0.5]))),
    ];
    let expected: [([f64; 4], [f64; 2]); 3] = [
        (
            [0.489500016, -1.23874998, 1.98801005, 0.0899000019],
            [1.49000001, -0.50999999],
        ),
        (
            [0.487233728, -1.24167037, 1.98202097, 0.088513203],
            [1.49000001, -0.50999999],
        ),
        (
            [0.474089891, -1.25417387, 1.96241653, 0.0821728036],
            [1.4997859, -0.529999971],
        ),
    ];
    for ((lr, w, b), (w_after, b_after)) in steps.into_iter().zip(&expected) {
        let mut grads = Gradients::new(2);
        grads
            .add(&params, store(&params, &[Some(tensor(&w)), b]))
            .unwrap();
        adamw.step(&params, &grads, lr).unwrap();
        near(&params[0].1, w_after);
        near(&params[1].1, b_after);
    }
    let state = adamw.state().unwrap();
    let names: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
    let of = [
        "b.exp_avg",
        "b.exp_avg_sq",
        "b.step",
        "w.exp_avg",
        "w.exp_avg_sq",
        "w.step",
    ];
    assert_eq!(names, of);
    near(
        &state[3].1,
        &[0.0353000015, 0.0633799955, 1.70999988e-06, 0.213999987],
    );
    near(
        &state[4].1,
        &[0.00653625047, 0.0138930501, 9.26249962e-12, 0.936499953],
    );
    assert_eq!(state[2].1.to_scalar::<i64>().unwrap(), 2);
    assert_eq!(state[5].1.to_scalar::<i64>().unwrap(), 3);
}

fn model(seed: u64) -> Vec<(String, Var)> {
    let var = |i: u64, shape: &[usize]| Var::from_tensor(&random(seed ^ i, shape)).unwrap();
    vec![
        ("a".to_owned(), var(1, &[70, 300])),
        ("b".to_owned(), var(2, &[17])),
    ]
}

fn gradients_of(params: &[(String, Var)], seed: u64) -> Gradients {
    let grads: Vec<Option<Tensor>> = params
        .iter()
        .map(|(_, var)| Some(random(seed, var.dims())))
        .collect();
    let mut sum = Gradients::new(params.len());
    sum.add(params, store(params, &grads)).unwrap();
    sum
}

#[test]
fn saved_and_put_back_it_goes_on_bit_for_bit() {
    let options = AdamWOptions {
        weight_decay: 0.01,
        ..AdamWOptions::default()
    };
    let (straight, stopped) = (model(1), model(1));
    let mut first = AdamW::new(options, []);
    let mut second = AdamW::new(options, []);
    for step in 0..6 {
        let grads = gradients_of(&straight, step);
        first.step(&straight, &grads, 1e-3).unwrap();
        second.step(&stopped, &grads, 1e-3).unwrap();
        let state = second.state().unwrap();
        second = AdamW::new(options, []);
        second.restore(&stopped, state).unwrap();
    }
    for ((_, a), (_, b)) in straight.iter().zip(&stopped) {
        assert_eq!(bits(a), bits(b));
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_name() {
    let params = model(1);
    let mut adamw = AdamW::new(AdamWOptions::default(), []);
    adamw
        .step(&params, &gradients_of(&params, 3), 1e-3)
        .unwrap();
    let state = adamw.state().unwrap();
    let mut refused = |change: &dyn Fn(&mut Vec<(String, Tensor)>)| {
        let mut state = state.clone();
        change(&mut state);
        adamw.restore(&params, state).unwrap_err().to_string()
    };
    let error = refused(&|state| drop(state.remove(1)));
    assert!(error.contains("state of a is not whole"), "{error}");
    let error = refused(&|state| state[0].1 = random(1, &[3]));
    assert!(error.contains("expected f32 [70, 300]"), "{error}");
    let error = refused(&|state| state.push(("c.step".to_owned(), random(1, &[1]))));
    assert!(
        error.contains("c.step, which is of no parameter"),
        "{error}"
    );
}

#[test]
fn clipping_has_pytorchs_numbers() {
    // torch.nn.utils.clip_grad_norm_ of (3, 4, 12) at 1.
    let params = vec![("q".to_owned(), var(&[0.0; 3]))];
    let mut grads = Gradients::new(1);
    grads
        .add(&params, store(&params, &[Some(tensor(&[3.0, 4.0, 12.0]))]))
        .unwrap();
    assert!((grads.clip(1.0).unwrap() - 13.0).abs() < 1e-12);
    near(
        &grads.get(0).unwrap().unwrap(),
        &[0.230769217, 0.307692289, 0.923076868],
    );
    assert!((grads.global_norm().unwrap() - 1.0).abs() < 1e-6);
    // Below the limit nothing is scaled.
    grads.clip(2.0).unwrap();
    assert!((grads.global_norm().unwrap() - 1.0).abs() < 1e-6);
}

#[test]
fn what_is_not_finite_is_seen_and_not_scaled() {
    let params = vec![("q".to_owned(), var(&[0.0; 2]))];
    let mut grads = Gradients::new(1);
    grads
        .add(&params, store(&params, &[Some(tensor(&[f32::NAN, 1.0]))]))
        .unwrap();
    assert!(grads.clip(1.0).unwrap().is_nan());
    assert_eq!(flat(&grads.get(0).unwrap().unwrap())[1], 1.0);
}

#[test]
fn parameters_without_a_gradient_are_named_and_left_alone() {
    let params = model(1);
    let before = bits(&params[0].1);
    let mut grads = Gradients::new(2);
    grads
        .add(&params, store(&params, &[None, Some(random(3, &[17]))]))
        .unwrap();
    assert_eq!(grads.missing(&params).unwrap(), ["a"]);
    let options = AdamWOptions {
        weight_decay: 0.1,
        ..AdamWOptions::default()
    };
    AdamW::new(options, []).step(&params, &grads, 0.1).unwrap();
    assert_eq!(bits(&params[0].1), before);
    assert!(Gradients::new(3).missing(&params).is_err());
}

#[test]
fn many_small_batches_are_one_large_one() {
    let params = model(5);
    let mut parts = gradients_of(&params, 1);
    let more = |seed| {
        let grads: Vec<_> = params
            .iter()
            .map(|(_, v)| Some(random(seed, v.dims())))
            .collect();
        store(&params, &grads)
    };
    parts.add(&params, more(2)).unwrap();
    // Scaled before the last part: what was there is scaled, what comes is not.
    parts.scale(0.5);
    parts.add(&params, more(3)).unwrap();
    for (i, (_, var)) in params.iter().enumerate() {
        let of = |seed| random(seed, var.dims());
        let whole = (((of(1) + of(2)).unwrap() * 0.5).unwrap() + of(3)).unwrap();
        let expected = flat(&whole);
        near(&parts.get(i).unwrap().unwrap(), &expected);
    }
    let exact: f64 = (0..2)
        .flat_map(|i| flat(&parts.get(i).unwrap().unwrap()))
        .map(|x| x * x)
        .sum();
    let norm = parts.global_norm().unwrap();
    assert!((norm - exact.sqrt()).abs() < 1e-9 * norm);
    parts.clear();
    assert_eq!(parts.missing(&params).unwrap(), ["a", "b"]);
}

/// `torch.nn.functional.logsigmoid`, float64.
#[test]
fn log_sigmoid_has_pytorchs_numbers() {
    let x = [-200.0, -30.0, -2.0, 0.0, 0.5, 30.0, 200.0];
    let expected = [
        -200.0,
        -30.000000000000092,
        -2.1269280110429727,
        -std::f64::consts::LN_2,
        -0.4740769841801067,
        -9.357622968839737e-14,
        -1.3838965267367376e-87,
    ];
    for dtype in [DType::F64, DType::F32] {
        let x = Tensor::new(&x, &Device::Cpu)
            .unwrap()
            .to_dtype(dtype)
            .unwrap();
        let x = Var::from_tensor(&x).unwrap();
        let y = log_sigmoid(&x).unwrap();
        assert_eq!(y.dtype(), dtype);
        let grads = backward(&y.sum_all().unwrap()).unwrap();
        let slopes = flat(grads.get(&x).unwrap());
        let tolerance = if dtype == DType::F64 { 1e-15 } else { 1e-7 };
        for (i, y) in flat(&y).into_iter().enumerate() {
            assert!(
                (y - expected[i]).abs() <= tolerance * expected[i].abs() + 1e-44,
                "{y}"
            );
            let slope = 1.0 / (1.0 + flat(&x)[i].exp());
            assert!((slopes[i] - slope).abs() <= tolerance * slope + 1e-44);
        }
    }
}

proptest! {
    #[test]
    fn log_sigmoid_of_both_signs_differs_by_x(x in -700.0f64..700.0) {
        let of = |x: f64| flat(&log_sigmoid(&Tensor::new(&[x], &Device::Cpu).unwrap()).unwrap())[0];
        prop_assert!((of(x) - of(-x) - x).abs() <= 1e-15 * x.abs().max(1.0));
    }
}

#[test]
fn steps_and_norms_do_not_depend_on_the_number_of_threads() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let params = model(4);
            let mut grads = gradients_of(&params, 9);
            let norm = grads.clip(1.0).unwrap();
            AdamW::new(AdamWOptions::default(), [])
                .step(&params, &grads, 0.1)
                .unwrap();
            (norm.to_bits(), bits(&params[0].1))
        })
    };
    assert_eq!(with(1), with(2));
}
