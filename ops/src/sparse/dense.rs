//! The same sums where so many entries are there that plain products are faster: what L1 and JumpReLU begin with.
//!
//! Entries are written out into bands of rows, zeros between them; a band and its products stay small beside the weights.

use rayon::prelude::*;

use super::Entries;
use super::gather::ByLatent;
use crate::grad::product::{Matrix, Target, product};

/// From one entry in so many numbers on, products of whole bands win (measured at 576 x 9,216: they cost what a sixteenth of
/// the entries costs one by one).
const FROM: usize = 16;
/// Rows of a band.
const BAND: usize = 1024;

/// Whether that many entries are too many to take one by one.
pub(super) fn pays(entries: usize, rows: usize, latents: usize) -> bool {
    rows >= 64 && entries > rows.saturating_mul(latents) / FROM
}

/// As [`super::decode`]. In `f32` throughout, as what is decoded is compared with other implementations' numbers.
pub(super) fn decode(entries: &Entries, weights: &[f32], width: usize, out: &mut [f32]) {
    const ROWS: usize = 128;
    let latents = weights.len() / width;
    let bands = out.par_chunks_mut(ROWS * width).enumerate();
    bands.for_each(|(i, out)| {
        let rows = out.len() / width;
        let mut band = vec![0f32; rows * latents];
        spread(entries, i * ROWS..i * ROWS + rows, latents, &mut band);
        let to = Target {
            start: out.as_mut_ptr(),
            stride: width,
            add: true,
        };
        let (left, right) = (Matrix::new(&band, latents), Matrix::new(weights, width));
        // SAFETY: the band holds `rows` rows, the weights one for each latent, and `out` is borrowed for writing.
        unsafe { product([rows, width, latents], left, right, to, false) };
    });
}

/// As [`super::dots`].
pub(super) fn dots(entries: &Entries, rows: &[f32], weights: &[f32], width: usize) -> Vec<f32> {
    let latents = weights.len() / width;
    let mut out = Vec::with_capacity(entries.len());
    let mut band = vec![0f32; BAND.min(entries.rows()) * latents];
    for (i, rows) in rows.chunks(BAND * width).enumerate() {
        let count = rows.len() / width;
        let to = Target {
            start: band.as_mut_ptr(),
            stride: latents,
            add: false,
        };
        let right = Matrix::new(weights, width).transposed();
        // SAFETY: the band has room for `count` rows, and both operands hold the numbers named.
        unsafe {
            product(
                [count, latents, width],
                Matrix::new(rows, width),
                right,
                to,
                true,
            );
        };
        for (row, products) in band.chunks_exact(latents).enumerate().take(count) {
            let (picked, _) = entries.row(i * BAND + row);
            out.extend(picked.iter().map(|&latent| products[latent as usize]));
        }
    }
    out
}

/// As [`super::gather`], for all latents.
pub(super) fn gather(by: &ByLatent, shares: &[f32], rows: &[f32], width: usize, out: &mut [f32]) {
    let latents = by.latents();
    let total = rows.len() / width;
    let mut band = vec![0f32; BAND.min(total) * latents];
    for first in (0..total).step_by(BAND) {
        let count = BAND.min(total - first);
        band.fill(0.0);
        for latent in 0..latents {
            let at = by.starts[latent] as usize..by.starts[latent + 1] as usize;
            // Rows rise within a latent.
            let own = &by.rows[at.clone()];
            let from = own.partition_point(|&row| (row as usize) < first);
            let to = own.partition_point(|&row| (row as usize) < first + count);
            for place in at.start + from..at.start + to {
                let row = by.rows[place] as usize - first;
                band[row * latents + latent] = shares[by.entries[place] as usize];
            }
        }
        let target = Target {
            start: out.as_mut_ptr(),
            stride: width,
            add: true,
        };
        let left = Matrix::new(&band, latents).transposed();
        let right = Matrix::new(&rows[first * width..][..count * width], width);
        // SAFETY: the band holds `count` rows of all latents, `out` a row for each, borrowed for writing.
        unsafe { product([latents, width, count], left, right, target, true) };
    }
}

fn spread(entries: &Entries, rows: std::ops::Range<usize>, latents: usize, band: &mut [f32]) {
    for (row, out) in rows.zip(band.chunks_exact_mut(latents)) {
        out.fill(0.0);
        let (picked, values) = entries.row(row);
        for (&latent, &value) in picked.iter().zip(values) {
            out[latent as usize] = value;
        }
    }
}
