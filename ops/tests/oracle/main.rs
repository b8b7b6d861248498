//! Every kernel against an independent computation in f64, its gradients against finite differences, and its bits
//! against another number of threads.
#![allow(clippy::unwrap_used, clippy::too_many_arguments)]

mod attention;
mod gradients;
mod head;
mod kernels;
mod optim;
mod threads;
mod tracked;

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};

/// Uniform numbers from -2 to 2, `f32`.
fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-2.0..2.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The same numbers in f64: through the public functions this takes the plain way.
fn f64s(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    f64s(x).flatten_all().unwrap().to_vec1().unwrap()
}

/// The bits of an `f32` tensor.
fn bits(x: &Tensor) -> Vec<u32> {
    let x: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    x.into_iter().map(f32::to_bits).collect()
}

/// Largest difference, with NaN and infinities required to be in the same places.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let mut worst = 0.0f64;
    for (x, y) in flat(a).into_iter().zip(flat(b)) {
        if x.is_finite() && y.is_finite() {
            worst = worst.max((x - y).abs());
        } else {
            assert!(x == y || (x.is_nan() && y.is_nan()), "{x} and {y}");
        }
    }
    worst
}

/// Asserts that the two are within `tolerance` everywhere.
#[track_caller]
fn close(a: &Tensor, b: &Tensor, tolerance: f64) {
    let worst = distance(a, b);
    assert!(
        worst <= tolerance,
        "differ by {worst:e}, allowed {tolerance:e}, shape {:?}",
        a.dims()
    );
}
