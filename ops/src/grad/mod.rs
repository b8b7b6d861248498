//! Fused kernels on candle's tape: a result that a kernel has computed is recorded with the code of its backward.
//!
//! What always holds: the forward is the untracked kernel itself, so tracking changes no bit; an operand that does not
//! track gets no gradient computed; every backward is a function of its inputs alone, with sums of a fixed shape, so the
//! bits do not depend on the number of threads. Matrix products of all backwards are [`product`]'s.

pub(crate) mod linear;
pub(crate) mod product;
mod sums;

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor,
    backprop::GradStore, bail,
};

pub(crate) use sums::column_sums;

/// The backward of one kernel.
pub(crate) trait Backward: Send + Sync + 'static {
    /// For error texts.
    const NAME: &'static str;

    /// The gradient of each input, `None` where [`tracks`] denies it; `grad` is that of the result.
    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>>;
}

/// Whether anybody wants this tensor's gradient.
pub(crate) fn tracks(x: &Tensor) -> bool {
    x.track_op()
}

/// The kernel's result `values` as a tensor, on the tape if one of its one to three inputs is.
pub(crate) fn record(
    inputs: &[&Tensor],
    shape: impl Into<Shape>,
    values: Vec<f32>,
    backward: impl Backward,
) -> Result<Tensor> {
    record_storage(inputs, shape.into(), CpuStorage::F32(values), backward)
}

/// As [`record`], for a result of any type.
pub(crate) fn record_storage<B: Backward>(
    inputs: &[&Tensor],
    shape: Shape,
    values: CpuStorage,
    backward: B,
) -> Result<Tensor> {
    let ready = Mutex::new(Some((values, shape)));
    let node = Node { ready, backward };
    match inputs {
        [a] => a.apply_op1(node),
        [a, b] => a.apply_op2(b, node),
        [a, b, c] => a.apply_op3(b, c, node),
        _ => bail!("{}: {} inputs", B::NAME, inputs.len()),
    }
}

/// All gradients of a scalar loss. As [`Tensor::backward`], on a thread of rayon's pool, so that its several hundred
/// kernels are not handed over to the pool one by one.
///
/// # Errors
/// Those of the backwards.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    rayon::scope(|_| loss.backward())
}

/// What candle's tape holds: the result until candle has taken it, and the backward.
struct Node<B> {
    ready: Mutex<Option<(CpuStorage, Shape)>>,
    backward: B,
}

impl<B: Backward> Node<B> {
    fn take(&self) -> Result<(CpuStorage, Shape)> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match ready.take() {
            Some(result) => Ok(result),
            None => bail!("{}: the result was taken twice", B::NAME),
        }
    }

    fn back<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        match self.backward.gradients(&inputs, grad)?.try_into() {
            Ok(grads) => Ok(grads),
            Err(_) => bail!("{}: its backward has not one gradient an input", B::NAME),
        }
    }
}

impl<B: Backward> CustomOp1 for Node<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, a: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.back([a], grad)?;
        Ok(a)
    }
}

impl<B: Backward> CustomOp2 for Node<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.back([a, b], grad)?;
        Ok((a, b))
    }
}

impl<B: Backward> CustomOp3 for Node<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.back([a, b, c], grad)?;
        Ok((a, b, c))
    }
}
