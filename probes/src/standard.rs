//! Activations standardised into lines for the many-fits solver, their Gram matrix, and weights from shares of rows.

use ndarray::{Array1, Array2, ArrayView2};

use crate::error::{ProbeError, finite_rows};
use crate::kernels::{Gram, Rows, add_eight, lines, numbers};
use crate::lanes::{Kernel, Lanes, Line, ZERO, run};

/// Activations `[n, d]`, each feature centred and divided by its standard deviation (a constant one by 1).
#[derive(Debug, Clone)]
pub(crate) struct Standardised {
    pub(crate) mean: Vec<f64>,
    pub(crate) scale: Vec<f64>,
    rows: Rows,
    /// `[n, n]`, all inner products of rows.
    pub(crate) gram: Rows,
}

impl Standardised {
    /// Of activations `[n, d]`.
    ///
    /// # Errors
    /// A value that is not finite.
    pub(crate) fn new(x: ArrayView2<f32>) -> Result<Self, ProbeError> {
        let (rows, mean, scale) = run(Standardise(x));
        // A sum of finite f32 in f64 is finite.
        if mean
            .iter()
            .any(|line| line.0.iter().any(|v| !v.is_finite()))
        {
            finite_rows("activations", x)?;
        }
        let gram = run(Gram(&rows));
        Ok(Self {
            mean: numbers(&mean, x.ncols()).collect(),
            scale: numbers(&scale, x.ncols()).collect(),
            rows,
            gram,
        })
    }

    /// Number of items.
    pub(crate) fn n(&self) -> usize {
        self.rows.count()
    }

    /// The standardised activations `[n, d]`.
    pub(crate) fn features(&self) -> Array2<f64> {
        Array2::from_shape_fn((self.n(), self.mean.len()), |(i, j)| self.rows.at(i, j))
    }

    /// Mean and scale as arrays `[d]`.
    pub(crate) fn moments(&self) -> (Array1<f64>, Array1<f64>) {
        (self.mean.clone().into(), self.scale.clone().into())
    }

    /// The Gram matrix of some of the items.
    pub(crate) fn gram_of(&self, items: &[usize]) -> Rows {
        let mut out = Rows::zeros(items.len(), items.len());
        for (i, &item) in items.iter().enumerate() {
            for (j, &other) in items.iter().enumerate() {
                out.set(i, j, self.gram.at(item, other));
            }
        }
        out
    }

    /// Weights on standardised features `[d]` from shares of the rows.
    pub(crate) fn weights(&self, shares: &[Line]) -> Vec<f64> {
        let weights = run(Combine(&self.rows, shares));
        numbers(&weights, self.mean.len()).collect()
    }
}

struct Combine<'a>(&'a Rows, &'a [Line]);

impl Kernel for Combine<'_> {
    type Out = Vec<Line>;

    #[inline(always)]
    fn run<V: Lanes>(self) -> Vec<Line> {
        let mut out = vec![ZERO; self.0.stride()];
        for (block, shares) in self.1.iter().enumerate() {
            add_eight::<V>(&mut out, shares, self.0.eight(block));
        }
        out
    }
}

struct Standardise<'a>(ArrayView2<'a, f32>);

impl Kernel for Standardise<'_> {
    /// Rows, mean and scale.
    type Out = (Rows, Vec<Line>, Vec<Line>);

    #[inline(always)]
    fn run<V: Lanes>(self) -> Self::Out {
        let x = self.0;
        let mut rows = Rows::zeros(x.nrows(), x.ncols());
        let n = V::splat(x.nrows() as f64);
        let mut mean = vec![ZERO; rows.stride()];
        for (i, from) in x.outer_iter().enumerate() {
            let to = rows.row_mut(i);
            match from.as_slice() {
                Some(from) => widen(from, to),
                None => to.copy_from_slice(&lines(from.iter().map(|&v| f64::from(v)), 0.0)),
            }
            for (sum, line) in mean.iter_mut().zip(&*to) {
                V::load(sum).add(V::load(line)).store(sum);
            }
        }
        for sum in &mut mean {
            V::load(sum).div(n).store(sum);
        }
        let mut scale = vec![ZERO; rows.stride()];
        for i in 0..x.nrows() {
            let row = rows.row_mut(i).iter_mut();
            for ((line, mean), sum) in row.zip(&mean).zip(&mut scale) {
                let own = V::load(line).sub(V::load(mean));
                own.store(line);
                V::load(sum).add(own.mul(own)).store(sum);
            }
        }
        let mut by = scale.clone();
        for (scale, by) in scale.iter_mut().zip(&mut by) {
            for (v, by) in scale.0.iter_mut().zip(&mut by.0) {
                let sd = (*v / x.nrows() as f64).sqrt();
                *v = if sd > 1e-12 { sd } else { 1.0 };
                *by = 1.0 / *v;
            }
        }
        for i in 0..x.nrows() {
            for (line, by) in rows.row_mut(i).iter_mut().zip(&by) {
                V::load(line).mul(V::load(by)).store(line);
            }
        }
        (rows, mean, scale)
    }
}

#[inline(always)]
fn widen(from: &[f32], to: &mut [Line]) {
    let (eights, rest) = from.as_chunks::<8>();
    for (from, to) in eights.iter().zip(&mut *to) {
        for (from, to) in from.iter().zip(&mut to.0) {
            *to = f64::from(*from);
        }
    }
    for (i, v) in rest.iter().enumerate() {
        to[eights.len()].0[i] = f64::from(*v);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ndarray::s;

    use super::*;
    use crate::random::{normal, stream};

    #[test]
    fn it_is_what_the_plain_routines_make() {
        for (n, d) in [(2, 3), (7, 8), (9, 30), (20, 401)] {
            let mut rng = stream(n as u64, 0);
            let all = Array2::from_shape_simple_fn((n, 2 * d), || 5.0 + normal(&mut rng) as f32);
            // Every second column does not lie together; one is constant.
            let mut x = all.slice(s![.., ..;2]).to_owned();
            x.column_mut(1).fill(3.0);
            let mut wide = all.clone();
            wide.slice_mut(s![.., ..;2]).assign(&x);
            let (mean, scale) = crate::design::moments(x.view());
            let plain = crate::linalg::standardised(x.view(), &mean, &scale);
            let gram = plain.dot(&plain.t());
            for view in [x.view(), wide.slice(s![.., ..;2])] {
                let found = Standardised::new(view).unwrap();
                assert_eq!(found.scale[1], 1.0);
                let close = |a: &f64, b: &f64| (a - b).abs() < 1e-12 * b.abs().max(1.0);
                assert!(found.mean.iter().zip(&mean).all(|(a, b)| close(a, b)));
                assert!(found.scale.iter().zip(&scale).all(|(a, b)| close(a, b)));
                assert!(
                    found
                        .features()
                        .iter()
                        .zip(&plain)
                        .all(|(a, b)| close(a, b))
                );
                let order: Vec<usize> = (0..n).rev().collect();
                let turned = found.gram_of(&order);
                for ((i, j), &expected) in gram.indexed_iter() {
                    let there = [found.gram.at(i, j), turned.at(n - 1 - i, n - 1 - j)];
                    assert!(there.iter().all(|v| (v - expected).abs() < 1e-9), "{i} {j}");
                }
                let shares: Vec<f64> = (0..n).map(|i| i as f64 - 1.0).collect();
                let weights = found.weights(&lines(shares.iter().copied(), 0.0));
                let expected = plain.t().dot(&Array1::from(shares));
                assert_eq!(weights.len(), d);
                assert!(
                    weights
                        .iter()
                        .zip(&expected)
                        .all(|(a, b)| (a - b).abs() < 1e-9)
                );
            }
        }
    }
}
