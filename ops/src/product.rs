//! Products of rows with rows: `y[r][o] = x[r] · w[o]`. A linear layer in the layout checkpoints store it is this, and
//! so are attention scores.
//!
//! Both operands are read along their rows where they lie: nothing is packed or transposed, neither once nor at each call,
//! which is what makes it fast for the 1 to 500 rows that reading and sampling consist of. What always holds: a result's
//! bits depend on its two rows alone, not on how many others are computed beside it, so a prompt has the same logits
//! alone and in a batch. Lane sums along pieces of [`PIECE`] numbers, each folded by one tree; pieces added in order.

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

    /// At most `count` rows from row `first` on.
    ///
    /// # Safety
    /// `first` must be one of the rows.
    pub(crate) unsafe fn part(self, first: usize, count: usize) -> Self {
        Self {
            // SAFETY: the caller's.
            start: unsafe { self.row(first) },
            stride: self.stride,
            count: count.min(self.count - first),
        }
    }
}

/// Numbers of a row that are summed before the lanes are folded: the rows of a tile with two tiles' rows of `w` then fit a
/// first-level cache of 48 KiB. Longer pieces measured 0.85x, shorter ones fold more often.
const PIECE: usize = 768;
/// Rows of `w` that are taken together: with [`PIECE`] numbers each they stay in a second-level cache.
const TOGETHER: usize = 128;

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

/// Part of the rows: numbers `from .. from + len` of each.
#[derive(Clone, Copy)]
struct Piece {
    from: usize,
    len: usize,
}

impl<T: Weight> Kernel for Products<T> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        // Pieces of one length, up to a vector; a function of the width alone.
        let pieces = self.width.div_ceil(PIECE);
        let len = self.width.div_ceil(pieces).next_multiple_of(16);
        for first in (0..self.w.count).step_by(TOGETHER) {
            let end = (first + TOGETHER).min(self.w.count);
            for from in (0..self.width).step_by(len) {
                let piece = Piece {
                    from,
                    len: len.min(self.width - from),
                };
                // SAFETY: first .. end are rows of w and the piece lies inside the width; the rest is the caller's.
                unsafe { self.block::<V>(first, end, piece) };
            }
        }
    }
}

impl<T: Weight> Products<T> {
    /// All rows of `x` with rows `first .. end` of `w`.
    ///
    /// # Safety
    /// The rows must exist and the piece lie inside the width.
    #[inline(always)]
    unsafe fn block<V: Lanes>(&self, first: usize, end: usize, piece: Piece) {
        let mut r = 0;
        while r < self.x.count {
            // Tiles of nearly equal height: one of a single row would wait for memory.
            let left = self.x.count - r;
            let height = left.div_ceil(left.div_ceil(V::ROWS));
            // SAFETY: r + height rows exist. Heights over V::ROWS do not occur; naming them only under the condition
            // keeps tiles that do not fit the registers from being compiled.
            unsafe {
                match height {
                    1 => self.strip::<V, 1>(r, first, end, piece),
                    2 => self.strip::<V, 2>(r, first, end, piece),
                    3 if V::ROWS >= 3 => self.strip::<V, 3>(r, first, end, piece),
                    4 if V::ROWS >= 4 => self.strip::<V, 4>(r, first, end, piece),
                    5 if V::ROWS >= 5 => self.strip::<V, 5>(r, first, end, piece),
                    _ if V::ROWS >= 6 => self.strip::<V, 6>(r, first, end, piece),
                    _ => unreachable!("a tile is at most {} rows high", V::ROWS),
                }
            }
            r += height;
        }
    }

    /// # Safety
    /// As for [`Self::block`]; rows `r .. r + R` must exist.
    #[inline(always)]
    unsafe fn strip<V: Lanes, const R: usize>(
        &self,
        r: usize,
        first: usize,
        end: usize,
        piece: Piece,
    ) {
        // SAFETY: rows first .. end of w exist.
        unsafe {
            let mut o = first;
            // One row alone needs more sums in flight than four to keep the multipliers busy.
            while R == 1 && o + 8 <= end {
                self.tile::<V, 1, 2>(r, o, piece);
                o += 8;
            }
            while o + 4 <= end {
                self.tile::<V, R, 1>(r, o, piece);
                o += 4;
            }
            // A last tile that reaches back would write some places twice; instead its missing rows are its last one again.
            if o < end {
                self.rest::<V, R>(r, o, end - o, piece);
            }
        }
    }

    /// `R` rows with `4 F` rows of `w`.
    ///
    /// # Safety
    /// They must exist.
    #[inline(always)]
    unsafe fn tile<V: Lanes, const R: usize, const F: usize>(
        &self,
        r: usize,
        o: usize,
        piece: Piece,
    ) {
        // SAFETY: rows r .. r + R and o .. o + 4 F exist.
        unsafe {
            let w: [[*const T; 4]; F] = std::array::from_fn(|f| {
                std::array::from_fn(|j| self.w.row(o + f * 4 + j).add(piece.from))
            });
            let sums = self.sums::<V, R, F>(r, w, piece);
            for (i, line) in sums.into_iter().enumerate() {
                for (f, four) in line.into_iter().enumerate() {
                    self.put(r + i, o + f * 4, &V::fold_four(four), piece);
                }
            }
        }
    }

    /// `R` rows with the last `count < 4` rows of `w`.
    ///
    /// # Safety
    /// They must exist.
    #[inline(always)]
    unsafe fn rest<V: Lanes, const R: usize>(
        &self,
        r: usize,
        o: usize,
        count: usize,
        piece: Piece,
    ) {
        // SAFETY: rows r .. r + R and o .. o + count exist.
        unsafe {
            let w = std::array::from_fn(|j| self.w.row(o + j.min(count - 1)).add(piece.from));
            let sums = self.sums::<V, R, 1>(r, [w], piece);
            for (i, [four]) in sums.into_iter().enumerate() {
                self.put(r + i, o, &V::fold_four(four)[..count], piece);
            }
        }
    }

    /// # Safety
    /// Rows `r .. r + R` must exist and every `w` be readable for the piece.
    #[inline(always)]
    unsafe fn sums<V: Lanes, const R: usize, const F: usize>(
        &self,
        r: usize,
        w: [[*const T; 4]; F],
        piece: Piece,
    ) -> [[[V; 4]; F]; R] {
        // SAFETY: start + n <= piece.len throughout.
        unsafe {
            let x: [*const f32; R] = std::array::from_fn(|i| self.x.row(r + i).add(piece.from));
            let mut sums = [[[V::splat(0.0); 4]; F]; R];
            let whole = piece.len / V::N * V::N;
            let mut start = 0;
            // The rows of the next tile, while the multipliers are busy with this one; past the last row it is a hint for
            // nothing.
            let ahead = 4 * F * self.w.stride;
            while start < whole {
                if R >= 4 {
                    for w in w.as_flattened() {
                        V::prefetch(w.wrapping_add(ahead + start));
                    }
                }
                let x: [V; R] = std::array::from_fn(|i| V::load(x[i].add(start)));
                for f in 0..F {
                    for j in 0..4 {
                        let w = T::load::<V>(w[f][j].add(start));
                        for i in 0..R {
                            sums[i][f][j] = x[i].mul_add(w, sums[i][f][j]);
                        }
                    }
                }
                start += V::N;
            }
            let rest = piece.len - whole;
            if rest > 0 {
                let x: [V; R] = std::array::from_fn(|i| V::load_part(x[i].add(whole), rest, 0.0));
                for f in 0..F {
                    for j in 0..4 {
                        let w = T::load_part::<V>(w[f][j].add(whole), rest);
                        for i in 0..R {
                            sums[i][f][j] = x[i].mul_add(w, sums[i][f][j]);
                        }
                    }
                }
            }
            sums
        }
    }

    /// Writes the sums of the first piece, adds those of the others.
    ///
    /// # Safety
    /// Places `o ..` of row `r` must exist.
    #[inline(always)]
    unsafe fn put(&self, r: usize, o: usize, sums: &[f32], piece: Piece) {
        // SAFETY: the caller's.
        unsafe {
            let to = self.out.add(r * self.out_stride + o);
            for (j, &sum) in sums.iter().enumerate() {
                let before = if piece.from == 0 { 0.0 } else { *to.add(j) };
                to.add(j).write(before + sum);
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
        for (rows, outputs, width) in [
            (1, 1, 1),
            (1, 19, 37),
            (2, 66, 3),
            (3, 9, 16),
            (4, 3, 1041),
            (5, 70, 31),
            (7, 17, 100),
            (8, 24, 5),
            (13, 5, 2100),
        ] {
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
                    // Products below 1; a chain of at most 1024 / 8 sums below 128, then a few folds below 2100, each
                    // rounded by at most 6e-8 of itself, in 8 lanes: the worst case. Real sums of sines stay far below.
                    let bound = 2e-6 * (width as f64).max(5.0).sqrt();
                    let error =
                        |found: f32, w: &dyn Fn(usize) -> f32| (f64::from(found) - dot(w)).abs();
                    assert!(error(y, &|c| wide[c]) < bound, "{level:?}");
                    assert!(error(z, &|c| narrow[c].to_f32()) < bound, "{level:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_company() {
        for width in [100, 1500] {
            let (x, w) = (numbers(13 * width, 0.7), numbers(25 * width, 1.3));
            for level in LEVELS {
                let together = at_level(level, &x, &w, width);
                for (row, expected) in x.chunks(width).zip(together.chunks(25)) {
                    assert_eq!(at_level(level, row, &w, width), expected);
                    for (row_of_w, expected) in w.chunks(width).zip(expected) {
                        assert_eq!(at_level(level, row, row_of_w, width), [*expected]);
                    }
                }
            }
        }
    }

    #[test]
    fn four_sums_fold_by_the_tree_that_is_written_down() {
        struct Fold([f32; 64]);
        impl Kernel for Fold {
            type Out = ([f32; 4], [f32; 4]);
            fn run<V: Lanes>(self) -> Self::Out {
                // SAFETY: four times N numbers, N at most 16.
                let four =
                    std::array::from_fn(|j| unsafe { V::load(self.0.as_ptr().add(j * V::N)) });
                let tree = |v: V| {
                    let l = v.spill(0.0);
                    let quarter = |q: usize| (l[q] + l[q + 2]) + (l[q + 1] + l[q + 3]);
                    if V::N == 16 {
                        (quarter(0) + quarter(8)) + (quarter(4) + quarter(12))
                    } else {
                        quarter(0) + quarter(4)
                    }
                };
                (V::fold_four(four), four.map(tree))
            }
        }
        for level in LEVELS {
            let values =
                std::array::from_fn(|i| (i as f32 * 0.37).sin() * 10f32.powi(i as i32 % 7));
            let (folded, tree) = run_at(level, Fold(values));
            assert_eq!(folded, tree, "{level:?}");
        }
    }
}
