//! A random order of so many things that takes no memory: a Feistel network over the next power of four, walked until it
//! lands inside (format-preserving encryption by cycle walking, Black and Rogaway 2002).
//!
//! Always: each number below `n` comes exactly once, and the order depends on the seed and the epoch alone.

const ROUNDS: usize = 6;

/// An order of the numbers below `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permutation {
    n: u64,
    /// Bits of each half.
    half: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    pub(super) fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut state = mix(seed ^ mix(epoch.wrapping_add(0x9E37_79B9_7F4A_7C15)));
        let mut key = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(state)
        };
        Self {
            n,
            half: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| key()),
        }
    }

    /// What stands at place `at`, which must be below `n`.
    pub(super) fn at(&self, at: u64) -> u64 {
        debug_assert!(at < self.n);
        let mut x = self.once(at);
        // The network permutes the whole domain, so the walk from inside comes back inside.
        while x >= self.n {
            x = self.once(x);
        }
        x
    }

    fn once(&self, x: u64) -> u64 {
        let mask = (1_u64 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half, x & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half) | right
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_once_and_another_order_each_epoch() {
        for n in (1..200).chain([1023, 1024, 1025, 4097]) {
            let order = |epoch| -> Vec<u64> {
                let permutation = Permutation::new(n, 7, epoch);
                (0..n).map(|at| permutation.at(at)).collect()
            };
            let mut sorted = order(0);
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..n), "{n}");
            assert!(n < 8 || order(0) != order(1), "{n}");
        }
    }

    /// Neighbours must land as far apart as in a random order: the mean distance of two uniform numbers is n / 3, and the
    /// correlation of neighbours 0 within four standard errors.
    #[test]
    fn neighbours_land_far_apart() {
        let n = 20_000_u64;
        for seed in 0..5 {
            let permutation = Permutation::new(n, seed, 0);
            let order: Vec<f64> = (0..n)
                .map(|at| permutation.at(at) as f64 / n as f64)
                .collect();
            let pairs = || order.windows(2);
            let distance = pairs().map(|p| (p[0] - p[1]).abs()).sum::<f64>() / (n - 1) as f64;
            assert!((distance - 1.0 / 3.0).abs() < 0.01, "{distance}");
            let product = pairs().map(|p| (p[0] - 0.5) * (p[1] - 0.5)).sum::<f64>() * 12.0;
            assert!(
                (product / (n as f64)).abs() < 4.0 / (n as f64).sqrt(),
                "{product}"
            );
        }
    }
}
