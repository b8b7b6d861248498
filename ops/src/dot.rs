//! Products of a few rows with many: `y[r][o] = x[r] · w[o]`. This is what generating one token at a time consists of;
//! it reads each weight once, so memory bandwidth decides and a general matrix product only gets in the way.
//!
//! A result's bits depend on its two rows alone, not on how many others are computed beside it: one chain of vector
//! sums along the row, folded at the end.

use half::bf16;

use crate::lanes::{Kernel, Lanes, run};

/// A number weights may be stored as.
pub(crate) trait Weight: Copy + Send + Sync + 'static {
    /// Reads `V::N` numbers.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load<V: Lanes>(from: *const Self) -> V;
    /// Reads `n <= V::N` numbers, the rest 0.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_part<V: Lanes>(from: *const Self, n: usize) -> V;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn load_part<V: Lanes>(from: *const Self, n: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_part(from, n, 0.0) }
    }
}

impl Weight for bf16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn load_part<V: Lanes>(from: *const Self, n: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_bf16_part(from, n) }
    }
}

/// Rows of equal length at a fixed distance in memory.
pub(crate) struct Rows<T> {
    /// First number of the first row.
    pub start: *const T,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// How many rows.
    pub count: usize,
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Rows<T> {}

// SAFETY: rows are only read, and whoever makes one keeps the memory borrowed while tasks use it.
unsafe impl<T: Sync> Send for Rows<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Rows<T> {}

impl<T> Rows<T> {
    /// The address of row `i`.
    ///
    /// # Safety
    /// `i < count`.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, i: usize) -> *const T {
        // SAFETY: the caller's.
        unsafe { self.start.add(i * self.stride) }
    }
}

/// `out[r · out_stride + o] = x.row(r) · w.row(o)`, on one thread.
///
/// # Safety
/// All rows must be readable for `width` numbers, and `out` writable at each place named.
pub(crate) unsafe fn products<T: Weight>(
    x: Rows<f32>,
    w: Rows<T>,
    width: usize,
    out: *mut f32,
    out_stride: usize,
) {
    run(Products {
        x,
        w,
        width,
        out,
        out_stride,
    });
}

struct Products<T> {
    x: Rows<f32>,
    w: Rows<T>,
    width: usize,
    out: *mut f32,
    out_stride: usize,
}

impl<T: Weight> Kernel for Products<T> {
    type Out = ();
    // Weights in the outer loop: a block of them is read from memory once and used for all x while in cache.
    #[inline(always)]
    fn run<V: Lanes>(self) {
        const BLOCK: usize = 8;
        let mut first = 0;
        while first + BLOCK <= self.w.count {
            let mut r = 0;
            while r + 4 <= self.x.count {
                // SAFETY: both ranges were just checked; the rest is the caller's contract.
                unsafe {
                    self.tile::<V, 4, 4>(r, first);
                    self.tile::<V, 4, 4>(r, first + 4);
                }
                r += 4;
            }
            if r + 2 <= self.x.count {
                // SAFETY: as above.
                unsafe {
                    self.tile::<V, 2, 4>(r, first);
                    self.tile::<V, 2, 4>(r, first + 4);
                }
                r += 2;
            }
            if r < self.x.count {
                // SAFETY: as above.
                unsafe { self.tile::<V, 1, 8>(r, first) };
            }
            first += BLOCK;
        }
        for o in first..self.w.count {
            for r in 0..self.x.count {
                // SAFETY: as above.
                unsafe { self.tile::<V, 1, 1>(r, o) };
            }
        }
    }
}

impl<T: Weight> Products<T> {
    /// # Safety
    /// `r + R` and `o + O` within the counts.
    #[inline(always)]
    unsafe fn tile<V: Lanes, const R: usize, const O: usize>(&self, r: usize, o: usize) {
        // SAFETY: rows r .. r + R and o .. o + O exist, and start + n <= width.
        unsafe {
            let x: [*const f32; R] = std::array::from_fn(|i| self.x.row(r + i));
            let w: [*const T; O] = std::array::from_fn(|i| self.w.row(o + i));
            let mut sums = [[V::splat(0.0); O]; R];
            let whole = self.width / V::N * V::N;
            let mut start = 0;
            while start < whole {
                let x: [V; R] = std::array::from_fn(|i| V::load(x[i].add(start)));
                for j in 0..O {
                    let w = T::load::<V>(w[j].add(start));
                    for i in 0..R {
                        sums[i][j] = x[i].mul_add(w, sums[i][j]);
                    }
                }
                start += V::N;
            }
            let rest = self.width - whole;
            if rest > 0 {
                for j in 0..O {
                    let w = T::load_part::<V>(w[j].add(whole), rest);
                    for i in 0..R {
                        let x = V::load_part(x[i].add(whole), rest, 0.0);
                        sums[i][j] = x.mul_add(w, sums[i][j]);
                    }
                }
            }
            for (i, line) in sums.iter().enumerate() {
                for (j, sum) in line.iter().enumerate() {
                    *self.out.add((r + i) * self.out_stride + o + j) = sum.fold_sum();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exp::tests::LEVELS;
    use crate::lanes::run_at;

    fn numbers(count: usize, factor: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * factor).sin()).collect()
    }

    fn at_level<T: Weight>(level: crate::cpu::Level, x: &[f32], w: &[T], width: usize) -> Vec<f32> {
        let (rows, outputs) = (x.len() / width, w.len() / width);
        let mut y = vec![f32::NAN; rows * outputs];
        let x = Rows {
            start: x.as_ptr(),
            stride: width,
            count: rows,
        };
        let w = Rows {
            start: w.as_ptr(),
            stride: width,
            count: outputs,
        };
        run_at(
            level,
            Products {
                x,
                w,
                width,
                out: y.as_mut_ptr(),
                out_stride: outputs,
            },
        );
        y
    }

    #[test]
    fn every_level_and_tile_gives_the_dot_product() {
        for (rows, outputs, width) in [(1, 1, 1), (1, 19, 37), (3, 9, 16), (7, 17, 100), (8, 24, 5)]
        {
            let (x, wide) = (numbers(rows * width, 0.7), numbers(outputs * width, 1.3));
            let narrow: Vec<bf16> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
            for level in LEVELS {
                let (y, z) = (
                    at_level(level, &x, &wide, width),
                    at_level(level, &x, &narrow, width),
                );
                for (i, (y, z)) in y.into_iter().zip(z).enumerate() {
                    let (x, o) = (&x[i / outputs * width..][..width], i % outputs * width);
                    let dot = |w: &dyn Fn(usize) -> f32| -> f64 {
                        (0..width)
                            .map(|c| f64::from(x[c]) * f64::from(w(o + c)))
                            .sum()
                    };
                    // Numbers below 1, at most 100 of them in 8 lanes or more: 13 roundings of at most 6e-8 of 13.
                    assert!((f64::from(y) - dot(&|c| wide[c])).abs() < 1e-5, "{level:?}");
                    assert!(
                        (f64::from(z) - dot(&|c| narrow[c].to_f32())).abs() < 1e-5,
                        "{level:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_company() {
        let (x, w) = (numbers(7 * 100, 0.7), numbers(24 * 100, 1.3));
        for level in LEVELS {
            let together = at_level(level, &x, &w, 100);
            for (row, expected) in x.chunks(100).zip(together.chunks(24)) {
                assert_eq!(at_level(level, row, &w, 100), expected);
            }
        }
    }
}
