//! Rotary position embedding (Su et al. 2021), half-split convention, on `[batch, pos, head, channel]` so that no
//! transpose is needed before or after.

use candle_core::{D, Result, Tensor, bail};

use crate::view::refuse_empty;

/// Rotates the first `rot` channels of each head; the rest pass through.
///
/// `x [b, s, h, d]`; `cos` and `sin [1 or b, s, rot / 2]`. Channel `i < rot / 2` is paired with `i + rot / 2`:
/// `x1' = x1 cos - x2 sin`, `x2' = x2 cos + x1 sin`.
///
/// # Errors
/// Empty shapes, or tables that do not go with `x`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    refuse_empty("rope", "x", x)?;
    refuse_empty("rope", "cos", cos)?;
    let (batch, positions, _, width) = x.dims4()?;
    let (rows, table_positions, half) = cos.dims3()?;
    if cos.dims() != sin.dims() {
        bail!(
            "rope: cos {:?} and sin {:?} differ in shape",
            cos.dims(),
            sin.dims()
        );
    }
    if (rows != 1 && rows != batch) || table_positions != positions || 2 * half > width {
        bail!(
            "rope: tables of shape {:?} do not go with x of shape {:?}; expected [1 or {batch}, {positions}, at most {}]",
            cos.dims(),
            x.dims(),
            width / 2
        );
    }
    plain(x, cos, sin, half)
}

fn plain(x: &Tensor, cos: &Tensor, sin: &Tensor, half: usize) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let cos = cos.to_dtype(x.dtype())?.unsqueeze(2)?;
    let sin = sin.to_dtype(x.dtype())?.unsqueeze(2)?;
    let first = x.narrow(D::Minus1, 0, half)?;
    let second = x.narrow(D::Minus1, half, half)?;
    let mut parts = vec![
        (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?,
        (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?,
    ];
    if 2 * half < width {
        parts.push(x.narrow(D::Minus1, 2 * half, width - 2 * half)?);
    }
    Tensor::cat(&parts, D::Minus1)
}
