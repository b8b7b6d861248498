//! Taking directions out of vectors: what directional ablation does at every point of every layer, so it must cost no
//! more than reading and writing the tensor once.

use candle_core::{Result, Tensor, bail};

use crate::lanes::{Kernel, Lanes, run};
use crate::linear;
use crate::view::{fill, fused, refuse_empty, rows};

/// `x - amount * (x Bᵀ) B` along the last dimension: `x [.., d]`, orthonormal rows `basis [k, d]`.
///
/// # Errors
/// Empty tensors, or widths that differ.
pub fn project_out(x: &Tensor, basis: &Tensor, amount: f64) -> Result<Tensor> {
    refuse_empty("project_out", "x", x)?;
    refuse_empty("project_out", "basis", basis)?;
    let (_, width) = basis.dims2()?;
    let found = x.dims()[x.rank() - 1];
    if found != width {
        bail!("project_out: x has {found} channels, the basis {width}");
    }
    if !fused(&[x, basis]) {
        let along = linear(x, basis, None)?;
        let back = linear(&along, &basis.t()?.contiguous()?, None)?;
        return x - (back * amount)?;
    }
    let y = rows(x, |x| {
        rows(basis, |basis| {
            let group = (4096 / width).max(1) * width;
            let write = |i: usize, out: *mut f32, n: usize| {
                for start in (0..n).step_by(width) {
                    run(Row {
                        x: &x[i * group + start..][..width],
                        basis,
                        amount: amount as f32,
                        // SAFETY: start + width is at most n.
                        out: unsafe { out.add(start) },
                    });
                }
            };
            // SAFETY: groups are whole rows, and `Row` writes a whole row.
            Ok(unsafe { fill(x.len(), group, write) })
        })
    })?;
    Tensor::from_vec(y, x.dims(), x.device())
}

/// One row; `basis` is whole rows of its length, and `out` has room for it.
struct Row<'a> {
    x: &'a [f32],
    basis: &'a [f32],
    amount: f32,
    out: *mut f32,
}

impl Kernel for Row<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = self.x.len();
        // SAFETY: start + n stays within the width throughout, and out is as long as x.
        unsafe {
            std::ptr::copy_nonoverlapping(self.x.as_ptr(), self.out, width);
            // Each component is taken from what the others left; for orthonormal rows the order does not matter.
            for r in self.basis.chunks_exact(width) {
                let mut sums = [V::splat(0.0); 4];
                for (i, start) in (0..width).step_by(V::N).enumerate() {
                    let n = V::N.min(width - start);
                    let r = V::load_part_or_all(r.as_ptr().add(start), n, 0.0);
                    let y = V::load_part_or_all(self.out.add(start), n, 0.0);
                    sums[i % 4] = y.mul_add(r, sums[i % 4]);
                }
                let [a, b, c, d] = V::fold_four(sums);
                let along = V::splat(-((a + b) + (c + d)) * self.amount);
                for start in (0..width).step_by(V::N) {
                    let n = V::N.min(width - start);
                    let r = V::load_part_or_all(r.as_ptr().add(start), n, 0.0);
                    let y = V::load_part_or_all(self.out.add(start), n, 0.0);
                    r.mul_add(along, y)
                        .store_part_or_all(self.out.add(start), n);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device, Var};

    use super::*;

    fn numbers(shape: &[usize], factor: f64) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|i| (i as f64 * factor).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Two orthonormal rows of width 37.
    fn basis() -> Tensor {
        let mut rows = [vec![0.0; 37], vec![0.0; 37]];
        (rows[0][3], rows[0][36], rows[1][20]) = (0.6, 0.8, 1.0);
        Tensor::from_vec(rows.concat(), (2, 37), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_kernel_equals_the_expression_in_f64_and_leaves_nothing_along_the_basis() {
        let (x, basis) = (numbers(&[2, 5, 37], 0.7), basis());
        let exact = project_out(&x, &basis, 1.0).unwrap();
        let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
        let fast = project_out(&single(&x), &single(&basis), 1.0).unwrap();
        let gap = (fast.to_dtype(DType::F64).unwrap() - &exact)
            .unwrap()
            .abs()
            .unwrap();
        assert!(gap.max_all().unwrap().to_scalar::<f64>().unwrap() < 3e-7);
        let left = linear(&exact, &basis, None)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert!(left.to_scalar::<f64>().unwrap() < 1e-15);
        let half = project_out(&x, &basis, 0.5).unwrap();
        let middle = ((&x + &exact).unwrap() * 0.5).unwrap();
        let gap = (half - middle).unwrap().abs().unwrap().max_all().unwrap();
        assert!(gap.to_scalar::<f64>().unwrap() < 1e-15);
    }

    #[test]
    fn a_gradient_passes_with_the_direction_taken_out_of_it() {
        let x = Var::from_tensor(&numbers(&[3, 37], 0.3)).unwrap();
        let weight = numbers(&[3, 37], 1.1);
        let loss = (project_out(x.as_tensor(), &basis(), 1.0).unwrap() * &weight).unwrap();
        let grads = loss.sum_all().unwrap().backward().unwrap();
        let expected = project_out(&weight, &basis(), 1.0).unwrap();
        let gap = (grads.get(&x).unwrap() - expected)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert!(gap.to_scalar::<f64>().unwrap() < 1e-14);
    }
}
