//! The shape of a change of weights: how its energy spreads over directions of the residual stream.
//!
//! Always: from the Gram matrix of the change on its residual side, `[d_model, d_model]` in f64, whatever the other side is;
//! energy and effective rank are exact, the leading vectors come from orthogonal iteration with a fixed start.

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::steer::edit::{Axis, Basis, EditError};
use crate::steer::random_directions;

/// Leading vectors that are looked for, where the matrix has three times as many.
const LEADING: usize = 32;

/// Rounds of orthogonal iteration; what a low-rank change is made of stands after two.
const ROUNDS: usize = 12;

/// Rows of a table taken at once, so that no copy of the whole in f64 is made.
const ROWS: usize = 1 << 13;

/// How a change's energy spreads.
#[derive(Debug, Clone, Serialize)]
pub struct Spectrum {
    /// `s₁² / Σ s²`.
    pub rank1_share: f64,
    /// `(Σ s²)² / Σ s⁴`: as many equal singular values would spread so. At most the shorter side of the matrix.
    pub effective_rank: f64,
    /// Singular values that hold 99 % of the energy; none where they are more than a third of the shorter side, or than 32.
    pub rank99: Option<usize>,
    /// The leading vector on the residual side, of unit length.
    #[serde(skip)]
    pub first: Vec<f64>,
}

/// Sums over a change, and the matrix it was made to.
#[derive(Debug, Clone)]
pub struct Sums {
    /// `‖Δ‖²`
    pub change: f64,
    /// `‖W‖²` of the baseline.
    pub before: f64,
    /// `⟨Δ, W⟩`
    pub product: f64,
    /// How far written vectors changed their lengths, beside what a projection would do to them: root mean square of
    /// `‖w'‖ - ‖w‖` over that of `‖Δw‖² / 2‖w‖`. 1 for a projection, near 0 where norms were restored.
    pub norm_change: f64,
    gram: Tensor,
}

/// One pass over both matrices.
pub fn sums(new: &Tensor, old: &Tensor, axis: Axis) -> Result<Sums, EditError> {
    let d = old.dims()[usize::from(axis == Axis::Columns)];
    let mut gram = Tensor::zeros((d, d), DType::F64, &Device::Cpu)?;
    let (mut change, mut before, mut product) = (0.0, 0.0, 0.0);
    let (mut moved, mut projected) = (0.0, 0.0);
    for piece in chunks(new, old, axis) {
        let (new, old) = piece?;
        let delta = (&new - &old)?;
        let (other, part) = match axis {
            Axis::Rows => (0, delta.matmul(&delta.t()?)?),
            Axis::Columns => (1, delta.t()?.matmul(&delta)?),
        };
        gram = (gram + part)?;
        let squares = |t: Tensor| -> Result<Vec<f64>, EditError> { Ok(t.sum(other)?.to_vec1()?) };
        let (is, was) = (squares(new.sqr()?)?, squares(old.sqr()?)?);
        let by = squares(delta.sqr()?)?;
        product += (&delta * &old)?.sum_all()?.to_scalar::<f64>()?;
        for ((is, was), by) in is.iter().zip(&was).zip(&by) {
            change += by;
            before += was;
            if *was > 0.0 {
                moved += (is.sqrt() - was.sqrt()).powi(2);
                projected += by.powi(2) / (4.0 * was);
            }
        }
    }
    Ok(Sums {
        change,
        before,
        product,
        norm_change: if projected > 0.0 {
            (moved / projected).sqrt()
        } else {
            0.0
        },
        gram,
    })
}

/// Pairs of pieces in f64, widened when they are asked for; the residual axis is whole in each. A linear layer is one piece.
fn chunks<'a>(
    new: &'a Tensor,
    old: &'a Tensor,
    axis: Axis,
) -> impl Iterator<Item = Result<(Tensor, Tensor), EditError>> + 'a {
    let rows = old.dims()[0];
    let step = match axis {
        Axis::Rows => rows.max(1),
        Axis::Columns => ROWS,
    };
    (0..rows).step_by(step).map(move |start| {
        let len = step.min(rows - start);
        let of = |t: &Tensor| t.narrow(0, start, len)?.contiguous()?.to_dtype(DType::F64);
        Ok((of(new)?, of(old)?))
    })
}

impl Sums {
    /// The spectrum of the change; none where there is no change.
    pub fn spectrum(&self, seed: u64) -> Result<Option<Spectrum>, EditError> {
        let energy = self.change;
        if energy <= 0.0 {
            return Ok(None);
        }
        let d = self.gram.dims()[0];
        let fourth = self.gram.sqr()?.sum_all()?.to_scalar::<f64>()?;
        let k = LEADING.min(d / 3).max(1);
        let start = random_directions(k, d, seed)?;
        let mut rows = Basis::new(&start)?;
        let flat = |basis: &Basis| {
            Tensor::from_vec(basis.rows().concat(), (basis.rank(), d), &Device::Cpu)
        };
        for _ in 0..ROUNDS {
            let next = flat(&rows)?.matmul(&self.gram)?.to_vec2::<f64>()?;
            rows = Basis::of_rows(next, d).mapped(<[f64]>::to_vec);
        }
        let stretched = flat(&rows)?.matmul(&self.gram)?.to_vec2::<f64>()?;
        let mut values: Vec<(f64, usize)> = stretched
            .iter()
            .zip(rows.rows())
            .map(|(gv, v)| gv.iter().zip(v).map(|(a, b)| a * b).sum::<f64>())
            .enumerate()
            .map(|(i, value)| (value, i))
            .collect();
        values.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut held = 0.0;
        let rank99 = values.iter().position(|(value, _)| {
            held += value;
            held >= 0.99 * energy
        });
        let first = values.first();
        Ok(Some(Spectrum {
            rank1_share: first.map_or(0.0, |(value, _)| (value / energy).min(1.0)),
            effective_rank: energy.powi(2) / fourth,
            rank99: rank99.map(|at| at + 1),
            first: first.map_or_else(Vec::new, |(_, i)| rows.rows()[*i].clone()),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_diagonal_change_has_the_spectrum_of_its_diagonal() {
        // Singular values 4, 2, 1: energy 21, fourth powers 256 + 16 + 1 = 273.
        let old = Tensor::zeros((6, 3), DType::F64, &Device::Cpu).unwrap();
        let mut values = vec![0.0; 18];
        (values[0], values[4], values[8]) = (4.0, 2.0, 1.0);
        let new = Tensor::from_vec(values, (6, 3), &Device::Cpu).unwrap();
        let sums = sums(&new, &old, Axis::Rows).unwrap();
        let found = sums.spectrum(0).unwrap().unwrap();
        assert!((found.rank1_share - 16.0 / 21.0).abs() < 1e-9, "{found:?}");
        assert!((found.effective_rank - 441.0 / 273.0).abs() < 1e-12);
        assert!((found.first[0].abs() - 1.0).abs() < 1e-6);
        // Two leading vectors hold 20 of 21 parts, under 99 %.
        assert_eq!(found.rank99, None);
    }
}
