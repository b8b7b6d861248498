//! Weighted sums of values: several lines of weights over the same values, a tile of sums in registers.
//!
//! What always holds: a line's sum runs over positions in order, so its bits do not depend on the lines beside it.

use std::ops::Range;

use crate::lanes::{Kernel, Lanes};
use crate::product::Rows;

/// Values (or keys) of consecutive positions.
pub(super) struct Segment {
    pub positions: Range<usize>,
    /// One for each position.
    pub rows: Rows<f32>,
}

/// `out[i] = factors[i] · Σ weights[i][t - base] v[t]` over the positions of the segments, in order.
pub(super) struct Mix<'a> {
    /// One line for each of `out`; 0 where a position is not visible.
    pub weights: Rows<f32>,
    /// The position of a line's first weight.
    pub base: usize,
    pub factors: &'a [f32],
    /// The positions that line `i` sees; others are passed over where no line of a tile sees them.
    pub visible: &'a dyn Fn(usize) -> Range<usize>,
    pub segments: [Segment; 2],
    /// Channels of a value.
    pub width: usize,
    /// Where each line goes, writable for `width` numbers.
    pub out: &'a [*mut f32],
}

impl Kernel for Mix<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut i = 0;
        while i < self.out.len() {
            let left = self.out.len() - i;
            let height = left.div_ceil(left.div_ceil(V::ROWS));
            // SAFETY: lines i .. i + height exist; see `product` for the conditions.
            unsafe {
                match height {
                    1 => self.strip::<V, 1>(i),
                    2 => self.strip::<V, 2>(i),
                    3 if V::ROWS >= 3 => self.strip::<V, 3>(i),
                    4 if V::ROWS >= 4 => self.strip::<V, 4>(i),
                    5 if V::ROWS >= 5 => self.strip::<V, 5>(i),
                    _ if V::ROWS >= 6 => self.strip::<V, 6>(i),
                    _ => unreachable!("a tile is at most {} lines high", V::ROWS),
                }
            }
            i += height;
        }
    }
}

impl Mix<'_> {
    /// # Safety
    /// Lines `i .. i + R` must exist.
    #[inline(always)]
    unsafe fn strip<V: Lanes, const R: usize>(&self, i: usize) {
        let seen: [Range<usize>; R] = std::array::from_fn(|j| (self.visible)(i + j));
        let first = seen.iter().map(|s| s.start).min().unwrap_or(0);
        let end = seen.iter().map(|s| s.end).max().unwrap_or(0);
        let mut channel = 0;
        // SAFETY: channels from `channel` on as many as each tile takes are left.
        unsafe {
            while channel + 4 * V::N <= self.width {
                self.tile::<V, R, 4>(i, channel, V::N, first..end);
                channel += 4 * V::N;
            }
            while channel < self.width {
                let n = V::N.min(self.width - channel);
                self.tile::<V, R, 1>(i, channel, n, first..end);
                channel += n;
            }
        }
    }

    /// `R` lines, `C` vectors of channels; of the last vector only `n` channels.
    ///
    /// # Safety
    /// They must exist.
    #[inline(always)]
    unsafe fn tile<V: Lanes, const R: usize, const C: usize>(
        &self,
        i: usize,
        channel: usize,
        n: usize,
        seen: Range<usize>,
    ) {
        let mut sums = [[V::splat(0.0); C]; R];
        // SAFETY: weights of a line reach over all positions of the segments.
        unsafe {
            for Segment { positions, rows } in &self.segments {
                let from = seen.start.max(positions.start);
                let to = seen.end.min(positions.end);
                if from >= to {
                    continue;
                }
                let mut v = rows.row(from - positions.start).add(channel);
                let weights: [*const f32; R] =
                    std::array::from_fn(|j| self.weights.row(i + j).add(from - self.base));
                for t in 0..to - from {
                    let values: [V; C] = std::array::from_fn(|c| {
                        let n = if c + 1 == C { n } else { V::N };
                        V::load_part_or_all(v.add(c * V::N), n, 0.0)
                    });
                    for j in 0..R {
                        let weight = V::splat(*weights[j].add(t));
                        for c in 0..C {
                            sums[j][c] = values[c].mul_add(weight, sums[j][c]);
                        }
                    }
                    // The last step may leave the values behind, but is not read.
                    v = v.wrapping_add(rows.stride);
                }
            }
            for (j, line) in sums.iter().enumerate() {
                let factor = V::splat(self.factors[i + j]);
                let out = self.out[i + j].add(channel);
                for (c, sum) in line.iter().enumerate() {
                    let n = if c + 1 == C { n } else { V::N };
                    sum.mul(factor).store_part_or_all(out.add(c * V::N), n);
                }
            }
        }
    }
}
