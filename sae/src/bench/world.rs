//! The rows of a contest: a planted world's first batches, drawn once and trained on in their order, over and over.

use ndarray::{Array2, ArrayView2, s};

use crate::SaeError;
use crate::synthetic::{Planted, PlantedSpec};

/// A planted world with its rows for training.
#[derive(Clone, Debug)]
pub struct World {
    planted: Planted,
    rows: Array2<f32>,
    batch: usize,
}

impl World {
    /// Plants, and draws `batches` batches of `batch` rows: the planted batches of numbers 0 and up.
    ///
    /// # Errors
    /// A world that cannot be planted, no rows.
    pub fn new(spec: PlantedSpec, batch: usize, batches: usize) -> Result<Self, SaeError> {
        let planted = Planted::new(spec)?;
        let wanted = batch.checked_mul(batches);
        let total = wanted.filter(|n| (1..=1 << 32).contains(n));
        let Some(total) = total else {
            return Err(SaeError::Range {
                what: "rows of a world",
                found: format!("{batches} batches of {batch}"),
                allowed: "1 to 4294967296 rows".into(),
            });
        };
        let mut rows = Array2::zeros((total, planted.directions().ncols()));
        for number in 0..batches {
            let (drawn, _) = planted.batch(number as u64, batch);
            let at = number * batch;
            rows.slice_mut(s![at..at + batch, ..]).assign(&drawn);
        }
        Ok(Self {
            planted,
            rows,
            batch,
        })
    }

    /// What is planted.
    pub fn planted(&self) -> &Planted {
        &self.planted
    }

    /// All rows `[n, d]`.
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows.view()
    }

    /// The rows of a step, from the first again after the last.
    pub fn batch(&self, step: u64) -> ArrayView2<'_, f32> {
        let batches = (self.rows.nrows() / self.batch) as u64;
        let at = (step % batches) as usize * self.batch;
        self.rows.slice(s![at..at + self.batch, ..])
    }
}
