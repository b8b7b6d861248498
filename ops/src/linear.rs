//! Matrix products with weights, `y = x Wᵀ + b`, in the layout checkpoints store them (`[out, in]`).

use candle_core::{Result, Tensor, bail};

use crate::view::refuse_empty;

/// Affine map of the last dimension: `x [.., in]`, `w [out, in]`, `bias [out]` to `[.., out]`.
///
/// Weights may be of another type than `x`; arithmetic is in the type of `x`. `bf16` weights with `f32` `x` are widened
/// on the fly, so that the model stays in memory at half size.
///
/// # Errors
/// Shapes that do not go together or are empty.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    refuse_empty("linear", "x", x)?;
    refuse_empty("linear", "w", w)?;
    let (outputs, inputs) = w.dims2()?;
    let found = x.dims()[x.rank() - 1];
    if found != inputs {
        bail!("linear: x has {found} channels, w of shape [{outputs}, {inputs}] reads {inputs}");
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        bail!(
            "linear: bias has shape {:?}, expected [{outputs}]",
            bias.dims()
        );
    }
    plain(x, w, bias)
}

/// The differentiable way.
fn plain(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = w.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let w = w.to_dtype(x.dtype())?;
    let y = x.reshape(((), inputs))?.matmul(&w.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?)?,
        None => y,
    };
    y.reshape(shape)
}
