//! Entries by latent, and the gradient of a matrix summed by latent.

use std::ops::Range;

use rayon::prelude::*;

use super::weigh::Weighted;
use super::{Entries, dense};
use crate::lanes::run;

/// Latents of a task.
const LATENTS: usize = 32;

/// Rows whose sums are made together.
const BAND: usize = 256;

/// Entries as each latent sees them, in rising order of rows. Where so many are there that plain products are faster, they
/// stay as they lie.
#[derive(Clone, Debug)]
pub struct ByLatent<'a> {
    entries: &'a Entries,
    latents: usize,
    sorted: Option<Sorted>,
}

#[derive(Clone, Debug)]
struct Sorted {
    /// Latent `l` has places `starts[l] .. starts[l + 1]` of the lists below.
    starts: Vec<u32>,
    /// The row of each.
    rows: Vec<u32>,
    /// Which entry each is.
    entries: Vec<u32>,
}

impl<'a> ByLatent<'a> {
    /// Of `latents` latents.
    ///
    /// # Panics
    /// If an entry names another latent, or there are more than 2³² entries.
    pub fn new(entries: &'a Entries, latents: usize) -> Self {
        assert!(entries.latents.par_iter().all(|&l| (l as usize) < latents));
        let dense = dense::pays(entries.len(), entries.rows(), latents);
        Self {
            entries,
            latents,
            sorted: (!dense).then(|| Sorted::new(entries, latents)),
        }
    }

    /// For each latent the sum of a number of its entries, in f64.
    ///
    /// # Panics
    /// If there is not a number for each entry.
    pub fn sums(&self, of: &[f32]) -> Vec<f64> {
        assert_eq!(of.len(), self.entries.len());
        let Some(sorted) = &self.sorted else {
            return self.sums_by_row(of);
        };
        let sum = |ends: &[u32]| {
            let at = ends[0] as usize..ends[1] as usize;
            let numbers = sorted.entries[at]
                .iter()
                .map(|&e| f64::from(of[e as usize]));
            numbers.sum()
        };
        sorted.starts.windows(2).map(sum).collect()
    }

    /// In bands of a fixed shape, so that the number of threads changes nothing.
    fn sums_by_row(&self, of: &[f32]) -> Vec<f64> {
        let band = |ends: &[usize]| {
            let at = ends[0]..ends[ends.len() - 1];
            let mut sums = vec![0f64; self.latents];
            for (&latent, &number) in self.entries.latents[at.clone()].iter().zip(&of[at]) {
                sums[latent as usize] += f64::from(number);
            }
            sums
        };
        let rows = self.entries.rows();
        let firsts: Vec<usize> = (0..rows).step_by(BAND).collect();
        let ends = |&first: &usize| &self.entries.starts[first..=(first + BAND).min(rows)];
        let bands: Vec<Vec<f64>> = firsts.par_iter().map(|first| band(ends(first))).collect();
        let mut all = vec![0f64; self.latents];
        for band in bands {
            for (sum, part) in all.iter_mut().zip(band) {
                *sum += part;
            }
        }
        all
    }
}

impl Sorted {
    fn new(entries: &Entries, latents: usize) -> Self {
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
    assert_eq!(out.len(), by.latents * width);
    assert_eq!(shares.len(), by.entries.len());
    assert_eq!(rows.len(), by.entries.rows() * width);
    let first = which.start;
    let part = &mut out[which.start * width..which.end * width];
    let Some(sorted) = &by.sorted else {
        return dense::gather(by.entries, which, shares, rows, width, part);
    };
    let tasks = part.par_chunks_mut(LATENTS * width).enumerate();
    tasks.for_each(|(task, out)| {
        let mut picked = Vec::new();
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let latent = first + task * LATENTS + i;
            let at = sorted.starts[latent] as usize..sorted.starts[latent + 1] as usize;
            if at.is_empty() {
                continue;
            }
            picked.clear();
            let own = sorted.entries[at.clone()].iter();
            picked.extend(own.map(|&e| shares[e as usize]));
            run(Weighted {
                rows: &sorted.rows[at],
                shares: &picked,
                from: rows,
                out,
            });
        }
    });
}
