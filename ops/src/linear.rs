//! Matrix products with weights, `y = x Wᵀ + b`, in the layout checkpoints store them (`[out, in]`).
//!
//! The fused kernel is [`crate::product`], for any number of rows. `bf16` weights are widened in registers.

use candle_core::{DType, Result, Tensor, bail};

use crate::grad;
use crate::product::{Rows, Weight, products};
use crate::view::{Shared, refuse_empty, rows, tasks, untracked_on_cpu, with_bf16, with_f32};

/// Rows of `x` that a task multiplies with its block of weights.
const ROWS_A_TASK: usize = 96;
/// Tasks from which on there are enough to share out evenly.
const ENOUGH: usize = 12;
/// From this many multiplications on, tasks go to several threads.
const PARALLEL_FROM: usize = 1 << 17;

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
    let mut all = vec![x, w];
    all.extend(bias);
    let kernel_for = matches!(w.dtype(), DType::F32 | DType::BF16);
    let differentiable = grad::linear::serves(x, w, bias);
    if x.dtype() != DType::F32 || !kernel_for || !(differentiable || untracked_on_cpu(&all)) {
        return plain(x, w, bias);
    }
    let offsets = bias
        .map(|b| b.to_dtype(DType::F32)?.to_vec1::<f32>())
        .transpose()?;
    let y = rows(x, |x| {
        let call = Call {
            x,
            inputs,
            outputs,
            bias: offsets.as_deref(),
        };
        // Rows of a view are read where they lie as long as their numbers are adjacent.
        let w = if w.stride()[1] == 1 || inputs == 1 {
            w.clone()
        } else {
            w.contiguous()?
        };
        let stride = w.stride()[0];
        if w.dtype() == DType::BF16 {
            with_bf16(&w, |values, layout| {
                Ok(call.with(&values[layout.start_offset()..], stride))
            })
        } else {
            with_f32(&w, |values, layout| {
                Ok(call.with(&values[layout.start_offset()..], stride))
            })
        }
    })?;
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(outputs);
    grad::linear::finish(x, w, bias, y, shape)
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

/// One fused product; `x` is `[rows, inputs]`, row-major.
#[derive(Clone, Copy)]
struct Call<'a> {
    x: &'a [f32],
    inputs: usize,
    outputs: usize,
    bias: Option<&'a [f32]>,
}

impl Call<'_> {
    /// The product with weights whose row `o` begins at number `o · stride`.
    fn with<T: Weight>(&self, weights: &[T], stride: usize) -> Vec<f32> {
        let count = self.x.len() / self.inputs;
        let last = (self.outputs - 1) * stride + self.inputs;
        let w = Rows {
            start: weights[..last].as_ptr(),
            stride,
            count: self.outputs,
        };
        let x = Rows {
            start: self.x.as_ptr(),
            stride: self.inputs,
            count,
        };
        let len = count * self.outputs;
        let mut y: Vec<f32> = Vec::with_capacity(len);
        let out = Shared::new(y.as_mut_ptr());
        let parallel = self.outputs * self.inputs * count >= PARALLEL_FROM;
        // Large blocks are read again from cache for the next rows; small ones share the work evenly.
        let bands = count.div_ceil(ROWS_A_TASK);
        let block = [128, 64]
            .into_iter()
            .find(|block| self.outputs / block * bands >= ENOUGH)
            .unwrap_or(32);
        tasks(self.outputs.div_ceil(block) * bands, parallel, |i| {
            let (first, top) = (i / bands * block, i % bands * ROWS_A_TASK);
            // SAFETY: the slices above hold every row; tasks write disjoint rectangles of y, wholly.
            unsafe {
                let x = x.part(top, ROWS_A_TASK);
                let w = w.part(first, block);
                let corner = out.at(top * self.outputs + first);
                products(x, w, self.inputs, corner, self.outputs);
                if let Some(bias) = self.bias {
                    let bias = &bias[first..first + w.count];
                    for r in 0..x.count {
                        let line = corner.add(r * self.outputs);
                        for (j, b) in bias.iter().enumerate() {
                            *line.add(j) += b;
                        }
                    }
                }
            }
        });
        // SAFETY: the rectangles cover y.
        unsafe { y.set_len(len) };
        y
    }
}
