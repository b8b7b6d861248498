//! The same sums where so many entries are there that plain products are faster: what L1 and JumpReLU begin with.
//!
//! Entries are written out into bands of rows, zeros between them; a band and its products stay small beside the weights.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::Entries;
use crate::grad::product::{Matrix, Target, exact, product};
use crate::view::{Shared, tasks};

/// From one entry in so many numbers on, products of whole bands win (measured at 576 x 9,216: they cost what a sixteenth of
/// the entries costs one by one).
const FROM: usize = 16;
/// Rows of a band.
const BAND: usize = 1024;

/// Whether that many entries are too many to take one by one.
pub(super) fn pays(entries: usize, rows: usize, latents: usize) -> bool {
    rows >= 64 && entries > rows.saturating_mul(latents) / FROM
}

/// As [`super::decode`]. As exact as `f32`, as what is decoded is compared with other implementations' numbers.
pub(super) fn decode(entries: &Entries, weights: &[f32], width: usize, out: &mut [f32]) {
    let latents = weights.len() / width;
    let mut band = vec![0f32; BAND.min(entries.rows()) * latents];
    for (i, out) in out.chunks_mut(BAND * width).enumerate() {
        let rows = out.len() / width;
        spread(
            entries,
            i * BAND,
            0..latents,
            &entries.values,
            &mut band[..rows * latents],
        );
        let to = Target {
            start: out.as_mut_ptr(),
            stride: width,
            add: true,
        };
        let (left, right) = (Matrix::new(&band, latents), Matrix::new(weights, width));
        // SAFETY: the band holds `rows` rows, the weights one for each latent, and `out` is borrowed for writing.
        unsafe { exact([rows, width, latents], left, right, to) };
    }
}

/// As [`super::dots`].
pub(super) fn dots(entries: &Entries, rows: &[f32], weights: &[f32], width: usize) -> Vec<f32> {
    let latents = weights.len() / width;
    let mut out: Vec<f32> = Vec::with_capacity(entries.len());
    let to = Shared::new(out.as_mut_ptr());
    let mut band = vec![0f32; BAND.min(entries.rows()) * latents];
    for (i, rows) in rows.chunks(BAND * width).enumerate() {
        let count = rows.len() / width;
        let target = Target {
            start: band.as_mut_ptr(),
            stride: latents,
            add: false,
        };
        let (left, right) = (
            Matrix::new(rows, width),
            Matrix::new(weights, width).transposed(),
        );
        // SAFETY: the band has room for `count` rows, and both operands hold the numbers named.
        unsafe { product([count, latents, width], left, right, target, true) };
        let band = &band;
        tasks(count, true, |row| {
            let products = &band[row * latents..][..latents];
            let from = entries.starts[i * BAND + row];
            let (picked, _) = entries.row(i * BAND + row);
            // SAFETY: each row's entries have their own places.
            let own = unsafe {
                std::slice::from_raw_parts_mut(to.at(from).cast::<MaybeUninit<f32>>(), picked.len())
            };
            for (out, &latent) in own.iter_mut().zip(picked) {
                out.write(products[latent as usize]);
            }
        });
    }
    // SAFETY: the rows' entries are all entries, and each was written.
    unsafe { out.set_len(entries.len()) };
    out
}

/// As [`super::gather`], to rows of the latents named alone.
pub(super) fn gather(
    entries: &Entries,
    which: Range<usize>,
    shares: &[f32],
    rows: &[f32],
    width: usize,
    out: &mut [f32],
) {
    let latents = which.len();
    let mut band = vec![0f32; BAND.min(entries.rows()) * latents];
    for (i, rows) in rows.chunks(BAND * width).enumerate() {
        let count = rows.len() / width;
        spread(
            entries,
            i * BAND,
            which.clone(),
            shares,
            &mut band[..count * latents],
        );
        let target = Target {
            start: out.as_mut_ptr(),
            stride: width,
            add: true,
        };
        let left = Matrix::new(&band, latents).transposed();
        // SAFETY: the band holds `count` rows of these latents, `out` a row for each, borrowed for writing.
        unsafe {
            product(
                [latents, width, count],
                left,
                Matrix::new(rows, width),
                target,
                true,
            );
        };
    }
}

/// Rows from `first` on, written out: what the entries of some latents stand for, zeros between them.
fn spread(entries: &Entries, first: usize, which: Range<usize>, numbers: &[f32], band: &mut [f32]) {
    if which.is_empty() {
        return;
    }
    let rows = band.par_chunks_exact_mut(which.len()).enumerate();
    rows.for_each(|(row, out)| {
        out.fill(0.0);
        let (latents, _) = entries.row(first + row);
        let at = entries.starts[first + row];
        let from = latents.partition_point(|&l| (l as usize) < which.start);
        let own = latents[from..].iter().zip(&numbers[at + from..]);
        for (&latent, &number) in own.take_while(|(l, _)| (**l as usize) < which.end) {
            out[latent as usize - which.start] = number;
        }
    });
}
