//! A product whose operands are packed once and multiplied piece by piece, into a place that stays in the cache: for
//! callers who look at each piece of the product and keep little of it.

use super::pack::{ROWS, Room, STEP, Source, pack};
use super::tile::{Corner, TILE, Tiles, two_by_two};
use crate::view::tasks;

/// Rows taken together; pieces begin at multiples of it.
pub(crate) const PAIR: usize = 2 * ROWS;

/// Rows of `f32`, split into terms and packed as one side of a product.
pub(crate) struct Panels {
    room: Room,
    rows: usize,
    steps: usize,
    terms: usize,
}

// SAFETY: the room is only written while it is made.
unsafe impl Sync for Panels {}

/// Which side of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Panels {
    /// Packs `rows` rows of `k` adjacent numbers, in `terms` terms, 1 to 3.
    ///
    /// # Safety
    /// [`super::available`] must have said yes.
    pub(crate) unsafe fn new(
        terms: usize,
        side: Side,
        numbers: &[f32],
        k: usize,
        parallel: bool,
    ) -> Self {
        let rows = numbers.len() / k;
        let steps = k.div_ceil(STEP);
        let panel = steps * terms * TILE;
        let panels = rows.div_ceil(PAIR) * 2;
        let room = Room::new(panels * panel);
        let made = Self {
            room,
            rows,
            steps,
            terms,
        };
        let source = Shared(Source {
            start: numbers.as_ptr(),
            stride: k,
            rows,
            k,
            lying: true,
        });
        let room = &made;
        tasks(panels, parallel, move |i| {
            let source = source.get();
            // SAFETY: panel i lies inside the room, no other task writes it; its rows exist, or it is zeroed.
            unsafe {
                let to = room.room.start().add(i * panel);
                let right = side == Side::Right;
                match terms {
                    _ if i * ROWS >= rows => to.write_bytes(0, panel),
                    1 => pack::<f32, 1>(source, i * ROWS, right, to),
                    2 => pack::<f32, 2>(source, i * ROWS, right, to),
                    _ => pack::<f32, 3>(source, i * ROWS, right, to),
                }
            }
        });
        made
    }

    unsafe fn pair(&self, row: usize) -> [*const u8; 2] {
        let panel = self.steps * self.terms * TILE;
        // SAFETY: the caller's: the row is one of an existing pair of panels.
        [0, 1].map(|i| unsafe { self.room.start().add((row / ROWS + i) * panel).cast_const() })
    }
}

/// All rows of `left` with rows `first .. first + count` of `right`: `out[r · stride + c]`, for `c` from 0. On this
/// thread.
///
/// # Safety
/// [`super::available`] must have said yes; `first` be a multiple of [`PAIR`], the rows exist, both sides have the same
/// numbers and terms, and `out` be writable for `count` numbers at each row.
pub(crate) unsafe fn multiply(
    left: &Panels,
    right: &Panels,
    first: usize,
    count: usize,
    out: *mut f32,
    stride: usize,
) {
    debug_assert!(first.is_multiple_of(PAIR) && first + count <= right.rows);
    debug_assert!(left.steps == right.steps && left.terms == right.terms);
    // SAFETY: the caller's.
    unsafe {
        let _tiles = Tiles::configure();
        for c in (0..count).step_by(PAIR) {
            let b = right.pair(first + c);
            for r in (0..left.rows).step_by(PAIR) {
                let a = left.pair(r);
                let corner = Corner {
                    at: out.add(r * stride + c),
                    stride,
                    rows: PAIR.min(left.rows - r),
                    columns: PAIR.min(count - c),
                };
                corner.add(false, || match left.terms {
                    1 => two_by_two::<1, 1>(a, b, left.steps),
                    2 => two_by_two::<2, 2>(a, b, left.steps),
                    _ => two_by_two::<3, 3>(a, b, left.steps),
                });
            }
        }
    }
}

/// A source that tasks share.
#[derive(Clone, Copy)]
struct Shared(Source<f32>);

// SAFETY: sources are only read, while their numbers are borrowed.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// All of it; a closure that named the field would capture the bare pointer.
    fn get(&self) -> Source<f32> {
        self.0
    }
}
