//! `log σ(x)`, on which every preference loss stands. Candle's own way to it, the logarithm of a sigmoid, is infinite from
//! |x| = 15 on, and has no gradient there.

use candle_core::{CpuStorage, DType, Result, Tensor, bail};

use crate::grad::{Backward, record_storage, tracks};

/// `log σ(x) = min(x, 0) - log(1 + exp(-|x|))`, elementwise, for `f32` and `f64` on the CPU; the shape is kept.
/// Differentiable: the slope is `σ(-x)`, 1/2 at 0. Computed in f64: its inputs are rewards and margins, a few a step.
///
/// # Errors
/// Another type or device.
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    let value = |x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p();
    let values = map(x, None, |x, _| if x.is_nan() { x } else { value(x) })?;
    if tracks(x) {
        return record_storage(&[x], x.shape().clone(), values, Back);
    }
    tensor(values, x)
}

struct Back;

impl Backward for Back {
    const NAME: &'static str = "log_sigmoid";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let x = inputs[0].detach();
        let values = map(&x, Some(grad), |x, dy| dy / (1.0 + x.exp()))?;
        Ok(vec![Some(tensor(values, &x)?)])
    }
}

/// `f(x, y)` of each element, `y` being 1 where there is no second tensor.
fn map(x: &Tensor, y: Option<&Tensor>, f: impl Fn(f64, f64) -> f64) -> Result<CpuStorage> {
    if !x.device().is_cpu() {
        bail!("log_sigmoid: expected a tensor on the cpu");
    }
    let flat = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    let count = x.elem_count();
    let y = y.map(flat).transpose()?.unwrap_or_else(|| vec![1.0; count]);
    let values = flat(x)?.into_iter().zip(y).map(|(x, y)| f(x, y));
    Ok(match x.dtype() {
        DType::F32 => CpuStorage::F32(values.map(|x| x as f32).collect()),
        DType::F64 => CpuStorage::F64(values.collect()),
        other => bail!("log_sigmoid: expected f32 or f64, found {other:?}"),
    })
}

fn tensor(values: CpuStorage, x: &Tensor) -> Result<Tensor> {
    match values {
        CpuStorage::F32(values) => Tensor::from_vec(values, x.shape(), x.device()),
        CpuStorage::F64(values) => Tensor::from_vec(values, x.shape(), x.device()),
        _ => bail!("log_sigmoid: expected f32 or f64"),
    }
}
