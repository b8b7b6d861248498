//! The matrix product of all backwards, and the only place where one is chosen. Operands are read with any strides, so
//! that neither `dy` nor `W` is ever transposed in memory; the result is written, or added to, where it shall lie.

use std::marker::PhantomData;

use crate::amx::{self, Operand, Out};
use crate::linear;

/// Multiplications from which on the packing of tiles pays.
const TILES_FROM: usize = 1 << 20;

/// A borrowed matrix with any strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    start: *const f32,
    row: usize,
    column: usize,
    borrowed: PhantomData<&'a [f32]>,
}

impl<'a> Matrix<'a> {
    /// Rows of adjacent numbers, one after the other.
    pub(crate) fn new(values: &'a [f32], width: usize) -> Self {
        Self::strided(values, width, 1)
    }

    /// Number `(i, j)` is `values[i · row + j · column]`.
    pub(crate) fn strided(values: &'a [f32], row: usize, column: usize) -> Self {
        // SAFETY: what is read is the concern of `product`'s caller.
        unsafe { Self::at(values.as_ptr(), row, column) }
    }

    /// Number `(i, j)` lies `i · row + j · column` after `start`.
    ///
    /// # Safety
    /// The memory must stay borrowed for `'a`.
    pub(crate) unsafe fn at(start: *const f32, row: usize, column: usize) -> Self {
        Self {
            start,
            row,
            column,
            borrowed: PhantomData,
        }
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }
}

/// Where a product goes: rows of adjacent numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub start: *mut f32,
    pub stride: usize,
    /// Whether the product is added to what is there.
    pub add: bool,
}

/// `out [m, n] (+)= a [m, k] · b [k, n]` for `size` `[m, n, k]`; several threads take part if `parallel`.
///
/// # Safety
/// Every number of `a` and `b` named by the sizes must be readable, every one of `out` writable (and initialised, if it is
/// added to), and nobody else may touch `out` meanwhile.
pub(crate) unsafe fn product(size: [usize; 3], a: Matrix, b: Matrix, out: Target, parallel: bool) {
    let terms = linear::gradient_terms(size[1] * size[2]);
    // SAFETY: the caller's.
    unsafe { in_terms(terms, size, a, b, out, parallel) };
}

/// As [`product`] on several threads, with as many terms as a forward has.
///
/// # Safety
/// As [`product`].
pub(crate) unsafe fn exact(size: [usize; 3], a: Matrix, b: Matrix, out: Target) {
    // SAFETY: the caller's.
    unsafe { in_terms(linear::terms(size[1] * size[2]), size, a, b, out, true) };
}

unsafe fn in_terms(
    terms: usize,
    size: [usize; 3],
    a: Matrix,
    b: Matrix,
    out: Target,
    parallel: bool,
) {
    let [m, n, k] = size;
    if parallel && terms > 0 && m * n * k >= TILES_FROM {
        // Either the numbers of `k` are adjacent, or those of the other dimension.
        let operand = |start, along, across, rows| Operand {
            start,
            stride: if along == 1 { across } else { along },
            rows,
            lying: along == 1,
        };
        if (a.column == 1 || a.row == 1) && (b.column == 1 || b.row == 1) {
            let left = operand(a.start, a.column, a.row, m);
            let right = operand(b.start, b.row, b.column, n);
            let to = Out {
                at: out.start,
                stride: out.stride,
                add: out.add,
                parallel,
            };
            // SAFETY: the caller's; there are terms only where the CPU has the tiles.
            unsafe { amx::products(terms, left, right, k, to) };
            return;
        }
    }
    let parallelism = if parallel {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.start,
            1,
            out.stride as isize,
            out.add,
            a.start,
            a.column as isize,
            a.row as isize,
            b.start,
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A new `[m, n]`, row-major: `a [m, k] · b [k, n]`.
///
/// # Safety
/// As for [`product`]'s operands.
pub(crate) unsafe fn fresh(size: [usize; 3], a: Matrix, b: Matrix) -> Vec<f32> {
    let [m, n, _] = size;
    let mut values: Vec<f32> = Vec::with_capacity(m * n);
    let out = Target {
        start: values.as_mut_ptr(),
        stride: n,
        add: false,
    };
    // SAFETY: there is room for m · n numbers, and the product writes all of them.
    unsafe {
        product(size, a, b, out, true);
        values.set_len(m * n);
    }
    values
}
