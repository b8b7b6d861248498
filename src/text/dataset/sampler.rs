//! Which rows come next: a shuffle of each epoch that depends on the seed and the epoch alone, or the order of the files.
//!
//! Always: the cursor (seed, epoch, index) is all there is to save; a sampler made from a saved one goes on exactly as the
//! one that was not interrupted would have. The shuffle is written out here, so that no library's new version changes a run.

use rand::RngCore;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// The cursor through shuffled epochs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    /// Decides every shuffle.
    pub seed: u64,
    /// Epochs gone through.
    pub epoch: u64,
    /// Rows of this epoch already given.
    pub index: usize,
    /// Rows come in the order of the files, in every epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_order: bool,
    /// The shuffle of one epoch, kept so as not to be made again for each batch.
    #[serde(skip)]
    order: Option<(u64, Vec<usize>)>,
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        (self.seed, self.epoch, self.index, self.in_order)
            == (other.seed, other.epoch, other.index, other.in_order)
    }
}

impl Sampler {
    /// At the beginning of the first epoch.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            epoch: 0,
            index: 0,
            in_order: false,
            order: None,
        }
    }

    /// At the beginning, through the rows as the files have them.
    pub fn in_order(seed: u64) -> Self {
        Self {
            in_order: true,
            ..Self::new(seed)
        }
    }

    /// The next batch out of `rows`: `size` of them, fewer at the end of an epoch, never of two epochs. Empty only if `rows`
    /// or `size` is 0.
    pub fn batch(&mut self, rows: usize, size: usize) -> Vec<usize> {
        if rows == 0 || size == 0 {
            return Vec::new();
        }
        if self.index >= rows {
            self.epoch += 1;
            self.index = 0;
        }
        let (from, to) = (self.index, rows.min(self.index.saturating_add(size)));
        self.index = to;
        self.order(rows)[from..to].to_vec()
    }

    /// Exactly `size` rows, going over into the next epoch where this one ends. Empty only if `rows` is 0.
    pub fn take(&mut self, rows: usize, size: usize) -> Vec<usize> {
        let mut taken = Vec::with_capacity(size.min(rows));
        while taken.len() < size && rows > 0 {
            taken.extend(self.batch(rows, size - taken.len()));
        }
        taken
    }

    /// Epochs gone through, with the part of this one.
    pub fn epochs(&self, rows: usize) -> f64 {
        self.epoch as f64 + self.index as f64 / rows.max(1) as f64
    }

    fn order(&mut self, rows: usize) -> &[usize] {
        let epoch = self.epoch;
        if !matches!(&self.order, Some((of, order)) if *of == epoch && order.len() == rows) {
            let order = if self.in_order {
                (0..rows).collect()
            } else {
                shuffled(self.seed, epoch, rows)
            };
            self.order = Some((epoch, order));
        }
        self.order.as_ref().map_or(&[], |(_, order)| order)
    }
}

/// A permutation of `0..rows` by Fisher and Yates, from the end.
pub(crate) fn shuffled(seed: u64, epoch: u64, rows: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut order: Vec<usize> = (0..rows).collect();
    for i in (1..rows).rev() {
        let j = below(&mut rng, i as u64 + 1) as usize;
        order.swap(i, j);
    }
    order
}

/// A number below `n`, each with the same probability: numbers of the last, partial round are drawn again.
fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    let partial = (u64::MAX % n + 1) % n;
    loop {
        let x = rng.next_u64();
        if x <= u64::MAX - partial {
            return x % n;
        }
    }
}
