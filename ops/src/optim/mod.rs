//! What an optimiser step is made of: gradients gathered over micro-batches ([`Gradients`]) and AdamW ([`AdamW`]), both in
//! place and without temporaries the size of the model. Bits do not depend on the number of threads.

mod adamw;
mod gradients;

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};

pub use adamw::{AdamW, AdamWOptions, adamw_slice};
pub use gradients::Gradients;

/// Numbers of one task; elementwise work has the same bits whatever it is, sums have this shape.
const CHUNK: usize = 1 << 14;

/// Lends the numbers of a tensor, row-major, to be changed where they lie. `name` is for the error text.
pub(crate) fn in_place(x: &Tensor, name: &str, mut change: impl FnMut(&mut [f32])) -> Result<()> {
    let change = Mutex::new(&mut change as &mut dyn FnMut(&mut [f32]));
    x.inplace_op1(&Lend { change, name })
}

struct Lend<'a> {
    change: Mutex<&'a mut dyn FnMut(&mut [f32])>,
    name: &'a str,
}

impl InplaceOp1 for Lend<'_> {
    fn name(&self) -> &'static str {
        "optimiser"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let place = layout.contiguous_offsets();
        let (CpuStorage::F32(values), Some((start, end))) = (storage, place) else {
            bail!(
                "{}: expected f32 numbers side by side, found shape {:?} with strides {:?}",
                self.name,
                layout.dims(),
                layout.stride()
            );
        };
        let mut change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        (*change)(&mut values[start..end]);
        Ok(())
    }
}
