//! One layer's adapter: A, B, the factor, and dropout in training passes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use candle_core::{DType, Result, Tensor};
use candlescope_ops::{self as ops, LowRank, Mask};
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
    /// The update as the kernel takes it, with dropout's mask in a training pass.
    pub(in crate::model) fn update(&self) -> LowRank<'_> {
        LowRank {
            a: &self.a,
            b: &self.b,
            scale: self.scale,
            mask: self.mask(),
        }
    }

    /// What the adapter adds for some of a layer's inputs: columns from `start`, `x [.., columns]`.
    pub(in crate::model) fn of_columns(&self, x: &Tensor, start: usize) -> Result<Tensor> {
        let columns = x.dim(x.rank() - 1)?;
        let a = self.a.narrow(1, start, columns)?.contiguous()?;
        let low = (ops::linear(x, &a, None)? * self.scale)?;
        ops::linear(&low, &self.b, None)
    }

    /// Entries are zeroed, the others scaled up. The mask is a function of the key, the module and the input's shape, so a
    /// pass that is run again for its gradient sees the same, and nobody keeps it.
    fn mask(&self) -> Option<Mask> {
        let dropout = self.dropout.as_ref()?;
        let key = dropout.key.load(Ordering::Relaxed);
        if key == 0 {
            return None;
        }
        let (share, module) = (dropout.share, dropout.module);
        let kept = (1.0 / (1.0 - share)) as f32;
        let bound = (share * f64::from(u32::MAX)) as u32;
        Some(Arc::new(move |numbers: &mut [f32]| {
            // Each chunk begins at its own place of the stream, so the mask is the same whatever the number of threads.
            let chunks = numbers.par_chunks_mut(CHUNK).enumerate();
            chunks.for_each(|(i, chunk)| {
                let mut rng = ChaCha8Rng::seed_from_u64(key);
                rng.set_stream(module);
                rng.set_word_pos((i * CHUNK) as u128);
                for number in chunk {
                    *number *= if rng.next_u32() < bound { 0.0 } else { kept };
                }
            });
        }))
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
