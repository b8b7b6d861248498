//! Entries by latent, and the gradient of a matrix summed by latent.

use std::ops::Range;

use rayon::prelude::*;

use super::weigh::Weighted;
use super::{Entries, dense};
use crate::lanes::run;

/// Latents of a task.
const LATENTS: usize = 32;

/// The entries of each latent, in rising order of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByLatent {
    /// Latent `l` has places `starts[l] .. starts[l + 1]` of the lists below.
    pub starts: Vec<u32>,
    /// The row of each.
    pub rows: Vec<u32>,
    /// Which entry each is.
    pub entries: Vec<u32>,
}

impl ByLatent {
    /// Sorts the entries of `latents` latents.
    ///
    /// # Panics
    /// If an entry names another latent, or there are more than 2³² entries.
    pub fn new(entries: &Entries, latents: usize) -> Self {
        assert!(u32::try_from(entries.len()).is_ok());
        let mut starts = vec![0u32; latents + 1];
        for &latent in &entries.latents {
            starts[latent as usize + 1] += 1;
        }
        for latent in 0..latents {
            starts[latent + 1] += starts[latent];
        }
        let mut next = starts.clone();
        let (mut rows, mut places) = (vec![0; entries.len()], vec![0; entries.len()]);
        for (row, ends) in entries.starts.windows(2).enumerate() {
            for (entry, &latent) in (ends[0]..ends[1]).zip(&entries.latents[ends[0]..ends[1]]) {
                let place = &mut next[latent as usize];
                rows[*place as usize] = row as u32;
                places[*place as usize] = entry as u32;
                *place += 1;
            }
        }
        Self {
            starts,
            rows,
            entries: places,
        }
    }

    /// Latents.
    pub fn latents(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// How often a latent has an entry.
    pub fn count(&self, latent: usize) -> usize {
        (self.starts[latent + 1] - self.starts[latent]) as usize
    }

    /// For each latent the sum of a number of its entries, in f64.
    pub fn sums(&self, of: &[f32]) -> Vec<f64> {
        let sum = |ends: &[u32]| {
            let at = ends[0] as usize..ends[1] as usize;
            let numbers = self.entries[at].iter().map(|&e| f64::from(of[e as usize]));
            numbers.sum()
        };
        self.starts.windows(2).map(sum).collect()
    }
}

/// Adds to the row of `out` `[latents, width]` of each latent of `which` its entries' rows of `rows`, each times the
/// entry's share.
///
/// # Panics
/// If the lengths do not go together.
pub fn gather(
    by: &ByLatent,
    which: Range<usize>,
    shares: &[f32],
    rows: &[f32],
    width: usize,
    out: &mut [f32],
) {
    assert_eq!(out.len(), by.latents() * width);
    assert_eq!(shares.len(), by.entries.len());
    assert!(
        by.rows
            .iter()
            .all(|&row| (row as usize + 1) * width <= rows.len())
    );
    let all = which == (0..by.latents());
    if all && dense::pays(shares.len(), rows.len() / width, by.latents()) {
        return dense::gather(by, shares, rows, width, out);
    }
    let first = which.start;
    let part = &mut out[which.start * width..which.end * width];
    let tasks = part.par_chunks_mut(LATENTS * width).enumerate();
    tasks.for_each(|(task, out)| {
        let mut picked = Vec::new();
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let latent = first + task * LATENTS + i;
            let at = by.starts[latent] as usize..by.starts[latent + 1] as usize;
            if at.is_empty() {
                continue;
            }
            picked.clear();
            picked.extend(by.entries[at.clone()].iter().map(|&e| shares[e as usize]));
            run(Weighted {
                rows: &by.rows[at],
                shares: &picked,
                from: rows,
                out,
            });
        }
    });
}
