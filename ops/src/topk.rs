//! The k largest entries of each row, which candle lacks.

use std::cmp::Ordering;

use candle_core::{DType, Result, Tensor, bail};

use crate::view::{refuse_empty, rows};

/// Indices and values of the `k` largest entries of each row of the last dimension, in falling order; one entry of the
/// outer vectors for each row of the leading dimensions, flattened.
///
/// Ties: the lower index first. NaN counts as larger than every number, as in PyTorch, so that it is seen and not
/// hidden. Other types than `f32` are compared after conversion to `f32`.
///
/// # Errors
/// An empty tensor, or `k` larger than a row.
#[allow(clippy::type_complexity)] // two plain lists of lists
pub fn top_k(x: &Tensor, k: usize) -> Result<(Vec<Vec<u32>>, Vec<Vec<f32>>)> {
    refuse_empty("top_k", "x", x)?;
    let width = x.dims()[x.rank() - 1];
    if k > width {
        bail!("top_k: k is {k}, rows have {width} entries");
    }
    let x = x.detach().to_dtype(DType::F32)?;
    rows(&x, |values| {
        let picked = values.chunks_exact(width).map(|row| {
            let order = top_row(row, k);
            let best = order.iter().map(|&i| row[i as usize]).collect();
            (order, best)
        });
        Ok(picked.unzip())
    })
}

/// Larger first, NaN before all, then by index: a total order, so that no selection can depend on the algorithm.
fn falling(row: &[f32], a: u32, b: u32) -> Ordering {
    let (x, y) = (row[a as usize], row[b as usize]);
    y.is_nan()
        .cmp(&x.is_nan())
        .then(y.partial_cmp(&x).unwrap_or(Ordering::Equal))
        .then(a.cmp(&b))
}

fn top_row(row: &[f32], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    if k == 0 {
        return Vec::new();
    }
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, |&a, &b| falling(row, a, b));
        order.truncate(k);
    }
    order.sort_unstable_by(|&a, &b| falling(row, a, b));
    order
}
