//! Vectors of `f32` at three instruction levels behind one trait, so that each kernel is written once.
//!
//! What always holds: [`Wide`] and [`Half`] are named only in [`run_at`], after the CPU was asked, which is what makes
//! the safe methods below sound. Everything is `inline(always)` because a vector method that stays a call of its own
//! would be compiled without the instruction set of its caller. Kernels: `exp`, `norm`, `softmax`, `product`, `mix`.

use half::bf16;

use crate::cpu::Level;

/// `N` numbers handled at once.
pub(crate) trait Lanes: Copy {
    /// Numbers in a vector; at most 16.
    const N: usize;
    /// Rows of a tile of `ROWS x 4` sums that, with what feeds them, fills the registers.
    const ROWS: usize;
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `N` numbers must be readable at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `N` numbers must be writable at `to`.
    unsafe fn store(self, to: *mut f32);
    /// Hints that this will be read soon; any address will do.
    #[inline(always)]
    fn prefetch<T>(_at: *const T) {}
    /// Widens `N` bf16 numbers.
    ///
    /// # Safety
    /// `N` numbers must be readable at `from`.
    unsafe fn load_bf16(from: *const bf16) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · a + b`, rounded once where the CPU can.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The larger; `other` if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller; `other` if either is NaN.
    fn min(self, other: Self) -> Self;
    /// Nearest integer, ties to even, for magnitudes below 2²².
    fn round(self) -> Self;
    /// `self · 2ⁿ` for whole `-160 <= n <= 128`, through the subnormals.
    fn scale(self, n: Self) -> Self;
    /// Lane by lane `negative` where `self < 0`, else `other`.
    fn choose(self, negative: Self, other: Self) -> Self;
    /// A bit for each lane, the first lowest: set where it is above that of `bound`, or either is NaN.
    fn beyond(self, bound: Self) -> u32;

    /// The numbers, in a buffer that any level fits in; lanes past `N` hold `fill`.
    #[inline(always)]
    fn spill(self, fill: f32) -> [f32; 16] {
        let mut lanes = [fill; 16];
        // SAFETY: N is at most 16.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }

    /// Sum of the lanes in f64, in lane order.
    #[inline(always)]
    fn sum(self) -> f64 {
        self.spill(0.0).iter().map(|&x| f64::from(x)).sum()
    }

    /// Sums of the lanes of four vectors, each by the same tree: `(0 + 2) + (1 + 3)` in each quarter of four, then the
    /// quarters in halves. Written here for the portable level; the others must give the same bits.
    #[inline(always)]
    fn fold_four(four: [Self; 4]) -> [f32; 4] {
        four.map(|v| {
            let lanes = v.spill(0.0);
            let quarters: [f32; 4] = std::array::from_fn(|q| {
                let at = |i| lanes[q * 4 + i];
                (at(0) + at(2)) + (at(1) + at(3))
            });
            if Self::N == 16 {
                (quarters[0] + quarters[2]) + (quarters[1] + quarters[3])
            } else {
                quarters[0] + quarters[1]
            }
        })
    }

    /// Largest lane; lanes that are NaN are passed over.
    #[inline(always)]
    fn highest(self) -> f32 {
        self.spill(f32::NEG_INFINITY)
            .iter()
            .fold(f32::NEG_INFINITY, |best, &x| best.max(x))
    }

    /// The first `n <= N` numbers at `from`, then `fill`.
    ///
    /// # Safety
    /// `n` numbers must be readable at `from`.
    #[inline(always)]
    unsafe fn load_part(from: *const f32, n: usize, fill: f32) -> Self {
        let mut lanes = [fill; 16];
        // SAFETY: the caller vouches for n readable numbers, and n <= N <= 16.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
            Self::load(lanes.as_ptr())
        }
    }

    /// As [`Lanes::load_part`], widening, filled with 0.
    ///
    /// # Safety
    /// `n` numbers must be readable at `from`.
    #[inline(always)]
    unsafe fn load_bf16_part(from: *const bf16, n: usize) -> Self {
        let mut lanes = [bf16::ZERO; 16];
        // SAFETY: the caller vouches for n readable numbers, and n <= N <= 16.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
            Self::load_bf16(lanes.as_ptr())
        }
    }

    /// [`Lanes::load_part`], by the fast way when `n` is `N`.
    ///
    /// # Safety
    /// `n` numbers must be readable at `from`.
    #[inline(always)]
    unsafe fn load_part_or_all(from: *const f32, n: usize, fill: f32) -> Self {
        // SAFETY: the caller vouches for n readable numbers.
        unsafe {
            if n == Self::N {
                Self::load(from)
            } else {
                Self::load_part(from, n, fill)
            }
        }
    }

    /// [`Lanes::store_part`], by the fast way when `n` is `N`.
    ///
    /// # Safety
    /// `n` numbers must be writable at `to`.
    #[inline(always)]
    unsafe fn store_part_or_all(self, to: *mut f32, n: usize) {
        // SAFETY: the caller vouches for n writable numbers.
        unsafe {
            if n == Self::N {
                self.store(to);
            } else {
                self.store_part(to, n);
            }
        }
    }

    /// Writes the first `n <= N` lanes.
    ///
    /// # Safety
    /// `n` numbers must be writable at `to`.
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, n: usize) {
        let lanes = self.spill(0.0);
        // SAFETY: the caller vouches for n writable numbers, and n <= N <= 16.
        unsafe { std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n) };
    }
}

/// Work written once for any vector width.
pub(crate) trait Kernel {
    /// What it gives back.
    type Out;
    /// Does the work. Implementations are `inline(always)`.
    fn run<V: Lanes>(self) -> Self::Out;
}

/// Runs a kernel on the widest vectors of this CPU.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Out {
    run_at(crate::cpu::level(), kernel)
}

/// Runs a kernel at a level, or at this CPU's own where that is lower.
pub(crate) fn run_at<K: Kernel>(level: Level, kernel: K) -> K::Out {
    match level.min(crate::cpu::level()) {
        // SAFETY: the minimum with the CPU's own level guarantees that the instructions exist.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run::<Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<x86::Wide>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<x86::Half>()
}

/// `2ⁿ` for whole `-126 <= n <= 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// Eight numbers in plain Rust, which the compiler maps to whatever the target's baseline offers.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Portable {
    const N: usize = 8;
    const ROWS: usize = 2;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for eight readable numbers.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for eight writable numbers.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) };
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller vouches for eight readable numbers.
        let narrow = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        Self(narrow.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    // Not f32::mul_add: without the instruction that is a library call for each number.
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        self.mul(a).add(b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    // 1.5 · 2²³ pushes the fraction out of the mantissa, rounding on the way.
    #[inline(always)]
    fn round(self) -> Self {
        const SHIFT: f32 = 12582912.0;
        Self(self.0.map(|x| (x + SHIFT) - SHIFT))
    }
    // In two steps, as 2⁻¹⁶⁰ and 2¹²⁸ are not numbers themselves.
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        self.zip(n, |x, n| {
            let n = n as i32;
            let first = n >> 1;
            x * power_of_two(first) * power_of_two(n - first)
        })
    }
    #[inline(always)]
    fn choose(self, negative: Self, other: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if self.0[i] < 0.0 {
                negative.0[i]
            } else {
                other.0[i]
            }
        }))
    }
    #[inline(always)]
    fn beyond(self, bound: Self) -> u32 {
        let within = |i: usize| self.0[i] <= bound.0[i];
        (0..8).fold(0, |bits, i| bits | u32::from(!within(i)) << i)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
