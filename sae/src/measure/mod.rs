//! How good a dictionary is, by one pass over rows: sparsity, densities, and every number for reconstruction in circulation.
//!
//! [`Measure`] takes batch after batch and can be merged with another of the same widths; sums are f64 in a fixed order, so
//! the number of threads never changes a bit. `moments.rs` holds means and variances, `rows.rs` what is summed row by row,
//! `density.rs` what each latent did, `quality.rs` the report, `drift.rs` what changed between two runs of one dictionary.

mod density;
mod drift;
mod moments;
mod quality;
mod rows;
#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView2, Slice};

pub use density::{DENSE_ABOVE, Density, Histogram, LOG_OFFSET, RARE_BELOW, Shares};
pub use drift::{Crossing, Drift, Floors, Shift};
pub use moments::Moments;
pub use quality::{ByDefinition, Quality};

use crate::dictionary::{finite, shape};
use crate::{Codes, Dictionary, SaeError};
use rows::RowSums;

/// What has been seen so far of a dictionary at work.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    density: Density,
    /// Of the rows that should have come out.
    target: Moments,
    sums: RowSums,
    /// Of each batch, `Σ var(x − x̂) / Σ var(x)` and `Σ|x − x̂|² / Σ|x − mean|²`, summed over the batches that have a variance.
    batch_variance: f64,
    batch_mean: f64,
    batches: u64,
    /// Batches of which the rows do not differ, which have no such ratio.
    flat: u64,
}

impl Measure {
    /// Of nothing yet, for `d_sae` latents that write rows of width `d_out`.
    pub fn new(d_sae: usize, d_out: usize) -> Self {
        Self {
            density: Density::new(d_sae),
            target: Moments::new(d_out),
            sums: RowSums::default(),
            batch_variance: 0.0,
            batch_mean: 0.0,
            batches: 0,
            flat: 0,
        }
    }

    /// Of nothing yet, for this dictionary.
    pub fn of(dictionary: &Dictionary) -> Self {
        Self::new(dictionary.d_sae(), dictionary.d_out())
    }

    /// Runs a dictionary over rows `[n, d_in]` and takes in what it makes of them, against `target` `[n, d_out]`: the rows
    /// themselves for an autoencoder, what should be written for a transcoder. Returns the codes and what came out.
    ///
    /// # Errors
    /// As [`Dictionary::encode`] and [`Self::add`].
    pub fn run(
        &mut self,
        dictionary: &Dictionary,
        rows: ArrayView2<f32>,
        target: ArrayView2<f32>,
    ) -> Result<(Codes, Array2<f32>), SaeError> {
        let codes = dictionary.encode(rows)?;
        let output = dictionary.decode(&codes, rows)?;
        self.add(target, output.view(), &codes)?;
        Ok((codes, output))
    }

    /// Takes in one batch: `target` and `output` `[n, d_out]`, and the codes of its rows. Two of the three definitions of
    /// explained variance are means over batches, and depend on how rows were put into batches.
    ///
    /// # Errors
    /// Shapes that differ, values that are not finite, a latent beyond the width.
    pub fn add(
        &mut self,
        target: ArrayView2<f32>,
        output: ArrayView2<f32>,
        codes: &Codes,
    ) -> Result<(), SaeError> {
        let (rows, width) = (codes.rows(), self.target.width());
        shape("rows to measure against", &[rows, width], target.shape())?;
        shape("rows to measure", &[rows, width], output.shape())?;
        finite("rows to measure against", target)?;
        finite("rows to measure", output)?;
        if rows == 0 {
            return Ok(());
        }
        self.density.add(codes)?;
        let batch = Moments::of(target);
        let error = Moments::of((&target - &output).view());
        let sums = RowSums::of(target, output);
        if batch.scatter() > 0.0 {
            self.batch_variance += error.scatter() / batch.scatter();
            self.batch_mean += sums.error / batch.scatter();
            self.batches += 1;
        } else {
            self.flat += 1;
        }
        self.target.merge(&batch);
        self.sums.merge(&sums);
        Ok(())
    }

    /// Takes in what another one has seen, as if its batches had come here.
    ///
    /// # Errors
    /// Other widths.
    pub fn merge(&mut self, other: &Self) -> Result<(), SaeError> {
        let widths = |m: &Self| [m.density.latents(), m.target.width()];
        shape("measures to merge", &widths(self), &widths(other))?;
        self.density.merge(&other.density)?;
        self.target.merge(&other.target);
        self.sums.merge(&other.sums);
        self.batch_variance += other.batch_variance;
        self.batch_mean += other.batch_mean;
        self.batches += other.batches;
        self.flat += other.flat;
        Ok(())
    }

    /// What each latent did.
    pub fn density(&self) -> &Density {
        &self.density
    }

    /// Mean and variance of the rows that should have come out.
    pub fn target(&self) -> &Moments {
        &self.target
    }

    /// All of it as one report.
    pub fn quality(&self) -> Quality {
        let rows = self.density.rows();
        let sums = &self.sums;
        let over = |sum: f64, n: u64| (n > 0).then(|| sum / n as f64);
        let ratio = |over: f64, under: f64| (under > 0.0).then(|| over / under);
        let l0 = over(self.density.fired().iter().sum::<u64>() as f64, rows);
        let fvu = ByDefinition {
            pooled: ratio(sums.error, self.target.scatter()),
            batch_variance: over(self.batch_variance, self.batches),
            batch_mean: over(self.batch_mean, self.batches),
        };
        Quality {
            rows,
            batches: self.batches + self.flat,
            l0,
            l0_deviation: self.density.l0_deviation(),
            l1: over(self.density.l1(), rows),
            explained_variance: fvu.complement(),
            fvu,
            mse: over(sums.error, rows),
            l2_ratio: over(sums.ratio, sums.with_norm),
            cosine: over(sums.cosine, sums.with_norm),
            relative_bias: ratio(sums.output_square, sums.product),
            severity: self.target.severity(),
            latents: self.density.shares(RARE_BELOW, DENSE_ABOVE),
            densities: self.density.histogram(),
        }
    }
}

/// Rows of a chunk whose sums are formed by one thread; a constant, so that the order of additions never changes.
const CHUNK: usize = 64;

/// What `of` makes of each chunk of so many rows, in their order; each chunk is the work of one thread.
fn by_chunks<T: Send>(rows: usize, of: impl Fn(Slice) -> T + Sync + Send) -> Vec<T> {
    use rayon::prelude::*;
    let starts: Vec<usize> = (0..rows).step_by(CHUNK).collect();
    let chunk = |start: &usize| of(Slice::from(*start..(start + CHUNK).min(rows)));
    starts.par_iter().map(chunk).collect()
}
