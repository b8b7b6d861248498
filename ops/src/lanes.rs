//! Vectors of `f32` at three instruction levels behind one trait, so that each kernel is written once.
//!
//! What always holds: [`Wide`] and [`Half`] are named only in [`run_at`], after the CPU was asked, which is what makes
//! the safe methods below sound. Everything is `inline(always)` because a vector method that stays a call of its own
//! would be compiled without the instruction set of its caller. Kernels: `exp`, `norm`, `softmax`, `dot`.

use half::bf16;

use crate::cpu::Level;

/// `N` numbers handled at once.
pub(crate) trait Lanes: Copy {
    /// Numbers in a vector; at most 16.
    const N: usize;
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `N` numbers must be readable at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `N` numbers must be writable at `to`.
    unsafe fn store(self, to: *mut f32);
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

    /// Sum of the lanes, folded in halves.
    #[inline(always)]
    fn fold_sum(self) -> f32 {
        let mut lanes = self.spill(0.0);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
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
}

/// The two x86 widths.
#[cfg(target_arch = "x86_64")]
mod x86 {
    #[allow(clippy::wildcard_imports)] // some fifty intrinsics
    use std::arch::x86_64::*;

    use super::{Lanes, bf16};

    /// Sixteen numbers, AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Wide(__m512);

    /// Eight numbers, AVX2 with fused multiply-add.
    #[derive(Clone, Copy)]
    pub(crate) struct Half(__m256);

    /// The arithmetic that both widths spell alike.
    macro_rules! arithmetic {
        ($add:ident $sub:ident $mul:ident $div:ident $fma:ident $max:ident $min:ident $splat:ident $load:ident $store:ident) => {
            #[inline(always)]
            fn splat(x: f32) -> Self {
                // SAFETY: see the head of the file.
                Self(unsafe { $splat(x) })
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller vouches for N readable numbers.
                Self(unsafe { $load(from) })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller vouches for N writable numbers.
                unsafe { $store(to, self.0) }
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: see the head of the file; likewise below.
                Self(unsafe { $add(self.0, other.0) })
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: as for add.
                Self(unsafe { $sub(self.0, other.0) })
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: as for add.
                Self(unsafe { $mul(self.0, other.0) })
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                // SAFETY: as for add.
                Self(unsafe { $div(self.0, other.0) })
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                // SAFETY: as for add.
                Self(unsafe { $fma(self.0, a.0, b.0) })
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // SAFETY: as for add.
                Self(unsafe { $max(self.0, other.0) })
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                // SAFETY: as for add.
                Self(unsafe { $min(self.0, other.0) })
            }
        };
    }

    impl Lanes for Wide {
        const N: usize = 16;
        arithmetic!(_mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_div_ps _mm512_fmadd_ps _mm512_max_ps _mm512_min_ps
            _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps);
        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            // SAFETY: the caller vouches for sixteen readable numbers of two bytes.
            unsafe {
                let narrow = _mm256_loadu_si256(from.cast());
                let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow));
                Self(_mm512_castsi512_ps(wide))
            }
        }
        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: see the head of the file.
            Self(unsafe { _mm512_roundscale_ps::<0>(self.0) })
        }
        #[inline(always)]
        fn scale(self, n: Self) -> Self {
            // SAFETY: see the head of the file.
            Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
        }
        #[inline(always)]
        fn choose(self, negative: Self, other: Self) -> Self {
            // SAFETY: see the head of the file.
            unsafe {
                let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, _mm512_setzero_ps());
                Self(_mm512_mask_blend_ps(below, other.0, negative.0))
            }
        }
    }

    impl Lanes for Half {
        const N: usize = 8;
        arithmetic!(_mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_div_ps _mm256_fmadd_ps _mm256_max_ps _mm256_min_ps
            _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps);
        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            // SAFETY: the caller vouches for eight readable numbers of two bytes.
            unsafe {
                let narrow = _mm_loadu_si128(from.cast());
                let wide = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(narrow));
                Self(_mm256_castsi256_ps(wide))
            }
        }
        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: see the head of the file.
            Self(unsafe {
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
            })
        }
        #[inline(always)]
        fn scale(self, n: Self) -> Self {
            // SAFETY: see the head of the file.
            unsafe {
                let bias = _mm256_set1_epi32(127);
                let n = _mm256_cvtps_epi32(n.0);
                let first = _mm256_srai_epi32::<1>(n);
                let power =
                    |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, bias)));
                let half = _mm256_mul_ps(self.0, power(first));
                Self(_mm256_mul_ps(half, power(_mm256_sub_epi32(n, first))))
            }
        }
        #[inline(always)]
        fn choose(self, negative: Self, other: Self) -> Self {
            // SAFETY: see the head of the file.
            unsafe {
                let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, _mm256_setzero_ps());
                Self(_mm256_blendv_ps(other.0, negative.0, below))
            }
        }
    }
}
