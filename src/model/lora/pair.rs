//! One layer's adapter: A, B, the factor, and dropout in training passes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use candle_core::{DType, Result, Tensor};
use candlescope_ops as ops;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Entries of a mask that are drawn one after the other.
const CHUNK: usize = 1 << 14;

/// `s·B A` beside a linear layer `[out, in]`.
#[derive(Debug, Clone)]
pub struct Pair {
    /// `[rank, in]`
    pub a: Tensor,
    /// `[out, rank]`
    pub b: Tensor,
    /// `s`
    pub scale: f64,
    /// In a model that trains.
    pub(super) dropout: Option<Dropout>,
}

/// What the adapters of a model in training share.
#[derive(Debug, Clone)]
pub(super) struct Dropout {
    /// Share of inputs that are zeroed.
    pub share: f64,
    /// Key of the present masks; 0 for none.
    pub key: Arc<AtomicU64>,
    /// The module's place in the model: modules have masks of their own.
    pub module: u64,
}

impl Pair {
    /// What the adapter adds for an input `[.., in]`: `[.., out]`.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn of(&self, x: &Tensor) -> Result<Tensor> {
        self.of_seen(&self.seen(x)?)
    }

    /// [`Self::of`] of an input that has been through [`Self::seen`].
    fn of_seen(&self, x: &Tensor) -> Result<Tensor> {
        let low = (ops::linear(x, &self.a, None)? * self.scale)?;
        ops::linear(&low, &self.b, None)
    }

    /// What the adapter adds for some of a layer's inputs: columns from `start`, `x [.., columns]`.
    pub(in crate::model) fn of_columns(&self, x: &Tensor, start: usize) -> Result<Tensor> {
        let columns = x.dim(x.rank() - 1)?;
        let a = self.a.narrow(1, start, columns)?.contiguous()?;
        let low = (ops::linear(x, &a, None)? * self.scale)?;
        ops::linear(&low, &self.b, None)
    }

    /// The input with dropout: entries are zeroed, the others scaled up. The mask is a function of the key, the module and the
    /// input's shape, so a pass that is run again for its gradient sees the same.
    pub(in crate::model) fn seen(&self, x: &Tensor) -> Result<Tensor> {
        let Some(dropout) = &self.dropout else {
            return Ok(x.clone());
        };
        let key = dropout.key.load(Ordering::Relaxed);
        if key == 0 {
            return Ok(x.clone());
        }
        let mut mask = vec![0.0f32; x.elem_count()];
        let kept = (1.0 / (1.0 - dropout.share)) as f32;
        let bound = (dropout.share * f64::from(u32::MAX)) as u32;
        // Each chunk begins at its own place of the stream, so the mask is the same whatever the number of threads.
        mask.par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(i, chunk)| {
                let mut rng = ChaCha8Rng::seed_from_u64(key);
                rng.set_stream(dropout.module);
                rng.set_word_pos((i * CHUNK) as u128);
                for entry in chunk {
                    *entry = if rng.next_u32() < bound { 0.0 } else { kept };
                }
            });
        x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
    }

    /// `s·B A`, `[out, in]`, in f32 or f64.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn delta(&self) -> Result<Tensor> {
        self.b.detach().matmul(&self.a.detach())? * self.scale
    }

    /// The same numbers off the tape and without dropout.
    pub(in crate::model) fn detached(&self) -> Self {
        Self {
            a: self.a.detach(),
            b: self.b.detach(),
            scale: self.scale,
            dropout: None,
        }
    }

    /// The weight with this adapter in it, in the weight's type.
    pub(in crate::model) fn merged_into(&self, weight: &Tensor) -> Result<Tensor> {
        let delta = self.delta()?;
        (weight.to_dtype(delta.dtype())? + delta)?.to_dtype(weight.dtype())
    }

    /// The dtype it computes in.
    pub fn dtype(&self) -> DType {
        self.a.dtype()
    }
}
