//! BatchTopK: the `k · rows` largest of a whole batch (Bussmann et al. 2024, arXiv 2412.06410).
//!
//! Numbers below a guess of the least one kept are never written down; where the guess was too high, the batch is looked at
//! again with a lower one, so the result does not depend on it.

use candlescope_ops::sparse::{Entries, Keep};

use super::pass::{Batch, Pass};
use super::recipe::TopKOptions;
use super::topk::{finish, norms, select};

/// The least number kept in the batch before this one, and what has become of the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Threshold {
    /// Moving average of the least code kept, from 0 on as in SAELens.
    pub average: f64,
    /// What the next batch may expect.
    pub last: f32,
    /// Batches in the average.
    pub batches: u64,
}

impl Threshold {
    /// Takes in the least code of a batch.
    pub fn update(&mut self, codes: &Entries, rate: f64) {
        let least = codes.values.iter().copied().fold(f32::INFINITY, f32::min);
        if least.is_finite() {
            self.average = (1.0 - rate) * self.average + rate * f64::from(least);
            self.last = least;
            self.batches += 1;
        }
    }

    /// The average without the 0 that it began with.
    pub fn unbiased(&self, rate: f64) -> f64 {
        let seen = 1.0 - (1.0 - rate).powf(self.batches as f64);
        if seen > 0.0 { self.average / seen } else { 0.0 }
    }
}

/// One pass with `k` latents a row on average.
pub(super) fn pass(
    batch: &Batch,
    k: f64,
    options: TopKOptions,
    threshold: &mut Threshold,
    rate: f64,
) -> Pass {
    let norms = options.by_norm.then(|| norms(batch));
    let codes = largest(batch, norms.as_deref(), k, threshold.last);
    threshold.update(&codes, rate);
    finish(batch, codes, norms.as_deref(), options)
}

/// The `k · rows` largest above 0; of equals the first rows, there the lower latents.
pub(super) fn largest(batch: &Batch, norms: Option<&[f32]>, k: f64, last: f32) -> Entries {
    let count = (k * batch.rows as f64) as usize;
    let mut guess = 0.8 * last.max(0.0);
    loop {
        let bounds = vec![guess; batch.d_sae()];
        let found = select(batch, norms, Keep::Above(&bounds));
        if found.len() >= count || guess <= 0.0 {
            return cut(found, count);
        }
        // A number this small is none.
        guess = if guess < 1e-12 { 0.0 } else { 0.5 * guess };
    }
}

fn cut(found: Entries, count: usize) -> Entries {
    if found.len() <= count {
        return found;
    }
    if count == 0 {
        return found.filtered(|_| false);
    }
    let mut values = found.values.clone();
    let (above, least, _) = values.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    let least = *least;
    let mut equals = count - above.iter().filter(|v| v.total_cmp(&least).is_gt()).count();
    found.filtered(|e| {
        let order = found.values[e].total_cmp(&least);
        let equal = order.is_eq() && equals > 0;
        equals -= usize::from(equal);
        order.is_gt() || equal
    })
}
