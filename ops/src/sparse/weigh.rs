//! Sums and products over the entries of rows.

use rayon::prelude::*;

use super::{Entries, dense};
use crate::lanes::{Kernel, Lanes, run};
use crate::view::{Shared, fill, tasks};

/// Rows of a task.
const ROWS: usize = 16;
/// Vectors of sums that stay in registers.
const SUMS: usize = 8;

/// Adds to each row of `out` `[rows, width]` its entries times their latents' rows of `weights` `[latents, width]`.
///
/// # Panics
/// If `out` has another number of rows than the entries, or a latent has no row.
pub fn decode(entries: &Entries, weights: &[f32], width: usize, out: &mut [f32]) {
    assert_eq!(out.len(), entries.rows() * width);
    check(entries, weights, width);
    if dense::pays(entries.len(), entries.rows(), weights.len() / width) {
        return dense::decode(entries, weights, width, out);
    }
    let bands = out.par_chunks_mut(ROWS * width).enumerate();
    bands.for_each(|(band, out)| {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let at = entries.starts[band * ROWS + i]..entries.starts[band * ROWS + i + 1];
            run(Weighted {
                rows: &entries.latents[at.clone()],
                shares: &entries.values[at],
                from: weights,
                out,
            });
        }
    });
}

/// For each entry the inner product of its row of `rows` `[rows, width]` with its latent's row of `weights`: the gradient
/// of the entry where `rows` is that of the decoded rows.
///
/// # Panics
/// As [`decode`].
pub fn dots(entries: &Entries, rows: &[f32], weights: &[f32], width: usize) -> Vec<f32> {
    assert_eq!(rows.len(), entries.rows() * width);
    check(entries, weights, width);
    if dense::pays(entries.len(), entries.rows(), weights.len() / width) {
        return dense::dots(entries, rows, weights, width);
    }
    let mut out: Vec<f32> = Vec::with_capacity(entries.len());
    let to = Shared::new(out.as_mut_ptr());
    tasks(entries.rows().div_ceil(ROWS), true, |band| {
        for row in band * ROWS..((band + 1) * ROWS).min(entries.rows()) {
            let at = entries.starts[row]..entries.starts[row + 1];
            run(Dots {
                row: &rows[row * width..][..width],
                latents: &entries.latents[at.clone()],
                weights,
                // SAFETY: each row's entries have their own places.
                out: unsafe { to.at(at.start) },
            });
        }
    });
    // SAFETY: the rows' entries are all entries, and each was written.
    unsafe { out.set_len(entries.len()) };
    out
}

fn check(entries: &Entries, weights: &[f32], width: usize) {
    let latents = weights.len() / width;
    assert!(entries.latents.iter().all(|&l| (l as usize) < latents));
    assert_eq!(entries.latents.len(), entries.values.len());
}

/// Euclidean length of each row of `[rows, width]`, each sum of squares in f64.
pub fn norms(rows: &[f32], width: usize) -> Vec<f32> {
    // SAFETY: `n` rows of a chunk are written.
    unsafe {
        fill(rows.len() / width, ROWS, |i, out, n| {
            for row in 0..n {
                let row_at = (i * ROWS + row) * width;
                let length = run(Squares(&rows[row_at..][..width])).sqrt();
                out.add(row).write(length as f32);
            }
        })
    }
}

/// The sum of squares, in f64, in chunks of a fixed shape.
pub fn squares(numbers: &[f32]) -> f64 {
    const CHUNK: usize = 1 << 14;
    let parts = numbers.par_chunks(CHUNK).map(|part| run(Squares(part)));
    parts.collect::<Vec<f64>>().iter().sum()
}

/// Lanes of f32 over short stretches, the stretches in f64.
struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Out = f64;
    #[inline(always)]
    fn run<V: Lanes>(self) -> f64 {
        const STRETCH: usize = 1 << 10;
        let mut total = 0.0;
        for part in self.0.chunks(STRETCH) {
            let mut sums = V::splat(0.0);
            for at in (0..part.len()).step_by(V::N) {
                let n = V::N.min(part.len() - at);
                // SAFETY: n numbers lie there.
                let x = unsafe { V::load_part_or_all(part.as_ptr().add(at), n, 0.0) };
                sums = x.mul_add(x, sums);
            }
            total += sums.sum();
        }
        total
    }
}

/// Adds to `out` the rows of `from` named, each times its share.
pub(super) struct Weighted<'a> {
    pub rows: &'a [u32],
    pub shares: &'a [f32],
    pub from: &'a [f32],
    pub out: &'a mut [f32],
}

impl Kernel for Weighted<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = self.out.len();
        let whole = width / (SUMS * V::N) * SUMS * V::N;
        for at in (0..whole).step_by(SUMS * V::N) {
            // SAFETY: SUMS vectors from `at` lie inside a row; the rows were checked to exist.
            unsafe {
                let to = self.out.as_mut_ptr().add(at);
                let mut sums: [V; SUMS] = std::array::from_fn(|i| V::load(to.add(i * V::N)));
                for (&row, &share) in self.rows.iter().zip(self.shares) {
                    let from = self.from.as_ptr().add(row as usize * width + at);
                    let share = V::splat(share);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(from.add(i * V::N)).mul_add(share, *sum);
                    }
                }
                for (i, sum) in sums.into_iter().enumerate() {
                    sum.store(to.add(i * V::N));
                }
            }
        }
        for at in (whole..width).step_by(V::N) {
            let n = V::N.min(width - at);
            // SAFETY: n numbers from `at` lie inside a row.
            unsafe {
                let to = self.out.as_mut_ptr().add(at);
                let mut sum = V::load_part_or_all(to, n, 0.0);
                for (&row, &share) in self.rows.iter().zip(self.shares) {
                    let from = self.from.as_ptr().add(row as usize * width + at);
                    sum = V::load_part_or_all(from, n, 0.0).mul_add(V::splat(share), sum);
                }
                sum.store_part_or_all(to, n);
            }
        }
    }
}

/// Inner products of one row with the rows of latents, written from `out` on.
struct Dots<'a> {
    row: &'a [f32],
    latents: &'a [u32],
    weights: &'a [f32],
    out: *mut f32,
}

impl Kernel for Dots<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = self.row.len();
        for (four, latents) in self.latents.chunks(4).enumerate() {
            // A missing one repeats the last; its sum is not written.
            let rows: [*const f32; 4] = std::array::from_fn(|i| {
                let latent = latents[i.min(latents.len() - 1)] as usize;
                self.weights[latent * width..].as_ptr()
            });
            let mut sums = [V::splat(0.0); 4];
            for at in (0..width).step_by(V::N) {
                let n = V::N.min(width - at);
                // SAFETY: n numbers from `at` lie inside each row.
                unsafe {
                    let x = V::load_part_or_all(self.row.as_ptr().add(at), n, 0.0);
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        *sum = V::load_part_or_all(row.add(at), n, 0.0).mul_add(x, *sum);
                    }
                }
            }
            for (i, dot) in V::fold_four(sums)
                .into_iter()
                .enumerate()
                .take(latents.len())
            {
                // SAFETY: each latent has its place.
                unsafe { self.out.add(four * 4 + i).write(dot) };
            }
        }
    }
}
