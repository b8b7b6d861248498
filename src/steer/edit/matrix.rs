//! The arithmetic of an orthogonalisation on one matrix: what it writes along a subspace, and the matrix without that.
//!
//! Always: sums in f64 in a fixed order, whatever the number of threads; the result is rounded once, to the matrix's dtype.
//! The residual axis is given, never guessed. Who writes what is `writer.rs`.

use candle_core::{DType, Device, Tensor, WithDType};
use half::bf16;
use rayon::prelude::*;

use super::{
    Basis, EditError,
    basis::{LEAST, length},
};

/// Which axis of a matrix is the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// `[d_model, in]`: a linear layer that writes. What it writes are combinations of its columns.
    Rows,
    /// `[n, d_model]`: a table; each row is written as it is.
    Columns,
}

/// How a subspace is taken out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Removal {
    /// 1 takes it out whole; 0 nothing; above 1 it is reversed.
    pub amount: f64,
    /// Whether each written vector (a column of `[out, in]`, a row of a table) gets its length back, in its new direction: the
    /// component along the subspace stays out. (Rescaling rows of `[out, in]` instead would bring it back.) One that lay in
    /// the subspace but for rounding has no direction left to be long in: its rest stays as small as it is.
    pub keep_norms: bool,
}

/// The share of a vector from which on what a projection leaves of it is a direction: directions come as f32, and entries of a
/// matrix in bf16 are off by up to 2⁻⁹ of themselves.
fn least(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1.0 / 256.0,
        _ => LEAST,
    }
}

/// `W - amount · U Uᵀ W` with U the basis as columns, in the dtype of the matrix.
///
/// # Errors
/// A dtype other than f32, f64 and bf16; a basis of another width.
pub fn removed(
    weight: &Tensor,
    axis: Axis,
    basis: &Basis,
    how: Removal,
) -> Result<Tensor, EditError> {
    match weight.dtype() {
        DType::F64 => removed_as::<f64>(weight, axis, basis, how),
        DType::BF16 => removed_as::<bf16>(weight, axis, basis, how),
        _ => removed_as::<f32>(weight, axis, basis, how),
    }
}

fn removed_as<T: WithDType>(
    weight: &Tensor,
    axis: Axis,
    basis: &Basis,
    how: Removal,
) -> Result<Tensor, EditError> {
    let (rows, columns) = weight.dims2()?;
    expect(basis, axis, rows, columns)?;
    let mut values = weight.flatten_all()?.to_vec1::<T>()?;
    match axis {
        Axis::Columns => {
            let each = values.par_chunks_mut(columns);
            each.for_each(|row| from_vector(row, basis, how));
        }
        Axis::Rows => from_columns(&mut values, columns, basis, how),
    }
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

fn expect(basis: &Basis, axis: Axis, rows: usize, columns: usize) -> Result<(), EditError> {
    let found = match axis {
        Axis::Rows => rows,
        Axis::Columns => columns,
    };
    if found == basis.width() {
        return Ok(());
    }
    Err(EditError::Width {
        what: "the residual axis of a matrix".to_owned(),
        expected: basis.width(),
        found,
    })
}

fn from_vector<T: WithDType>(x: &mut [T], basis: &Basis, how: Removal) {
    let wide: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
    let without = |x: &[f64], part: &[f64], amount: f64| -> Vec<f64> {
        x.iter().zip(part).map(|(x, p)| x - amount * p).collect()
    };
    let part = basis.part_of(&wide);
    let mut left = without(&wide, &part, how.amount);
    let mut factor = 1.0;
    if how.keep_norms {
        // Once more, as what rounding left along the subspace would be scaled up with the rest.
        let again = basis.part_of(&without(&wide, &part, 1.0));
        left = without(&left, &again, how.amount);
        factor = rescale(length(&wide), length(&left), least(T::DTYPE));
    }
    x.iter_mut()
        .zip(left)
        .for_each(|(x, y)| *x = T::from_f64(factor * y));
}

/// What gives a vector its old length; one of which only rounding is left keeps that as it is.
fn rescale(before: f64, after: f64, least: f64) -> f64 {
    if after > least * before {
        before / after
    } else {
        1.0
    }
}

fn from_columns<T: WithDType>(values: &mut [T], columns: usize, basis: &Basis, how: Removal) {
    let along = along_rows(values, columns, basis);
    let part = |along: &[Vec<f64>], i: usize, j: usize| -> f64 {
        let each = basis.rows().iter().zip(along);
        each.map(|(u, c)| u[i] * c[j]).sum()
    };
    // Once more where lengths are kept, as what rounding left along the subspace would be scaled up with the rest.
    let mut again = vec![vec![0.0; columns]; basis.rank()];
    if how.keep_norms {
        for (i, row) in values.chunks(columns).enumerate() {
            for (j, x) in row.iter().enumerate() {
                let rest = x.to_f64() - part(&along, i, j);
                for (c, u) in again.iter_mut().zip(basis.rows()) {
                    c[j] += u[i] * rest;
                }
            }
        }
    }
    let left = |i: usize, j: usize, x: f64| {
        x - how.amount * part(&along, i, j) - how.amount * part(&again, i, j)
    };
    let mut factors = vec![1.0; columns];
    if how.keep_norms {
        let (mut before, mut after) = (vec![0.0; columns], vec![0.0; columns]);
        for (i, row) in values.chunks(columns).enumerate() {
            for (j, x) in row.iter().enumerate() {
                let x = x.to_f64();
                before[j] += x * x;
                after[j] += left(i, j, x).powi(2);
            }
        }
        for (factor, (before, after)) in factors.iter_mut().zip(before.iter().zip(&after)) {
            *factor = rescale(before.sqrt(), after.sqrt(), least(T::DTYPE));
        }
    }
    for (i, row) in values.chunks_mut(columns).enumerate() {
        for (j, x) in row.iter_mut().enumerate() {
            *x = T::from_f64(factors[j] * left(i, j, x.to_f64()));
        }
    }
}

/// `Uᵀ W`, `[rank, columns]`, of `[d_model, columns]`.
fn along_rows<T: WithDType>(values: &[T], columns: usize, basis: &Basis) -> Vec<Vec<f64>> {
    let mut along = vec![vec![0.0; columns]; basis.rank()];
    for (i, row) in values.chunks(columns).enumerate() {
        for (c, u) in along.iter_mut().zip(basis.rows()) {
            let u = u[i];
            c.iter_mut()
                .zip(row)
                .for_each(|(c, x)| *c += u * x.to_f64());
        }
    }
    along
}

/// What a matrix writes along each direction: `[rank, n]`, one number for each input of a layer or row of a table.
///
/// # Errors
/// As [`removed`].
pub fn written(weight: &Tensor, axis: Axis, basis: &Basis) -> Result<Vec<Vec<f64>>, EditError> {
    match weight.dtype() {
        DType::F64 => written_as::<f64>(weight, axis, basis),
        DType::BF16 => written_as::<bf16>(weight, axis, basis),
        _ => written_as::<f32>(weight, axis, basis),
    }
}

fn written_as<T: WithDType>(
    weight: &Tensor,
    axis: Axis,
    basis: &Basis,
) -> Result<Vec<Vec<f64>>, EditError> {
    let (rows, columns) = weight.dims2()?;
    expect(basis, axis, rows, columns)?;
    let values = weight.flatten_all()?.to_vec1::<T>()?;
    let of = |u: &Vec<f64>| {
        let along = |x: &[T]| x.iter().zip(u).map(|(x, u)| x.to_f64() * u).sum();
        values.par_chunks(columns).map(along).collect()
    };
    Ok(match axis {
        Axis::Rows => along_rows(&values, columns, basis),
        Axis::Columns => basis.rows().iter().map(of).collect(),
    })
}

/// The length of `Uᵀ W`, all entries together: no input of unit length has more written along the subspace.
///
/// # Errors
/// As [`removed`].
pub fn written_length(weight: &Tensor, axis: Axis, basis: &Basis) -> Result<f64, EditError> {
    let along = written(weight, axis, basis)?;
    Ok(along.iter().flatten().map(|x| x * x).sum::<f64>().sqrt())
}

/// The same of a vector that is written as it is.
pub(super) fn vector_removed(
    vector: &Tensor,
    basis: &Basis,
    amount: f64,
) -> Result<Tensor, EditError> {
    let wide = vector.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let part = basis.part_of(&wide);
    let left: Vec<f64> = wide
        .iter()
        .zip(&part)
        .map(|(x, p)| x - amount * p)
        .collect();
    let n = left.len();
    Ok(Tensor::from_vec(left, n, &Device::Cpu)?.to_dtype(vector.dtype())?)
}

/// Frobenius norm.
pub(super) fn frobenius(weight: &Tensor) -> Result<f64, EditError> {
    fn of<T: WithDType>(weight: &Tensor) -> Result<f64, EditError> {
        let values = weight.flatten_all()?.to_vec1::<T>()?;
        Ok(values
            .iter()
            .map(|x| x.to_f64().powi(2))
            .sum::<f64>()
            .sqrt())
    }
    match weight.dtype() {
        DType::F64 => of::<f64>(weight),
        DType::BF16 => of::<bf16>(weight),
        _ => of::<f32>(weight),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    const WHOLE: Removal = Removal {
        amount: 1.0,
        keep_norms: false,
    };

    fn basis() -> Basis {
        Basis::new(&[Arc::new(vec![3.0, 4.0])]).unwrap()
    }

    fn numbers(t: &Tensor) -> Vec<f64> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_square_matrix_is_edited_along_the_axis_that_was_named() {
        // r = (0.6, 0.8); W = [[1, 2], [3, 4]]. Columns written: (1, 3) has 3.0 along r, (2, 4) has 4.4.
        let w = Tensor::new(&[[1f64, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let close = |found: Vec<f64>, expected: [f64; 4]| {
            for (x, y) in found.iter().zip(expected) {
                assert!((x - y).abs() < 1e-12, "{found:?}");
            }
        };
        let out = removed(&w, Axis::Rows, &basis(), WHOLE).unwrap();
        close(
            numbers(&out),
            [1.0 - 1.8, 2.0 - 2.64, 3.0 - 2.4, 4.0 - 3.52],
        );
        // As a table, rows are written: (1, 2) has 2.2 along r, (3, 4) has 5.
        let out = removed(&w, Axis::Columns, &basis(), WHOLE).unwrap();
        close(numbers(&out), [1.0 - 1.32, 2.0 - 1.76, 0.0, 0.0]);
        assert!(
            (written_length(&w, Axis::Rows, &basis()).unwrap() - 28.36f64.sqrt()).abs() < 1e-12
        );
    }

    #[test]
    fn kept_norms_by_hand() {
        // Column (1, 3) less 3 (0.6, 0.8) is (-0.8, 0.6), of length 1; its old length is √10.
        let w = Tensor::new(&[[1f64], [3.0]], &Device::Cpu).unwrap();
        let how = Removal {
            keep_norms: true,
            ..WHOLE
        };
        let out = numbers(&removed(&w, Axis::Rows, &basis(), how).unwrap());
        assert!((out[0] + 0.8 * 10f64.sqrt()).abs() < 1e-12, "{out:?}");
        assert!((out[1] - 0.6 * 10f64.sqrt()).abs() < 1e-12, "{out:?}");
        // A column along r has no direction left to be long in.
        let along = Tensor::new(&[[3f64], [4.0]], &Device::Cpu).unwrap();
        let out = numbers(&removed(&along, Axis::Rows, &basis(), how).unwrap());
        assert!(length(&out) < 1e-14, "{out:?}");
    }
    #[test]
    fn a_rest_of_rounding_is_not_scaled_up() {
        let how = Removal {
            keep_norms: true,
            ..WHOLE
        };
        let rest = |w: &Tensor, axis: Axis| {
            let out = removed(w, axis, &basis(), how).unwrap();
            let along = written_length(&out, axis, &basis()).unwrap();
            (numbers(&out.to_dtype(DType::F64).unwrap()), along)
        };
        // Along (3, 4) but for a share of 1e-6, 4e-8 (f32) and 1e-3 (bf16): it keeps the length of what is left.
        let double = Tensor::new(&[[3.0 - 4e-6f64], [4.0 + 3e-6]], &Device::Cpu).unwrap();
        let single = Tensor::new(&[[0.3f32], [0.4]], &Device::Cpu).unwrap();
        let half = Tensor::new(&[[0.3f32], [0.4]], &Device::Cpu).unwrap();
        let half = half.to_dtype(DType::BF16).unwrap();
        for (w, most) in [(double, 5.1e-6), (single, 1e-7), (half, 2e-3)] {
            let (rows, along) = rest(&w, Axis::Rows);
            assert!(length(&rows) < most && along < most, "{rows:?} {along}");
            let (table, _) = rest(&w.t().unwrap().contiguous().unwrap(), Axis::Columns);
            assert_eq!(rows, table);
        }
        // A share of 1e-4 is a direction, and what is scaled up by 10⁴ still has nothing along (3, 4).
        let small = Tensor::new(&[[3.0 - 4e-4f64], [4.0 + 3e-4]], &Device::Cpu).unwrap();
        let (rows, along) = rest(&small, Axis::Rows);
        let old = numbers(&small);
        assert!((length(&rows) - length(&old)).abs() < 1e-12, "{rows:?}");
        assert!(along < 1e-14, "{along}");
    }
}
