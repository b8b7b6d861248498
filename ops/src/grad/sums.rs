//! Sums over rows: the gradient of what was broadcast along them, a bias or a gain.

use crate::lanes::{Kernel, Lanes, run};
use crate::view::{Shared, tasks};

/// Columns of one task; a fixed number, so that the bits do not depend on how many threads there are.
const COLUMNS: usize = 64;
/// From this many numbers on, tasks go to several threads.
const PARALLEL_FROM: usize = 1 << 15;

/// The sum of each of `width` columns, in f64, rows in order.
pub(crate) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f32; width];
    let out = Shared::new(sums.as_mut_ptr());
    let parallel = values.len() >= PARALLEL_FROM;
    tasks(width.div_ceil(COLUMNS), parallel, |i| {
        let from = i * COLUMNS;
        let count = COLUMNS.min(width - from);
        // SAFETY: columns from .. from + count are this task's.
        let out = unsafe { std::slice::from_raw_parts_mut(out.at(from), count) };
        run(Columns {
            values,
            width,
            from,
            out,
        });
    });
    sums
}

/// `out.len()` columns from column `from` on.
struct Columns<'a> {
    values: &'a [f32],
    width: usize,
    from: usize,
    out: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Out = ();
    // A plain loop that the compiler widens to the level's vectors.
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut sums = [0.0f64; COLUMNS];
        for row in self.values.chunks_exact(self.width) {
            let part = &row[self.from..self.from + self.out.len()];
            for (sum, &x) in sums.iter_mut().zip(part) {
                *sum += f64::from(x);
            }
        }
        for (out, sum) in self.out.iter_mut().zip(sums) {
            *out = sum as f32;
        }
    }
}
