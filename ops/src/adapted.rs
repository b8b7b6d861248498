//! A linear layer with an update of low rank beside its weight (LoRA, arXiv:2106.09685): `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`.
//!
//! One kernel, because its parts made apart cost a result of the layer's size each, and half of what training keeps: here
//! `x` and the `[n, rank]` numbers between A and B are all. W and b are frozen. Others than `f32` are plain candle, in parts.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor, bail};

use rayon::prelude::*;

use crate::grad::product::{Matrix, Target, fresh, product};
use crate::grad::{Backward, record, tracks};
use crate::linear::{self, linear};
use crate::view::{f32_on_cpu, rows, with_f32};

/// Dropout on the update's input: multiplies numbers of the shape of `x` by their part of the mask, the same at each call.
pub type Mask = Arc<dyn Fn(&mut [f32]) + Send + Sync>;

/// The update.
#[derive(Clone)]
pub struct LowRank<'a> {
    /// `[rank, in]`
    pub a: &'a Tensor,
    /// `[out, rank]`
    pub b: &'a Tensor,
    /// `s`
    pub scale: f64,
    /// In training passes.
    pub mask: Option<Mask>,
}

impl fmt::Debug for LowRank<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LowRank")
            .field("a", &self.a.dims())
            .field("b", &self.b.dims())
            .field("scale", &self.scale)
            .field("mask", &self.mask.is_some())
            .finish()
    }
}

/// [`crate::linear`] with an update: `x [.., in]`, `w [out, in]`, `bias [out]` to `[.., out]`. Gradients flow to `x`, A and
/// B.
///
/// # Errors
/// Shapes that do not go together or are empty.
pub fn linear_adapted(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    update: &LowRank,
) -> Result<Tensor> {
    apply(x, w, bias, update, linear::terms(w.elem_count()))
}

/// [`linear_adapted`] as [`crate::linear_step`] computes.
///
/// # Errors
/// As for [`linear_adapted`].
pub fn linear_adapted_step(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    update: &LowRank,
) -> Result<Tensor> {
    apply(x, w, bias, update, 0)
}

fn apply(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    update: &LowRank,
    terms: usize,
) -> Result<Tensor> {
    let (a, b) = (update.a, update.b);
    let ((outputs, inputs), (rank, reads), (writes, between)) =
        (w.dims2()?, a.dims2()?, b.dims2()?);
    if reads != inputs || writes != outputs || between != rank || rank == 0 {
        bail!(
            "linear: an update of A [{rank}, {reads}] and B [{writes}, {between}] does not go with w of shape [{outputs}, {inputs}]"
        );
    }
    let frozen = !tracks(w) && bias.is_none_or(|bias| !tracks(bias));
    let served = frozen && f32_on_cpu(&[x, a, b]) && w.device().is_cpu();
    let y = if served {
        linear::product(&x.detach(), w, bias, terms)?
    } else {
        None
    };
    let Some(mut y) = y else {
        return plain(x, w, bias, update);
    };
    let small = |t: &Tensor| match terms {
        0 => 0,
        _ => linear::terms(t.elem_count()),
    };
    let scale = update.scale as f32;
    let mut back = Adapted {
        low: Vec::new(),
        scale,
        mask: update.mask.clone(),
    };
    let seen = match rows(x, |x| Ok(back.seen(x)))? {
        Some(seen) => &Tensor::from_vec(seen, x.dims(), x.device())?,
        None => x,
    };
    // By the kernels of `linear`, whose rows have the same bits whatever stands beside them.
    let off_tape =
        |x: &Tensor, w: &Tensor| match linear::product(&x.detach(), &w.detach(), None, small(w))? {
            Some(y) => Ok(y),
            None => bail!("linear: no kernel for f32 on the cpu"),
        };
    back.low = off_tape(seen, a)?;
    back.low.iter_mut().for_each(|low| *low *= scale);
    let low = Tensor::from_slice(&back.low, (back.low.len() / rank, rank), x.device())?;
    add_to(&mut y, &off_tape(&low, b)?);
    let shape = linear::shape(x, w)?;
    if [x, a, b].iter().any(|t| tracks(t)) {
        return record(&[x, w, a, b], shape, y, back);
    }
    Tensor::from_vec(y, shape, x.device())
}

/// In parts.
fn plain(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, update: &LowRank) -> Result<Tensor> {
    let seen = match &update.mask {
        None => x.clone(),
        Some(mask) => {
            let mut ones = vec![1.0f32; x.elem_count()];
            mask(&mut ones);
            (x * Tensor::from_vec(ones, x.shape(), x.device())?.to_dtype(x.dtype())?)?
        }
    };
    let low = (linear(&seen, update.a, None)? * update.scale)?;
    linear(x, w, bias)? + linear(&low, update.b, None)?
}

/// The backward: with `t = s · seen Aᵀ` and `dt = s · dy B`, `dB = dyᵀ t`, `dA = dtᵀ seen`, and `dx = dy W + mask ∘ (dt A)`.
struct Adapted {
    /// `t`, `[n, rank]`.
    low: Vec<f32>,
    scale: f32,
    mask: Option<Mask>,
}

impl Adapted {
    /// What A sees of `x`; nothing if that is `x` itself.
    fn seen(&self, x: &[f32]) -> Option<Vec<f32>> {
        let mask = self.mask.as_ref()?;
        let mut seen = x.to_vec();
        mask(&mut seen);
        Some(seen)
    }

    /// `dx`, from `dt`.
    fn inner(&self, dy: Matrix, dt: &[f32], inputs: [&Tensor; 3]) -> Result<Vec<f32>> {
        let [w, a, b] = inputs;
        let ((outputs, width), rank) = (w.dims2()?, b.dim(1)?);
        let count = dt.len() / rank;
        let w = w.to_dtype(DType::F32)?;
        let mut dx = with_f32(&w, |values, layout| {
            let (stride, values) = (layout.stride(), &values[layout.start_offset()..]);
            let w = Matrix::strided(values, stride[0], stride[1]);
            // SAFETY: dy is [count, outputs], and the layout is that of [outputs, width].
            Ok(unsafe { fresh([count, width, outputs], dy, w) })
        })?;
        rows(a, |a| {
            let (dt, a) = (Matrix::new(dt, rank), Matrix::new(a, width));
            let Some(mask) = &self.mask else {
                let to = Target {
                    start: dx.as_mut_ptr(),
                    stride: width,
                    add: true,
                };
                // SAFETY: dt is [count, rank], A [rank, width], and dx [count, width] has been written.
                unsafe { product([count, width, rank], dt, a, to, true) };
                return Ok(());
            };
            // SAFETY: as above.
            let mut seen = unsafe { fresh([count, width, rank], dt, a) };
            mask(&mut seen);
            add_to(&mut dx, &seen);
            Ok(())
        })?;
        Ok(dx)
    }
}

fn add_to(sums: &mut [f32], numbers: &[f32]) {
    /// Numbers of one task.
    const CHUNK: usize = 1 << 14;
    sums.par_chunks_mut(CHUNK)
        .zip(numbers.par_chunks(CHUNK))
        .for_each(|(sums, numbers)| {
            for (sum, x) in sums.iter_mut().zip(numbers) {
                *sum += x;
            }
        });
}

impl Backward for Adapted {
    const NAME: &'static str = "linear_adapted";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let &[x, w, a, b] = inputs else {
            bail!("linear_adapted: {} inputs, expected 4", inputs.len());
        };
        let ((outputs, width), rank) = (w.dims2()?, b.dim(1)?);
        let count = x.elem_count() / width;
        rows(grad, |dy| {
            let dy = Matrix::new(dy, outputs);
            let mut dt = rows(b, |b| {
                // SAFETY: dy is [count, outputs], B [outputs, rank].
                Ok(unsafe { fresh([count, rank, outputs], dy, Matrix::new(b, rank)) })
            })?;
            dt.iter_mut().for_each(|dt| *dt *= self.scale);
            let mut grads = vec![None; 4];
            if tracks(x) {
                let dx = self.inner(dy, &dt, [w, a, b])?;
                grads[0] = Some(Tensor::from_vec(dx, x.dims(), x.device())?);
            }
            if tracks(a) {
                let da = rows(x, |x| {
                    let seen = self.seen(x);
                    let seen = Matrix::new(seen.as_deref().unwrap_or(x), width);
                    let dt = Matrix::new(&dt, rank).transposed();
                    // SAFETY: dt is [count, rank], what A saw [count, width].
                    Ok(unsafe { fresh([rank, width, count], dt, seen) })
                })?;
                grads[2] = Some(Tensor::from_vec(da, a.dims(), a.device())?);
            }
            if tracks(b) {
                let low = Matrix::new(&self.low, rank);
                // SAFETY: dy is [count, outputs], low [count, rank].
                let db = unsafe { fresh([outputs, rank, count], dy.transposed(), low) };
                grads[3] = Some(Tensor::from_vec(db, b.dims(), b.device())?);
            }
            Ok(grads)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Half of the numbers, doubled, by a rule of their own.
    fn mask() -> Mask {
        Arc::new(|numbers: &mut [f32]| {
            for (i, number) in numbers.iter_mut().enumerate() {
                *number *= if (i * 2654435761) >> 7 & 1 == 0 {
                    0.0
                } else {
                    2.0
                };
            }
        })
    }

    fn numbers(shape: (usize, usize), factor: f64, dtype: DType) -> Tensor {
        let values: Vec<f64> = (0..shape.0 * shape.1)
            .map(|i| (i as f64 * factor).sin())
            .collect();
        let all = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        all.to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap()
    }

    /// The result and the gradients of `Σ y²` for x, A and B, in f64.
    fn outcome(dtype: DType, mask: Option<Mask>, [n, i, o, r]: [usize; 4]) -> Vec<Tensor> {
        let [x, a, b] = [((n, i), 0.7), ((r, i), 0.3), ((o, r), 1.1)]
            .map(|(shape, factor)| Var::from_tensor(&numbers(shape, factor, dtype)).unwrap());
        let w = numbers((o, i), 0.13, dtype);
        let bias = numbers((1, o), 0.5, dtype).squeeze(0).unwrap();
        let update = LowRank {
            a: &a,
            b: &b,
            scale: 0.5,
            mask,
        };
        let y = linear_adapted(&x, &w, Some(&bias), &update).unwrap();
        let found = crate::backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
        let grads = [&x, &a, &b].map(|var| found.get(var).unwrap().clone());
        let all = std::iter::once(y).chain(grads);
        all.map(|t| t.detach().to_dtype(DType::F64).unwrap())
            .collect()
    }

    #[test]
    fn result_and_gradients_are_those_of_the_parts_in_f64() {
        for sizes in [[5, 7, 9, 2], [40, 160, 256, 16]] {
            for mask in [None, Some(mask())] {
                let fused = outcome(DType::F32, mask.clone(), sizes);
                let parts = outcome(DType::F64, mask, sizes);
                for (fused, parts) in fused.iter().zip(&parts) {
                    let largest = |t: &Tensor| {
                        let all = t.abs().unwrap().flatten_all().unwrap();
                        all.max(0).unwrap().to_scalar::<f64>().unwrap()
                    };
                    let error = largest(&(fused - parts).unwrap()) / largest(parts);
                    assert!(error < 1e-5, "{error} for {sizes:?}");
                }
            }
        }
    }

    #[test]
    fn an_update_whose_b_is_zero_changes_no_bit() {
        let (x, w) = (
            numbers((3, 8), 0.7, DType::F32),
            numbers((6, 8), 0.3, DType::F32),
        );
        let (a, b) = (
            numbers((2, 8), 0.9, DType::F32),
            Tensor::zeros((6, 2), DType::F32, &Device::Cpu).unwrap(),
        );
        let update = LowRank {
            a: &a,
            b: &b,
            scale: 2.0,
            mask: Some(mask()),
        };
        let adapted = linear_adapted(&x, &w, None, &update).unwrap();
        let bits = |t: &Tensor| t.to_vec2::<f32>().unwrap();
        assert_eq!(bits(&adapted), bits(&linear(&x, &w, None).unwrap()));
    }

    #[test]
    fn an_update_of_another_layer_is_refused() {
        let t = |shape| numbers(shape, 0.7, DType::F32);
        let (x, w, a, b) = (t((3, 8)), t((6, 8)), t((2, 7)), t((6, 2)));
        let update = LowRank {
            a: &a,
            b: &b,
            scale: 1.0,
            mask: None,
        };
        let error = linear_adapted(&x, &w, None, &update)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[2, 7]") && error.contains("[6, 8]"),
            "{error}"
        );
    }
}
