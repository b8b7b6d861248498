//! Products of rows with the weights of a linear layer, `y[r][o] = x[r] · w[o]`, as checkpoints store them.
//!
//! One side is turned into a panel, `[number][row]`, whose rows lie side by side in vectors, and lines of the other side
//! pass over it. For many rows of `x` a block of weights is turned, again for each block of rows, and stays in the
//! first-level cache; for a few rows `x` is, once, and the weights are read where they lie, as fast as memory gives them.
//!
//! What always holds: a result's bits depend on its two rows alone, not on how many others are computed beside it nor on
//! the side that is turned, so a prompt has the same logits alone and in a batch. A sum runs along each piece of the
//! width in order; the pieces' sums are added in order.

use std::mem::MaybeUninit;

use crate::lanes::{Kernel, Lanes, run};
use crate::product::Rows;
use crate::weight::Weight;

/// Numbers of a row that are summed before they are added to the result. Two vectors of rows make a panel of 24 KiB at
/// most, half a first-level cache. Longer pieces measured 0.9x.
const PIECE: usize = 192;
/// Most rows of a panel: two vectors.
const ACROSS: usize = 32;
/// Most lines of a tile.
const TALL: usize = 12;

/// Numbers of a piece: pieces of one length, up to a vector; a function of the width alone.
fn piece_len(width: usize) -> usize {
    width.div_ceil(width.div_ceil(PIECE)).next_multiple_of(16)
}

/// `out[r · out_stride + o] = x.row(r) · w.row(o)`, on one thread.
///
/// # Safety
/// All rows must be readable for `width` numbers, and `out` writable at each place named.
pub(crate) unsafe fn many<T: Weight>(
    x: Rows<f32>,
    w: Rows<T>,
    width: usize,
    out: *mut f32,
    out_stride: usize,
) {
    run(Many {
        x,
        w,
        width,
        out,
        out_stride,
    });
}

struct Many<T> {
    x: Rows<f32>,
    w: Rows<T>,
    width: usize,
    out: *mut f32,
    out_stride: usize,
}

/// Numbers at a cache line.
#[repr(align(64))]
struct Lined<const COUNT: usize>([MaybeUninit<f32>; COUNT]);

impl<const COUNT: usize> Lined<COUNT> {
    #[inline(always)]
    fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; COUNT])
    }
}

impl<T: Weight> Kernel for Many<T> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut panel = Lined::<{ PIECE * ACROSS }>::new();
        let panel = panel.0.as_mut_ptr().cast::<f32>();
        let len = piece_len(self.width);
        for from in (0..self.width).step_by(len) {
            let n = len.min(self.width - from);
            for o in (0..self.w.count).step_by(2 * V::N) {
                // SAFETY: the piece lies inside the width, the panel has room for it, and rows of w exist from o on.
                unsafe {
                    let w = self.w.part(o, 2 * V::N);
                    turn::<V, T, 2>(w, from, n, panel);
                    let mut r = 0;
                    while r < self.x.count {
                        let left = self.x.count - r;
                        let tall = left.div_ceil(left.div_ceil(V::TALL));
                        let lines = self.x.row(r).add(from);
                        let to = self.out.add(r * self.out_stride + o);
                        let put = Put {
                            to,
                            stride: self.out_stride,
                            columns: w.count,
                            first: from == 0,
                            ahead: 0,
                        };
                        tile::<V, 2>(tall, lines, self.x.stride, n, panel, put);
                        r += tall;
                    }
                }
            }
        }
    }
}

/// A few rows of `x`, turned.
pub(crate) struct Few {
    panel: Vec<f32>,
    count: usize,
    width: usize,
}

/// How many rows of `x` are a few: two vectors.
pub(crate) fn few() -> usize {
    struct Across;
    impl Kernel for Across {
        type Out = usize;
        #[inline(always)]
        fn run<V: Lanes>(self) -> usize {
            2 * V::N
        }
    }
    run(Across)
}

impl Few {
    /// Turns them.
    ///
    /// # Safety
    /// At most [`few`] rows, readable for `width` numbers.
    pub(crate) unsafe fn new(x: Rows<f32>, width: usize) -> Self {
        let mut panel = vec![0.0; width.next_multiple_of(16) * ACROSS];
        run(TurnFew {
            x,
            width,
            panel: panel.as_mut_ptr(),
        });
        Self {
            panel,
            count: x.count,
            width,
        }
    }

    /// `out[r · out_stride + o] = x.row(r) · w.row(o)`, on one thread.
    ///
    /// # Safety
    /// The rows must be readable for the width, and `out` writable at each place named.
    pub(crate) unsafe fn with<T: Weight>(&self, w: Rows<T>, out: *mut f32, out_stride: usize) {
        run(WithFew {
            x: self,
            w,
            out,
            out_stride,
        });
    }
}

struct TurnFew {
    x: Rows<f32>,
    width: usize,
    panel: *mut f32,
}

impl Kernel for TurnFew {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        // SAFETY: as `Few::new` demands; the panel has room for two vectors of the width rounded up.
        unsafe {
            if self.x.count > V::N {
                turn::<V, f32, 2>(self.x, 0, self.width, self.panel);
            } else {
                turn::<V, f32, 1>(self.x, 0, self.width, self.panel);
            }
        }
    }
}

struct WithFew<'a, T> {
    x: &'a Few,
    w: Rows<T>,
    out: *mut f32,
    out_stride: usize,
}

impl<T: Weight> Kernel for WithFew<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        // SAFETY: the caller's.
        unsafe {
            if self.x.count > V::N {
                self.across::<V, 2>();
            } else {
                self.across::<V, 1>();
            }
        }
    }
}

impl<T: Weight> WithFew<'_, T> {
    /// # Safety
    /// As for [`Few::with`], for a panel of `C` vectors.
    #[inline(always)]
    unsafe fn across<V: Lanes, const C: usize>(&self) {
        let width = self.x.width;
        let len = piece_len(width);
        let mut wide = Lined::<{ PIECE * TALL }>::new();
        let mut sums = Lined::<{ TALL * ACROSS }>::new();
        let sums = sums.0.as_mut_ptr().cast::<f32>();
        let mut o = 0;
        while o < self.w.count {
            let left = self.w.count - o;
            let tall = left.div_ceil(left.div_ceil(V::TALL));
            for from in (0..width).step_by(len) {
                let n = len.min(width - from);
                // SAFETY: rows o .. o + tall exist, the piece lies inside the width, and a tile has room in `sums`.
                unsafe {
                    let w = self.w.part(o, tall);
                    let lines = T::lines::<V>(w, from, n, wide.0.as_mut_ptr().cast());
                    let panel = self.x.panel.as_ptr().add(from * C * V::N);
                    // Past the end of these rows lie those that are next.
                    let ahead = if from + n / 2 + AHEAD < width {
                        AHEAD
                    } else {
                        (AHEAD + tall * self.w.stride).wrapping_sub(width)
                    };
                    let put = Put {
                        ahead,
                        to: sums,
                        stride: C * V::N,
                        columns: C * V::N,
                        first: from == 0,
                    };
                    tile::<V, C>(tall, lines.start, lines.stride, n, panel, put);
                }
            }
            for r in 0..self.x.count {
                for i in 0..tall {
                    // SAFETY: places o .. o + tall of every row exist, and `sums` holds the tile.
                    unsafe {
                        let sum = *sums.add(i * C * V::N + r);
                        self.out.add(r * self.out_stride + o + i).write(sum);
                    }
                }
            }
            o += tall;
        }
    }
}

/// Numbers `from .. from + n` of at most `C` vectors of rows, on their side: `panel[number][row]`, zeros where there is
/// no row.
///
/// # Safety
/// They must be readable, and the panel have room for `n` rounded up to a vector.
#[inline(always)]
unsafe fn turn<V: Lanes, T: Weight, const C: usize>(
    rows: Rows<T>,
    from: usize,
    n: usize,
    panel: *mut f32,
) {
    for c in 0..C {
        let count = rows.count.saturating_sub(c * V::N).min(V::N);
        for k in (0..n).step_by(V::N) {
            let n = V::N.min(n - k);
            // SAFETY: row c N + i exists for i < count, and k + n stays inside the piece.
            unsafe {
                let line = |i: usize| rows.row(c * V::N + i).add(from + k);
                // The next panel's, which this one's lines leave time to fetch.
                for i in 0..V::N {
                    V::prefetch_far(line(0).wrapping_add((C * V::N + i) * rows.stride));
                }
                let turned: [V; 16] = block(line, count, n);
                for (i, turned) in turned.into_iter().take(V::N).enumerate() {
                    turned.store(panel.add(((k + i) * C + c) * V::N));
                }
            }
        }
    }
}

/// `n` numbers of `count` rows on their side, zeros where there is nothing.
///
/// # Safety
/// They must be readable, and be at most a vector's number of each.
#[inline(always)]
unsafe fn block<V: Lanes, T: Weight>(
    line: impl Fn(usize) -> *const T,
    count: usize,
    n: usize,
) -> [V; 16] {
    // SAFETY: the caller's.
    unsafe {
        if count == V::N && n == V::N {
            return T::load_turned(std::array::from_fn(|i| line(i % V::N)));
        }
        let mut lines = [[0.0f32; 16]; 16];
        for (i, padded) in lines.iter_mut().enumerate().take(count) {
            T::load_part::<V>(line(i), n).store(padded.as_mut_ptr());
        }
        V::load_turned(std::array::from_fn(|i| lines[i].as_ptr()))
    }
}

/// Up to so many rows take the weights straight from registers.
pub(crate) const FEWEST: usize = 4;

/// As [`many`], for at most [`FEWEST`] rows: weights are turned in registers and used at once, as a panel would be
/// written as often as it is read.
///
/// # Safety
/// As there.
pub(crate) unsafe fn fewest<T: Weight>(
    x: Rows<f32>,
    w: Rows<T>,
    width: usize,
    out: *mut f32,
    out_stride: usize,
) {
    run(Fewest {
        x,
        w,
        width,
        out,
        out_stride,
    });
}

struct Fewest<T> {
    x: Rows<f32>,
    w: Rows<T>,
    width: usize,
    out: *mut f32,
    out_stride: usize,
}

impl<T: Weight> Kernel for Fewest<T> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        for o in (0..self.w.count).step_by(2 * V::N) {
            // SAFETY: rows of w exist from o on.
            unsafe {
                match self.x.count {
                    1 => self.rows::<V, 1>(o),
                    2 => self.rows::<V, 2>(o),
                    3 => self.rows::<V, 3>(o),
                    _ => self.rows::<V, 4>(o),
                }
            }
        }
    }
}

/// How far ahead of use weights are asked for, in numbers: eight cache lines.
const AHEAD: usize = 128;

impl<T: Weight> Fewest<T> {
    /// # Safety
    /// Row `o` of w must exist.
    #[inline(always)]
    unsafe fn rows<V: Lanes, const R: usize>(&self, o: usize) {
        let len = piece_len(self.width);
        let columns = (self.w.count - o).min(2 * V::N);
        let mut totals = [[V::splat(0.0); 2]; R];
        for from in (0..self.width).step_by(len) {
            let mut sums = [[V::splat(0.0); 2]; R];
            let end = (from + len).min(self.width);
            let mut k = from;
            while k < end {
                let n = V::N.min(end - k);
                // Past the end of these rows lie those that are next.
                let ahead = if k + AHEAD < self.width {
                    AHEAD
                } else {
                    (AHEAD + 2 * V::N * self.w.stride).wrapping_sub(self.width)
                };
                for c in 0..2 {
                    if c * V::N >= columns {
                        continue;
                    }
                    // SAFETY: the rows exist and k + n <= width.
                    unsafe {
                        let count = (columns - c * V::N).min(V::N);
                        let line = |i: usize| self.w.row(o + c * V::N + i).add(k);
                        for i in 0..V::N {
                            V::prefetch(line(0).wrapping_add(i * self.w.stride + ahead));
                        }
                        let turned: [V; 16] = block(line, count, n);
                        if n == V::N {
                            for j in 0..V::N {
                                for i in 0..R {
                                    let x = V::splat(*self.x.row(i).add(k + j));
                                    sums[i][c] = x.mul_add(turned[j], sums[i][c]);
                                }
                            }
                        } else {
                            let mut aside = [[0.0f32; 16]; 16];
                            for (turned, line) in turned.into_iter().zip(&mut aside) {
                                turned.store(line.as_mut_ptr());
                            }
                            for (j, line) in aside.iter().enumerate().take(n) {
                                let turned = V::load(line.as_ptr());
                                for i in 0..R {
                                    let x = V::splat(*self.x.row(i).add(k + j));
                                    sums[i][c] = x.mul_add(turned, sums[i][c]);
                                }
                            }
                        }
                    }
                }
                k += n;
            }
            for i in 0..R {
                for c in 0..2 {
                    totals[i][c] = if from == 0 {
                        sums[i][c]
                    } else {
                        totals[i][c].add(sums[i][c])
                    };
                }
            }
        }
        for (i, line) in totals.into_iter().enumerate() {
            for (c, sum) in line.into_iter().enumerate() {
                if c * V::N < columns {
                    // SAFETY: places o .. o + columns of the row exist.
                    unsafe {
                        let to = self.out.add(i * self.out_stride + o + c * V::N);
                        sum.store_part_or_all(to, (columns - c * V::N).min(V::N));
                    }
                }
            }
        }
    }
}

/// Where a tile goes.
#[derive(Clone, Copy)]
struct Put {
    /// Its first place.
    to: *mut f32,
    /// Places from one line to the next.
    stride: usize,
    /// How many of a line's places exist.
    columns: usize,
    /// Written there, or added to what an earlier piece wrote.
    first: bool,
    /// How far ahead of use lines are asked for, in numbers; 0 where they lie in a cache.
    ahead: usize,
}

/// `tall` lines, `stride` numbers apart, with a panel of `C` vectors, for `n` numbers.
///
/// # Safety
/// Lines and panel must be readable so far, and the places writable; `1 <= tall <= V::TALL`.
#[inline(always)]
unsafe fn tile<V: Lanes, const C: usize>(
    tall: usize,
    lines: *const f32,
    stride: usize,
    n: usize,
    panel: *const f32,
    put: Put,
) {
    // Heights over V::TALL do not occur; naming them only under the condition keeps tiles that do not fit the registers
    // from being compiled.
    // SAFETY: the caller's.
    unsafe {
        match tall {
            1 => tall_tile::<V, 1, C>(lines, stride, n, panel, put),
            2 => tall_tile::<V, 2, C>(lines, stride, n, panel, put),
            3 if V::TALL >= 3 => tall_tile::<V, 3, C>(lines, stride, n, panel, put),
            4 if V::TALL >= 4 => tall_tile::<V, 4, C>(lines, stride, n, panel, put),
            5 if V::TALL >= 5 => tall_tile::<V, 5, C>(lines, stride, n, panel, put),
            6 if V::TALL >= 6 => tall_tile::<V, 6, C>(lines, stride, n, panel, put),
            7 if V::TALL >= 7 => tall_tile::<V, 7, C>(lines, stride, n, panel, put),
            8 if V::TALL >= 8 => tall_tile::<V, 8, C>(lines, stride, n, panel, put),
            9 if V::TALL >= 9 => tall_tile::<V, 9, C>(lines, stride, n, panel, put),
            10 if V::TALL >= 10 => tall_tile::<V, 10, C>(lines, stride, n, panel, put),
            11 if V::TALL >= 11 => tall_tile::<V, 11, C>(lines, stride, n, panel, put),
            _ if V::TALL >= 12 => tall_tile::<V, 12, C>(lines, stride, n, panel, put),
            _ => unreachable!("a tile is at most {} lines high", V::TALL),
        }
    }
}

/// [`tile`], `R` lines tall.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn tall_tile<V: Lanes, const R: usize, const C: usize>(
    lines: *const f32,
    stride: usize,
    n: usize,
    panel: *const f32,
    put: Put,
) {
    // SAFETY: the caller's.
    unsafe {
        // Every third line is a base, from which an instruction can name the next two; left alone the compiler computes
        // each address anew at every step, on the ports that multiply.
        let mut bases: [*const f32; 4] =
            std::array::from_fn(|b| lines.add((3 * b).min(R - 1) * stride));
        let mut sums = [[V::splat(0.0); C]; R];
        let mut panel = panel;
        let mut left = n;
        while left >= 4 {
            bases = bases.map(V::opaque);
            if put.ahead > 0 && left.is_multiple_of(16) {
                for i in 0..R {
                    V::prefetch(bases[i / 3].wrapping_add(i % 3 * stride + put.ahead));
                }
            }
            for k in 0..4 {
                step::<V, R, C>(&bases, stride, k, panel, &mut sums);
            }
            bases = bases.map(|base| base.add(4));
            panel = panel.add(4 * C * V::N);
            left -= 4;
        }
        for k in 0..left {
            step::<V, R, C>(&bases, stride, k, panel, &mut sums);
        }
        if put.columns == C * V::N {
            for i in 0..R {
                for c in 0..C {
                    let to = put.to.add(i * put.stride + c * V::N);
                    if put.first {
                        sums[i][c].store(to);
                    } else {
                        V::load(to).add(sums[i][c]).store(to);
                    }
                }
            }
            return;
        }
        // Aside first: sums that are indexed by a loop of many steps would leave their registers for all of the above.
        let mut aside = [[0.0f32; ACROSS]; R];
        for i in 0..R {
            for c in 0..C {
                sums[i][c].store(aside[i].as_mut_ptr().add(c * V::N));
            }
        }
        for (i, line) in aside.iter().enumerate() {
            for (j, &sum) in line[..put.columns].iter().enumerate() {
                let to = put.to.add(i * put.stride + j);
                to.write(if put.first { sum } else { *to + sum });
            }
        }
    }
}

/// Number `k` of every line with that of the panel.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn step<V: Lanes, const R: usize, const C: usize>(
    bases: &[*const f32; 4],
    stride: usize,
    k: usize,
    panel: *const f32,
    sums: &mut [[V; C]; R],
) {
    // SAFETY: the caller's.
    unsafe {
        let across: [V; C] = std::array::from_fn(|c| V::load(panel.add((k * C + c) * V::N)));
        for i in 0..R {
            let line = V::splat(*bases[i / 3].add(i % 3 * stride + k));
            for c in 0..C {
                sums[i][c] = line.mul_add(across[c], sums[i][c]);
            }
        }
    }
}
