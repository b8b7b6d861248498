//! Borrowing a tensor's numbers, and the one rule that decides between the fused and the plain way.
//!
//! Nothing here copies except [`rows`], and only when the tensor is not contiguous.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

/// True when no input tracks gradients and all are `f32` on the CPU: only then may a fused kernel run.
pub(crate) fn fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32) && untracked_on_cpu(tensors)
}

/// True when all inputs are `f32` on the CPU, tracked or not: what a kernel with a backward takes.
pub(crate) fn f32_on_cpu(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|t| t.dtype() == DType::F32 && t.device().is_cpu())
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

/// Below this many numbers a kernel stays on its own thread: waking others costs more than the work.
const PARALLEL_FROM: usize = 1 << 15;

/// A new vector of `len` numbers, written in chunks of `chunk`, in parallel where it pays. The memory is not zeroed
/// first. Chunks have a fixed shape, so the result does not depend on the number of threads.
///
/// # Safety
/// `write(i, p, n)` must write all `n` numbers at `p`, which are numbers `i · chunk ..` of the result.
pub(crate) unsafe fn fill(
    len: usize,
    chunk: usize,
    write: impl Fn(usize, *mut f32, usize) + Sync,
) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    let write_one = |(i, part): (usize, &mut [MaybeUninit<f32>])| {
        write(i, part.as_mut_ptr().cast(), part.len());
    };
    if len < PARALLEL_FROM {
        room.chunks_mut(chunk).enumerate().for_each(write_one);
    } else {
        room.par_chunks_mut(chunk).enumerate().for_each(write_one);
    }
    // SAFETY: the chunks cover 0..len, and the caller vouches that each was written wholly.
    unsafe { values.set_len(len) };
    values
}

/// As [`fill`], for two vectors of one length written together.
///
/// # Safety
/// `write(i, p, q, n)` must write all `n` numbers at `p` and at `q`.
pub(crate) unsafe fn fill_two(
    len: usize,
    chunk: usize,
    write: impl Fn(usize, *mut f32, *mut f32, usize) + Sync + Send,
) -> (Vec<f32>, Vec<f32>) {
    let mut second: Vec<f32> = Vec::with_capacity(len);
    let shared = Shared::new(second.as_mut_ptr());
    // SAFETY: chunk i of the second vector is written with chunk i of the first, by nobody else; the rest is the caller's.
    unsafe {
        let first = fill(len, chunk, |i, p, n| write(i, p, shared.at(i * chunk), n));
        second.set_len(len);
        (first, second)
    }
}

/// Runs `task(0..count)`, in parallel if `parallel`. Which thread runs what must not matter to the result.
pub(crate) fn tasks(count: usize, parallel: bool, task: impl Fn(usize) + Sync + Send) {
    if parallel && count > 1 {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    } else {
        (0..count).for_each(task);
    }
}

/// A pointer that tasks share, each writing where no other does.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: users write disjoint places only, which they argue where they do it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Shares a buffer.
    pub(crate) fn new(start: *mut f32) -> Self {
        Self(start)
    }

    /// The address of number `offset`.
    ///
    /// # Safety
    /// `offset` must lie inside the buffer.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller vouches for it.
        unsafe { self.0.add(offset) }
    }
}
