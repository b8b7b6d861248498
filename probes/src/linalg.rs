//! The few dense routines the probes need, in f64: centring, Gram matrices, Cholesky with and without pivots.
//! Large products go through ndarray's matrix product; the factorisations are n³/3 on at most a few hundred rows.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use crate::error::ProbeError;

/// Column means of `[n, d]` in f64, shape `[d]`.
pub(crate) fn means(x: ArrayView2<f32>) -> Array1<f64> {
    let mut sum = Array1::<f64>::zeros(x.ncols());
    for row in x.rows() {
        sum.zip_mut_with(&row, |s, &v| *s += f64::from(v));
    }
    sum / x.nrows().max(1) as f64
}

/// Rows of `x` minus `mean`, divided by `scale`, in f64, shape `[n, d]`.
pub(crate) fn standardised(
    x: ArrayView2<f32>,
    mean: &Array1<f64>,
    scale: &Array1<f64>,
) -> Array2<f64> {
    let mut out = x.mapv(f64::from);
    for mut row in out.rows_mut() {
        row -= mean;
        row /= scale;
    }
    out
}

/// The rows of one class.
pub(crate) fn rows_of(x: ArrayView2<f32>, labels: &[bool], class: bool) -> Array2<f32> {
    let rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
    x.select(Axis(0), &rows)
}

/// Euclidean length.
pub(crate) fn norm(v: ArrayView1<f64>) -> f64 {
    v.dot(&v).sqrt()
}

/// Solves A·x = b for symmetric positive definite A, which is overwritten by its Cholesky factor.
pub(crate) fn solve_spd(
    mut a: Array2<f64>,
    mut b: Array1<f64>,
    what: &'static str,
) -> Result<Array1<f64>, ProbeError> {
    let n = a.nrows();
    for j in 0..n {
        let (above, mut below) = a.view_mut().split_at(Axis(0), j + 1);
        let head = above.slice(s![j, ..j]);
        let pivot = above[[j, j]] - head.dot(&head);
        if pivot.is_nan() || pivot <= 0.0 {
            return Err(ProbeError::Numerical {
                what,
                reason: format!("matrix is not positive definite at column {j} of {n}"),
            });
        }
        let root = pivot.sqrt();
        for mut row in below.rows_mut() {
            let value = (row[j] - row.slice(s![..j]).dot(&head)) / root;
            row[j] = value;
        }
        a[[j, j]] = root;
    }
    for i in 0..n {
        b[i] = (b[i] - a.slice(s![i, ..i]).dot(&b.slice(s![..i]))) / a[[i, i]];
    }
    for i in (0..n).rev() {
        b[i] /= a[[i, i]];
        let value = b[i];
        b.slice_mut(s![..i])
            .scaled_add(-value, &a.slice(s![i, ..i]));
    }
    Ok(b)
}

/// K ≈ L·Lᵀ for a positive semidefinite Gram matrix, by Cholesky with diagonal pivots.
/// `factor` has shape `[n, r]`; `pivots` are the r rows taken, in order, on which `factor` is lower triangular.
#[derive(Debug, Clone)]
pub(crate) struct PivotedCholesky {
    pub(crate) factor: Array2<f64>,
    pub(crate) pivots: Vec<usize>,
}

/// Factors `gram`, stopping when every remaining diagonal is under `tolerance` times the largest.
pub(crate) fn pivoted_cholesky(gram: &Array2<f64>, tolerance: f64) -> PivotedCholesky {
    let n = gram.nrows();
    let mut left: Vec<f64> = gram.diag().to_vec();
    let floor = tolerance * left.iter().copied().fold(0.0, f64::max);
    let mut factor = Array2::<f64>::zeros((n, n));
    let mut pivots = Vec::new();
    let mut taken = vec![false; n];
    while pivots.len() < n {
        let candidates = (0..n).filter(|&i| !taken[i]);
        let Some(p) = candidates.max_by(|&a, &b| left[a].total_cmp(&left[b])) else {
            break;
        };
        if left[p] <= floor {
            break;
        }
        let j = pivots.len();
        let root = left[p].sqrt();
        let head = factor.slice(s![p, ..j]).to_owned();
        for i in (0..n).filter(|&i| !taken[i] && i != p) {
            let value = (gram[[i, p]] - factor.slice(s![i, ..j]).dot(&head)) / root;
            factor[[i, j]] = value;
            left[i] -= value * value;
        }
        factor[[p, j]] = root;
        taken[p] = true;
        pivots.push(p);
    }
    let factor = factor.slice(s![.., ..pivots.len()]).to_owned();
    PivotedCholesky { factor, pivots }
}

impl PivotedCholesky {
    /// Solves L_Pᵀ·a = θ over the pivot rows: the weights of those rows whose combination has coordinates θ.
    pub(crate) fn row_weights(&self, theta: ArrayView1<f64>) -> Array1<f64> {
        let mut a = theta.to_owned();
        for i in (0..a.len()).rev() {
            let row = self.factor.row(self.pivots[i]);
            a[i] /= row[i];
            let value = a[i];
            a.slice_mut(s![..i]).scaled_add(-value, &row.slice(s![..i]));
        }
        a
    }
}
