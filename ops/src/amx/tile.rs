//! The tile instructions, and the inner loops made of them.
//!
//! A tile is 16 rows of 64 bytes; all eight are configured so. Tiles 0 to 3 are sums, 4 and 5 hold the left operand, 6
//! and 7 the right. An operand lies in memory as pack.rs writes it: for each step of 32 numbers of `k` one tile for each
//! term.

use std::arch::asm;

/// Bytes of a tile.
pub(super) const TILE: usize = 1024;

/// Tiles configured for this thread while it lives.
pub(super) struct Tiles(());

impl Tiles {
    /// Configures them.
    ///
    /// # Safety
    /// [`super::available`] must have said yes.
    pub(super) unsafe fn configure() -> Self {
        #[repr(align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = 16;
        }
        // SAFETY: 64 bytes of palette 1 are readable, and the CPU has the instruction.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) config.0.as_ptr(), options(nostack, preserves_flags));
        };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they were configured on this thread; the type is not Send. Without this the system would save eight
        // kilobytes at every switch of threads from now on.
        unsafe {
            asm!("tilerelease", options(nostack, preserves_flags));
        };
    }
}

/// Four sums, `[16 a-rows][16 b-rows]` each, as they lie in memory.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// First number of each.
    pub at: [*mut f32; 4],
    /// Numbers from one row to the next.
    pub stride: usize,
}

impl Sums {
    /// # Safety
    /// Tiles must be configured.
    #[inline(always)]
    pub(super) unsafe fn zero() {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem, preserves_flags)
            );
        };
    }

    /// # Safety
    /// Tiles must be configured and the four readable.
    #[inline(always)]
    pub(super) unsafe fn load(self) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tileloadd tmm0, [{0} + {s}]",
                "tileloadd tmm1, [{1} + {s}]",
                "tileloadd tmm2, [{2} + {s}]",
                "tileloadd tmm3, [{3} + {s}]",
                in(reg) self.at[0], in(reg) self.at[1], in(reg) self.at[2], in(reg) self.at[3],
                s = in(reg) self.stride * 4,
                options(nostack, preserves_flags)
            );
        };
    }

    /// # Safety
    /// Tiles must be configured and the four writable.
    #[inline(always)]
    pub(super) unsafe fn store(self) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tilestored [{0} + {s}], tmm0",
                "tilestored [{1} + {s}], tmm1",
                "tilestored [{2} + {s}], tmm2",
                "tilestored [{3} + {s}], tmm3",
                in(reg) self.at[0], in(reg) self.at[1], in(reg) self.at[2], in(reg) self.at[3],
                s = in(reg) self.stride * 4,
                options(nostack, preserves_flags)
            );
        };
    }
}

/// A place for at most 32 x 32 sums.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    /// First number.
    pub at: *mut f32,
    /// Numbers from one row to the next.
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Corner {
    /// Loads the four sums, or begins with zero, has `products` add to them, and stores them.
    ///
    /// # Safety
    /// Tiles must be configured, and the place readable if `begun`, writable in any case.
    #[inline(always)]
    pub(super) unsafe fn add(self, begun: bool, products: impl FnOnce()) {
        const SIDE: usize = 32;
        // SAFETY: the caller's; a place that is not whole is worked on in a copy.
        unsafe {
            let whole = self.rows == SIDE && self.columns == SIDE;
            // Zeroed only where it is used: a memset of 4 KiB a corner was 3 % of a training step.
            let mut copy = std::mem::MaybeUninit::<[f32; SIDE * SIDE]>::uninit();
            let (at, stride) = if whole {
                (self.at, self.stride)
            } else {
                copy.as_mut_ptr().write_bytes(0, 1);
                (copy.as_mut_ptr().cast(), SIDE)
            };
            if begun && !whole {
                for r in 0..self.rows {
                    let line = self.at.add(r * self.stride);
                    line.copy_to_nonoverlapping(at.add(r * SIDE), self.columns);
                }
            }
            let half = SIDE / 2;
            let sums = Sums {
                at: [0, half, half * stride, half * stride + half].map(|i| at.add(i)),
                stride,
            };
            if begun {
                sums.load();
            } else {
                Sums::zero();
            }
            products();
            sums.store();
            if !whole {
                for r in 0..self.rows {
                    let line = self.at.add(r * self.stride);
                    line.copy_from_nonoverlapping(at.add(r * SIDE), self.columns);
                }
            }
        }
    }
}

/// Adds to the sums `0: a0·b0, 1: a0·b1, 2: a1·b0, 3: a1·b1` over `steps` steps of `A` and `B` terms.
///
/// Terms `i` and `j` are multiplied where `i + j` is below the larger number of terms, what is left out being as small as
/// what the split left out; in an order in which one operand is loaded anew at a time.
///
/// # Safety
/// Tiles must be configured, and the operands readable for `steps` tiles of each term.
#[inline(always)]
pub(super) unsafe fn two_by_two<const A: usize, const B: usize>(
    a: [*const u8; 2],
    b: [*const u8; 2],
    steps: usize,
) {
    macro_rules! load {
        (a $term:literal, $at:expr) => {
            load!("tmm4", "tmm5", $term, $at)
        };
        (b $term:literal, $at:expr) => {
            load!("tmm6", "tmm7", $term, $at)
        };
        ($first:literal, $second:literal, $term:literal, $at:expr) => {
            asm!(
                concat!("tileloadd ", $first, ", [{0} + {s} + {term}]"),
                concat!("tileloadd ", $second, ", [{1} + {s} + {term}]"),
                in(reg) $at[0], in(reg) $at[1], s = in(reg) 64usize, term = const $term * TILE,
                options(nostack, readonly, preserves_flags)
            )
        };
    }
    macro_rules! multiply {
        () => {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                options(nostack, nomem, preserves_flags)
            )
        };
    }
    for i in 0..steps {
        // SAFETY: the caller's.
        unsafe {
            let a = a.map(|p| p.add(i * A * TILE));
            let b = b.map(|p| p.add(i * B * TILE));
            load!(b 0, b);
            if A >= 3 {
                load!(a 2, a);
                multiply!();
            }
            if A >= 2 {
                load!(a 1, a);
                multiply!();
            }
            if A >= 3 && B >= 3 {
                load!(b 1, b);
                multiply!();
                load!(a 0, a);
                multiply!();
                load!(b 2, b);
                multiply!();
                load!(b 0, b);
            } else {
                load!(a 0, a);
                if B >= 2 {
                    load!(b 1, b);
                    multiply!();
                    load!(b 0, b);
                }
            }
            multiply!();
        }
    }
}
