//! Vector mathematics: exponential, hyperbolic tangent, and the functions of the MLP built on them.
//!
//! Written once over [`Lanes`]; the levels differ only where a fused multiply-add rounds once instead of twice.
//! NaN in, NaN out everywhere. Errors are given relative to f64 and tested at each level at the end of the file.
// Coefficients keep the digits they were computed with.
#![allow(clippy::excessive_precision)]

use crate::lanes::Lanes;

/// `exp(x)`, relative error below 2e-7; 0 below about -104, infinite above 88.73.
#[inline(always)]
pub(crate) fn exp<V: Lanes>(x: V) -> V {
    // Limits first in `max` and `min`, so that NaN passes through.
    let x = V::splat(89.0).min(V::splat(-105.0).max(x));
    let n = whole_powers(x);
    let r = remainder(x, n);
    expm1_small(r).add(V::splat(1.0)).scale(n)
}

/// `tanh(x)`, relative error below 5e-7, also near 0.
#[inline(always)]
pub(crate) fn tanh<V: Lanes>(x: V) -> V {
    // With e = exp(2|x|) - 1 computed without cancellation, tanh|x| = e / (e + 2); beyond 10 it is 1 in f32.
    let magnitude = x.choose(V::splat(0.0).sub(x), x);
    let twice = V::splat(20.0).min(magnitude.add(magnitude));
    let n = whole_powers(twice);
    let one = V::splat(1.0);
    let expm1 = expm1_small(remainder(twice, n))
        .scale(n)
        .add(one.scale(n).sub(one));
    let tanh = expm1.div(expm1.add(V::splat(2.0)));
    x.choose(V::splat(0.0).sub(tanh), tanh)
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu<V: Lanes>(x: V) -> V {
    x.div(exp(V::splat(0.0).sub(x)).add(V::splat(1.0)))
}

/// GELU, tanh form, through `0.5 (1 + tanh u) = sigmoid(2u)`: no cancellation for negative `x`.
#[inline(always)]
pub(crate) fn gelu_tanh<V: Lanes>(x: V) -> V {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_1;
    let square = x.mul(x);
    let u = square.mul_add(
        V::splat(0.044715 * TWICE_SQRT_2_OVER_PI),
        V::splat(TWICE_SQRT_2_OVER_PI),
    );
    x.div(exp(V::splat(0.0).sub(u.mul(x))).add(V::splat(1.0)))
}

/// Exact GELU, `x Φ(x)`, with `Φ(-|x|) = erfc(|x|/√2) / 2`.
#[inline(always)]
pub(crate) fn gelu_erf<V: Lanes>(x: V) -> V {
    x.mul(normal_cdf(x).0)
}

/// `Φ(x)`, and `exp(-x² / 2)` which it is computed with.
#[inline(always)]
pub(crate) fn normal_cdf<V: Lanes>(x: V) -> (V, V) {
    let magnitude = x.choose(V::splat(0.0).sub(x), x);
    let z = magnitude.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
    let one = V::splat(1.0);
    let t = one.div(z.mul_add(V::splat(0.5), one));
    let gauss = exp(V::splat(0.0).sub(z.mul(z)));
    let tail = polynomial(t, &SCALED_ERFC).mul(gauss).mul(V::splat(0.5));
    (x.choose(tail, one.sub(tail)), gauss)
}

/// `max(x, 0)`, NaN kept.
#[inline(always)]
pub(crate) fn relu<V: Lanes>(x: V) -> V {
    V::splat(0.0).max(x)
}

/// `exp(z²) erfc(z)` as a polynomial in `t = 1 / (1 + z/2)`, highest power first: a Chebyshev fit on `0.12 <= t <= 1`
/// made for this file with mpmath's `chebyfit` at 40 digits; absolute error 4.3e-9, relative 6.4e-8 for z < 10.
const SCALED_ERFC: [f32; 11] = [
    0.0296806215,
    -0.218916326,
    0.657645095,
    -0.982133029,
    0.689576139,
    -0.24961704,
    0.282040457,
    0.224886976,
    0.284944211,
    0.281886391,
    6.50408018e-6,
];

/// Horner's scheme.
#[inline(always)]
fn polynomial<V: Lanes>(x: V, coefficients: &[f32]) -> V {
    coefficients
        .iter()
        .fold(V::splat(0.0), |sum, &c| sum.mul_add(x, V::splat(c)))
}

/// How many times the exponential doubles: `x / ln 2`, rounded.
#[inline(always)]
fn whole_powers<V: Lanes>(x: V) -> V {
    x.mul(V::splat(std::f32::consts::LOG2_E)).round()
}

/// `x - n ln 2`, with ln 2 in two parts of which the first has few enough bits that `n` times it is exact.
#[inline(always)]
fn remainder<V: Lanes>(x: V, n: V) -> V {
    const HIGH: f32 = 0.693_359_375;
    const LOW: f32 = (std::f64::consts::LN_2 - 0.693_359_375) as f32;
    let x = n.mul_add(V::splat(-HIGH), x);
    n.mul_add(V::splat(-LOW), x)
}

/// `exp(r) - 1` for `|r| <= ln 2 / 2`: the Taylor series to the seventh power, whose rest is below 6e-9.
#[inline(always)]
fn expm1_small<V: Lanes>(r: V) -> V {
    const TERMS: [f32; 6] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ];
    let series = polynomial(r, &TERMS);
    series.mul(r).mul_add(r, r)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cpu::Level;
    use crate::lanes::{Kernel, run_at};

    pub(crate) const LEVELS: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Tanh,
        Silu,
        GeluTanh,
        GeluErf,
        Relu,
    }

    struct Apply<'a>(Function, &'a mut Vec<f32>);

    impl Kernel for Apply<'_> {
        type Out = ();
        #[inline(always)]
        fn run<V: Lanes>(self) {
            for part in self.1.chunks_mut(V::N) {
                // SAFETY: the length given is the chunk's.
                unsafe {
                    let x = V::load_part(part.as_ptr(), part.len(), 0.0);
                    let y = match self.0 {
                        Function::Exp => exp(x),
                        Function::Tanh => tanh(x),
                        Function::Silu => silu(x),
                        Function::GeluTanh => gelu_tanh(x),
                        Function::GeluErf => gelu_erf(x),
                        Function::Relu => relu(x),
                    };
                    y.store_part(part.as_mut_ptr(), part.len());
                }
            }
        }
    }

    fn apply(level: Level, function: Function, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        run_at(level, Apply(function, &mut y));
        y
    }

    fn grid(from: f32, to: f32, steps: usize) -> Vec<f32> {
        (0..=steps)
            .map(|i| from + (to - from) * (i as f32 / steps as f32))
            .collect()
    }

    #[test]
    fn exp_is_within_2e_7_at_every_level() {
        // Below -87.3 results are subnormal and have fewer bits: there the bound is half a subnormal step or so.
        let x = grid(-110.0, 89.5, 400_001);
        for level in LEVELS {
            for (&x, y) in x.iter().zip(apply(level, Function::Exp, &x)) {
                let exact = f64::from(x).exp();
                if exact > f64::from(f32::MAX) {
                    assert_eq!(y, f32::INFINITY, "{level:?} {x}");
                } else {
                    let error = (f64::from(y) - exact).abs();
                    assert!(
                        error <= 2e-7 * exact + 1.5e-45,
                        "{level:?} exp({x}) = {y}, {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn extremes_and_nan() {
        let x = [
            f32::NEG_INFINITY,
            f32::INFINITY,
            f32::NAN,
            0.0,
            -0.0,
            f32::MIN,
            f32::MAX,
            1e-40,
        ];
        for level in LEVELS {
            let y = apply(level, Function::Exp, &x);
            assert_eq!(y[..2], [0.0, f32::INFINITY], "{level:?}");
            assert!(y[2].is_nan());
            assert_eq!(y[3..], [1.0, 1.0, 0.0, f32::INFINITY, 1.0], "{level:?}");
            let y = apply(level, Function::Tanh, &x);
            assert_eq!(y[..2], [-1.0, 1.0]);
            assert!(y[2].is_nan());
            assert_eq!(y[3], 0.0);
            for function in [
                Function::Silu,
                Function::GeluTanh,
                Function::GeluErf,
                Function::Relu,
            ] {
                let y = apply(level, function, &x);
                assert!(y[2].is_nan(), "{level:?} {function:?}");
                assert_eq!(y[1], f32::INFINITY, "{level:?} {function:?}");
                assert_eq!(y[3], 0.0);
            }
        }
    }

    #[test]
    fn tanh_and_the_activations_stay_near_f64() {
        let erf = |x: f64| f64::from_bits(candle_core::cpu::erf::erf_f64(x).to_bits());
        let exact = |function, x: f64| match function {
            Function::Exp => x.exp(),
            Function::Tanh => x.tanh(),
            Function::Silu => x / (1.0 + (-x).exp()),
            Function::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + u.tanh())
            }
            Function::GeluErf => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Function::Relu => x.max(0.0),
        };
        let mut x = grid(-15.0, 15.0, 200_001);
        x.extend(grid(-1e-3, 1e-3, 1001));
        for level in LEVELS {
            for function in [
                Function::Tanh,
                Function::Silu,
                Function::GeluTanh,
                Function::GeluErf,
                Function::Relu,
            ] {
                for (&x, y) in x.iter().zip(apply(level, function, &x)) {
                    let exact = exact(function, f64::from(x));
                    // The scale of these functions is |x| (of tanh, itself).
                    let scale = if matches!(function, Function::Tanh) {
                        exact.abs()
                    } else {
                        f64::from(x).abs()
                    };
                    let error = (f64::from(y) - exact).abs();
                    assert!(
                        error <= 5e-7 * scale,
                        "{level:?} {function:?}({x}) = {y}, {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn levels_agree() {
        let x = grid(-30.0, 30.0, 10_001);
        for function in [
            Function::Exp,
            Function::Tanh,
            Function::Silu,
            Function::GeluTanh,
            Function::GeluErf,
        ] {
            let reference = apply(Level::Portable, function, &x);
            for level in LEVELS {
                for (a, b) in reference.iter().zip(apply(level, function, &x)) {
                    assert!(
                        (a - b).abs() <= 1e-6 * a.abs().max(1.0),
                        "{level:?} {function:?} {a} {b}"
                    );
                }
            }
        }
    }
}
