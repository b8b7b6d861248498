//! Activation functions of the MLP, alone or fused with the gate's product.

use candle_core::{Result, Tensor, bail};

use crate::view::refuse_empty;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)` (Elfwing et al. 2017), also called swish.
    Silu,
    /// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`: the approximation of Hendrycks and Gimpel 2016.
    GeluTanh,
    /// `0.5 x (1 + erf(x / √2))`, exact.
    GeluErf,
    /// `max(x, 0)`, with gradient 0 at 0.
    Relu,
}

/// Applies `act` to each element; the shape is kept.
///
/// # Errors
/// An empty tensor, or a type without the arithmetic.
pub fn activation(x: &Tensor, act: Activation) -> Result<Tensor> {
    refuse_empty("activation", "x", x)?;
    plain(x, act)
}

/// `act(gate) · up`, both of one shape.
///
/// # Errors
/// Empty tensors or shapes that differ.
pub fn gated(gate: &Tensor, up: &Tensor, act: Activation) -> Result<Tensor> {
    refuse_empty("gated", "gate", gate)?;
    if gate.dims() != up.dims() {
        bail!(
            "gated: gate {:?} and up {:?} differ in shape",
            gate.dims(),
            up.dims()
        );
    }
    plain(gate, act)?.mul(up)
}

/// The differentiable way. Written out rather than through candle's `gelu`, whose backward has constants of six digits.
fn plain(x: &Tensor, act: Activation) -> Result<Tensor> {
    let gelu = |inner: Tensor| (x * 0.5)?.mul(&(inner + 1.0)?);
    match act {
        Activation::Silu => x.silu(),
        Activation::GeluTanh => {
            let cubic = ((x.sqr()? * 0.044715)? + 1.0)?.mul(x)?;
            gelu((cubic * (2.0 / std::f64::consts::PI).sqrt())?.tanh()?)
        }
        Activation::GeluErf => gelu((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?),
        // Not candle's relu: that one turns NaN into 0 and has gradient 1 at 0.
        Activation::Relu => x.le(0.0)?.where_cond(&x.zeros_like()?, x),
    }
}
