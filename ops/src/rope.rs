//! Rotary position embedding (Su et al. 2021), half-split convention, on `[batch, pos, head, channel]` so that no
//! transpose is needed before or after.

use candle_core::{D, Result, Tensor, bail};

use crate::grad::{Backward, record, tracks};
use crate::lanes::{Kernel, Lanes, run};
use crate::view::{f32_on_cpu, fill, refuse_empty, rows};

/// Rotates the first `rot` channels of each head; the rest pass through.
///
/// `x [b, s, h, d]`; `cos` and `sin [1 or b, s, rot / 2]`. Channel `i < rot / 2` is paired with `i + rot / 2`:
/// `x1' = x1 cos - x2 sin`, `x2' = x2 cos + x1 sin`.
///
/// # Errors
/// Empty shapes, or tables that do not go with `x`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    refuse_empty("rope", "x", x)?;
    refuse_empty("rope", "cos", cos)?;
    let (batch, positions, _, width) = x.dims4()?;
    let (table_rows, table_positions, half) = cos.dims3()?;
    if cos.dims() != sin.dims() {
        bail!(
            "rope: cos {:?} and sin {:?} differ in shape",
            cos.dims(),
            sin.dims()
        );
    }
    if (table_rows != 1 && table_rows != batch) || table_positions != positions || 2 * half > width
    {
        bail!(
            "rope: tables of shape {:?} do not go with x of shape {:?}; expected [1 or {batch}, {positions}, at most {}]",
            cos.dims(),
            x.dims(),
            width / 2
        );
    }
    if !f32_on_cpu(&[x, cos, sin]) || tracks(cos) || tracks(sin) {
        return plain(x, cos, sin, half);
    }
    let y = rows(x, |x_values| {
        rows(cos, |cos| {
            rows(sin, |sin| Ok(rotate(x_values, x.dims(), cos, sin, half)))
        })
    })?;
    if tracks(x) {
        let (cos, sin) = (cos.clone(), sin.clone());
        return record(&[x], x.dims(), y, Turn { cos, sin });
    }
    Tensor::from_vec(y, x.dims(), x.device())
}

/// The backward: a rotation's transpose is the rotation back.
struct Turn {
    cos: Tensor,
    sin: Tensor,
}

impl Backward for Turn {
    const NAME: &'static str = "rope";
    const READS: bool = false;

    fn gradients(&self, _: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(rope(grad, &self.cos, &self.sin.neg()?)?)])
    }
}

/// One task is one position of one row: all its heads share the table's line.
fn rotate(x: &[f32], shape: &[usize], cos: &[f32], sin: &[f32], half: usize) -> Vec<f32> {
    let (width, chunk) = (shape[3], shape[2] * shape[3]);
    let lines = cos.len() / half;
    let write = |i: usize, out: *mut f32, n: usize| {
        let line = (i % lines) * half;
        run(Heads {
            x: &x[i * chunk..i * chunk + n],
            width,
            cos: &cos[line..line + half],
            sin: &sin[line..line + half],
            out,
        });
    };
    // SAFETY: `Heads` writes every channel of every head of the chunk.
    unsafe { fill(x.len(), chunk, write) }
}

/// The heads of one position, `width` channels each; `cos` and `sin` at most `width / 2` long; `out` as long as `x`.
struct Heads<'a> {
    x: &'a [f32],
    width: usize,
    cos: &'a [f32],
    sin: &'a [f32],
    out: *mut f32,
}

impl Kernel for Heads<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let half = self.cos.len();
        for head in (0..self.x.len()).step_by(self.width) {
            for i in (0..half).step_by(V::N) {
                let n = V::N.min(half - i);
                // SAFETY: i + n <= half and 2 half <= width, so both halves lie within the head.
                unsafe {
                    let load = |from: &[f32], at: usize| {
                        V::load_part_or_all(from.as_ptr().add(at), n, 0.0)
                    };
                    let (cos, sin) = (load(self.cos, i), load(self.sin, i));
                    let (first, second) = (load(self.x, head + i), load(self.x, head + half + i));
                    let turned = first.mul(cos).sub(second.mul(sin));
                    turned.store_part_or_all(self.out.add(head + i), n);
                    let turned = second.mul(cos).add(first.mul(sin));
                    turned.store_part_or_all(self.out.add(head + half + i), n);
                }
            }
            let rest = &self.x[head + 2 * half..head + self.width];
            // SAFETY: the rest of the head, which out has room for.
            unsafe {
                let to = self.out.add(head + 2 * half);
                std::ptr::copy_nonoverlapping(rest.as_ptr(), to, rest.len());
            }
        }
    }
}

fn plain(x: &Tensor, cos: &Tensor, sin: &Tensor, half: usize) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let cos = cos.to_dtype(x.dtype())?.unsqueeze(2)?;
    let sin = sin.to_dtype(x.dtype())?.unsqueeze(2)?;
    let first = x.narrow(D::Minus1, 0, half)?;
    let second = x.narrow(D::Minus1, half, half)?;
    let mut parts = vec![
        (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?,
        (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?,
    ];
    if 2 * half < width {
        parts.push(x.narrow(D::Minus1, 2 * half, width - 2 * half)?);
    }
    Tensor::cat(&parts, D::Minus1)
}
