//! How gradients travel: kernels among themselves, through candle's operations, by several ways at once, and again.

use candle_core::{DType, Result, Tensor, Var};
use candlescope_ops::*;

use super::{bits, close, f64s, flat, random};

/// A graph that mixes kernels and candle's operations in every order, with results that are used by both.
fn mixed(x: &Tensor, w: &Tensor, gain: &Tensor) -> Result<Tensor> {
    let normed = rms_norm(x, gain, 1e-5)?;
    // Used by two kernels, one of them through both operands, by candle, and through a view.
    let a = linear(&normed, w, None)?;
    let b = gated(&a, &a, Activation::Silu)?;
    let c = (a.tanh()? * 0.5)?;
    let d = activation(&reshape(&a, (2, 12))?, Activation::GeluErf)?;
    let d = reshape(&d, a.shape())?;
    let e = add(&b, &(c + &d)?)?;
    // A view that candle's operation reads, and a transposed one that a kernel does.
    let f = reshape(&e, 24)?.sqr()?.reshape((4, 6))?;
    let g = linear(
        &e.t()?.contiguous()?,
        &random(9, &[3, 4]).to_dtype(x.dtype())?,
        None,
    )?;
    add(&f, &add(&f, &e)?)?.sum_all()? + g.sin()?.sum_all()?
}

fn inputs(dtype: DType) -> [Var; 3] {
    [random(1, &[4, 6]), random(2, &[6, 6]), random(3, &[6])]
        .map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap())
}

#[test]
fn every_way_through_a_mixed_graph_is_counted_once() {
    let gradients = |dtype| {
        let vars = inputs(dtype);
        let loss = mixed(&vars[0], &vars[1], &vars[2]).unwrap();
        // Candle's own call, not ours.
        let grads = loss.backward().unwrap();
        vars.map(|v| grads.get(&v).unwrap().clone())
    };
    for (found, exact) in gradients(DType::F32).iter().zip(&gradients(DType::F64)) {
        let size = f64s(exact).abs().unwrap().max_all().unwrap();
        let size = size.to_scalar::<f64>().unwrap();
        close(found, exact, 3e-6 * size);
    }
}

#[test]
fn a_graph_can_be_walked_again_and_in_part() {
    let vars = inputs(DType::F32);
    let a = linear(&vars[0], &vars[1], None).unwrap();
    let b = activation(&a, Activation::Silu).unwrap();
    let (whole, part) = (b.sum_all().unwrap(), a.sqr().unwrap().sum_all().unwrap());
    let of = |loss: &Tensor| bits(loss.backward().unwrap().get(&vars[0]).unwrap());
    let (first, other) = (of(&whole), of(&part));
    assert_ne!(first, other);
    assert_eq!(
        (of(&whole), of(&part), of(&whole)),
        (first.clone(), other, first)
    );
    // From two threads at once each counts its own.
    let both = (whole + part).unwrap();
    let expected = of(&both);
    std::thread::scope(|scope| {
        let walks: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| bits(both.backward().unwrap().get(&vars[0]).unwrap())))
            .collect();
        for walk in walks {
            assert_eq!(walk.join().unwrap(), expected);
        }
    });
}

/// Our call lets go of what the forward kept, so that a second one is refused by name instead of a loss without gradients.
#[test]
fn our_call_walks_once() {
    let vars = inputs(DType::F32);
    let y = linear(&vars[0], &vars[1], None).unwrap();
    let loss = activation(&y, Activation::Silu).unwrap().sum_all().unwrap();
    let expected = bits(loss.backward().unwrap().get(&vars[0]).unwrap());
    let found = backward(&loss).unwrap();
    assert_eq!(bits(found.get(&vars[0]).unwrap()), expected);
    let error = backward(&loss).unwrap_err().to_string();
    assert!(error.contains("runs once"), "{error}");
}

/// A result is itself the loss, and a result nobody uses costs nothing.
#[test]
fn results_at_the_ends() {
    let x = Var::from_tensor(&random(1, &[1, 3])).unwrap();
    let w = random(2, &[1, 3]);
    let y = linear(&x, &w, None).unwrap();
    let unused = activation(&y, Activation::Relu).unwrap();
    let grads = y.backward().unwrap();
    close(grads.get(&x).unwrap(), &w, 0.0);
    assert_eq!(unused.dims(), [1, 1]);
}

/// Our call and candle's find the same, also where variables are added to each other and share a gradient.
#[test]
fn both_calls_find_the_same() {
    let vars = inputs(DType::F32);
    let loss = || {
        let x = add(&vars[0], &vars[0]).unwrap();
        let x = add(&x, &vars[0].as_tensor().sin().unwrap()).unwrap();
        mixed(&x, &vars[1], &vars[2]).unwrap()
    };
    let (ours, candles) = (backward(&loss()).unwrap(), loss().backward().unwrap());
    for var in &vars {
        let (ours, candles) = (ours.get(var).unwrap(), candles.get(var).unwrap());
        let size = flat(candles)
            .into_iter()
            .fold(0.0, |m: f64, x| m.max(x.abs()));
        close(ours, candles, 1e-6 * size);
    }
}

/// Two variables of one sum have gradients of their own, that can be added to in place.
#[test]
fn gradients_of_variables_share_no_memory() {
    let var = |seed| Var::from_tensor(&random(seed, &[3])).unwrap();
    let params = vec![("a".to_owned(), var(1)), ("b".to_owned(), var(2))];
    let mut sum = Gradients::new(2);
    for _ in 0..2 {
        let loss = add(&params[0].1, &params[1].1).unwrap().sum_all().unwrap();
        sum.add(&params, backward(&loss).unwrap()).unwrap();
    }
    for i in 0..2 {
        assert_eq!(flat(&sum.get(i).unwrap().unwrap()), [2.0; 3]);
    }
}

#[test]
fn a_checkpoint_has_the_same_gradients_to_the_bit() {
    let vars = inputs(DType::F32);
    let (w, gain) = (vars[1].as_tensor().clone(), vars[2].as_tensor().clone());
    let block = move |x: &Tensor| {
        let y = linear(&rms_norm(x, &gain, 1e-5)?, &w, None)?;
        add(x, &activation(&y, Activation::Silu)?)
    };
    let run = |kept: bool, frozen: bool| {
        let mut x = if frozen {
            vars[0].as_detached_tensor()
        } else {
            vars[0].as_tensor().clone()
        };
        for _ in 0..3 {
            x = if kept {
                block(&x).unwrap()
            } else {
                checkpoint(&x, block.clone()).unwrap()
            };
        }
        let grads = backward(&x.sum_all().unwrap()).unwrap();
        let of = |var: &Var| grads.get(var).map(bits);
        (bits(&x), of(&vars[0]), of(&vars[1]), of(&vars[2]))
    };
    for frozen in [false, true] {
        let (kept, again) = (run(true, frozen), run(false, frozen));
        assert_eq!(kept.1.is_none(), frozen);
        assert_eq!((&kept.0, &kept.1), (&again.0, &again.1));
        // Sums over the blocks are taken in the same order.
        assert_eq!((kept.2, kept.3), (again.2, again.3));
    }
    let y = checkpoint(&vars[0], block).unwrap().sum_all().unwrap();
    let error = y.backward().unwrap_err().to_string();
    assert!(error.contains("candlescope_ops::backward alone"), "{error}");
}

/// Sixty blocks deep, taken up and let go on a thread with the smallest stack in use.
#[test]
fn deep_graphs_fit_a_small_stack() {
    let deep = || {
        let x = Var::from_tensor(&random(1, &[2, 4])).unwrap();
        let w = random(2, &[4, 4]);
        let mut y = x.as_tensor().clone();
        for _ in 0..60 {
            for _ in 0..7 {
                let z = rms_norm(&linear(&y, &w, None).unwrap(), &w.get(0).unwrap(), 1e-5).unwrap();
                y = add(&y, &reshape(&z, (2, 4)).unwrap()).unwrap();
            }
        }
        backward(&y.sum_all().unwrap()).unwrap().get(&x).is_some()
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(deep);
    assert!(thread.unwrap().join().unwrap());
}
