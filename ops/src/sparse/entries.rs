//! The few numbers of a large matrix that are not 0, by row.

use rayon::prelude::*;

/// Row `r` has entries `starts[r] .. starts[r + 1]`, in rising order of latents.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries {
    /// One more than there are rows.
    pub starts: Vec<usize>,
    /// Which latent.
    pub latents: Vec<u32>,
    /// Its number.
    pub values: Vec<f32>,
}

impl Default for Entries {
    fn default() -> Self {
        Self::new()
    }
}

impl Entries {
    /// Of no rows.
    pub fn new() -> Self {
        Self {
            starts: vec![0],
            latents: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Appends a row, its latents in rising order.
    pub fn push(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) {
        for (latent, value) in entries {
            self.latents.push(latent);
            self.values.push(value);
        }
        self.starts.push(self.latents.len());
    }

    /// The latents of a row, and their numbers.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let at = self.starts[row]..self.starts[row + 1];
        (&self.latents[at.clone()], &self.values[at])
    }

    /// The number of a latent in a row; 0 where it has no entry.
    pub fn value(&self, row: usize, latent: u32) -> f32 {
        let (latents, values) = self.row(row);
        latents.binary_search(&latent).map_or(0.0, |at| values[at])
    }

    /// The entries, by their number among all, that are wanted.
    pub fn filtered(&self, mut wanted: impl FnMut(usize) -> bool) -> Self {
        let mut kept = Self::new();
        for ends in self.starts.windows(2) {
            let wanted = (ends[0]..ends[1]).filter(|&e| wanted(e));
            kept.push(wanted.map(|e| (self.latents[e], self.values[e])));
        }
        kept
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Entries of all rows.
    pub fn len(&self) -> usize {
        self.latents.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.latents.is_empty()
    }

    /// The row of each entry.
    pub fn rows_of_entries(&self) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.len());
        for (row, ends) in self.starts.windows(2).enumerate() {
            rows.resize(ends[1], row as u32);
        }
        rows
    }

    /// Bands of rows, one after the other.
    pub(super) fn join(mut bands: Vec<Self>) -> Self {
        if bands.len() == 1 {
            return bands.remove(0);
        }
        let mut starts = vec![0];
        let mut before = 0;
        for band in &bands {
            starts.extend(band.starts.iter().skip(1).map(|end| before + end));
            before += band.len();
        }
        let (mut latents, mut values) = (vec![0; before], vec![0.0; before]);
        let (mut to, mut places) = ((&mut latents[..], &mut values[..]), Vec::new());
        for band in bands {
            let (first, rest) = to.0.split_at_mut(band.len());
            let (second, others) = to.1.split_at_mut(band.len());
            places.push((band, first, second));
            to = (rest, others);
        }
        places.into_par_iter().for_each(|(band, first, second)| {
            first.copy_from_slice(&band.latents);
            second.copy_from_slice(&band.values);
        });
        Self {
            starts,
            latents,
            values,
        }
    }
}
