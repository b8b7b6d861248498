//! Activations made ready for many logistic fits: standardised once and, where n < d, rewritten in at most n coordinates.
//!
//! An L2-penalised linear model has its optimum in the span of the rows, so fitting on L of the pivoted Cholesky factor
//! K = XXᵀ ≈ LLᵀ gives the very same model as fitting on X (‖w‖ = ‖θ‖, Xw = Lθ), at a cost in n instead of d. What is
//! dropped has under 1e-12 of the largest row's energy. Label shuffles and the grid of C reuse one design; [`crate::logistic`] fits on it.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, ShapeBuilder};

use crate::error::{ProbeError, at_least, finite_rows};
use crate::linalg::{PivotedCholesky, means, pivoted_cholesky, standardised};

/// Standardised activations in the coordinates the solver works in.
#[derive(Debug, Clone)]
pub struct Design {
    pub(crate) mean: Array1<f64>,
    pub(crate) scale: Array1<f64>,
    /// `[n, r]`, r ≤ min(n, d), columns contiguous, which is how the gradient reads them.
    pub(crate) coordinates: Array2<f64>,
    reduction: Option<Reduction>,
}

#[derive(Debug, Clone)]
struct Reduction {
    x: Array2<f64>,
    cholesky: PivotedCholesky,
}

impl Design {
    /// Prepares activations `[n, d]`. With `standardise` each feature is centred and divided by its standard deviation
    /// (with n, as scikit-learn does; a constant feature by 1); without it they are used as they are.
    pub fn new(x: ArrayView2<f32>, standardise: bool) -> Result<Self, ProbeError> {
        at_least("activations", 2, x.nrows())?;
        at_least("features", 1, x.ncols())?;
        finite_rows("activations", x)?;
        let (mean, scale) = if standardise {
            moments(x)
        } else {
            (Array1::zeros(x.ncols()), Array1::ones(x.ncols()))
        };
        Ok(Self::of_standardised(
            standardised(x, &mean, &scale),
            mean,
            scale,
        ))
    }

    /// Of features `[n, d]` that are standardised already, with what was subtracted and divided by.
    pub(crate) fn of_standardised(x: Array2<f64>, mean: Array1<f64>, scale: Array1<f64>) -> Self {
        let (coordinates, reduction) = if x.nrows() < x.ncols() {
            let cholesky = pivoted_cholesky(&x.dot(&x.t()), 1e-12);
            (
                columns_contiguous(&cholesky.factor),
                Some(Reduction { x, cholesky }),
            )
        } else {
            (columns_contiguous(&x), None)
        };
        Self {
            mean,
            scale,
            coordinates,
            reduction,
        }
    }

    /// Number of items.
    pub fn n(&self) -> usize {
        self.coordinates.nrows()
    }

    /// Number of features of the activations.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// The coordinates of some of the items, `[items, r]`.
    pub(crate) fn select(&self, items: &[usize]) -> Array2<f64> {
        columns_contiguous(&self.coordinates.select(Axis(0), items))
    }

    /// Weights on standardised features `[d]` from weights on coordinates `[r]`.
    pub(crate) fn weights(&self, theta: ArrayView1<f64>) -> Array1<f64> {
        match &self.reduction {
            None => theta.to_owned(),
            Some(Reduction { x, cholesky }) => {
                let rows = x.select(Axis(0), &cholesky.pivots);
                rows.t().dot(&cholesky.row_weights(theta))
            }
        }
    }
}

pub(crate) fn moments(x: ArrayView2<f32>) -> (Array1<f64>, Array1<f64>) {
    let mean = means(x);
    let mut variance = Array1::<f64>::zeros(x.ncols());
    for row in x.rows() {
        ndarray::Zip::from(&mut variance)
            .and(&row)
            .and(&mean)
            .for_each(|v, &x, m| *v += (f64::from(x) - m).powi(2));
    }
    let scale = variance.mapv(|v| {
        let sd = (v / x.nrows() as f64).sqrt();
        if sd > 1e-12 { sd } else { 1.0 }
    });
    (mean, scale)
}

fn columns_contiguous(x: &Array2<f64>) -> Array2<f64> {
    let mut out = Array2::zeros(x.raw_dim().f());
    out.assign(x);
    out
}
