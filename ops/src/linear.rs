//! Matrix products with weights, `y = x Wᵀ + b`, in the layout checkpoints store them (`[out, in]`).
//!
//! Two fused kernels: [`crate::product`] in `f32`, and on CPUs with AMX, for weights that are not tiny, [`crate::amx`],
//! which splits each number into terms of bf16 and is as exact. Which one runs
//! depends on the shape of the weights and on who asks, never on the number of rows: a prompt has the same logits alone
//! and in a batch.

use candle_core::{DType, Result, Tensor, bail};

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::amx::{self, Operand, Out, Split};
use crate::grad;
use crate::product::{Rows, Weight, products};
use crate::view::{Shared, refuse_empty, rows, tasks, untracked_on_cpu, with_bf16, with_f32};

/// Rows of `x` that a task multiplies with its block of weights.
const ROWS_A_TASK: usize = 96;
/// Tasks from which on there are enough to share out evenly.
const ENOUGH: usize = 12;
/// From this many multiplications on, tasks go to several threads.
const PARALLEL_FROM: usize = 1 << 17;

/// How products with weights are computed where the CPU has AMX; elsewhere always by [`Products::F32`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// In `f32`, by vectors.
    F32,
    /// By tiles of bf16, each `f32` split into so many terms, 1 to 3, for weights of at least so many numbers: with 3 as
    /// exact as `f32`, with 2 to some 4e-6 of the size of what is summed, with 1 rounded to bf16. Gradients are split into at
    /// most [`GRADIENT_TERMS`].
    Split {
        /// Terms.
        terms: usize,
        /// Numbers.
        from: usize,
    },
}

impl Products {
    /// [`Self::Split`] for all but tiny weights.
    pub fn split(terms: usize) -> Self {
        Self::Split { terms, from: LARGE }
    }
}

/// Weights of fewer numbers are not worth packing.
const LARGE: usize = 1 << 15;
/// Terms of the split in the lowest two bits, above them from how many numbers on.
static PRODUCTS: AtomicUsize = AtomicUsize::new(LARGE << 2 | 3);

/// Chooses for the whole process, from now on.
pub fn set_products(products: Products) {
    let code = match products {
        Products::F32 => 0,
        Products::Split { terms, from } => from << 2 | terms.clamp(1, 3),
    };
    PRODUCTS.store(code, Ordering::Relaxed);
}

/// Into how many terms weights of so many numbers are split; 0 for not at all.
pub(crate) fn terms(numbers: usize) -> usize {
    let code = PRODUCTS.load(Ordering::Relaxed);
    if code != 0 && numbers >= code >> 2 && amx::available() {
        code & 3
    } else {
        0
    }
}

/// Terms of the split of products for gradients. Two are within 4e-6, which no step of an optimiser can tell from `f32`;
/// the logits that are compared with other implementations are those of the forward.
pub const GRADIENT_TERMS: usize = 2;

/// As [`terms`], for the products of a backward.
pub(crate) fn gradient_terms(numbers: usize) -> usize {
    terms(numbers).min(GRADIENT_TERMS)
}

/// Affine map of the last dimension: `x [.., in]`, `w [out, in]`, `bias [out]` to `[.., out]`.
///
/// Weights may be of another type than `x`; arithmetic is in the type of `x`. `bf16` weights with `f32` `x` are widened
/// on the fly, so that the model stays in memory at half size.
///
/// # Errors
/// Shapes that do not go together or are empty.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    apply(x, w, bias, terms(w.elem_count()))
}

/// As [`linear`], in the terms of a backward: for what it computes again.
pub(crate) fn linear_again(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    apply(x, w, None, gradient_terms(w.elem_count()))
}

/// [`linear`], in `f32` on every CPU: for the steps of sampling, one token for each row, which wait for the weights to
/// come from memory and have no time to split them.
///
/// # Errors
/// As for [`linear`].
pub fn linear_step(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    apply(x, w, bias, 0)
}

fn apply(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, terms: usize) -> Result<Tensor> {
    match product(x, w, bias, terms)? {
        Some(y) => grad::linear::finish(x, w, bias, y, shape(x, w)?),
        None => plain(x, w, bias),
    }
}

/// The shape of the result.
pub(crate) fn shape(x: &Tensor, w: &Tensor) -> Result<Vec<usize>> {
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(w.dim(0)?);
    Ok(shape)
}

/// The fused product, off the tape; `None` where there is none for such operands.
pub(crate) fn product(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    terms: usize,
) -> Result<Option<Vec<f32>>> {
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
        return Ok(None);
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
            terms,
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
    Ok(Some(y))
}

/// The differentiable way.
fn plain(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let shape = shape(x, w)?;
    let w = w.to_dtype(x.dtype())?;
    let y = x.reshape(((), w.dim(1)?))?.matmul(&w.t()?)?;
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
    /// As [`terms`] says.
    terms: usize,
}

impl Call<'_> {
    /// The product with weights whose row `o` begins at number `o · stride`.
    fn with<T: Weight + Split>(&self, weights: &[T], stride: usize) -> Vec<f32> {
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
        if self.terms > 0 {
            let operand = |rows: Rows<f32>| Operand::lying(rows.start, rows.stride, rows.count);
            let (x, w) = (operand(x), Operand::lying(w.start, w.stride, w.count));
            let to = Out {
                at: y.as_mut_ptr(),
                stride: self.outputs,
                add: false,
                parallel,
            };
            // SAFETY: the slices above hold every row, y is as large as the result, and the CPU was asked.
            unsafe {
                amx::products(self.terms, x, w, self.inputs, to);
                y.set_len(len);
            }
            if let Some(bias) = self.bias {
                for line in y.chunks_exact_mut(self.outputs) {
                    line.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
            }
            return y;
        }
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
