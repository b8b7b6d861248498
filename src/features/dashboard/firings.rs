//! Where a latent fired, with the tokens around: the strongest, and a fair sample of all.
//!
//! The sample is a bottom-k one: each firing has a number drawn from the seed, the latent, the context and the position, and
//! those with the smallest numbers stay. It is uniform without replacement, as a reservoir's is, and does not depend on the
//! order in which firings came. Top examples are one a context.
//!
//! Always: memory is bounded by the numbers asked for, not by the text.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One firing.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// Which context, from 0.
    pub context: u64,
    /// Which of its tokens.
    pub position: usize,
    /// How strongly.
    pub value: f32,
    /// The token of the context that the window begins with.
    pub start: usize,
    /// The tokens of the window.
    pub tokens: Vec<u32>,
    /// The latent's values on them; 0 where it was silent, and on tokens that the policy leaves out.
    pub values: Vec<f32>,
}

/// The context of a firing: its tokens, and all firings of the latent in it as `(position, value)`, rising.
pub(super) struct Around<'a> {
    pub context: u64,
    pub ids: &'a [u32],
    pub firings: &'a [(usize, f32)],
    /// Tokens before and after.
    pub window: [usize; 2],
}

impl Around<'_> {
    fn cut(&self, position: usize, value: f32) -> Firing {
        let start = position.saturating_sub(self.window[0]);
        let end = (position + self.window[1] + 1).min(self.ids.len());
        let mut values = vec![0.0; end - start];
        for &(at, value) in self.firings {
            if (start..end).contains(&at) {
                values[at - start] = value;
            }
        }
        Firing {
            context: self.context,
            position,
            value,
            start,
            tokens: self.ids[start..end].to_vec(),
            values,
        }
    }
}

/// The strongest firings, one a context, the strongest first; of equals the first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Top {
    most: usize,
    pub(super) kept: Vec<Firing>,
}

impl Top {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, around: &Around) {
        let stronger = |a: (usize, f32), b: &(usize, f32)| if b.1 > a.1 { *b } else { a };
        let strongest = around.firings.iter().fold((0, 0.0), stronger);
        let (position, value) = strongest;
        let at = self.kept.partition_point(|kept| kept.value >= value);
        if value <= 0.0 || at >= self.most {
            return;
        }
        self.kept.truncate(self.most - 1);
        self.kept.insert(at, around.cut(position, value));
    }
}

#[derive(Debug, Clone)]
struct Drawn {
    number: u64,
    firing: Firing,
}

impl Drawn {
    fn key(&self) -> (u64, u64, usize) {
        (self.number, self.firing.context, self.firing.position)
    }
}

impl PartialEq for Drawn {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Drawn {}

impl PartialOrd for Drawn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Drawn {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A uniform sample of the firings above 0.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    most: usize,
    seed: u64,
    heap: BinaryHeap<Drawn>,
}

/// The firings of one part of the sample, equally large parts by value.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Smallest value of the part.
    pub low: f32,
    /// Largest.
    pub high: f32,
    /// Firings of the part.
    pub size: usize,
    /// Some of them, drawn, the strongest first.
    pub shown: Vec<Firing>,
}

impl Sample {
    /// At most so many, by a seed of their own for each latent.
    pub(super) fn new(most: usize, seed: u64, latent: usize) -> Self {
        Self {
            most,
            seed: mixed(mixed(seed) ^ latent as u64),
            heap: BinaryHeap::new(),
        }
    }

    pub(super) fn add(&mut self, around: &Around) {
        for &(position, value) in around.firings.iter().filter(|f| f.1 > 0.0) {
            let place = (around.context << 20) ^ position as u64;
            let number = mixed(self.seed ^ mixed(place));
            let full = self.heap.len() >= self.most;
            if full && self.heap.peek().is_none_or(|last| last.number <= number) {
                continue;
            }
            let firing = around.cut(position, value);
            self.heap.push(Drawn { number, firing });
            if full {
                self.heap.pop();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// The sample in `groups` parts by value, the strongest first, with up to `shown` of each.
    pub(super) fn groups(&self, groups: usize, shown: usize) -> Vec<Group> {
        let mut all: Vec<&Drawn> = self.heap.iter().collect();
        all.sort_by(|a, b| {
            let values = a.firing.value.total_cmp(&b.firing.value);
            values.then_with(|| a.cmp(b))
        });
        let (n, parts) = (all.len(), groups.min(all.len()));
        let part = |i: usize| {
            let of_part = &all[i * n / parts..(i + 1) * n / parts];
            let mut drawn = of_part.to_vec();
            drawn.sort();
            drawn.truncate(shown);
            let mut shown: Vec<Firing> = drawn.iter().map(|d| d.firing.clone()).collect();
            shown.sort_by(|a, b| b.value.total_cmp(&a.value));
            Group {
                low: of_part[0].firing.value,
                high: of_part[of_part.len() - 1].firing.value,
                size: of_part.len(),
                shown,
            }
        };
        (0..parts).rev().map(part).collect()
    }
}

/// A number for a number, as if drawn (Steele, Lea and Flood 2014, SplitMix64).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(context: u64, ids: &'a [u32], firings: &'a [(usize, f32)]) -> Around<'a> {
        Around {
            context,
            ids,
            firings,
            window: [2, 1],
        }
    }

    #[test]
    fn the_strongest_of_each_context_with_what_stands_around() {
        let ids = [10, 11, 12, 13, 14, 15];
        let mut top = Top::new(2);
        top.add(&with(0, &ids, &[(0, 1.0), (4, 3.0), (5, 3.0)]));
        top.add(&with(1, &ids, &[(1, 2.0)]));
        top.add(&with(2, &ids, &[(1, 2.0)]));
        top.add(&with(3, &ids, &[(0, 5.0)]));
        let found: Vec<_> = top.kept.iter().map(|f| (f.context, f.position)).collect();
        assert_eq!(found, [(3, 0), (0, 4)]);
        let second = &top.kept[1];
        assert_eq!(
            (second.start, &second.tokens[..]),
            (2, &[12, 13, 14, 15][..])
        );
        assert_eq!(second.values, [0.0, 0.0, 3.0, 3.0]);
        assert_eq!(top.kept[0].tokens, [10, 11]);
    }

    fn sampled(most: usize, seed: u64, contexts: impl Iterator<Item = u64>) -> Sample {
        let ids: Vec<u32> = (0..20).collect();
        let mut sample = Sample::new(most, seed, 7);
        for context in contexts {
            let of = |p: usize| (p, context as f32 + p as f32 / 100.0 + 0.5);
            let firings: Vec<_> = (0..20).map(of).collect();
            sample.add(&with(context, &ids, &firings));
        }
        sample
    }

    #[test]
    fn quantiles_by_hand_where_all_is_kept() {
        let groups = sampled(1000, 0, 0..10).groups(10, 3);
        for (i, group) in groups.iter().enumerate() {
            // Context 9 has the ten per cent of the strongest, and so on.
            let context = (9 - i) as f32;
            assert_eq!((group.low, group.size), (context + 0.5, 20));
            assert!((group.high - (context + 0.69)).abs() < 1e-5);
            assert_eq!(group.shown.len(), 3);
            assert!(group.shown.is_sorted_by(|a, b| a.value >= b.value));
        }
        let few = sampled(4, 0, 0..10).groups(10, 3);
        assert_eq!(few.len(), 4);
        assert!(sampled(4, 0, 0..0).groups(10, 3).is_empty());
    }

    #[test]
    fn the_sample_is_fair_and_knows_no_order() {
        let places = |sample: Sample| {
            let mut all: Vec<_> = sample.heap.iter().map(Drawn::key).collect();
            all.sort_unstable();
            all
        };
        let forward = places(sampled(40, 3, 0..100));
        assert_eq!(forward, places(sampled(40, 3, (0..100).rev())));
        assert_ne!(forward, places(sampled(40, 4, 0..100)));
        // Of 2000 firings 40 stay; over 50 seeds the mean context is near the middle: 49.5, standard error 0.65.
        let mean = |seed| {
            let all = places(sampled(40, seed, 0..100));
            all.iter().map(|key| key.1 as f64).sum::<f64>() / 40.0
        };
        let mean = (0..50).map(mean).sum::<f64>() / 50.0;
        assert!((mean - 49.5).abs() < 2.5, "{mean}");
    }
}
