//! Borrowing a tensor's numbers, and the one rule that decides between the fused and the plain way.
//!
//! Nothing here copies except [`rows`], and only when the tensor is not contiguous.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use half::bf16;

/// True when no input tracks gradients and all are `f32` on the CPU: only then may a fused kernel run.
pub(crate) fn fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32) && untracked_on_cpu(tensors)
}

/// True when no input tracks gradients and all are on the CPU, whatever their type.
pub(crate) fn untracked_on_cpu(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| !t.track_op() && t.device().is_cpu())
}

/// Refuses a tensor with no elements or no dimensions, naming the operation and the argument.
pub(crate) fn refuse_empty(op: &str, name: &str, x: &Tensor) -> Result<()> {
    if x.rank() == 0 || x.elem_count() == 0 {
        bail!(
            "{op}: {name} has shape {:?}; every dimension must be at least 1",
            x.dims()
        );
    }
    Ok(())
}

/// Lends the whole storage of an `f32` CPU tensor with its layout (start offset and strides not yet applied).
pub(crate) fn with_f32<R>(
    x: &Tensor,
    read: impl FnOnce(&[f32], &Layout) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => read(values, layout),
        _ => bail!("expected an f32 tensor on the cpu, found {:?}", x.dtype()),
    }
}

/// As [`with_f32`] for `bf16`.
pub(crate) fn with_bf16<R>(
    x: &Tensor,
    read: impl FnOnce(&[bf16], &Layout) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::BF16(values)) => read(values, layout),
        _ => bail!("expected a bf16 tensor on the cpu, found {:?}", x.dtype()),
    }
}

/// Lends the numbers of an `f32` CPU tensor in row-major order, copying first only if they do not lie so.
pub(crate) fn rows<R>(x: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    with_f32(&x, |values, layout| {
        let start = layout.start_offset();
        read(&values[start..start + layout.shape().elem_count()])
    })
}
