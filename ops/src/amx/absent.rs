//! What stands in for AMX where there is none.

/// Never.
pub(crate) fn available() -> bool {
    false
}

/// A number that AMX could multiply.
pub(crate) trait Split {}

impl<T> Split for T {}

/// An operand of a product.
pub(crate) struct Operand<T> {
    /// First number.
    pub start: *const T,
    /// From one line to the next.
    pub stride: usize,
    /// Rows of the operand.
    pub rows: usize,
    /// The numbers of a row are adjacent.
    pub lying: bool,
}

impl<T> Operand<T> {
    /// Rows of adjacent numbers.
    pub(crate) fn lying(start: *const T, stride: usize, rows: usize) -> Self {
        Self {
            start,
            stride,
            rows,
            lying: true,
        }
    }
}

/// Where a product goes.
pub(crate) struct Out {
    /// First number.
    pub at: *mut f32,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// The product is added to what is there.
    pub add: bool,
    /// On several threads.
    pub parallel: bool,
}

/// Is not called.
pub(crate) unsafe fn products<A, B>(_: usize, _: Operand<A>, _: Operand<B>, _: usize, _: Out) {
    unreachable!("a product on tiles that this CPU does not have");
}

/// Where pieces of a product in panels may begin.
pub(crate) const PAIR: usize = 32;

/// One side of a product in panels; there are none.
pub(crate) enum Panels {}

/// Which side of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Panels {
    /// Is not called.
    pub(crate) unsafe fn new(_: usize, _: Side, _: &[f32], _: usize, _: bool) -> Self {
        unreachable!("panels of tiles that this CPU does not have");
    }
}

/// Is not called.
pub(crate) unsafe fn multiply(
    left: &Panels,
    _: &Panels,
    _: usize,
    _: usize,
    _: *mut f32,
    _: usize,
) {
    match *left {}
}
