//! The backward of [`crate::linear`]: `dx = dy · W`, `dW = dyᵀ · x`, `db` the sum of the rows of `dy`.
//!
//! `dW` lies `[out, in]` as `W` does. Frozen weights cost no `dW`, and may be `bf16`.

use candle_core::{DType, Result, Tensor};

use super::product::{Matrix, fresh};
use super::{Backward, column_sums, record, tracks};
use crate::view::{f32_on_cpu, rows, with_f32};

/// Whether this backward serves the operands: on the CPU, and `f32` where they track.
pub(crate) fn serves(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> bool {
    let served = |t: &Tensor| f32_on_cpu(&[t]) || (t.device().is_cpu() && !tracks(t));
    f32_on_cpu(&[x]) && served(w) && bias.is_none_or(served)
}

/// The product `y`, on the tape if an operand is.
pub(crate) fn finish(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    y: Vec<f32>,
    shape: Vec<usize>,
) -> Result<Tensor> {
    let mut inputs = vec![x, w];
    inputs.extend(bias);
    if inputs.iter().any(|t| tracks(t)) {
        return record(&inputs, shape, y, Linear);
    }
    Tensor::from_vec(y, shape, x.device())
}

struct Linear;

impl Backward for Linear {
    const NAME: &'static str = "linear";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (x, w, bias) = (inputs[0], inputs[1], inputs.get(2));
        let (outputs, width) = w.dims2()?;
        let count = x.elem_count() / width;
        rows(grad, |dy| {
            let matrix = Matrix::new(dy, outputs);
            let mut grads = vec![None, None];
            if tracks(x) {
                let w = w.to_dtype(DType::F32)?;
                let dx = with_f32(&w, |values, layout| {
                    let (stride, values) = (layout.stride(), &values[layout.start_offset()..]);
                    let w = Matrix::strided(values, stride[0], stride[1]);
                    // SAFETY: dy is [count, outputs], and the layout is that of [outputs, width].
                    Ok(unsafe { fresh([count, width, outputs], matrix, w) })
                })?;
                grads[0] = Some(Tensor::from_vec(dx, x.dims(), x.device())?);
            }
            if tracks(w) {
                let dw = rows(x, |x| {
                    let (dy, x) = (matrix.transposed(), Matrix::new(x, width));
                    // SAFETY: dy is [count, outputs], x is [count, width].
                    Ok(unsafe { fresh([outputs, width, count], dy, x) })
                })?;
                grads[1] = Some(Tensor::from_vec(dw, (outputs, width), x.device())?);
            }
            if let Some(bias) = bias {
                let sums = || Tensor::from_vec(column_sums(dy, outputs), outputs, x.device());
                grads.push(tracks(bias).then(sums).transpose()?);
            }
            Ok(grads)
        })
    }
}
