//! Normalisation of the last dimension. Sums are carried in enough lanes and widened to f64 at the end, so that the
//! result differs from exact arithmetic by about one unit in the last place.

use candle_core::{D, Result, Tensor, bail};

use crate::grad::{Backward, column_sums, record, tracks};
use crate::lanes::{Kernel, Lanes, run};
use crate::view::{Shared, f32_on_cpu, fill, refuse_empty, rows, tasks};

/// Root-mean-square norm of the last dimension: `x / sqrt(mean(x²) + eps) · gain`, `x [.., d]`, `gain [d]`
/// (Zhang and Sennrich 2019).
///
/// # Errors
/// Empty shapes, or a gain of another length.
pub fn rms_norm(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    check("rms_norm", x, gain, None)?;
    if !f32_on_cpu(&[x, gain]) {
        return rms_plain(x, gain, eps);
    }
    normalise(x, gain, None, eps, false)
}

/// Layer norm of the last dimension: `(x - mean) / sqrt(var + eps) · gain + bias`, `x [.., d]`, `gain` and `bias [d]`
/// (Ba et al. 2016); the variance is the biased one.
///
/// # Errors
/// Empty shapes, or a gain or bias of another length.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    check("layer_norm", x, gain, bias)?;
    let mut inputs = vec![x, gain];
    inputs.extend(bias);
    if !f32_on_cpu(&inputs) {
        return layer_plain(x, gain, bias, eps);
    }
    normalise(x, gain, bias, eps, true)
}

fn check(op: &str, x: &Tensor, gain: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    refuse_empty(op, "x", x)?;
    let width = x.dims()[x.rank() - 1];
    for (name, t) in [("gain", Some(gain)), ("bias", bias)] {
        if let Some(t) = t
            && t.dims() != [width]
        {
            bail!("{op}: {name} has shape {:?}, expected [{width}]", t.dims());
        }
    }
    Ok(())
}

fn rms_plain(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + eps)?.sqrt()?)?
        .broadcast_mul(&gain.to_dtype(x.dtype())?)
}

fn layer_plain(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let y = centred
        .broadcast_div(&(variance + eps)?.sqrt()?)?
        .broadcast_mul(&gain.to_dtype(x.dtype())?)?;
    match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?),
        None => Ok(y),
    }
}

/// Both norms, fused: one row at a time while it is in the first cache.
fn normalise(
    x: &Tensor,
    gain: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
    centred: bool,
) -> Result<Tensor> {
    let width = gain.elem_count();
    let bias_tensor = bias;
    let bias = bias.map(Tensor::to_vec1::<f32>).transpose()?;
    let y = rows(x, |x| {
        rows(gain, |gain| {
            let group = (4096 / width).max(1) * width;
            let write = |i: usize, out: *mut f32, n: usize| {
                for start in (0..n).step_by(width) {
                    let row = &x[i * group + start..][..width];
                    // SAFETY: start + width is at most n.
                    let out = unsafe { out.add(start) };
                    run(Row {
                        x: row,
                        gain,
                        bias: bias.as_deref(),
                        eps,
                        centred,
                        out,
                    });
                }
            };
            // SAFETY: groups are whole rows, and `Row` writes a whole row.
            Ok(unsafe { fill(x.len(), group, write) })
        })
    })?;
    let mut inputs = vec![x, gain];
    inputs.extend(bias_tensor);
    if inputs.iter().any(|t| tracks(t)) {
        return record(&inputs, x.dims(), y, Norm { eps, centred });
    }
    Tensor::from_vec(y, x.dims(), x.device())
}

/// One row; `gain` and `bias` are as long as `x`, and `out` has room for as much.
struct Row<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f64,
    /// Whether the mean is taken off first.
    centred: bool,
    out: *mut f32,
}

impl Kernel for Row<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (shift, factor) = moments::<V>(self.x, self.eps, self.centred);
        let (shift, factor) = (V::splat(shift), V::splat(factor));
        for start in (0..self.x.len()).step_by(V::N) {
            let n = V::N.min(self.x.len() - start);
            // SAFETY: start + n stays within x, and gain, bias and out are as long.
            unsafe {
                let load = |from: &[f32]| V::load_part_or_all(from.as_ptr().add(start), n, 0.0);
                let y = load(self.x).sub(shift).mul(factor);
                let y = match self.bias {
                    Some(bias) => y.mul_add(load(self.gain), load(bias)),
                    None => y.mul(load(self.gain)),
                };
                y.store_part_or_all(self.out.add(start), n);
            }
        }
    }
}

/// What a row is shifted by and multiplied with to be normal.
#[inline(always)]
fn moments<V: Lanes>(x: &[f32], eps: f64, centred: bool) -> (f32, f32) {
    let count = x.len() as f64;
    let mean = if centred {
        (sum_of(x, 0.0, |x: V| x) / count) as f32
    } else {
        0.0
    };
    let shift = V::splat(mean);
    let squares = sum_of(x, mean, |x: V| {
        let x = x.sub(shift);
        x.mul(x)
    });
    (mean, (1.0 / (squares / count + eps).sqrt()) as f32)
}

/// Sum of `f(x)`, f64 between blocks of 512 numbers; `f(fill)` must be 0, as it stands for the missing numbers at the end.
#[inline(always)]
fn sum_of<V: Lanes>(x: &[f32], fill: f32, f: impl Fn(V) -> V) -> f64 {
    let mut total = 0.0;
    for block in x.chunks(512) {
        let mut lanes = [V::splat(0.0); 4];
        for (i, start) in (0..block.len()).step_by(V::N).enumerate() {
            let n = V::N.min(block.len() - start);
            // SAFETY: start + n stays within the block.
            let part = unsafe { V::load_part_or_all(block.as_ptr().add(start), n, fill) };
            lanes[i % 4] = lanes[i % 4].add(f(part));
        }
        total += lanes.iter().map(|lane| lane.sum()).sum::<f64>();
    }
    total
}

/// The backward of both norms. With `n = (x - mean) · r` and `h = dy · gain`,
/// `dx = r (h - mean(h) - n mean(h n))`, the middle term for the centred norm alone; `dgain = Σ dy n`, `dbias = Σ dy`.
struct Norm {
    eps: f64,
    centred: bool,
}

/// Rows of one task of the backward; their share of `dgain` is summed before it is stored.
const ROWS_A_TASK: usize = 16;
/// From this many numbers on, tasks go to several threads.
const PARALLEL_FROM: usize = 1 << 15;

impl Backward for Norm {
    const NAME: &'static str = "norm";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (x, gain) = (inputs[0], inputs[1]);
        let width = gain.elem_count();
        let (dx, shares) = rows(x, |x| {
            rows(gain, |gain| {
                rows(grad, |dy| Ok(self.dx_and_shares(x, gain, dy)))
            })
        })?;
        let of_gain = || Tensor::from_vec(column_sums(&shares, width), width, x.device());
        let mut grads = vec![
            Some(Tensor::from_vec(dx, x.dims(), x.device())?),
            tracks(gain).then(of_gain).transpose()?,
        ];
        if let Some(bias) = inputs.get(2) {
            let of_bias = || {
                let sums = rows(grad, |dy| Ok(column_sums(dy, width)))?;
                Tensor::from_vec(sums, width, x.device())
            };
            grads.push(tracks(bias).then(of_bias).transpose()?);
        }
        Ok(grads)
    }
}

impl Norm {
    /// `dx`, and each task's share of `dgain`, one row for each.
    fn dx_and_shares(&self, x: &[f32], gain: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = gain.len();
        let chunk = ROWS_A_TASK * width;
        let count = x.len().div_ceil(chunk);
        let mut dx: Vec<f32> = Vec::with_capacity(x.len());
        let mut shares = vec![0.0; count * width];
        let (to, share) = (
            Shared::new(dx.as_mut_ptr()),
            Shared::new(shares.as_mut_ptr()),
        );
        tasks(count, x.len() >= PARALLEL_FROM, |i| {
            let end = ((i + 1) * chunk).min(x.len());
            for start in (i * chunk..end).step_by(width) {
                // SAFETY: rows of dx and row i of the shares are this task's.
                let (dx, share) = unsafe { (to.at(start), share.at(i * width)) };
                run(RowBack {
                    x: &x[start..start + width],
                    gain,
                    dy: &dy[start..start + width],
                    norm: self,
                    dx,
                    share,
                });
            }
        });
        // SAFETY: the tasks cover every row.
        unsafe { dx.set_len(x.len()) };
        (dx, shares)
    }
}

/// One row backwards: `dx` is written, `share` added to; both have room for the row.
struct RowBack<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    dy: &'a [f32],
    norm: &'a Norm,
    dx: *mut f32,
    share: *mut f32,
}

impl Kernel for RowBack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (len, zero) = (self.x.len(), V::splat(0.0));
        let (shift, factor) = moments::<V>(self.x, self.norm.eps, self.norm.centred);
        let (shift, factor) = (V::splat(shift), V::splat(factor));
        // SAFETY: start + n stays within the row throughout, and all fields are as long.
        unsafe {
            let load = |from: *const f32, start: usize, n: usize| {
                V::load_part_or_all(from.add(start), n, 0.0)
            };
            let (x, gain, dy) = (self.x.as_ptr(), self.gain.as_ptr(), self.dy.as_ptr());
            let (mut mean, mut along) = (0.0, 0.0);
            for block in (0..len).step_by(512) {
                let (mut sums, mut products) = ([zero; 2], [zero; 2]);
                for (i, start) in (block..len.min(block + 512)).step_by(V::N).enumerate() {
                    let n = V::N.min(len - start);
                    let dy = load(dy, start, n);
                    let normal = load(x, start, n).sub(shift).mul(factor);
                    let part = dy.mul(load(gain, start, n));
                    sums[i % 2] = sums[i % 2].add(part);
                    products[i % 2] = part.mul_add(normal, products[i % 2]);
                    let share = self.share.add(start);
                    dy.mul_add(normal, load(share, 0, n))
                        .store_part_or_all(share, n);
                }
                mean += sums[0].add(sums[1]).sum();
                along += products[0].add(products[1]).sum();
            }
            let count = len as f64;
            let mean = if self.norm.centred { mean / count } else { 0.0 };
            let (mean, along) = (V::splat(mean as f32), V::splat((along / count) as f32));
            for start in (0..len).step_by(V::N) {
                let n = V::N.min(len - start);
                let normal = load(x, start, n).sub(shift).mul(factor);
                let part = load(dy, start, n).mul(load(gain, start, n));
                part.sub(mean)
                    .sub(normal.mul(along))
                    .mul(factor)
                    .store_part_or_all(self.dx.add(start), n);
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
    fn every_level_normalises_a_row() {
        for len in [2, 7, 16, 33, 700, 1100] {
            let x: Vec<f32> = (0..len).map(|i| 1.0 + (i as f32 * 0.7).sin()).collect();
            let (gain, bias) = (vec![2.0; len], vec![0.5; len]);
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
            for (level, centred) in LEVELS.into_iter().flat_map(|l| [(l, false), (l, true)]) {
                let shift = if centred { mean } else { 0.0 };
                let square: f64 = x.iter().map(|&x| (f64::from(x) - shift).powi(2)).sum();
                let factor = 2.0 / (square / len as f64 + 1e-5).sqrt();
                let mut y = vec![f32::NAN; len];
                let row = Row {
                    x: &x,
                    gain: &gain,
                    bias: Some(&bias),
                    eps: 1e-5,
                    centred,
                    out: y.as_mut_ptr(),
                };
                run_at(level, row);
                for (&x, &y) in x.iter().zip(&y) {
                    let exact = (f64::from(x) - shift) * factor + 0.5;
                    assert!(
                        (f64::from(y) - exact).abs() < 2e-6,
                        "{level:?} {len}: {y} {exact}"
                    );
                }
            }
        }
    }
}
