//! One line of attention scores: scaled, soft-capped, hidden where the query does not see, and made into weights.

use std::ops::Range;

use crate::exp::tanh;
use crate::lanes::{Kernel, Lanes};
use crate::softmax::exp_row;

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
            hide(self.scores, self.len, &self.visible);
            scale_and_cap::<V>(self.scores, self.len, self.scale, self.cap);
            exp_row::<V>(self.scores, Some(self.scores), self.len, false).factor()
        }
    }
}

/// Puts `-inf` outside the range.
///
/// # Safety
/// `line` must be writable for `len` numbers; `visible` inside `0..len` or empty.
#[inline(always)]
unsafe fn hide(line: *mut f32, len: usize, visible: &Range<usize>) {
    let (start, end) = if visible.is_empty() {
        (len, len)
    } else {
        (visible.start, visible.end)
    };
    for i in (0..start).chain(end..len) {
        // SAFETY: i < len.
        unsafe { line.add(i).write(f32::NEG_INFINITY) };
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
