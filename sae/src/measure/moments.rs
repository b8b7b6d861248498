//! Mean and variance of rows, column by column, in f64 and without the cancellation of `Σx² − n·mean²`.
//!
//! Two sets of rows are put together by the formula of Chan, Golub and LeVeque (1979), so an attention sink of norm 24,000
//! among rows of norm 170 costs no digits.

use ndarray::{Array1, ArrayView2, Axis};

use super::by_chunks;

/// Rows seen, their mean, and the squares about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    rows: u64,
    mean: Array1<f64>,
    /// `Σ (x − mean)²` of each column.
    squares: Array1<f64>,
}

impl Moments {
    /// Of no rows of this width.
    pub fn new(width: usize) -> Self {
        Self {
            rows: 0,
            mean: Array1::zeros(width),
            squares: Array1::zeros(width),
        }
    }

    /// Of these rows `[n, width]`, in two passes.
    pub fn of(rows: ArrayView2<f32>) -> Self {
        let mut all = Self::new(rows.ncols());
        let chunk = |cut| Self::of_chunk(rows.slice_axis(Axis(0), cut));
        for part in by_chunks(rows.nrows(), chunk) {
            all.merge(&part);
        }
        all
    }

    fn of_chunk(rows: ArrayView2<f32>) -> Self {
        let mut part = Self::new(rows.ncols());
        part.rows = rows.nrows() as u64;
        for row in rows.outer_iter() {
            part.mean.zip_mut_with(&row, |m, &x| *m += f64::from(x));
        }
        part.mean /= part.rows as f64;
        for row in rows.outer_iter() {
            for ((square, &mean), &x) in part.squares.iter_mut().zip(&part.mean).zip(row) {
                *square += (f64::from(x) - mean).powi(2);
            }
        }
        part
    }

    /// Takes in other rows of the same width.
    pub fn merge(&mut self, other: &Self) {
        if other.rows == 0 {
            return;
        }
        let (n, m) = (self.rows as f64, other.rows as f64);
        let away = &other.mean - &self.mean;
        self.squares += &other.squares;
        self.squares
            .zip_mut_with(&away, |s, a| *s += a * a * n * m / (n + m));
        self.mean.scaled_add(m / (n + m), &away);
        self.rows += other.rows;
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Their width.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Mean of each column.
    pub fn mean(&self) -> &Array1<f64> {
        &self.mean
    }

    /// Variance of each column about the mean, divided by the rows; zeros before any row came.
    pub fn variance(&self) -> Array1<f64> {
        &self.squares / (self.rows.max(1) as f64)
    }

    /// `Σ |x − mean|²` over rows and columns.
    pub fn scatter(&self) -> f64 {
        self.squares.sum()
    }

    /// `|mean| / |std|`, both as vectors over the columns: how far rows are from being centred, in units of their spread. A
    /// high value foretells latents that are dead from the start (arXiv 2605.31518). `None` without variance.
    pub fn severity(&self) -> Option<f64> {
        let spread = self.variance().sum().sqrt();
        (spread > 0.0).then(|| self.mean.mapv(|m| m * m).sum().sqrt() / spread)
    }
}
