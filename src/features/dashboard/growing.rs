//! A histogram of values whose largest is not known before: bins double in width when one does not fit.
//!
//! Always: counts are exact, and do not depend on the order in which values came.

use serde::{Deserialize, Serialize};

/// Bins in work; from half of them up are in use at the end.
const BINS: usize = 64;

/// Counts of values above 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Growing {
    /// Of a bin: a power of 2.
    width: f64,
    counts: Vec<u64>,
}

/// A histogram as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// One more than there are bins, rising. A bin holds its lower edge.
    pub edges: Vec<f64>,
    /// Values of each bin.
    pub counts: Vec<u64>,
}

impl Growing {
    pub(super) fn new() -> Self {
        Self {
            // Small enough for any activation; it only ever grows.
            width: 2_f64.powi(-40),
            counts: vec![0; BINS],
        }
    }

    /// Takes in a finite value above 0.
    pub(super) fn add(&mut self, value: f32) {
        let value = f64::from(value);
        while value >= self.width * BINS as f64 {
            self.width *= 2.0;
            for bin in 0..BINS / 2 {
                self.counts[bin] = self.counts[2 * bin] + self.counts[2 * bin + 1];
            }
            self.counts[BINS / 2..].fill(0);
        }
        self.counts[(value / self.width) as usize] += 1;
    }

    /// The bins up to the last that holds something.
    pub(super) fn bins(&self) -> Bins {
        let used = self.counts.iter().rposition(|c| *c > 0);
        let used = used.map_or(0, |last| last + 1);
        if used == 0 {
            return Bins::default();
        }
        Bins {
            edges: (0..=used).map(|i| i as f64 * self.width).collect(),
            counts: self.counts[..used].to_vec(),
        }
    }
}

/// Counts of values in `bins` equal bins from the smallest to the largest.
pub(super) fn between(values: &[f32], bins: usize) -> Bins {
    let ends = |(low, high): (f32, f32), v: &f32| (low.min(*v), high.max(*v));
    let (low, high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), ends);
    if low > high || bins == 0 {
        return Bins::default();
    }
    let (low, high) = (f64::from(low), f64::from(high));
    let width = ((high - low) / bins as f64).max(f64::MIN_POSITIVE);
    let mut counts = vec![0; bins];
    for value in values {
        let bin = ((f64::from(*value) - low) / width) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    Bins {
        edges: (0..=bins).map(|i| low + i as f64 * width).collect(),
        counts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand_in_any_order() {
        let mut values = vec![0.5_f32, 1.0, 1.01, 31.9, 32.0, 63.999];
        let of = |values: &[f32]| {
            let mut all = Growing::new();
            for value in values {
                all.add(*value);
            }
            all.bins()
        };
        let bins = of(&values);
        assert_eq!((bins.edges[1], bins.counts.len()), (1.0, 64));
        let at = [(0, 1), (1, 2), (31, 1), (32, 1), (63, 1)];
        assert!(at.iter().all(|(bin, n)| bins.counts[*bin] == *n));
        assert_eq!(bins.counts.iter().sum::<u64>(), 6);
        values.reverse();
        assert_eq!(of(&values), bins);
        // One more value doubles the width.
        values.push(64.0);
        let wider = of(&values);
        assert_eq!((wider.edges[1], wider.counts.len()), (2.0, 33));
        assert_eq!((wider.counts[0], wider.counts[32]), (3, 1));
        assert_eq!(of(&[]), Bins::default());
    }

    #[test]
    fn equal_bins_by_hand() {
        let bins = between(&[0.0, 1.0, 2.0, 2.5, 4.0], 4);
        assert_eq!(bins.edges, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(bins.counts, [1, 1, 2, 1]);
        assert_eq!(between(&[3.0, 3.0], 2).counts, [2, 0]);
        assert_eq!(between(&[], 2), Bins::default());
    }
}
