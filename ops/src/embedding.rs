//! Rows of a table by index: token and position embeddings.

use candle_core::{Result, Tensor, bail};

use crate::grad::{self, Backward, record, tracks};
use crate::lanes::{Kernel, Lanes, run};
use crate::optim::in_place;
use crate::view::{Shared, f32_on_cpu, fill, refuse_empty, rows, tasks};

/// `table [vocab, d]` at `ids`: `[ids.len(), d]`, of the table's type. Its gradient is summed in the order of `ids`.
///
/// # Errors
/// No ids, an empty table, or an id outside it.
pub fn embedding(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    refuse_empty("embedding", "table", table)?;
    let (vocab, width) = table.dims2()?;
    if ids.is_empty() {
        bail!("embedding: no ids");
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        bail!("embedding: id {id} is not in a table of {vocab} rows");
    }
    if !f32_on_cpu(&[table]) {
        let ids = Tensor::from_slice(ids, ids.len(), table.device())?;
        return table.index_select(&ids, 0);
    }
    let picked = rows(table, |table| {
        let write = |i: usize, out: *mut f32, n: usize| {
            let row = &table[ids[i] as usize * width..][..n];
            // SAFETY: a chunk is a row, and out has room for it.
            unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), out, n) };
        };
        // SAFETY: every row is copied wholly.
        Ok(unsafe { fill(ids.len() * width, width, write) })
    })?;
    let shape = (ids.len(), width);
    if tracks(table) {
        let ids = ids.to_vec();
        return record(&[table], shape, picked, Scatter { ids });
    }
    Tensor::from_vec(picked, shape, table.device())
}

/// The backward: each row of the gradient is added to the table's row it came from.
struct Scatter {
    ids: Vec<u32>,
}

/// Columns of one task: its share of a row is a whole number of cache lines.
const COLUMNS: usize = 64;

impl Backward for Scatter {
    const NAME: &'static str = "embedding";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (vocab, width) = inputs[0].dims2()?;
        // A tied unembedding has its gradient already, as large as the table: it is added to where it lies.
        if let Some(found) = grad::found(inputs[0]) {
            let mut done = Ok(());
            in_place(&found, "embedding", |sums| {
                done = self.scatter(grad, width, sums)
            })?;
            done?;
            return Ok(vec![Some(found)]);
        }
        let mut sums = vec![0.0f32; vocab * width];
        self.scatter(grad, width, &mut sums)?;
        let sums = Tensor::from_vec(sums, (vocab, width), grad.device())?;
        Ok(vec![Some(sums)])
    }
}

impl Scatter {
    /// Adds each row of the gradient to its row of `sums`.
    fn scatter(&self, grad: &Tensor, width: usize, sums: &mut [f32]) -> Result<()> {
        let to = Shared::new(sums.as_mut_ptr());
        rows(grad, |dy| {
            // Tasks share out columns, not rows: each then adds in the order of the ids.
            tasks(width.div_ceil(COLUMNS), dy.len() >= 1 << 15, |i| {
                let from = i * COLUMNS;
                let count = COLUMNS.min(width - from);
                for (dy, &id) in dy.chunks_exact(width).zip(&self.ids) {
                    // SAFETY: these columns are this task's; ids were checked in the forward.
                    let to = unsafe { to.at(id as usize * width + from) };
                    run(AddTo {
                        x: &dy[from..from + count],
                        to,
                    });
                }
            });
            Ok(())
        })
    }
}

/// `to += x`; `to` has room for as many numbers.
struct AddTo<'a> {
    x: &'a [f32],
    to: *mut f32,
}

impl Kernel for AddTo<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        for start in (0..self.x.len()).step_by(V::N) {
            let n = V::N.min(self.x.len() - start);
            // SAFETY: start + n stays within both.
            unsafe {
                let to = self.to.add(start);
                let x = V::load_part_or_all(self.x.as_ptr().add(start), n, 0.0);
                V::load_part_or_all(to, n, 0.0)
                    .add(x)
                    .store_part_or_all(to, n);
            }
        }
    }
}
