//! Which numbers of a row are kept, seen block by block.

use std::cmp::Ordering;

use crate::lanes::{Kernel, Lanes};

/// One row while its products come in.
pub(super) struct Row {
    /// What is kept so far, in the order of latents until it is pruned.
    pub found: Vec<(f32, u32)>,
    /// What is not above this cannot be among the `k` largest any more.
    pub bound: f32,
}

/// A piece of a row: products with latents `first ..`, before their biases.
pub(super) struct Sift<'a> {
    pub products: &'a [f32],
    pub bias: &'a [f32],
    pub scale: Option<&'a [f32]>,
    pub first: usize,
    pub row: &'a mut Row,
    pub which: Which<'a>,
}

/// What is kept.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    /// The `k` largest above the row's bound.
    Top(usize),
    /// All above their latent's bound.
    Above(&'a [f32]),
}

/// The larger first, a NaN before all, so that it is seen; of equals the lower latent.
fn falling(a: (f32, u32), b: (f32, u32)) -> Ordering {
    let order = b.0.partial_cmp(&a.0);
    let order = order.unwrap_or_else(|| b.0.is_nan().cmp(&a.0.is_nan()));
    order.then(a.1.cmp(&b.1))
}

impl Row {
    /// Leaves the `k` largest.
    pub(super) fn prune(&mut self, k: usize) {
        if self.found.len() > k && k > 0 {
            self.found
                .select_nth_unstable_by(k - 1, |a, b| falling(*a, *b));
            self.found.truncate(k);
            let least = self.found[k - 1].0;
            if least > self.bound {
                self.bound = least;
            }
        }
    }
}

impl Kernel for Sift<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let n = self.products.len();
        assert!(self.bias.len() >= n && self.scale.is_none_or(|scale| scale.len() >= n));
        let room = match self.which {
            // Pruned seldom enough to cost nothing, and often enough for the bound to rise.
            Which::Top(k) => (2 * k).max(k + 64),
            Which::Above(bounds) => {
                assert!(bounds.len() >= n);
                usize::MAX
            }
        };
        let mut at = 0;
        while at < n {
            let count = V::N.min(n - at);
            // SAFETY: `count` numbers from `at` lie inside all of them; lanes past the end are -∞, above nothing.
            let value = unsafe {
                let load =
                    |from: &[f32], fill| V::load_part_or_all(from.as_ptr().add(at), count, fill);
                let value = load(self.products, f32::NEG_INFINITY).add(load(self.bias, 0.0));
                match self.scale {
                    None => value,
                    Some(scale) => value.mul(load(scale, 1.0)),
                }
            };
            let bound = match self.which {
                Which::Top(_) => V::splat(self.row.bound),
                // SAFETY: as above.
                Which::Above(bounds) => unsafe {
                    V::load_part_or_all(bounds.as_ptr().add(at), count, f32::INFINITY)
                },
            };
            let mut kept = value.beyond(bound);
            if kept != 0 {
                let lanes = value.spill(f32::NEG_INFINITY);
                while kept != 0 {
                    let lane = kept.trailing_zeros() as usize;
                    kept &= kept - 1;
                    let latent = (self.first + at + lane) as u32;
                    self.row.found.push((lanes[lane], latent));
                }
                if let Which::Top(k) = self.which
                    && self.row.found.len() > room
                {
                    self.row.prune(k);
                }
            }
            at += count;
        }
    }
}
