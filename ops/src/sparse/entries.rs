//! The few numbers of a large matrix that are not 0, by row.

/// Row `r` has entries `starts[r] .. starts[r + 1]`, in rising order of latents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    /// One more than there are rows.
    pub starts: Vec<usize>,
    /// Which latent.
    pub latents: Vec<u32>,
    /// Its number.
    pub values: Vec<f32>,
}

impl Entries {
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
    pub(super) fn join(bands: Vec<Self>) -> Self {
        let count = |of: fn(&Self) -> usize| bands.iter().map(of).sum::<usize>();
        let mut all = Self {
            starts: Vec::with_capacity(count(Self::rows) + 1),
            latents: Vec::with_capacity(count(Self::len)),
            values: Vec::with_capacity(count(Self::len)),
        };
        all.starts.push(0);
        for band in bands {
            let before = all.len();
            all.starts
                .extend(band.starts.iter().skip(1).map(|end| before + end));
            all.latents.extend_from_slice(&band.latents);
            all.values.extend_from_slice(&band.values);
        }
        all
    }
}
