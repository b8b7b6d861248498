//! The two x86 widths. As [`super`] says, they are named only after the CPU was asked.
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
            // SAFETY: see the head of `lanes`.
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
            // SAFETY: see the head of `lanes`; likewise below.
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
    const ROWS: usize = 6;
    #[inline(always)]
    fn prefetch<T>(at: *const T) {
        // SAFETY: a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[inline(always)]
    fn fold_four([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // SAFETY: see the head of `lanes`.
        unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a.0, b.0), _mm512_unpackhi_ps(a.0, b.0));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c.0, d.0), _mm512_unpackhi_ps(c.0, d.0));
            let quarters = _mm512_add_ps(
                _mm512_shuffle_ps::<0x44>(ab, cd),
                _mm512_shuffle_ps::<0xEE>(ab, cd),
            );
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(quarters)));
            fold_pair(_mm256_add_ps(_mm512_castps512_ps256(quarters), high))
        }
    }
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
        // SAFETY: see the head of `lanes`.
        Self(unsafe { _mm512_roundscale_ps::<0>(self.0) })
    }
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // SAFETY: see the head of `lanes`.
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    fn choose(self, negative: Self, other: Self) -> Self {
        // SAFETY: see the head of `lanes`.
        unsafe {
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, _mm512_setzero_ps());
            Self(_mm512_mask_blend_ps(below, other.0, negative.0))
        }
    }
    #[inline(always)]
    fn beyond(self, bound: Self) -> u32 {
        // SAFETY: see the head of `lanes`.
        u32::from(unsafe { _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(self.0, bound.0) })
    }
}

/// The sum of two quarters.
#[inline(always)]
fn fold_pair(quarters: __m256) -> [f32; 4] {
    // SAFETY: see the head of `lanes`; the array holds the four numbers stored.
    unsafe {
        let high = _mm256_extractf128_ps::<1>(quarters);
        let mut sums = [0.0; 4];
        _mm_storeu_ps(
            sums.as_mut_ptr(),
            _mm_add_ps(_mm256_castps256_ps128(quarters), high),
        );
        sums
    }
}

impl Lanes for Half {
    const N: usize = 8;
    const ROWS: usize = 3;
    #[inline(always)]
    fn fold_four([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // SAFETY: see the head of `lanes`.
        unsafe {
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a.0, b.0), _mm256_unpackhi_ps(a.0, b.0));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c.0, d.0), _mm256_unpackhi_ps(c.0, d.0));
            fold_pair(_mm256_add_ps(
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xEE>(ab, cd),
            ))
        }
    }
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
        // SAFETY: see the head of `lanes`.
        Self(unsafe {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
        })
    }
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // SAFETY: see the head of `lanes`.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let n = _mm256_cvtps_epi32(n.0);
            let first = _mm256_srai_epi32::<1>(n);
            let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, bias)));
            let half = _mm256_mul_ps(self.0, power(first));
            Self(_mm256_mul_ps(half, power(_mm256_sub_epi32(n, first))))
        }
    }
    #[inline(always)]
    fn choose(self, negative: Self, other: Self) -> Self {
        // SAFETY: see the head of `lanes`.
        unsafe {
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, _mm256_setzero_ps());
            Self(_mm256_blendv_ps(other.0, negative.0, below))
        }
    }
    #[inline(always)]
    fn beyond(self, bound: Self) -> u32 {
        // SAFETY: see the head of `lanes`.
        let beyond = unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(self.0, bound.0)) };
        beyond as u32
    }
}
