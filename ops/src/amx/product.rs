//! The product: both operands are split and packed into tiles, in whatever order their numbers lie.

use super::pack::{ROWS, Room, STEP, Source, Split, pack};
use super::tile::{Corner, TILE, Tiles, two_by_two};
use crate::view::tasks;

/// Bytes of the left operand that are packed at a time, about: they are read again for each block of the right one, which
/// is packed again for each band.
const BAND: usize = 2 << 20;
/// Rows of a band at least, and at most.
const BAND_ROWS: [usize; 2] = [256, 1536];
/// Numbers of `k` packed at a time.
const DEPTH: usize = 2048;
/// Rows taken together.
const PAIR: usize = 2 * ROWS;
/// Rows of the right operand in a task, at least and at most, in pairs.
const BLOCK: [usize; 2] = [2, 5];

/// Rows of the left operand that are packed at a time.
fn band(rows: usize, depth: usize, terms: usize) -> usize {
    let fit = BAND / (depth.next_multiple_of(STEP) * terms * 2);
    let fit = fit.clamp(BAND_ROWS[0], BAND_ROWS[1]);
    // As many bands as there must be, of about the same height.
    rows.div_ceil(rows.div_ceil(fit)).next_multiple_of(PAIR)
}

/// Rows of the right operand in a task: such that no thread waits long for the last ones.
fn block(rows: usize, threads: usize) -> usize {
    let pairs = rows.div_ceil(PAIR);
    let time = |block: usize| pairs.div_ceil(block).div_ceil(threads) * block;
    let block = (BLOCK[0]..=BLOCK[1]).rev().min_by_key(|&block| time(block));
    block.unwrap_or(BLOCK[1]) * PAIR
}

/// An operand: `rows` rows of `k` numbers. Number `k` of row `r` lies at `r · stride + k` if `lying`, else at
/// `k · stride + r`.
#[derive(Clone, Copy)]
pub(crate) struct Operand<T> {
    /// First number.
    pub start: *const T,
    /// From one line to the next.
    pub stride: usize,
    /// Rows of the operand.
    pub rows: usize,
    /// The numbers of a row are adjacent.
    pub lying: bool,
}

// SAFETY: operands are only read, and whoever makes one keeps the memory borrowed while tasks use it.
unsafe impl<T: Sync> Send for Operand<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Operand<T> {}

impl<T> Operand<T> {
    /// Rows of adjacent numbers.
    pub(crate) fn lying(start: *const T, stride: usize, rows: usize) -> Self {
        Self {
            start,
            stride,
            rows,
            lying: true,
        }
    }

    fn part(&self, row: usize, rows: usize, k: usize, depth: usize) -> Source<T> {
        let offset = if self.lying {
            row * self.stride + k
        } else {
            k * self.stride + row
        };
        Source {
            start: self.start.wrapping_add(offset),
            stride: self.stride,
            rows,
            k: depth,
            lying: self.lying,
        }
    }
}

/// `out[r · stride + c] = Σ_k a[r][k] · b[c][k]`, each `f32` split into so many terms, 1 to 3.
///
/// # Safety
/// [`super::available`] must have said yes, the operands be readable for `k` numbers, and `out` writable for a row of
/// `b.rows` numbers at each row of `a`, readable too if it is added to.
pub(crate) unsafe fn products<A: Split, B: Split>(
    terms: usize,
    a: Operand<A>,
    b: Operand<B>,
    k: usize,
    out: Out,
) {
    let of = |whole| if whole { 1 } else { terms };
    // SAFETY: the caller's.
    unsafe {
        match (of(A::WHOLE), of(B::WHOLE)) {
            (1, 1) => split::<A, B, 1, 1>(a, b, k, out),
            (2, 1) => split::<A, B, 2, 1>(a, b, k, out),
            (_, 1) => split::<A, B, 3, 1>(a, b, k, out),
            (2, 2) => split::<A, B, 2, 2>(a, b, k, out),
            (1, _) => unreachable!("the right operand alone is never split"),
            _ => split::<A, B, 3, 3>(a, b, k, out),
        }
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    /// First number.
    pub at: *mut f32,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// The product is added to what is there.
    pub add: bool,
    /// On several threads.
    pub parallel: bool,
}

/// # Safety
/// As for [`products`].
unsafe fn split<A: Split, B: Split, const M: usize, const N: usize>(
    a: Operand<A>,
    b: Operand<B>,
    k: usize,
    out: Out,
) {
    let height = band(a.rows, DEPTH.min(k), M);
    let threads = if out.parallel {
        rayon::current_num_threads()
    } else {
        1
    };
    let block = block(b.rows, threads);
    for top in (0..a.rows).step_by(height) {
        let band = height.min(a.rows - top);
        for from in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - from);
            let steps = depth.div_ceil(STEP);
            let panel = steps * M * TILE;
            // An even number of panels, the last one zero if need be.
            let panels = band.div_ceil(PAIR) * 2;
            let room = Room::new(panels * panel);
            let left = Share(a.part(top, band, from, depth), room.start());
            tasks(panels, out.parallel, |i| {
                let Share(source, to) = left.get();
                // SAFETY: panel i lies inside the room; its rows exist, or it is zeroed.
                unsafe {
                    let to = to.add(i * panel);
                    if i * ROWS < band {
                        pack::<A, M>(source, i * ROWS, false, to);
                    } else {
                        to.write_bytes(0, panel);
                    }
                }
            });
            let call = Call::<M, N> {
                left: room.start(),
                rows: band,
                steps,
                begun: out.add || from > 0,
                // SAFETY: row `top` exists.
                out: unsafe { out.at.add(top * out.stride) },
                stride: out.stride,
            };
            let call = Share(call, ());
            tasks(b.rows.div_ceil(block), out.parallel, |i| {
                let first = i * block;
                let count = block.min(b.rows - first);
                let Share(call, ()) = call.get();
                // SAFETY: the rows exist; blocks write disjoint columns.
                unsafe { call.block(b.part(first, count, from, depth), first) };
            });
        }
    }
}

/// Pointers that tasks share.
#[derive(Clone, Copy)]
struct Share<S, T>(S, T);

// SAFETY: tasks read what they share and write disjoint places, which they argue where they do it.
unsafe impl<S, T> Send for Share<S, T> {}
// SAFETY: as above.
unsafe impl<S, T> Sync for Share<S, T> {}

impl<S: Copy, T: Copy> Share<S, T> {
    /// All of it; a closure that named a field would capture the bare pointer.
    fn get(&self) -> Self {
        *self
    }
}

/// One band of packed rows, some depth of `k`, of `M` terms, for a right operand of `N`.
#[derive(Clone, Copy)]
struct Call<const M: usize, const N: usize> {
    left: *mut u8,
    rows: usize,
    steps: usize,
    /// There are sums in `out` to add to.
    begun: bool,
    out: *mut f32,
    stride: usize,
}

impl<const M: usize, const N: usize> Call<M, N> {
    /// All rows with rows `first ..` of the right operand.
    ///
    /// # Safety
    /// They must exist.
    unsafe fn block<B: Split>(&self, right: Source<B>, first: usize) {
        let count = right.rows;
        let panel = self.steps * N * TILE;
        let left = self.steps * M * TILE;
        let panels = count.div_ceil(PAIR) * 2;
        let room = Room::new(panels * panel);
        // SAFETY: panels lie inside the room, places inside out.
        unsafe {
            for i in 0..panels {
                let to = room.start().add(i * panel);
                if i * ROWS < count {
                    pack::<B, N>(right, i * ROWS, true, to);
                } else {
                    to.write_bytes(0, panel);
                }
            }
            let _tiles = Tiles::configure();
            for r in (0..self.rows).step_by(PAIR) {
                let a = [0, 1].map(|i| self.left.add((r / ROWS + i) * left).cast_const());
                for c in (0..count).step_by(PAIR) {
                    let b = [0, 1].map(|j| room.start().add((c / ROWS + j) * panel).cast_const());
                    let corner = Corner {
                        at: self.out.add(r * self.stride + first + c),
                        stride: self.stride,
                        rows: PAIR.min(self.rows - r),
                        columns: PAIR.min(count - c),
                    };
                    corner.add(self.begun, || two_by_two::<M, N>(a, b, self.steps));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn numbers(count: usize, factor: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * factor).sin()).collect()
    }

    /// The same numbers, row after row or number after number.
    fn turned<T: Copy>(rows: &[T], k: usize) -> Vec<T> {
        (0..k)
            .flat_map(|k_at| rows.chunks(k).map(move |row| row[k_at]))
            .collect()
    }

    /// The product with both operands as they are given, `k` numbers a row.
    fn product<A: Split, B: Split>(
        terms: usize,
        a: (&[A], bool),
        b: (&[B], bool),
        k: usize,
    ) -> Vec<f32> {
        let (rows, columns) = (a.0.len() / k, b.0.len() / k);
        let mut out = vec![f32::NAN; rows * columns];
        let operand = |rows, lying| if lying { k } else { rows };
        // SAFETY: the slices hold rows of k numbers; tests ask first.
        unsafe {
            products(
                terms,
                Operand {
                    start: a.0.as_ptr(),
                    stride: operand(rows, a.1),
                    rows,
                    lying: a.1,
                },
                Operand {
                    start: b.0.as_ptr(),
                    stride: operand(columns, b.1),
                    rows: columns,
                    lying: b.1,
                },
                k,
                Out {
                    at: out.as_mut_ptr(),
                    stride: columns,
                    add: false,
                    parallel: true,
                },
            );
        }
        out
    }

    /// Shapes that end inside a tile, a pair of tiles, a block, a band and a depth.
    const SHAPES: [(usize, usize, usize); 7] = [
        (1, 1, 1),
        (3, 17, 31),
        (16, 32, 33),
        (33, 130, 64),
        (40, 7, 100),
        (530, 20, 90),
        (5, 9, 2100),
    ];

    #[test]
    fn every_way_of_lying_and_type_gives_the_sum_of_products() {
        if !super::super::available() {
            return;
        }
        // What the terms leave out of each product, beside the rounding of sums in f32.
        for (terms, left_out) in [(1, 8e-3), (2, 1.2e-5), (3, 1e-6)] {
            for (rows, columns, k) in SHAPES {
                let (a, b) = (numbers(rows * k, 0.7), numbers(columns * k, 1.3));
                let narrow =
                    |v: &[f32]| -> Vec<bf16> { v.iter().map(|&x| bf16::from_f32(x)).collect() };
                let (a16, b16) = (narrow(&a), narrow(&b));
                let (at, bt) = (turned(&a, k), turned(&b, k));
                let (a16t, b16t) = (turned(&a16, k), turned(&b16, k));
                let wide = |v: &[bf16]| -> Vec<f32> { v.iter().map(|x| x.to_f32()).collect() };
                let (aw, bw) = (wide(&a16), wide(&b16));
                let check = |y: &[f32], a: &[f32], b: &[f32], left_out: f64| {
                    for (i, y) in y.iter().enumerate() {
                        let (a, b) = (&a[i / columns * k..][..k], &b[i % columns * k..][..k]);
                        let products =
                            || a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
                        let (sum, size): (f64, f64) =
                            (products().sum(), products().map(f64::abs).sum());
                        let error = (f64::from(*y) - sum).abs();
                        assert!(error <= left_out * size, "{terms} {rows} {columns} {k}");
                    }
                };
                let first = product(terms, (&a, true), (&b, true), k);
                check(&first, &a, &b, left_out);
                for (a, b) in [
                    ((&at, false), (&b, true)),
                    ((&a, true), (&bt, false)),
                    ((&at, false), (&bt, false)),
                ] {
                    let y = product(terms, (a.0, a.1), (b.0, b.1), k);
                    assert_eq!(y, first, "{terms} {rows} {columns} {k}");
                }
                let y = product(terms, (&a, true), (&b16, true), k);
                check(&y, &a, &bw, left_out);
                assert_eq!(product(terms, (&a, true), (&b16t, false), k), y);
                // bf16 is its own only term.
                let y = product(terms, (&a16, true), (&b16, true), k);
                check(&y, &aw, &bw, 1e-6);
                assert_eq!(product(terms, (&a16t, false), (&b16, true), k), y);
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_company() {
        if !super::super::available() {
            return;
        }
        for (rows, columns, k) in SHAPES {
            let (a, b) = (numbers(rows * k, 0.7), numbers(columns * k, 1.3));
            let together = product(3, (&a, true), (&b, true), k);
            for (row, expected) in a.chunks(k).zip(together.chunks(columns)).take(40) {
                assert_eq!(product(3, (row, true), (&b, true), k), expected);
                let last = &b[(columns - 1) * k..];
                assert_eq!(
                    product(3, (row, true), (last, true), k),
                    expected[columns - 1..]
                );
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        if !super::super::available() {
            return;
        }
        let k = 40;
        let b = vec![0.5f32; 3 * k];
        let nans = [f32::NAN, -f32::NAN, f32::from_bits(0x7fff_ffff)];
        for odd in nans.into_iter().chain([f32::INFINITY, f32::NEG_INFINITY]) {
            for (place, terms) in [(0, 1), (31, 2), (39, 3), (39, 1)] {
                let mut a = vec![1f32; 2 * k];
                a[place] = odd;
                let y = product(terms, (&a, true), (&b, true), k);
                assert!(y[..3].iter().all(|y| !y.is_finite()), "{odd} {y:?}");
                assert_eq!(y[3..], [20.0; 3]);
            }
        }
    }

    #[test]
    fn the_terms_of_a_number_keep_eight_bits_each() {
        if !super::super::available() {
            return;
        }
        for (terms, bits) in [(1, 8), (2, 17), (3, 24)] {
            for exponent in [-30, -3, 0, 5, 40] {
                let scale = 2f32.powi(exponent);
                let a: Vec<f32> = numbers(64, 0.37).iter().map(|x| x * scale).collect();
                let y = product(terms, (&a, true), (&[1f32], true), 1);
                for (y, a) in y.iter().zip(&a) {
                    let error = (y - a).abs();
                    assert!(error <= a.abs() * 2f32.powi(-bits), "{terms}: {a} {y}");
                }
            }
        }
    }
}
