//! What each latent did over the rows: how often it fired, how strongly at most and in all; and the shares that are dead,
//! rare and dense.

use serde::{Deserialize, Serialize};

use crate::dictionary::shape;
use crate::{Codes, SaeError};

/// What is added to a density before its logarithm, as SAELens does: a latent that never fired stands at -10.
pub const LOG_OFFSET: f64 = 1e-10;
/// A latent that fires in fewer of the rows is rare: the edge of the low cluster in Bricken et al. 2023.
pub const RARE_BELOW: f64 = 1e-5;
/// A latent that fires in more of the rows is dense (Sun et al. 2025, arXiv 2506.15679).
pub const DENSE_ABOVE: f64 = 0.1;

/// Edges of the histogram's bins are this far apart, from -10 to 0.
const BIN: f64 = 0.25;

/// Latent by latent, over the rows seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Density {
    rows: u64,
    /// Rows in which the latent was not 0.
    fired: Vec<u64>,
    /// `Σ |value|`.
    sum: Vec<f64>,
    /// Largest `|value|`.
    largest: Vec<f32>,
    /// `Σ L0²` over rows.
    l0_square: u64,
}

/// Shares of the latents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// All latents.
    pub latents: usize,
    /// Never fired in the rows seen. Says little where these are few: see [`Quality::rows`](super::Quality::rows).
    pub dead: f64,
    /// Fired, in less than `rare_below` of the rows.
    pub rare: f64,
    /// Fired in more than `dense_above` of the rows.
    pub dense: f64,
    /// The edge of `rare`.
    pub rare_below: f64,
    /// The edge of `dense`.
    pub dense_above: f64,
}

/// Counts of `log10(density + 1e-10)` over latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// One more than there are bins, rising; a bin holds its lower edge, the last one both.
    pub edges: Vec<f64>,
    /// Latents of each bin.
    pub counts: Vec<u64>,
}

impl Density {
    /// Of no rows.
    pub fn new(latents: usize) -> Self {
        Self {
            rows: 0,
            fired: vec![0; latents],
            sum: vec![0.0; latents],
            largest: vec![0.0; latents],
            l0_square: 0,
        }
    }

    /// Takes in the codes of some rows; an entry of value 0 did not fire.
    ///
    /// # Errors
    /// A latent beyond the width, a value that is not finite; nothing is taken in then.
    pub fn add(&mut self, codes: &Codes) -> Result<(), SaeError> {
        let latents = self.latents();
        let beyond = codes.latents.iter().find(|&&l| l as usize >= latents);
        if let Some(latent) = beyond {
            return Err(SaeError::Range {
                what: "latent",
                found: latent.to_string(),
                allowed: format!("0 to {}", latents.saturating_sub(1)),
            });
        }
        for row in 0..codes.rows() {
            let (of_row, values) = codes.row(row);
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(SaeError::NonFinite {
                    what: "codes".into(),
                    row,
                    column: of_row[at] as usize,
                });
            }
        }
        for row in 0..codes.rows() {
            let (of_row, values) = codes.row(row);
            let mut l0 = 0;
            for (&latent, &value) in of_row.iter().zip(values).filter(|(_, v)| **v != 0.0) {
                let latent = latent as usize;
                l0 += 1;
                self.fired[latent] += 1;
                self.sum[latent] += f64::from(value.abs());
                self.largest[latent] = self.largest[latent].max(value.abs());
            }
            self.l0_square += l0 * l0;
        }
        self.rows += codes.rows() as u64;
        Ok(())
    }

    /// Takes in what another has seen of the same latents.
    ///
    /// # Errors
    /// Another number of latents.
    pub fn merge(&mut self, other: &Self) -> Result<(), SaeError> {
        shape("densities to merge", &[self.latents()], &[other.latents()])?;
        self.rows += other.rows;
        self.l0_square += other.l0_square;
        for latent in 0..self.latents() {
            self.fired[latent] += other.fired[latent];
            self.sum[latent] += other.sum[latent];
            self.largest[latent] = self.largest[latent].max(other.largest[latent]);
        }
        Ok(())
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Latents.
    pub fn latents(&self) -> usize {
        self.fired.len()
    }

    /// Rows in which each latent fired.
    pub fn fired(&self) -> &[u64] {
        &self.fired
    }

    /// Share of the rows in which a latent fired; 0 before any row came.
    pub fn of(&self, latent: usize) -> f64 {
        self.fired[latent] as f64 / self.rows.max(1) as f64
    }

    /// `log10(density + 1e-10)` of each latent, as SAELens keeps it.
    pub fn log10(&self) -> Vec<f64> {
        let all = 0..self.latents();
        all.map(|latent| (self.of(latent) + LOG_OFFSET).log10())
            .collect()
    }

    /// Mean `|value|` of a latent over the rows in which it fired; `None` if it never did.
    pub fn mean_when_firing(&self, latent: usize) -> Option<f64> {
        let fired = self.fired[latent];
        (fired > 0).then(|| self.sum[latent] / fired as f64)
    }

    /// The largest `|value|` of a latent.
    pub fn largest(&self, latent: usize) -> f32 {
        self.largest[latent]
    }

    /// `Σ |value|` over rows and latents.
    pub(super) fn l1(&self) -> f64 {
        self.sum.iter().sum()
    }

    /// Standard deviation of L0 over rows.
    pub(super) fn l0_deviation(&self) -> Option<f64> {
        let rows = self.rows as f64;
        let mean = self.fired.iter().sum::<u64>() as f64 / rows;
        (self.rows > 0).then(|| (self.l0_square as f64 / rows - mean * mean).max(0.0).sqrt())
    }

    /// The shares that are dead (never fired), rare and dense.
    pub fn shares(&self, rare_below: f64, dense_above: f64) -> Shares {
        let share = |of: &dyn Fn(f64) -> bool| {
            let found = (0..self.latents()).filter(|&l| of(self.of(l))).count();
            found as f64 / self.latents().max(1) as f64
        };
        Shares {
            latents: self.latents(),
            dead: share(&|d| d == 0.0),
            rare: share(&|d| d > 0.0 && d < rare_below),
            dense: share(&|d| d > dense_above),
            rare_below,
            dense_above,
        }
    }

    /// How the densities are spread, in bins of a quarter of a decade.
    pub fn histogram(&self) -> Histogram {
        let bins = (10.0 / BIN) as usize;
        let mut counts = vec![0; bins];
        for log in self.log10() {
            let bin = ((log + 10.0) / BIN).floor().max(0.0) as usize;
            counts[bin.min(bins - 1)] += 1;
        }
        Histogram {
            edges: (0..=bins).map(|i| i as f64 * BIN - 10.0).collect(),
            counts,
        }
    }
}
