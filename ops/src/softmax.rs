//! Softmax and its logarithm over the last dimension. A row that is `-inf` throughout (a query that sees no key) has
//! probability zero everywhere instead of NaN; a NaN or `+inf` in a row makes the whole row NaN.

use candle_core::{D, DType, Result, Tensor};
use rayon::prelude::*;

use crate::exp::exp;
use crate::lanes::{Kernel, Lanes, run};
use crate::view::{fill, fused, refuse_empty, rows};

/// `exp(x) / Σ exp(x)` over the last dimension; rows that are all `-inf` give zeros.
///
/// # Errors
/// An empty tensor.
pub fn softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    refuse_empty("softmax_last_dim", "x", x)?;
    if !fused(&[x]) {
        return softmax_plain(x);
    }
    by_row(x, |row, out| {
        run(ExpRow {
            x: row,
            out: Some(out),
            scale_out: true,
        });
    })
}

/// `x - log Σ exp(x)` over the last dimension; rows that are all `-inf` stay `-inf`.
///
/// # Errors
/// An empty tensor.
pub fn log_softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    refuse_empty("log_softmax_last_dim", "x", x)?;
    if !fused(&[x]) {
        let parts = Centred::new(x)?;
        return parts.shifted.broadcast_sub(&parts.sum.log()?);
    }
    by_row(x, |row, out| {
        let lse = run(ExpRow {
            x: row,
            out: None,
            scale_out: false,
        })
        .logsumexp();
        run(Minus { x: row, lse, out });
    })
}

/// `log Σ exp(x)` over the last dimension, which is dropped: `[.., n]` to `[..]`; rows that are all `-inf` give `-inf`.
///
/// # Errors
/// An empty tensor.
pub fn logsumexp_last_dim(x: &Tensor) -> Result<Tensor> {
    refuse_empty("logsumexp_last_dim", "x", x)?;
    if !fused(&[x]) {
        let parts = Centred::new(x)?;
        return (parts.sum.log()? + parts.max)?.squeeze(D::Minus1);
    }
    let (shape, width) = (x.dims(), x.dim(D::Minus1)?);
    let lse = rows(x, |x| {
        let one = |row| {
            run(ExpRow {
                x: row,
                out: None,
                scale_out: false,
            })
            .logsumexp() as f32
        };
        Ok(x.par_chunks_exact(width).map(one).collect::<Vec<f32>>())
    })?;
    Tensor::from_vec(lse, &shape[..shape.len() - 1], x.device())
}

/// The differentiable softmax.
pub(crate) fn softmax_plain(x: &Tensor) -> Result<Tensor> {
    let parts = Centred::new(x)?;
    parts.exp.broadcast_div(&parts.sum)
}

/// What the three functions share, in candle expressions. The maximum is a constant for the gradient: it cancels.
struct Centred {
    /// Row maximum, `[.., 1]`, possibly `-inf`.
    max: Tensor,
    /// `x - max`, where an infinite maximum counts as 0.
    shifted: Tensor,
    /// `exp(shifted)`.
    exp: Tensor,
    /// Row sums of `exp`, 1 where the row is empty so that neither division nor logarithm gives NaN.
    sum: Tensor,
}

impl Centred {
    fn new(x: &Tensor) -> Result<Self> {
        let max = x.detach().max_keepdim(D::Minus1)?;
        let empty = max.eq(f64::NEG_INFINITY)?;
        let finite = empty.where_cond(&max.zeros_like()?, &max)?;
        let shifted = x.broadcast_sub(&finite)?;
        let exp = shifted.exp()?;
        let one_if_empty = empty.to_dtype(DType::F32)?.to_dtype(x.dtype())?;
        let sum = (exp.sum_keepdim(D::Minus1)? + one_if_empty)?;
        Ok(Self {
            max,
            shifted,
            exp,
            sum,
        })
    }
}

/// Maps each row to a row of the same length; `write` must fill the row at the pointer.
fn by_row(x: &Tensor, write: impl Fn(&[f32], *mut f32) + Sync) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let y = rows(x, |x| {
        let group = (4096 / width).max(1) * width;
        let write_group = |i: usize, out: *mut f32, n: usize| {
            for start in (0..n).step_by(width) {
                // SAFETY: groups are whole rows, so start + width is at most n.
                write(&x[i * group + start..][..width], unsafe { out.add(start) });
            }
        };
        // SAFETY: each row of each group is written, which `by_row` asks of its callers.
        Ok(unsafe { fill(x.len(), group, write_group) })
    })?;
    Tensor::from_vec(y, x.dims(), x.device())
}

/// What a row's exponentials come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSum {
    /// The row's maximum, possibly `-inf`.
    pub max: f32,
    /// `Σ exp(x - max)`; 0 if all are `-inf`, NaN if any is NaN.
    pub sum: f64,
}

impl RowSum {
    /// What the exponentials are to be multiplied by: 0 for an empty row.
    #[inline(always)]
    pub(crate) fn factor(self) -> f32 {
        if self.sum == 0.0 {
            0.0
        } else {
            (1.0 / self.sum) as f32
        }
    }

    fn logsumexp(self) -> f64 {
        f64::from(finite(self.max)) + self.sum.ln()
    }
}

/// An infinite negative maximum counts as 0, so that `-inf - max` stays `-inf`.
#[inline(always)]
fn finite(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// `exp(x - max)` of one row with its sum. `out`, if there, may be `x` itself and has room for as many numbers; they
/// are divided by the sum if `scale_out`.
pub(crate) struct ExpRow<'a> {
    pub x: &'a [f32],
    pub out: Option<*mut f32>,
    pub scale_out: bool,
}

impl Kernel for ExpRow<'_> {
    type Out = RowSum;
    #[inline(always)]
    fn run<V: Lanes>(self) -> RowSum {
        // SAFETY: x is as long as it says, and the fields' contract gives `out` the same room.
        unsafe { exp_row::<V>(self.x.as_ptr(), self.out, self.x.len(), self.scale_out) }
    }
}

/// Numbers whose exponentials are summed in single precision before the sum goes on in double.
pub(crate) const BLOCK: usize = 512;

/// As [`ExpRow`], on pointers so that a row can be rewritten in place.
///
/// # Safety
/// `len` numbers readable at `x` and writable at `out`; the two may be equal but not overlap otherwise.
#[inline(always)]
pub(crate) unsafe fn exp_row<V: Lanes>(
    x: *const f32,
    out: Option<*mut f32>,
    len: usize,
    scale_out: bool,
) -> RowSum {
    // SAFETY: all accesses are of numbers start .. start + n with start + n <= len.
    unsafe {
        let mut highest = [V::splat(f32::NEG_INFINITY); 4];
        for (i, start) in (0..len).step_by(V::N).enumerate() {
            let part = V::load_part_or_all(x.add(start), V::N.min(len - start), f32::NEG_INFINITY);
            highest[i % 4] = highest[i % 4].max(part);
        }
        // A NaN may be lost here; the sum finds it again.
        let [a, b, c, d] = highest;
        let max = a.max(b).max(c.max(d)).highest();
        let shift = V::splat(finite(max));
        let mut sum = 0.0;
        for block in (0..len).step_by(BLOCK) {
            let mut lanes = [V::splat(0.0); 2];
            for (i, start) in (block..len.min(block + BLOCK)).step_by(V::N).enumerate() {
                let n = V::N.min(len - start);
                let y = exp(V::load_part_or_all(x.add(start), n, f32::NEG_INFINITY).sub(shift));
                lanes[i % 2] = lanes[i % 2].add(y);
                if let Some(out) = out {
                    y.store_part_or_all(out.add(start), n);
                }
            }
            sum += lanes[0].add(lanes[1]).sum();
        }
        let parts = RowSum { max, sum };
        if let (Some(out), true) = (out, scale_out) {
            let factor = V::splat(parts.factor());
            for start in (0..len).step_by(V::N) {
                let n = V::N.min(len - start);
                V::load_part_or_all(out.add(start), n, 0.0)
                    .mul(factor)
                    .store_part_or_all(out.add(start), n);
            }
        }
        parts
    }
}

/// `x - lse` of one row; `out` has room for as many numbers.
struct Minus<'a> {
    x: &'a [f32],
    lse: f64,
    out: *mut f32,
}

impl Kernel for Minus<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        // An empty row stays -inf; -inf - -inf would make it NaN.
        let lse = V::splat(finite(self.lse as f32));
        for start in (0..self.x.len()).step_by(V::N) {
            let n = V::N.min(self.x.len() - start);
            // SAFETY: start + n stays within x, and out is as long.
            unsafe {
                V::load_part_or_all(self.x.as_ptr().add(start), n, 0.0)
                    .sub(lse)
                    .store_part_or_all(self.out.add(start), n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exp::tests::LEVELS;
    use crate::lanes::run_at;

    #[test]
    fn every_level_normalises_in_place() {
        for len in [1, 7, 16, 33, 700, 1100] {
            let x: Vec<f32> = (0..len).map(|i| 5.0 * (i as f32 * 0.7).sin()).collect();
            let total: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            for level in LEVELS {
                let mut y = x.clone();
                let out = Some(y.as_mut_ptr());
                let parts = run_at(
                    level,
                    ExpRow {
                        x: &x,
                        out,
                        scale_out: true,
                    },
                );
                assert!(
                    (parts.logsumexp() - total.ln()).abs() < 5e-7,
                    "{level:?} {len}"
                );
                for (&x, &y) in x.iter().zip(&y) {
                    let exact = f64::from(x).exp() / total;
                    // The shift by the maximum rounds at 6e-7 at most, exp and the factor add 3e-7.
                    assert!(
                        (f64::from(y) - exact).abs() < 1e-6 * exact,
                        "{level:?} {len}"
                    );
                }
            }
        }
    }
}
