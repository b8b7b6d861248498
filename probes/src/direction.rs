//! A direction in activation space: the difference of two class means, how repeatable it is, and the random directions it must beat.
//! How similar two noisy directions really are is in [`crate::similarity`].
//!
//! Means are taken in f64: late residual streams have differences of 2 % of their own length, which bf16 or f32 sums lose.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, at_least, finite_rows, open_unit, same_length};
use crate::linalg::{means, norm};
use crate::random::{normal, order, stream};
use crate::stats::bootstrap::quantile;
use crate::stats::interval::Interval;

/// A unit vector in activation space with what is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// The unit vector, `[d]`.
    pub vector: Vec<f32>,
    /// Its length before it was normalised: the strength of an activation addition.
    pub norm: f64,
    /// Layer it was read at, if known.
    pub layer: Option<usize>,
    /// Token position it was read at, negative from the end, if known.
    pub position: Option<i64>,
    /// Positive items behind it.
    pub n_pos: usize,
    /// Negative items behind it.
    pub n_neg: usize,
    /// Length of the negative (harmless) mean, for scale.
    pub negative_norm: Option<f64>,
    /// Repeatability, if it was measured.
    pub reliability: Option<Reliability>,
}

/// How much of a direction comes back on other items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Positive items.
    pub n_pos: usize,
    /// Negative items.
    pub n_neg: usize,
    /// Random splits into halves.
    pub splits: usize,
    /// Mean cosine between the two halves' directions.
    pub half_cosine: f64,
    /// Central quantiles of that cosine over the splits. Splits share items: the spread of splitting, not of sampling.
    pub half_cosine_range: Interval,
    /// Spearman and Brown's prediction for the full sample, 2c/(1 + c) of the mean; negative means no signal.
    pub full: f64,
    /// The range of `full`, from the ends of `half_cosine_range`.
    pub full_range: Interval,
}

impl Direction {
    /// μ⁺ − μ⁻ of activations `[n⁺, d]` and `[n⁻, d]`.
    pub fn difference_of_means(
        positive: ArrayView2<f32>,
        negative: ArrayView2<f32>,
    ) -> Result<Self, ProbeError> {
        checked_pair(positive, negative, 1)?;
        let negative_mean = means(negative);
        let mut direction = Self::from_vector((means(positive) - &negative_mean).view())?;
        direction.n_pos = positive.nrows();
        direction.n_neg = negative.nrows();
        direction.negative_norm = Some(norm(negative_mean.view()));
        Ok(direction)
    }

    /// A direction given as a vector `[d]` of any length (probe weights, a decoder row).
    pub fn from_vector(vector: ArrayView1<f64>) -> Result<Self, ProbeError> {
        if let Some(column) = vector.iter().position(|v| !v.is_finite()) {
            return Err(ProbeError::NonFinite {
                what: "direction",
                row: 0,
                column,
            });
        }
        let length = norm(vector);
        if length < 1e-12 {
            return Err(ProbeError::NoDirection {
                what: "direction",
                norm: length,
            });
        }
        Ok(Self {
            vector: vector.iter().map(|v| (v / length) as f32).collect(),
            norm: length,
            layer: None,
            position: None,
            n_pos: 0,
            n_neg: 0,
            negative_norm: None,
            reliability: None,
        })
    }

    /// The same direction with the place it was read at.
    pub fn at(mut self, layer: usize, position: i64) -> Self {
        self.layer = Some(layer);
        self.position = Some(position);
        self
    }

    /// The vector at its own length, `[d]`: what activation addition adds for strength 1.
    pub fn scaled(&self) -> Vec<f32> {
        self.vector
            .iter()
            .map(|&v| (f64::from(v) * self.norm) as f32)
            .collect()
    }

    /// The projections of activations `[n, d]` on the unit vector, `[n]`.
    pub fn project(&self, x: ArrayView2<f32>) -> Result<Vec<f64>, ProbeError> {
        same_length("activation width", self.vector.len(), x.ncols())?;
        finite_rows("activations to project", x)?;
        let dot = |row: ArrayView1<f32>| {
            row.iter()
                .zip(&self.vector)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum()
        };
        Ok(x.rows().into_iter().map(dot).collect())
    }

    /// The direction without its component along `other` ("projected" abliteration with the harmless mean as `other`).
    /// The norm shrinks accordingly; reliability is dropped, as it no longer describes this vector.
    pub fn orthogonal_to(&self, other: ArrayView1<f32>) -> Result<Self, ProbeError> {
        same_length("vector to project out", self.vector.len(), other.len())?;
        let other = other.mapv(f64::from);
        let length = norm(other.view());
        if length < 1e-12 {
            return Err(ProbeError::NoDirection {
                what: "vector to project out",
                norm: length,
            });
        }
        let unit = other / length;
        let own: Array1<f64> = self
            .vector
            .iter()
            .map(|&v| f64::from(v) * self.norm)
            .collect();
        let rest = &own - &(&unit * own.dot(&unit));
        // What is left of a parallel vector is rounding, which has no orientation.
        if norm(rest.view()) < 1e-6 * self.norm {
            return Err(ProbeError::NoDirection {
                what: "direction after projecting out",
                norm: norm(rest.view()),
            });
        }
        let projected = Self::from_vector(rest.view())?;
        Ok(Self {
            vector: projected.vector,
            norm: projected.norm,
            reliability: None,
            ..self.clone()
        })
    }

    /// The cosine with another direction.
    pub fn cosine(&self, other: &Self) -> Result<f64, ProbeError> {
        cosine(&self.vector, &other.vector)
    }
}

/// The cosine of two vectors `[d]`, in f64.
pub fn cosine(a: &[f32], b: &[f32]) -> Result<f64, ProbeError> {
    same_length("vector", a.len(), b.len())?;
    let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Array1<f64>>();
    let (a, b) = (wide(a), wide(b));
    let lengths = norm(a.view()) * norm(b.view());
    if lengths.is_nan() || lengths < 1e-24 {
        return Err(ProbeError::NoDirection {
            what: "vector in a cosine",
            norm: lengths,
        });
    }
    Ok((a.dot(&b) / lengths).clamp(-1.0, 1.0))
}

/// Split-half reliability of the difference of means of `[n⁺, d]` and `[n⁻, d]`: both classes are halved `splits` times at random,
/// the two directions' cosines averaged and stepped up to the full sample by Spearman and Brown. An odd item out sits out that split.
pub fn split_half(
    positive: ArrayView2<f32>,
    negative: ArrayView2<f32>,
    splits: usize,
    level: f64,
    seed: u64,
) -> Result<Reliability, ProbeError> {
    let difference = |(positive, negative): (&[usize], &[usize]),
                      (x, y): (ArrayView2<f32>, ArrayView2<f32>)| {
        Ok(mean_of(x, positive) - mean_of(y, negative))
    };
    split_half_of((positive, negative), splits, level, seed, difference)
}

/// The items of a half: positive and negative ones.
type Half<'a> = (&'a [usize], &'a [usize]);

/// Split-half reliability of any way to make a direction from items of both classes; otherwise as [`split_half`].
pub fn split_half_of(
    (positive, negative): (ArrayView2<f32>, ArrayView2<f32>),
    splits: usize,
    level: f64,
    seed: u64,
    make: impl Fn(Half, (ArrayView2<f32>, ArrayView2<f32>)) -> Result<Array1<f64>, ProbeError> + Sync,
) -> Result<Reliability, ProbeError> {
    checked_pair(positive, negative, 4)?;
    at_least("random splits", 10, splits)?;
    open_unit("level", level)?;
    let mut cosines = (0..splits)
        .into_par_iter()
        .map(|split| {
            let mut rng = stream(seed, split);
            let of_pos = order(&mut rng, positive.nrows());
            let of_neg = order(&mut rng, negative.nrows());
            let (p, n) = (of_pos.len() / 2, of_neg.len() / 2);
            let a = make((&of_pos[..p], &of_neg[..n]), (positive, negative))?;
            let second = (&of_pos[p..2 * p], &of_neg[n..2 * n]);
            let b = make(second, (positive, negative))?;
            let lengths = norm(a.view()) * norm(b.view());
            if lengths > 1e-24 {
                Ok(a.dot(&b) / lengths)
            } else {
                Err(ProbeError::NoDirection {
                    what: "direction of a half",
                    norm: lengths,
                })
            }
        })
        .collect::<Result<Vec<f64>, ProbeError>>()?;
    let half_cosine = cosines.iter().sum::<f64>() / splits as f64;
    cosines.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - level);
    let range = |map: fn(f64) -> f64| Interval {
        low: map(quantile(&cosines, tail)),
        high: map(quantile(&cosines, 1.0 - tail)),
        level,
    };
    Ok(Reliability {
        n_pos: positive.nrows(),
        n_neg: negative.nrows(),
        splits,
        half_cosine,
        half_cosine_range: range(|c| c),
        full: spearman_brown(half_cosine),
        full_range: range(spearman_brown),
    })
}

/// Reliability of the full sample from that of its halves, 2r/(1 + r) (Spearman 1910, Brown 1910).
pub fn spearman_brown(half: f64) -> f64 {
    // At −1 the formula has its pole; a negative reliability only says "none", so it stays bounded.
    (2.0 * half / (1.0 + half)).max(-1.0)
}

fn mean_of(x: ArrayView2<f32>, items: &[usize]) -> Array1<f64> {
    let mut sum = Array1::<f64>::zeros(x.ncols());
    for &i in items {
        sum.zip_mut_with(&x.row(i), |s, &v| *s += f64::from(v));
    }
    sum / items.len() as f64
}

/// `count` random unit vectors with no preferred orientation, `[count, d]`.
pub fn isotropic_directions(d: usize, count: usize, seed: u64) -> Result<Array2<f32>, ProbeError> {
    at_least("features", 1, d)?;
    unit_rows(d, count, |row| {
        let mut rng = stream(seed, row);
        (0..d).map(|_| normal(&mut rng)).collect()
    })
}

/// `count` random unit vectors drawn from N(0, Σ), Σ the covariance of activations `[n, d]`, then normalised, `[count, d]`:
/// as likely to lie where activations vary as the activations themselves. The stricter null for any direction read off them.
pub fn covariance_matched_directions(
    x: ArrayView2<f32>,
    count: usize,
    seed: u64,
) -> Result<Array2<f32>, ProbeError> {
    at_least("activations", 3, x.nrows())?;
    finite_rows("activations", x)?;
    let mean = means(x);
    unit_rows(x.ncols(), count, |row| {
        let mut rng = stream(seed, row);
        // Σ gᵢ(xᵢ − μ) with independent normal g has covariance proportional to that of x, at any d.
        let mut sum = Array1::<f64>::zeros(x.ncols());
        let mut total = 0.0;
        for item in x.rows() {
            let g = normal(&mut rng);
            total += g;
            sum.zip_mut_with(&item, |s, &v| *s += g * f64::from(v));
        }
        sum - &mean * total
    })
}

fn unit_rows(
    d: usize,
    count: usize,
    draw: impl Fn(usize) -> Array1<f64> + Sync,
) -> Result<Array2<f32>, ProbeError> {
    let rows: Vec<Array1<f64>> = (0..count).into_par_iter().map(&draw).collect();
    let mut out = Array2::zeros((count, d));
    for (mut target, row) in out.rows_mut().into_iter().zip(rows) {
        let length = norm(row.view());
        if length < 1e-12 {
            return Err(ProbeError::NoDirection {
                what: "random direction; do the activations vary?",
                norm: length,
            });
        }
        target.assign(&row.mapv(|v| (v / length) as f32));
    }
    Ok(out)
}

/// Refuses classes of different widths, too few items and non-finite values.
pub(crate) fn checked_pair(
    positive: ArrayView2<f32>,
    negative: ArrayView2<f32>,
    needed: usize,
) -> Result<(), ProbeError> {
    same_length(
        "width of the negative activations",
        positive.ncols(),
        negative.ncols(),
    )?;
    at_least("positive items", needed, positive.nrows())?;
    at_least("negative items", needed, negative.nrows())?;
    finite_rows("positive activations", positive)?;
    finite_rows("negative activations", negative)
}
