//! One line of attention scores: scaled, soft-capped, hidden where the query does not see, and made into weights.

use std::ops::Range;

use crate::exp::tanh;
use crate::lanes::{Kernel, Lanes};
use crate::softmax::{BLOCK, exp_row};

/// Scale, soft-cap and exponentials of one line of raw scores, in place; gives back the factor that makes them sum to 1.
/// Scores outside `visible` are not read and become 0.
pub(super) struct Line {
    /// Writable for `len` numbers.
    pub scores: *mut f32,
    pub len: usize,
    pub visible: Range<usize>,
    pub scale: f32,
    pub cap: Option<f32>,
}

impl Kernel for Line {
    type Out = f32;
    #[inline(always)]
    fn run<V: Lanes>(self) -> f32 {
        // SAFETY: the line is as long as it says, and what is visible lies inside.
        unsafe {
            hide(self.scores, self.len, &self.visible, f32::NEG_INFINITY);
            scale_and_cap::<V>(self.scores, self.len, self.scale, self.cap);
            exp_row::<V>(self.scores, Some(self.scores), self.len, false).factor()
        }
    }
}

/// One line of raw scores backwards: `scores` become the weights, `slopes`, which come as the gradient of each weight, that
/// of each raw score. With weights `p`, `ds = p (dp - Σ p dp)` times the slope of the soft-cap and the scale.
pub(super) struct LineBack {
    /// Both writable for `len` numbers.
    pub scores: *mut f32,
    pub slopes: *mut f32,
    pub len: usize,
    pub visible: Range<usize>,
    pub scale: f32,
    pub cap: Option<f32>,
    /// Writable for `len` numbers; used with a soft-cap.
    pub capped: *mut f32,
}

impl Kernel for LineBack {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let zero = V::splat(0.0);
        // SAFETY: start + n <= len, and what is visible lies inside.
        unsafe {
            hide(self.scores, self.len, &self.visible, f32::NEG_INFINITY);
            // The gradient of a hidden weight may be anything; its weight is 0, and so must the product be.
            hide(self.slopes, self.len, &self.visible, 0.0);
            scale_and_cap::<V>(self.scores, self.len, self.scale, self.cap);
            if self.cap.is_some() {
                std::ptr::copy_nonoverlapping(self.scores, self.capped, self.len);
                hide(self.capped, self.len, &self.visible, 0.0);
            }
            let factor = exp_row::<V>(self.scores, Some(self.scores), self.len, false).factor();
            let mut mean = 0.0;
            for block in (0..self.len).step_by(BLOCK) {
                let mut lanes = [zero; 2];
                let steps = (block..self.len.min(block + BLOCK)).step_by(V::N);
                for (i, start) in steps.enumerate() {
                    let n = V::N.min(self.len - start);
                    let p = V::load_part_or_all(self.scores.add(start), n, 0.0);
                    let p = p.mul(V::splat(factor));
                    p.store_part_or_all(self.scores.add(start), n);
                    let dp = V::load_part_or_all(self.slopes.add(start), n, 0.0);
                    lanes[i % 2] = p.mul_add(dp, lanes[i % 2]);
                }
                mean += lanes[0].add(lanes[1]).sum();
            }
            let (mean, scale) = (V::splat(mean as f32), V::splat(self.scale));
            for start in (0..self.len).step_by(V::N) {
                let n = V::N.min(self.len - start);
                let p = V::load_part_or_all(self.scores.add(start), n, 0.0);
                let dp = V::load_part_or_all(self.slopes.add(start), n, 0.0);
                let mut ds = p.mul(dp.sub(mean)).mul(scale);
                if let Some(cap) = self.cap {
                    let t = V::load_part_or_all(self.capped.add(start), n, 0.0);
                    let t = t.mul(V::splat(1.0 / cap));
                    // d/ds c tanh(s / c) = 1 - tanh²(s / c)
                    ds = ds.sub(ds.mul(t).mul(t));
                }
                ds.store_part_or_all(self.slopes.add(start), n);
            }
        }
    }
}

/// Puts `with` outside the range.
///
/// # Safety
/// `line` must be writable for `len` numbers; `visible` inside `0..len` or empty.
#[inline(always)]
unsafe fn hide(line: *mut f32, len: usize, visible: &Range<usize>, with: f32) {
    let (start, end) = if visible.is_empty() {
        (len, len)
    } else {
        (visible.start, visible.end)
    };
    for i in (0..start).chain(end..len) {
        // SAFETY: i < len.
        unsafe { line.add(i).write(with) };
    }
}

/// `s · scale`, then `c tanh(s / c)`; hidden scores, `-inf`, stay so.
///
/// # Safety
/// `line` must be readable and writable for `len` numbers.
#[inline(always)]
unsafe fn scale_and_cap<V: Lanes>(line: *mut f32, len: usize, scale: f32, cap: Option<f32>) {
    for start in (0..len).step_by(V::N) {
        let n = V::N.min(len - start);
        // SAFETY: start + n <= len.
        unsafe {
            let raw = V::load_part_or_all(line.add(start), n, 0.0);
            let mut x = raw.mul(V::splat(scale));
            if let Some(cap) = cap {
                x = tanh(x.mul(V::splat(1.0 / cap))).mul(V::splat(cap));
            }
            // -inf times the scale, or through tanh, would no longer say "hidden".
            let lowest = V::splat(f32::MIN);
            raw.sub(lowest)
                .choose(raw, x)
                .store_part_or_all(line.add(start), n);
        }
    }
}

/// Scores that are asked for as they are: scaled, soft-capped, `-inf` outside the ranges, which rise.
pub(super) struct Finish<'a> {
    pub line: &'a mut [f32],
    pub visible: [Range<usize>; 2],
    pub scale: f32,
    pub cap: Option<f32>,
}

impl Kernel for Finish<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut from = 0;
        for range in self.visible.iter().filter(|range| !range.is_empty()) {
            self.line[from..range.start].fill(f32::NEG_INFINITY);
            from = range.end;
        }
        self.line[from..].fill(f32::NEG_INFINITY);
        // SAFETY: the line is ours and as long as it says.
        unsafe {
            scale_and_cap::<V>(
                self.line.as_mut_ptr(),
                self.line.len(),
                self.scale,
                self.cap,
            );
        };
    }
}
