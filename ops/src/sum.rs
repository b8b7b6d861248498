//! Sums of two tensors of one shape: what a block adds to the residual stream. Candle spreads its own over a pool of
//! threads beside rayon's, and the two wait for each other.

use candle_core::{Result, Tensor};

use crate::grad::{Backward, record, tracks};
use crate::lanes::{Kernel, Lanes, run};
use crate::view::{f32_on_cpu, fill, rows};

/// `x + y`, of equal shapes.
///
/// # Errors
/// Shapes that differ.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() != y.dims() || x.elem_count() == 0 || !f32_on_cpu(&[x, y]) {
        return x + y;
    }
    let sum = rows(x, |x| {
        rows(y, |y| {
            let write = |i: usize, out: *mut f32, n: usize| {
                let at = i * CHUNK..i * CHUNK + n;
                let (x, y) = (&x[at.clone()], &y[at]);
                run(Chunk { x, y, out });
            };
            // SAFETY: `Chunk` writes as many numbers as it reads.
            Ok(unsafe { fill(x.len(), CHUNK, write) })
        })
    })?;
    if tracks(x) || tracks(y) {
        return record(&[x, y], x.dims(), sum, Add);
    }
    Tensor::from_vec(sum, x.dims(), x.device())
}

/// The backward: both terms have the sum's gradient.
struct Add;

impl Backward for Add {
    const NAME: &'static str = "add";
    const FRESH: bool = false;
    const READS: bool = false;

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let of = |x: &&Tensor| tracks(x).then(|| grad.clone());
        Ok(inputs.iter().map(of).collect())
    }
}

const CHUNK: usize = 1 << 13;

/// `out` has room for as many numbers as `x` and `y` have.
struct Chunk<'a> {
    x: &'a [f32],
    y: &'a [f32],
    out: *mut f32,
}

impl Kernel for Chunk<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        for start in (0..self.x.len()).step_by(V::N) {
            let n = V::N.min(self.x.len() - start);
            // SAFETY: start + n stays within all three.
            unsafe {
                let load = |from: &[f32]| V::load_part_or_all(from.as_ptr().add(start), n, 0.0);
                load(self.x)
                    .add(load(self.y))
                    .store_part_or_all(self.out.add(start), n);
            }
        }
    }
}
