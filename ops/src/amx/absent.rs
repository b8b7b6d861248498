//! What stands in for AMX where there is none.

/// Never.
pub(crate) fn available() -> bool {
    false
}

/// A number that AMX could multiply.
pub(crate) trait Split {}

impl<T> Split for T {}

/// An operand of a product.
pub(crate) struct Operand<T>(std::marker::PhantomData<T>);

impl<T> Operand<T> {
    /// Nothing.
    pub(crate) fn lying(_: *const T, _: usize, _: usize) -> Self {
        Self(std::marker::PhantomData)
    }
}

/// Where a product goes.
pub(crate) struct Out {
    /// First number.
    pub at: *mut f32,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// On several threads.
    pub parallel: bool,
}

/// Is not called.
pub(crate) unsafe fn products<A, B>(_: usize, _: Operand<A>, _: Operand<B>, _: usize, _: Out) {
    unreachable!("a product on tiles that this CPU does not have");
}
