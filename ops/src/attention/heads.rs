//! Tensors `[batch, pos, head, channel]` lent to the kernels where they lie.

use candle_core::{D, Result, Tensor};

use crate::view::with_f32;

/// A borrowed `[batch, pos, head, channel]` tensor whose channels are adjacent.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    values: &'a [f32],
    start: usize,
    pub(super) stride: [usize; 3],
}

impl Heads<'_> {
    /// The row of channels at a place inside the shape.
    pub(super) fn at(&self, batch: usize, position: usize, head: usize) -> *const f32 {
        let [b, s, h] = self.stride;
        self.values[self.start + batch * b + position * s + head * h..].as_ptr()
    }

    /// Numbers from one position to the next.
    pub(super) fn step(&self) -> usize {
        self.stride[1]
    }
}

/// Lends a tensor as [`Heads`], copying it only if its channels are not adjacent.
pub(super) fn with_heads<R>(x: &Tensor, read: impl FnOnce(Heads<'_>) -> Result<R>) -> Result<R> {
    let copy;
    let x = if x.stride()[3] == 1 || x.dim(D::Minus1)? == 1 {
        x
    } else {
        copy = x.force_contiguous()?;
        &copy
    };
    with_f32(x, |values, layout| {
        let s = layout.stride();
        let start = layout.start_offset();
        read(Heads {
            values,
            start,
            stride: [s[0], s[1], s[2]],
        })
    })
}
