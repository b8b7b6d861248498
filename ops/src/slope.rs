//! The activation functions with their derivatives, for the backward. Values as in `exp`; NaN in, NaN out.
//!
//! Beyond ±30 all of them are 0 or x to the last bit, so slopes are taken at the limit: no infinity meets a zero.

use crate::exp::{exp, normal_cdf};
use crate::lanes::Lanes;

/// The argument kept inside ±30; NaN stays.
#[inline(always)]
fn inside<V: Lanes>(x: V) -> V {
    V::splat(30.0).min(V::splat(-30.0).max(x))
}

/// `σ(u)`.
#[inline(always)]
fn sigmoid<V: Lanes>(u: V) -> V {
    let one = V::splat(1.0);
    one.div(exp(V::splat(0.0).sub(u)).add(one))
}

/// `x σ(x)` and `σ(x) (1 + x σ(-x))`. Out to -105, where σ is not yet 0.
#[inline(always)]
pub(crate) fn silu<V: Lanes>(x: V) -> (V, V) {
    let at = V::splat(105.0).min(V::splat(-105.0).max(x));
    let (s, other) = (sigmoid(at), sigmoid(V::splat(0.0).sub(at)));
    (x.mul(s), at.mul(other).mul_add(s, s))
}

/// `x σ(u)` with `u = x (a + b x²)`, and `σ(u) + x σ(u) σ(-u) (a + 3 b x²)`: see [`crate::exp::gelu_tanh`].
#[inline(always)]
pub(crate) fn gelu_tanh<V: Lanes>(x: V) -> (V, V) {
    const A: f32 = 1.595_769;
    const B: f32 = 0.044715 * A;
    let at = inside(x);
    let square = at.mul(at);
    let u = square.mul_add(V::splat(B), V::splat(A)).mul(at);
    let (s, other) = (sigmoid(u), sigmoid(V::splat(0.0).sub(u)));
    let rise = square.mul_add(V::splat(3.0 * B), V::splat(A)).mul(at);
    (x.mul(s), rise.mul(s).mul_add(other, s))
}

/// `x Φ(x)` and `Φ(x) + x φ(x)`.
#[inline(always)]
pub(crate) fn gelu_erf<V: Lanes>(x: V) -> (V, V) {
    const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;
    let at = inside(x);
    let (cdf, gauss) = normal_cdf(at);
    let density = gauss.mul(V::splat(FRAC_1_SQRT_2PI));
    (x.mul(cdf), at.mul_add(density, cdf))
}

/// `max(x, 0)` and 1 where `x > 0`, else 0.
#[inline(always)]
pub(crate) fn relu<V: Lanes>(x: V) -> (V, V) {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let slope = zero.sub(x).choose(one, zero);
    // A NaN times zero, so that it is not lost.
    (zero.max(x), inside(x).mul_add(zero, slope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exp::tests::LEVELS;
    use crate::lanes::{Kernel, run_at};

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Silu,
        GeluTanh,
        GeluErf,
        Relu,
    }

    struct Apply<'a>(Function, &'a [f32]);

    impl Kernel for Apply<'_> {
        type Out = Vec<(f32, f32)>;
        #[inline(always)]
        fn run<V: Lanes>(self) -> Self::Out {
            let one = |&x: &f32| {
                let x = V::splat(x);
                let (value, slope) = match self.0 {
                    Function::Silu => silu(x),
                    Function::GeluTanh => gelu_tanh(x),
                    Function::GeluErf => gelu_erf(x),
                    Function::Relu => relu(x),
                };
                (value.spill(0.0)[0], slope.spill(0.0)[0])
            };
            self.1.iter().map(one).collect()
        }
    }

    /// The derivative by its closed form in f64; erf by the series of Abramowitz and Stegun 7.1.5, exact for |x| < 4.
    fn exact(function: Function, x: f64) -> f64 {
        let sigmoid = |u: f64| 1.0 / (1.0 + (-u).exp());
        match function {
            Function::Silu => sigmoid(x) * (1.0 + x * sigmoid(-x)),
            Function::GeluTanh => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                let t = (c * (x + 0.044715 * x.powi(3))).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x)
            }
            Function::GeluErf => {
                let z = x * std::f64::consts::FRAC_1_SQRT_2;
                let (mut term, mut sum) = (z, z);
                for n in 1..120 {
                    term *= -z * z / f64::from(n);
                    sum += term / f64::from(2 * n + 1);
                }
                let erf = sum * std::f64::consts::FRAC_2_SQRT_PI;
                let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                0.5 * (1.0 + erf) + x * density
            }
            Function::Relu => f64::from(u8::from(x > 0.0)),
        }
    }

    const ALL: [Function; 4] = [
        Function::Silu,
        Function::GeluTanh,
        Function::GeluErf,
        Function::Relu,
    ];

    #[test]
    fn slopes_are_the_derivatives() {
        let x: Vec<f32> = (-3999..4000).map(|i| i as f32 * 1e-3).collect();
        for (level, function) in LEVELS
            .into_iter()
            .flat_map(|l| ALL.into_iter().map(move |f| (l, f)))
        {
            for (&x, (_, slope)) in x.iter().zip(run_at(level, Apply(function, &x))) {
                let exact = exact(function, f64::from(x));
                let error = (f64::from(slope) - exact).abs();
                assert!(error < 1e-6, "{level:?} {function:?} {x}: {slope} {exact}");
            }
        }
    }

    #[test]
    fn far_out_slopes_are_nought_and_one_and_nan_stays() {
        let x = [f32::MIN, -1e4, 1e4, f32::MAX, f32::NAN];
        for (level, function) in LEVELS
            .into_iter()
            .flat_map(|l| ALL.into_iter().map(move |f| (l, f)))
        {
            let y: Vec<f32> = run_at(level, Apply(function, &x))
                .into_iter()
                .map(|(_, slope)| slope)
                .collect();
            assert!(
                y[0].abs() < 1e-40 && y[1].abs() < 1e-40,
                "{function:?} {y:?}"
            );
            assert_eq!(y[2..4], [1.0, 1.0], "{level:?} {function:?}");
            assert!(y[4].is_nan(), "{level:?} {function:?}");
        }
    }
}
