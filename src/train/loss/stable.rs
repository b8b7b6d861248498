//! Functions of log-odds and log-probabilities that neither overflow nor lose their gradient; `log_sigmoid` is a kernel.
//!
//! Always: smooth where the function is. A preference loss begins where policy and reference agree, at a log-ratio of exactly
//! 0, so formulas with `|x|` or `max(x, 0)` on the tape would have the wrong slope on the very first step.

use candle_core::{Result, Tensor};
pub use candlescope_ops::log_sigmoid;

/// `σ(x)`, elementwise, whose gradient at large `|x|` is 0 and not NaN.
///
/// # Errors
/// Tensor arithmetic.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? + 1.0)? * 0.5
}

/// `log(1 - exp(a))` for `a < 0`, elementwise; accurate for `a` near 0, where `a` counts as `-1e-7` at most.
///
/// # Errors
/// Tensor arithmetic.
pub fn log_one_minus_exp(a: &Tensor) -> Result<Tensor> {
    // -expm1(a) = -2t / (1 - t) with t = tanh(a / 2).
    let most = (a.ones_like()? * -1e-7)?;
    let t = (a.minimum(&most)? * 0.5)?.tanh()?;
    (&t * -2.0)?.log()? - (1.0 - t)?.log()?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{DType, Device, Var};

    /// `-math.log1p(math.exp(-x))` and `1 / (1 + math.exp(x))` in Python.
    #[test]
    fn values_and_slopes_are_right_at_zero_and_far_out() {
        let at = [0.0f64, 1.0, -1.0, 40.0, -40.0, 800.0, -800.0];
        let expected = [
            -std::f64::consts::LN_2,
            -0.31326168751822286,
            -1.3132616875182228,
            -4.248354255291589e-18,
            -40.0,
            0.0,
            -800.0,
        ];
        let slopes = [
            0.5,
            0.2689414213699951,
            0.7310585786300049,
            4.248354255291589e-18,
            1.0,
            0.0,
            1.0,
        ];
        let x = Var::from_tensor(&Tensor::new(&at, &Device::Cpu).unwrap()).unwrap();
        let y = log_sigmoid(&x).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        let found = grads.get(&x).unwrap().to_vec1::<f64>().unwrap();
        let y = y.to_vec1::<f64>().unwrap();
        for i in 0..at.len() {
            assert!(
                (y[i] - expected[i]).abs() < 1e-15 + 1e-15 * expected[i].abs(),
                "{i}"
            );
            assert!((found[i] - slopes[i]).abs() < 1e-15, "{i}: {}", found[i]);
        }
        let grads = sigmoid(&x).unwrap().sum_all().unwrap().backward().unwrap();
        let found = grads.get(&x).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(found[0], 0.25);
        assert!(found.iter().all(|g| g.is_finite()));
    }

    #[test]
    fn the_complement_of_a_probability_near_one_keeps_its_digits_in_f32() {
        // math.log(-math.expm1(a)) in Python, of the f32 values.
        let at = [-1e-4f32, -0.1, -std::f32::consts::LN_2, -5.0, -50.0];
        let expected = [
            -9.210390396820378f64,
            -2.3521684468755724,
            -0.6931471786552911,
            -0.006760749449488566,
            0.0,
        ];
        let a = Tensor::new(&at, &Device::Cpu).unwrap();
        let y = log_one_minus_exp(&a).unwrap().to_dtype(DType::F64).unwrap();
        for (y, e) in y.to_vec1::<f64>().unwrap().iter().zip(expected) {
            assert!((y - e).abs() < 1e-6 * e.abs().max(0.2), "{y} {e}");
        }
        let certain = Tensor::new(&[0f32], &Device::Cpu).unwrap();
        assert!(
            log_one_minus_exp(&certain)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()[0]
                .is_finite()
        );
    }
}
