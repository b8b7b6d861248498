//! Edits that move a tensor within the span of one or two directions: everything orthogonal to them stays as it is.
//!
//! Always: the part along the directions is read by one product and the change is put back by another, so a row's result
//! does not depend on the rows beside it. Next: `edit.rs`, which prepares the bases and says what each edit is.

use candle_core::{DType, Device, Result, Tensor};
use candlescope_ops as ops;

use super::Vector;

/// What is done with the coordinates along orthonormal directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Move {
    /// Into `[min, max]`.
    Clamp(f64, f64),
    /// The positive part is taken out, this much of it.
    OneSided(f64),
    /// Towards a value by a share of the way.
    Affine(f64, f64),
    /// Turned in the plane by an angle, radians.
    By(f64),
    /// Turned in the plane to an angle from the first direction, radians.
    To(f64),
}

impl Move {
    /// `x [.., width]` with its coordinates along the rows of `basis [k, width]` moved. Clamp, one-sided and affine edits
    /// have one row, rotations two.
    pub fn apply(self, x: &Tensor, basis: &Tensor) -> Result<Tensor> {
        let along = ops::linear(x, basis, None)?;
        let change = match self {
            Self::Clamp(min, max) => (along.clamp(min, max)? - along)?,
            Self::OneSided(amount) => along.relu()?.affine(-amount, 0.0)?,
            Self::Affine(target, share) => along.affine(-share, share * target)?,
            Self::By(angle) => turn(&along, angle)?,
            Self::To(angle) => place(&along, angle)?,
        };
        x + ops::linear(&change, &basis.t()?.contiguous()?, None)?
    }
}

/// `[.., 2]`: what a rotation by `angle` adds.
fn turn(along: &Tensor, angle: f64) -> Result<Tensor> {
    let last = along.rank() - 1;
    let (a, b) = (along.narrow(last, 0, 1)?, along.narrow(last, 1, 1)?);
    // cos - 1 without cancellation at small angles.
    let (less, sin) = (-2.0 * (0.5 * angle).sin().powi(2), angle.sin());
    let first = ((&a * less)? - (&b * sin)?)?;
    let second = ((&a * sin)? + (&b * less)?)?;
    Tensor::cat(&[first, second], last)
}

/// `[.., 2]`: what it takes to stand at `angle` at the same length.
fn place(along: &Tensor, angle: f64) -> Result<Tensor> {
    let last = along.rank() - 1;
    let length = along.sqr()?.sum_keepdim(last)?.sqrt()?;
    Tensor::cat(&[(&length * angle.cos())?, (&length * angle.sin())?], last)? - along
}

/// Rows as `[k, width]`.
pub(super) fn matrix(rows: &[Vec<f64>], width: usize, dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(rows.concat(), (rows.len(), width), &Device::Cpu)?.to_dtype(dtype)
}

/// Gram-Schmidt in f64, twice; refuses vectors that are zero or depend on the others.
pub(super) fn orthonormal(vectors: &[Vector]) -> std::result::Result<Vec<Vec<f64>>, String> {
    if vectors.is_empty() {
        return Err("no directions given".into());
    }
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for (i, v) in vectors.iter().enumerate() {
        let mut u: Vec<f64> = v.iter().map(|&x| f64::from(x)).collect();
        let before = norm(&u);
        for _ in 0..2 {
            for b in &basis {
                let dot: f64 = u.iter().zip(b).map(|(x, y)| x * y).sum();
                u.iter_mut().zip(b).for_each(|(x, y)| *x -= dot * y);
            }
        }
        let after = norm(&u);
        if after <= 1e-6 * before || before == 0.0 {
            return Err(format!(
                "direction {i} is zero or lies in the span of the others"
            ));
        }
        for x in &mut u {
            *x /= after;
        }
        basis.push(u);
    }
    Ok(basis)
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// x = (3, 4, 5) moved along the first axis, or in the plane of the first two.
    fn moved(how: Move, directions: usize) -> Vec<f64> {
        let x = Tensor::new(&[[3f64, 4.0, 5.0]], &Device::Cpu).unwrap();
        let axes = [vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0]];
        let basis = matrix(&axes[..directions], 3, DType::F64).unwrap();
        let moved = how.apply(&x, &basis).unwrap();
        moved.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn close(found: &[f64], expected: [f64; 3]) {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn by_hand() {
        let quarter = std::f64::consts::FRAC_PI_2;
        close(&moved(Move::Clamp(-1.0, 2.0), 1), [2.0, 4.0, 5.0]);
        close(&moved(Move::OneSided(1.0), 1), [0.0, 4.0, 5.0]);
        close(&moved(Move::OneSided(0.5), 1), [1.5, 4.0, 5.0]);
        close(&moved(Move::Affine(-2.0, 1.0), 1), [-2.0, 4.0, 5.0]);
        close(&moved(Move::Affine(-2.0, 0.5), 1), [0.5, 4.0, 5.0]);
        close(&moved(Move::By(quarter), 2), [-4.0, 3.0, 5.0]);
        close(&moved(Move::To(0.0), 2), [5.0, 0.0, 5.0]);
        close(&moved(Move::To(quarter), 2), [0.0, 5.0, 5.0]);
        // A right angle in six steps.
        let sixth = quarter / 6.0;
        let (sin, cos) = sixth.sin_cos();
        let turned = [3.0 * cos - 4.0 * sin, 3.0 * sin + 4.0 * cos, 5.0];
        close(&moved(Move::By(sixth), 2), turned);
    }

    #[test]
    fn the_negative_side_is_left_alone() {
        let x = Tensor::new(&[[-3f32, 4.0]], &Device::Cpu).unwrap();
        let basis = matrix(&[vec![1.0, 0.0]], 2, DType::F32).unwrap();
        let moved = Move::OneSided(1.0).apply(&x, &basis).unwrap();
        assert_eq!(moved.to_vec2::<f32>().unwrap(), [[-3.0, 4.0]]);
    }
}
