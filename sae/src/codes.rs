//! The few latents that fired in each row.

use ndarray::Array2;

/// Codes of some rows, by row: for each the latents that are not 0, in rising order, with their values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Codes {
    /// Row `r` has entries `starts[r] .. starts[r + 1]`; one more than there are rows.
    pub starts: Vec<usize>,
    /// Which latent.
    pub latents: Vec<u32>,
    /// Its value.
    pub values: Vec<f32>,
}

impl Codes {
    /// Of no rows.
    pub fn new() -> Self {
        Self {
            starts: vec![0],
            ..Self::default()
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The latents of a row, and their values.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let at = self.starts[row]..self.starts[row + 1];
        (&self.latents[at.clone()], &self.values[at])
    }

    /// Appends a row, its latents in rising order.
    pub fn push(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) {
        for (latent, value) in entries {
            self.latents.push(latent);
            self.values.push(value);
        }
        self.starts.push(self.latents.len());
    }

    /// The value of a latent in a row; 0 where it did not fire.
    pub fn value(&self, row: usize, latent: u32) -> f32 {
        let (latents, values) = self.row(row);
        latents.binary_search(&latent).map_or(0.0, |at| values[at])
    }

    /// All of it, `[rows, d_sae]`.
    pub fn dense(&self, d_sae: usize) -> Array2<f32> {
        let mut dense = Array2::zeros((self.rows(), d_sae));
        for row in 0..self.rows() {
            let (latents, values) = self.row(row);
            for (&latent, &value) in latents.iter().zip(values) {
                dense[(row, latent as usize)] = value;
            }
        }
        dense
    }
}
