//! Whether latents fire when their features do, and whether a parent's latent falls silent where a child's one takes over.

use serde::{Deserialize, Serialize};

use crate::dictionary::shape;
use crate::{Codes, SaeError};

/// Rows in which a latent fired and its feature did, by pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Both.
    pub both: u64,
    /// The latent alone.
    pub latent_only: u64,
    /// The feature alone.
    pub feature_only: u64,
}

impl Counts {
    /// Share of the latent's rows in which the feature fired; 0 for a latent that never did.
    pub fn precision(&self) -> f64 {
        share(self.both, self.both + self.latent_only)
    }

    /// Share of the feature's rows in which the latent fired; 0 for a feature that never did.
    pub fn recall(&self) -> f64 {
        share(self.both, self.both + self.feature_only)
    }

    /// Their harmonic mean; 0 if they never fired together.
    pub fn f1(&self) -> f64 {
        share(
            2 * self.both,
            2 * self.both + self.latent_only + self.feature_only,
        )
    }
}

fn share(of: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        of as f64 / all as f64
    }
}

/// Pairs of a feature and a latent, with their counts. A feature or a latent may be in several pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    pairs: Vec<[usize; 2]>,
    counts: Vec<Counts>,
    of_feature: Vec<Vec<usize>>,
    of_latent: Vec<Vec<usize>>,
}

impl Firing {
    /// For these pairs `[feature, latent]`.
    pub fn new(pairs: Vec<[usize; 2]>) -> Self {
        let index = |side: usize| {
            let size = pairs.iter().map(|pair| pair[side] + 1).max().unwrap_or(0);
            let mut lists = vec![Vec::new(); size];
            for (at, pair) in pairs.iter().enumerate() {
                lists[pair[side]].push(at);
            }
            lists
        };
        Self {
            counts: vec![Counts::default(); pairs.len()],
            of_feature: index(0),
            of_latent: index(1),
            pairs,
        }
    }

    /// Takes in some rows: what fired in truth, and what the dictionary says.
    ///
    /// # Errors
    /// Another number of rows.
    pub fn add(&mut self, truth: &Codes, codes: &Codes) -> Result<(), SaeError> {
        shape("rows of codes", &[truth.rows()], &[codes.rows()])?;
        for row in 0..truth.rows() {
            for feature in firing(truth, row) {
                for &at in self.of_feature.get(feature).into_iter().flatten() {
                    let fired = codes.value(row, self.pairs[at][1] as u32) != 0.0;
                    let counts = &mut self.counts[at];
                    *(if fired {
                        &mut counts.both
                    } else {
                        &mut counts.feature_only
                    }) += 1;
                }
            }
            for latent in firing(codes, row) {
                for &at in self.of_latent.get(latent).into_iter().flatten() {
                    let alone = truth.value(row, self.pairs[at][0] as u32) == 0.0;
                    self.counts[at].latent_only += u64::from(alone);
                }
            }
        }
        Ok(())
    }

    /// The pairs `[feature, latent]`.
    pub fn pairs(&self) -> &[[usize; 2]] {
        &self.pairs
    }

    /// Pair by pair.
    pub fn counts(&self) -> &[Counts] {
        &self.counts
    }

    /// Means over the pairs of precision, recall and F1; `None` without pairs.
    pub fn means(&self) -> Option<[f64; 3]> {
        let n = self.counts.len() as f64;
        let mean = |of: fn(&Counts) -> f64| self.counts.iter().map(of).sum::<f64>() / n;
        (n > 0.0).then(|| {
            [
                mean(Counts::precision),
                mean(Counts::recall),
                mean(Counts::f1),
            ]
        })
    }
}

/// The latents of a row that are not 0.
fn firing(codes: &Codes, row: usize) -> impl Iterator<Item = usize> + '_ {
    let (latents, values) = codes.row(row);
    let not_zero = latents.iter().zip(values).filter(|(_, v)| **v != 0.0);
    not_zero.map(|(&latent, _)| latent as usize)
}

/// Absorption (Chanin et al. 2024, arXiv 2409.14507) where the truth is known: the latent of a parent does not fire in rows in
/// which a child's latent has taken its part over. Counted over rows and parents that have a latent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absorption {
    /// A parent fired, and one of its children.
    pub with_child: u64,
    /// Of these, its latent was silent.
    pub silent_with_child: u64,
    /// Of those, the latent of a child that fired did fire: absorbed.
    pub absorbed: u64,
    /// A parent fired, and none of its children.
    pub alone: u64,
    /// Of these, its latent was silent.
    pub silent_alone: u64,
}

impl Absorption {
    /// Takes in some rows. `parents` says whose child each feature is, `latents` which latent stands for it.
    ///
    /// # Errors
    /// Lists or rows of different lengths.
    pub fn add(
        &mut self,
        truth: &Codes,
        codes: &Codes,
        parents: &[Option<usize>],
        latents: &[Option<usize>],
    ) -> Result<(), SaeError> {
        shape("rows of codes", &[truth.rows()], &[codes.rows()])?;
        shape("latents of features", &[parents.len()], &[latents.len()])?;
        let mut has_children = vec![false; parents.len()];
        parents
            .iter()
            .flatten()
            .for_each(|&p| has_children[p] = true);
        for row in 0..truth.rows() {
            let fired: Vec<usize> = firing(truth, row).collect();
            let speaks = |latent: usize| codes.value(row, latent as u32) != 0.0;
            for &parent in fired.iter().filter(|&&f| has_children[f]) {
                let Some(latent) = latents[parent] else {
                    continue;
                };
                let mut children = fired
                    .iter()
                    .filter(|&&f| parents[f] == Some(parent))
                    .peekable();
                let silent = u64::from(!speaks(latent));
                if children.peek().is_none() {
                    self.alone += 1;
                    self.silent_alone += silent;
                    continue;
                }
                self.with_child += 1;
                self.silent_with_child += silent;
                let taken = children.any(|&c| latents[c].is_some_and(speaks));
                self.absorbed += silent * u64::from(taken);
            }
        }
        Ok(())
    }

    /// Share of the rows with a child in which the parent was absorbed; `None` without such rows.
    pub fn rate(&self) -> Option<f64> {
        (self.with_child > 0).then(|| share(self.absorbed, self.with_child))
    }
}
