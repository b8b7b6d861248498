//! The types weights are stored in, and how kernels read them as `f32`.

use half::bf16;

use crate::lanes::Lanes;
use crate::product::Rows;

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
    /// [`Lanes::load_turned`].
    ///
    /// # Safety
    /// `V::N` numbers must be readable in each of the first `V::N` rows.
    unsafe fn load_turned<V: Lanes>(rows: [*const Self; 16]) -> [V; 16];
    /// Numbers `from .. from + n` of rows as `f32`: where they lie, or widened into `room`.
    ///
    /// # Safety
    /// They must be readable, and `room` writable for all of them, `n` rounded up to a vector.
    unsafe fn lines<V: Lanes>(rows: Rows<Self>, from: usize, n: usize, room: *mut f32)
    -> Rows<f32>;
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
    #[inline(always)]
    unsafe fn load_turned<V: Lanes>(rows: [*const Self; 16]) -> [V; 16] {
        // SAFETY: the caller's.
        unsafe { V::load_turned(rows) }
    }
    #[inline(always)]
    unsafe fn lines<V: Lanes>(rows: Rows<Self>, from: usize, _: usize, _: *mut f32) -> Rows<f32> {
        Rows {
            // SAFETY: the caller's.
            start: unsafe { rows.start.add(from) },
            ..rows
        }
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
    #[inline(always)]
    unsafe fn load_turned<V: Lanes>(rows: [*const Self; 16]) -> [V; 16] {
        // SAFETY: the caller's.
        unsafe { V::load_bf16_turned(rows) }
    }
    #[inline(always)]
    unsafe fn lines<V: Lanes>(rows: Rows<Self>, from: usize, n: usize, room: *mut f32) -> Rows<f32> {
        let stride = n.next_multiple_of(16);
        for i in 0..rows.count {
            for k in (0..n).step_by(V::N) {
                // SAFETY: the caller's; k + V::N stays within the stride.
                unsafe {
                    let line = rows.row(i).add(from + k);
                    let part = if k + V::N <= n {
                        V::load_bf16(line)
                    } else {
                        V::load_bf16_part(line, n - k)
                    };
                    part.store(room.add(i * stride + k));
                }
            }
        }
        Rows {
            start: room,
            stride,
            count: rows.count,
        }
    }
}
