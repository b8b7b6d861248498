//! Numbers split into bf16 terms and laid out as tiles.
//!
//! A tile holds 16 rows (of `x`, or of the weights) and 32 numbers of `k`, in pairs. As a left operand it lies
//! `[row][pair]`, as a right operand `[pair][row]`. Rows and numbers past the end are zero.

#[allow(clippy::wildcard_imports)] // thirty instructions
use std::arch::x86_64::*;

use half::bf16;

use super::tile::TILE;

/// Numbers of `k` in a tile.
pub(super) const STEP: usize = 32;
/// Rows in a tile.
pub(super) const ROWS: usize = 16;

/// The terms of 32 numbers; those past the ones asked for are not meaningful.
pub(crate) type Terms = [__m512i; 3];

/// A number that is a sum of bf16 terms.
pub(crate) trait Split: Copy + Send + Sync + 'static {
    /// It is its own first term.
    const WHOLE: bool;
    /// The first `N` terms of the first `n <= 32` numbers at `from`, zero after them.
    ///
    /// # Safety
    /// They must be readable, and the CPU have AVX-512 with bf16.
    unsafe fn split<const N: usize>(from: *const Self, n: usize) -> Terms;
    /// As [`Self::split`] for the first `n <= 16` numbers of two rows, each pair side by side.
    ///
    /// # Safety
    /// As there.
    unsafe fn split_pairs<const N: usize>(rows: [*const Self; 2], n: [usize; 2]) -> Terms;
}

/// Ones in the lowest `n` places, for masks.
fn ones(n: usize) -> u32 {
    if n >= 32 { u32::MAX } else { (1 << n) - 1 }
}

/// The terms of 32 numbers. All but the last are rounded half up, with integers: the unit that shuffles is the one that
/// splitting waits for. A NaN stays one, in the last term if not before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn terms<const N: usize>(mut low: __m512, mut high: __m512) -> Terms {
    const UPPER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = 2 * i as u16 + 1;
            i += 1;
        }
        order
    };
    // SAFETY: 64 bytes either way.
    let upper: __m512i = unsafe { std::mem::transmute(UPPER) };
    let rounded = |v: __m512| _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
    let value = |v: __m512i| {
        _mm512_castsi512_ps(_mm512_and_epi32(
            v,
            _mm512_set1_epi32(0xffff_0000_u32 as i32),
        ))
    };
    let mut terms = [_mm512_setzero_si512(); 3];
    for term in &mut terms[..N - 1] {
        let (l, h) = (rounded(low), rounded(high));
        *term = _mm512_permutex2var_epi16(l, upper, h);
        (low, high) = (_mm512_sub_ps(low, value(l)), _mm512_sub_ps(high, value(h)));
    }
    // SAFETY: the same 64 bytes.
    terms[N - 1] =
        unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    terms
}

/// Numbers `i` and `16 + i` side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn paired(halves: __m512i) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 16 {
            order[2 * i] = i as u16;
            order[2 * i + 1] = 16 + i as u16;
            i += 1;
        }
        order
    };
    // SAFETY: 64 bytes either way.
    let order: __m512i = unsafe { std::mem::transmute(ORDER) };
    _mm512_permutexvar_epi16(order, halves)
}

impl Split for f32 {
    const WHOLE: bool = false;

    #[inline(always)]
    unsafe fn split<const N: usize>(from: *const Self, n: usize) -> Terms {
        // SAFETY: the caller's; masked lanes are not read.
        unsafe {
            if n >= STEP {
                return terms::<N>(_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
            }
            let mask = ones(n);
            terms::<N>(
                _mm512_maskz_loadu_ps(mask as u16, from),
                _mm512_maskz_loadu_ps((mask >> 16) as u16, from.wrapping_add(16)),
            )
        }
    }

    #[inline(always)]
    unsafe fn split_pairs<const N: usize>(rows: [*const Self; 2], n: [usize; 2]) -> Terms {
        // SAFETY: the caller's; masked lanes are not read.
        unsafe {
            let [first, second] = [0, 1].map(|i| _mm512_maskz_loadu_ps(ones(n[i]) as u16, rows[i]));
            terms::<N>(first, second).map(|term| paired(term))
        }
    }
}

impl Split for bf16 {
    const WHOLE: bool = true;

    #[inline(always)]
    unsafe fn split<const N: usize>(from: *const Self, n: usize) -> Terms {
        // SAFETY: the caller's; masked lanes are not read.
        unsafe {
            let all = _mm512_maskz_loadu_epi16(ones(n), from.cast());
            [all, _mm512_setzero_si512(), _mm512_setzero_si512()]
        }
    }

    #[inline(always)]
    unsafe fn split_pairs<const N: usize>(rows: [*const Self; 2], n: [usize; 2]) -> Terms {
        // SAFETY: the caller's; masked lanes are not read.
        unsafe {
            let [first, second] =
                [0, 1].map(|i| _mm256_maskz_loadu_epi16(ones(n[i]) as u16, rows[i].cast()));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
            [paired(both), _mm512_setzero_si512(), _mm512_setzero_si512()]
        }
    }
}

/// Turns 16 rows of 16 double words about.
///
/// # Safety
/// A tile must be readable at `from` and writable at `to`, and the two not overlap.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn turn(from: *const u8, to: *mut u8) {
    // SAFETY: all places lie inside the two tiles.
    unsafe {
        for quarter in 0..4 {
            // Quarter of row s, s + 4, s + 8 and s + 12 beside each other: loads do it, which leaves the one unit that
            // shuffles half of the work.
            let z: [__m512i; 4] = std::array::from_fn(|s| {
                let at = |row: usize| _mm_loadu_si128(from.add(row * 64 + quarter * 16).cast());
                let z = _mm512_castsi128_si512(at(s));
                let z = _mm512_mask_broadcast_i32x4(z, 0x00f0, at(s + 4));
                let z = _mm512_mask_broadcast_i32x4(z, 0x0f00, at(s + 8));
                _mm512_mask_broadcast_i32x4(z, 0xf000, at(s + 12))
            });
            let low = _mm512_unpacklo_epi32(z[0], z[1]);
            let high = _mm512_unpackhi_epi32(z[0], z[1]);
            let low_next = _mm512_unpacklo_epi32(z[2], z[3]);
            let high_next = _mm512_unpackhi_epi32(z[2], z[3]);
            let turned = [
                _mm512_unpacklo_epi64(low, low_next),
                _mm512_unpackhi_epi64(low, low_next),
                _mm512_unpacklo_epi64(high, high_next),
                _mm512_unpackhi_epi64(high, high_next),
            ];
            for (j, row) in turned.into_iter().enumerate() {
                _mm512_storeu_si512(to.add((quarter * 4 + j) * 64).cast(), row);
            }
        }
    }
}

/// Where the numbers of an operand lie: row `r`, number `k` at `r · stride + k`, or at `k · stride + r`.
#[derive(Clone, Copy)]
pub(super) struct Source<T> {
    pub start: *const T,
    pub stride: usize,
    pub rows: usize,
    pub k: usize,
    /// The numbers of a row are adjacent.
    pub lying: bool,
}

/// One tile.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Tile([u8; TILE]);

/// A buffer of tiles.
pub(super) struct Room(Vec<Tile>);

impl Room {
    /// Room for `bytes`, which are not written yet.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes.div_ceil(TILE)))
    }

    /// Its beginning.
    pub(super) fn start(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }
}

/// Writes tile rows `row ..` of every step as `[row][pair]`, or `[pair][row]` if `right`.
///
/// # Safety
/// The source must be readable, `row` be one of its rows and `to` hold `N` tiles for each step of 32; the CPU must
/// have AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn pack<T: Split, const N: usize>(
    source: Source<T>,
    row: usize,
    right: bool,
    to: *mut u8,
) {
    let rows = ROWS.min(source.rows - row);
    // Written as they are read; what must stand the other way goes through a buffer.
    let turned = source.lying == right;
    let mut room = [Tile([0; TILE]); 3];
    for step in 0..source.k.div_ceil(STEP) {
        // SAFETY: rows row .. row + rows exist; a step's tiles lie inside `to`; masked numbers are not read.
        unsafe {
            let tiles = to.add(step * N * TILE);
            let at = if turned {
                room.as_mut_ptr().cast()
            } else {
                tiles
            };
            let put = |i: usize, terms: Terms| {
                for (term, bits) in terms.into_iter().enumerate().take(N) {
                    _mm512_store_si512(at.add(term * TILE + i * 64).cast(), bits);
                }
            };
            let n = STEP.min(source.k - step * STEP);
            if source.lying && rows == ROWS && n == STEP {
                let first = source.start.add(row * source.stride + step * STEP);
                for i in 0..ROWS {
                    put(i, T::split::<N>(first.add(i * source.stride), STEP));
                }
            } else if source.lying {
                for i in 0..ROWS {
                    let line = source
                        .start
                        .wrapping_add((row + i) * source.stride + step * STEP);
                    put(i, T::split::<N>(line, if i < rows { n } else { 0 }));
                }
            } else {
                for i in 0..ROWS {
                    let line = |j: usize| {
                        let k = step * STEP + 2 * i + j;
                        let at = source.start.wrapping_add(k * source.stride + row);
                        (at, if k < source.k { rows } else { 0 })
                    };
                    let (first, second) = (line(0), line(1));
                    put(
                        i,
                        T::split_pairs::<N>([first.0, second.0], [first.1, second.1]),
                    );
                }
            }
            if turned {
                for (term, room) in room.iter().enumerate().take(N) {
                    turn(room.0.as_ptr(), tiles.add(term * TILE));
                }
            }
        }
    }
}
