//! The two x86 levels. As [`super`] says, they are named only after the CPU was asked.
#[allow(clippy::wildcard_imports)] // some thirty intrinsics
use std::arch::x86_64::*;

use super::{Lanes, Line};

/// AVX-512: one register.
#[derive(Clone, Copy)]
pub(crate) struct Wide(__m512d);

/// AVX2 with fused multiply-add: two registers.
#[derive(Clone, Copy)]
pub(crate) struct Half(__m256d, __m256d);

/// Methods of two operands.
macro_rules! pairs {
    ($($name:ident $wide:ident;)*) => {
        $(#[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: see the head of `lanes`.
            Self(unsafe { $wide(self.0, other.0) })
        })*
    };
    ($($name:ident twice $half:ident;)*) => {
        $(#[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: see the head of `lanes`.
            unsafe { Self($half(self.0, other.0), $half(self.1, other.1)) }
        })*
    };
}

impl Lanes for Wide {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        // SAFETY: see the head of `lanes`.
        Self(unsafe { _mm512_set1_pd(x) })
    }
    #[inline(always)]
    fn load(from: &Line) -> Self {
        // SAFETY: a line holds eight numbers, aligned to 64 bytes.
        Self(unsafe { _mm512_load_pd(from.0.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, to: &mut Line) {
        // SAFETY: a line holds eight numbers, aligned to 64 bytes.
        unsafe { _mm512_store_pd(to.0.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of `lanes`.
        Self(unsafe { _mm512_fmadd_pd(self.0, a.0, b.0) })
    }
    pairs! {
        add _mm512_add_pd;
        sub _mm512_sub_pd;
        mul _mm512_mul_pd;
        div _mm512_div_pd;
        max _mm512_max_pd;
        min _mm512_min_pd;
    }
}

impl Lanes for Half {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        // SAFETY: see the head of `lanes`.
        unsafe { Self(_mm256_set1_pd(x), _mm256_set1_pd(x)) }
    }
    #[inline(always)]
    fn load(from: &Line) -> Self {
        let at = from.0.as_ptr();
        // SAFETY: a line holds eight numbers, aligned to 64 bytes.
        unsafe { Self(_mm256_load_pd(at), _mm256_load_pd(at.add(4))) }
    }
    #[inline(always)]
    fn store(self, to: &mut Line) {
        let at = to.0.as_mut_ptr();
        // SAFETY: a line holds eight numbers, aligned to 64 bytes.
        unsafe {
            _mm256_store_pd(at, self.0);
            _mm256_store_pd(at.add(4), self.1);
        }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of `lanes`.
        unsafe {
            Self(
                _mm256_fmadd_pd(self.0, a.0, b.0),
                _mm256_fmadd_pd(self.1, a.1, b.1),
            )
        }
    }
    pairs! {
        add twice _mm256_add_pd;
        sub twice _mm256_sub_pd;
        mul twice _mm256_mul_pd;
        div twice _mm256_div_pd;
        max twice _mm256_max_pd;
        min twice _mm256_min_pd;
    }
}
