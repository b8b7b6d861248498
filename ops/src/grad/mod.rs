//! Fused kernels on candle's tape: a result that a kernel has computed is recorded with the code of its backward.
//!
//! What always holds: the forward is the untracked kernel itself, so tracking changes no bit; an operand that does not
//! track gets no gradient computed; every backward is a function of its inputs alone, with sums of a fixed shape, so the
//! bits do not depend on the number of threads. How gradients travel is [`tape`]'s; products of all backwards are
//! [`product`]'s.

mod checkpoint;
mod leaves;
pub(crate) mod linear;
pub(crate) mod product;
mod sums;
mod tape;

use candle_core::{Result, Tensor, backprop::GradStore};

pub use checkpoint::checkpoint;
pub(crate) use leaves::take as found;
pub(crate) use sums::column_sums;
pub use tape::reshape;
pub(crate) use tape::{record, record_storage};

/// The backward of one kernel.
pub(crate) trait Backward: Send + Sync + 'static {
    /// For error texts.
    const NAME: &'static str;
    /// Whether its gradients are fresh tensors, and not the result's own gradient handed on.
    const FRESH: bool = true;
    /// Whether it reads its inputs' numbers. If not, they need not live until the backward, and it may ask of an input
    /// nothing but whether it tracks.
    const READS: bool = true;

    /// The gradient of each input, `None` where [`tracks`] denies it; `grad` is that of the result, of its shape.
    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>>;
}

/// Whether anybody wants this tensor's gradient.
pub(crate) fn tracks(x: &Tensor) -> bool {
    x.track_op()
}

/// All gradients of a scalar loss. As [`Tensor::backward`], but on a thread of rayon's pool, so that its several hundred
/// kernels are not handed over to the pool one by one, without candle's detour for the gradients of variables (see
/// [`leaves`]), and once: what the kernels kept of the forward is freed on the way.
///
/// # Errors
/// Those of the backwards; a loss that this has run over before.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    rayon::scope(|_| {
        let (found, leaves) = leaves::collected(|| loss.backward());
        let mut found = found?;
        found.extend(leaves)?;
        Ok(found)
    })
}
