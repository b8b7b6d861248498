//! Matrix products with weights, `y = x Wᵀ + b`, in the layout checkpoints store them (`[out, in]`).
//!
//! Two kernels: a few rows of `x` go to [`crate::dot`], which reads each weight once; more rows go to the `gemm` crate.
//! `bf16` weights are widened in registers there, and panel by panel here, never as a whole.

use candle_core::{DType, Layout, Result, Tensor, bail};
use gemm::Parallelism;
use half::bf16;

use crate::dot::{Rows, Weight, products};
use crate::view::{Shared, refuse_empty, rows, tasks, untracked_on_cpu, with_bf16, with_f32};

/// Up to this many rows the dot-product kernel is used. At 16 rows on two threads it measured 1.4 to 2.4 times the general
/// product for the four matrix shapes of a 135 M model; the border itself was only measured on a busy machine.
const FEW_ROWS: usize = 32;

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
    if x.dtype() != DType::F32 || !kernel_for || !untracked_on_cpu(&all) {
        return plain(x, w, bias);
    }
    let bias = bias
        .map(|b| b.to_dtype(DType::F32)?.to_vec1::<f32>())
        .transpose()?;
    let y = rows(x, |x| {
        let call = Call {
            x,
            inputs,
            outputs,
            bias: bias.as_deref(),
        };
        if w.dtype() == DType::BF16 {
            let w = w.contiguous()?;
            with_bf16(&w, |values, layout| {
                Ok(call.narrow(&values[layout.start_offset()..]))
            })
        } else {
            with_f32(w, |values, layout| Ok(call.wide(values, layout)))
        }
    })?;
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(outputs);
    Tensor::from_vec(y, shape, x.device())
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
    fn rows(&self) -> usize {
        self.x.len() / self.inputs
    }

    /// `f32` weights with any strides.
    fn wide(&self, values: &[f32], layout: &Layout) -> Vec<f32> {
        let stride = layout.stride();
        let start = values[layout.start_offset()..].as_ptr();
        if self.rows() <= FEW_ROWS && stride[1] == 1 {
            // SAFETY: the layout says that the rows lie there.
            return unsafe {
                self.few(Rows {
                    start,
                    stride: stride[0],
                    count: self.outputs,
                })
            };
        }
        let (mut y, with_bias) = self.biased();
        let threads = Parallelism::Rayon(rayon::current_num_threads());
        // SAFETY: x is [rows, inputs], the layout places w, and y has room for [rows, outputs].
        unsafe {
            self.gemm(
                start,
                [stride[0], stride[1]],
                self.outputs,
                y.as_mut_ptr(),
                with_bias,
                threads,
            );
            y.set_len(self.rows() * self.outputs);
        }
        y
    }

    /// `bf16` weights `[outputs, inputs]`, row-major.
    fn narrow(&self, w: &[bf16]) -> Vec<f32> {
        if self.rows() <= FEW_ROWS {
            let w = &w[..self.outputs * self.inputs];
            // SAFETY: the slice holds all rows.
            return unsafe {
                self.few(Rows {
                    start: w.as_ptr(),
                    stride: self.inputs,
                    count: self.outputs,
                })
            };
        }
        let (mut y, with_bias) = self.biased();
        let out = Shared::new(y.as_mut_ptr());
        // Panels of a fixed size, about eight at least for the threads to share, 512 outputs at most for the cache.
        let panel = self.outputs.div_ceil(8).next_multiple_of(16).clamp(32, 512);
        tasks(self.outputs.div_ceil(panel), true, |i| {
            let first = i * panel;
            let count = panel.min(self.outputs - first);
            let narrow = &w[first * self.inputs..(first + count) * self.inputs];
            let wide: Vec<f32> = narrow.iter().map(|v| v.to_f32()).collect();
            // SAFETY: panels are disjoint columns of y.
            unsafe {
                let out = out.at(first);
                self.gemm(
                    wide.as_ptr(),
                    [self.inputs, 1],
                    count,
                    out,
                    with_bias,
                    Parallelism::None,
                );
            }
        });
        // SAFETY: the panels cover all columns.
        unsafe { y.set_len(self.rows() * self.outputs) };
        y
    }

    /// Room for the result, holding the bias in each row if there is one, for the product to be added to.
    fn biased(&self) -> (Vec<f32>, bool) {
        let mut y = Vec::with_capacity(self.rows() * self.outputs);
        if let Some(bias) = self.bias {
            for _ in 0..self.rows() {
                y.extend_from_slice(bias);
            }
        }
        (y, self.bias.is_some())
    }

    /// # Safety
    /// `w` must hold `count` rows of `inputs` numbers at the given strides; `out` must be writable as `count` columns of
    /// `[rows, outputs]`, and initialised there if `add`.
    unsafe fn gemm(
        &self,
        w: *const f32,
        strides: [usize; 2],
        count: usize,
        out: *mut f32,
        add: bool,
        threads: Parallelism,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            gemm::gemm(
                self.rows(),
                count,
                self.inputs,
                out,
                1,
                self.outputs as isize,
                add,
                self.x.as_ptr(),
                1,
                self.inputs as isize,
                w,
                strides[0] as isize,
                strides[1] as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                threads,
            );
        }
    }

    /// Few rows, by dot products, in parallel over blocks of outputs.
    ///
    /// # Safety
    /// `w` must hold `outputs` rows of `inputs` numbers.
    unsafe fn few<T: Weight>(&self, w: Rows<T>) -> Vec<f32> {
        let len = self.rows() * self.outputs;
        let mut y: Vec<f32> = Vec::with_capacity(len);
        let out = Shared::new(y.as_mut_ptr());
        // About 128 Ki weights a task: long enough to stream, short enough to share evenly.
        let block = ((1 << 17) / self.inputs).next_multiple_of(8);
        let parallel = self.outputs * self.inputs * self.rows() >= 1 << 17;
        tasks(self.outputs.div_ceil(block), parallel, |i| {
            let first = i * block;
            let count = block.min(self.outputs - first);
            let x = Rows {
                start: self.x.as_ptr(),
                stride: self.inputs,
                count: self.rows(),
            };
            // SAFETY: tasks read rows that the caller vouches for and write disjoint columns of y.
            unsafe {
                let start = w.row(first);
                let w = Rows {
                    start,
                    stride: w.stride,
                    count,
                };
                products(x, w, self.inputs, out.at(first), self.outputs);
            }
        });
        // SAFETY: the blocks cover all columns.
        unsafe { y.set_len(len) };
        if let Some(bias) = self.bias {
            for row in y.chunks_exact_mut(self.outputs) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
        y
    }
}
