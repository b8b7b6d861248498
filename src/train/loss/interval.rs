//! Numbers with their 95 % interval: Wilson's for a share, percentiles of a seeded bootstrap for anything else.
//!
//! Always: the same items and seed give the same interval, whatever the number of threads: each draw has a stream of the
//! generator to itself. A number that is not defined on a draw is left out of its interval.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

use crate::text::dataset::quantities::Share;

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Wilson (1927), of a share.
    Wilson,
    /// Percentiles of a bootstrap over pairs (Efron 1979).
    Bootstrap,
}

/// A number over `n` items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Items that it is of.
    pub n: usize,
    /// 95 % interval; none where too few draws have the number.
    pub interval: Option<[f64; 2]>,
    /// How it was made.
    pub by: By,
}

impl Estimate {
    /// The share `count` of `n`; none of nothing.
    pub fn share(count: usize, n: usize) -> Option<Self> {
        let share = Share::of(count, n)?;
        Some(Self {
            value: share.value(),
            n,
            interval: Some(share.interval),
            by: By::Wilson,
        })
    }

    /// A number with the interval that the bootstrap gave it.
    pub fn drawn(value: f64, n: usize, interval: Option<[f64; 2]>) -> Self {
        Self {
            value,
            n,
            interval,
            by: By::Bootstrap,
        }
    }
}

/// Draws of a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resampling {
    /// How many.
    pub draws: usize,
    /// What they depend on.
    pub seed: u64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self {
            draws: 2000,
            seed: 0,
        }
    }
}

impl Resampling {
    /// Intervals of `K` numbers of items that are drawn anew, with replacement. Of fewer than 2 items nothing can be said, nor
    /// where a number is undefined on half of the draws.
    pub fn intervals<T: Copy + Sync, const K: usize>(
        &self,
        items: &[T],
        numbers: impl Fn(&[T]) -> [Option<f64>; K] + Sync,
    ) -> [Option<[f64; 2]>; K] {
        if items.len() < 2 {
            return [None; K];
        }
        let drawn = self.each(|rng| {
            let some: Vec<T> = items
                .iter()
                .map(|_| items[below(rng, items.len())])
                .collect();
            numbers(&some)
        });
        std::array::from_fn(|k| {
            let values: Vec<f64> = drawn.iter().filter_map(|numbers| numbers[k]).collect();
            (2 * values.len() > self.draws).then(|| between(values))
        })
    }

    /// What `one` gives on each draw, in their order.
    pub fn each<T: Send>(&self, one: impl Fn(&mut ChaCha8Rng) -> T + Sync) -> Vec<T> {
        let draws = 0..self.draws.max(1) as u64;
        draws
            .into_par_iter()
            .map(|draw| {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(draw);
                one(&mut rng)
            })
            .collect()
    }
}

/// From 0 to below 1.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Below `n`, each as likely as the others but for 2⁻⁶⁴ of `n`.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

fn between(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|q| quantile(&values, q))
}

/// The quantile of sorted values, at least one, in a straight line between ranks.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len() - 1;
    let at = q * last as f64;
    let low = at.floor() as usize;
    let (a, b) = (sorted[low], sorted[(low + 1).min(last)]);
    a + (at - low as f64) * (b - a)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VALUES: [f64; 12] = [
        0.3, -1.2, 2.5, 0.0, 1.1, 4.0, -0.7, 0.9, 1.6, -2.2, 0.4, 3.1,
    ];

    fn mean(values: &[f64]) -> [Option<f64>; 1] {
        [Some(values.iter().sum::<f64>() / values.len() as f64)]
    }

    /// `scipy.stats.bootstrap((VALUES,), np.mean, n_resamples=200_000, method="percentile", rng=default_rng(1))` gives -0.1417
    /// and 1.7917; 20,000 draws know the ends to about 0.02.
    #[test]
    fn the_interval_of_a_mean_is_scipys() {
        let draws = Resampling {
            draws: 20_000,
            seed: 3,
        };
        let [Some([low, high])] = draws.intervals(&VALUES, mean) else {
            panic!("no interval");
        };
        assert!((low - -0.1417).abs() < 0.04, "{low}");
        assert!((high - 1.7917).abs() < 0.04, "{high}");
    }

    #[test]
    fn the_seed_decides_and_the_threads_do_not() {
        let draws = Resampling {
            draws: 200,
            seed: 3,
        };
        let here = draws.intervals(&VALUES, mean);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1);
        let alone = one.build().unwrap();
        assert_eq!(here, alone.install(|| draws.intervals(&VALUES, mean)));
        let other = Resampling { seed: 4, ..draws };
        assert_ne!(here, other.intervals(&VALUES, mean));
        assert_eq!(draws.intervals(&VALUES[..1], mean), [None]);
        // Undefined on nearly every draw.
        let rarely = |values: &[f64]| [(values[0] > 3.5).then_some(1.0)];
        assert_eq!(draws.intervals(&VALUES, rarely), [None]);
    }

    /// `numpy.quantile([1, 2, 4, 8], [.025, .5, .975])`
    #[test]
    fn quantiles_are_numpys() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        let found = [0.025, 0.5, 0.975].map(|q| quantile(&sorted, q));
        for (found, expected) in found.iter().zip([1.075, 3.0, 7.7]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }
}
