//! Gradient checkpointing (Chen et al. 2016): a block whose inner results are not kept between the passes but computed
//! again in the backward, at the price of one more forward.

use candle_core::{Result, Storage, Tensor, Var, backprop::GradStore, bail};

use super::{Backward, backward, leaves, record_storage, tracks};

/// `block(x)`, which must give the same for the same `x`. Only `x` and the result are kept. The gradients of `x`, and of
/// the variables that the block reads, are those of `block(x)`; they are found by [`backward`] alone: [`Tensor::backward`]
/// is refused.
///
/// # Errors
/// Those of the block.
pub fn checkpoint(
    x: &Tensor,
    block: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let y = block(&x.detach())?;
    let reads_variables = y.track_op();
    if !tracks(x) && !reads_variables {
        return Ok(y);
    }
    // Where only the block's variables track, something must stand on the tape for them.
    let anchor = if tracks(x) {
        x.clone()
    } else {
        Var::from_tensor(x)?.into_inner()
    };
    // A copy of its own, from the first number on.
    let own = y.detach().force_contiguous()?;
    let (storage, _) = own.storage_and_layout();
    let Storage::Cpu(values) = &*storage else {
        bail!("checkpoint: expected tensors on the cpu");
    };
    record_storage(&[&anchor], y.shape().clone(), values.clone(), Block(block))
}

struct Block<F>(F);

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static> Backward for Block<F> {
    const NAME: &'static str = "checkpoint";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        if !leaves::wanted() {
            bail!("checkpoint: its gradients are found by candlescope_ops::backward alone");
        }
        let x = Var::from_tensor(&inputs[0].detach())?;
        let y = (self.0)(&x)?;
        // The gradient of Σ y · grad is that of y times grad.
        let mut found: GradStore = backward(&y.mul(grad)?.sum_all()?)?;
        let dx = match found.remove(&x) {
            Some(dx) => dx,
            None => x.zeros_like()?,
        };
        leaves::give_all(found)?;
        Ok(vec![Some(dx)])
    }
}
