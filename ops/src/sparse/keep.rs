//! The product whose few interesting numbers are kept.

use rayon::prelude::*;

use super::sift::{Row, Sift, Which};
use super::{BAND, Entries};
use crate::amx::{self, PAIR, Panels, Side};
use crate::grad::product::{Matrix, Target, product};
use crate::lanes::run;
use crate::linear;

/// Latents of a block: with a band of rows its products stay in a second-level cache.
const BLOCK: usize = 8 * PAIR;

/// A row for each latent, what is added to its products, and what they are then multiplied with.
#[derive(Clone, Copy, Debug)]
pub struct Latents<'a> {
    /// `[latents, width]`.
    pub weights: &'a [f32],
    /// `[latents]`.
    pub bias: &'a [f32],
    /// `[latents]`, or all 1.
    pub scale: Option<&'a [f32]>,
}

/// Which numbers of a row are kept.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// The `k` largest of those above 0; of equals the lower latent.
    Top(usize),
    /// The `k` largest, whatever their sign.
    TopSigned(usize),
    /// All above their latent's bound, `[latents]`.
    Above(&'a [f32]),
}

/// `(x · w + bias) · scale` for each row of `x` `[rows, width]` and each latent, where it is kept. NaN is always kept,
/// so that it is seen.
///
/// # Panics
/// If the lengths do not go together, as [`Latents`] and [`Keep`] say.
pub fn keep(x: &[f32], width: usize, latents: Latents, keep: Keep) -> Entries {
    let count = latents.bias.len();
    assert!(width > 0 && count > 0 && x.len().is_multiple_of(width));
    assert_eq!(latents.weights.len(), count * width);
    assert!(latents.scale.is_none_or(|scale| scale.len() == count));
    if let Keep::Above(bounds) = keep {
        assert_eq!(bounds.len(), count);
    }
    // SAFETY: there are terms only where the CPU has the tiles.
    let panels = match linear::terms(latents.weights.len()) {
        0 => None,
        terms => Some((terms, unsafe {
            Panels::new(terms, Side::Right, latents.weights, width, true)
        })),
    };
    let band = |x: &[f32]| one_band(x, width, latents, keep, panels.as_ref());
    Entries::join(x.par_chunks(BAND * width).map(band).collect())
}

fn one_band(
    x: &[f32],
    width: usize,
    latents: Latents,
    keep: Keep,
    panels: Option<&(usize, Panels)>,
) -> Entries {
    let rows = x.len() / width;
    let count = latents.bias.len();
    let (bound, room) = match keep {
        Keep::Top(k) => (0.0, (2 * k).max(k + 64) + 16),
        Keep::TopSigned(k) => (f32::NEG_INFINITY, (2 * k).max(k + 64) + 16),
        Keep::Above(_) => (0.0, 0),
    };
    let new = |_| Row {
        found: Vec::with_capacity(room.min(count + 16)),
        bound,
    };
    let mut state: Vec<Row> = (0..rows).map(new).collect();
    // SAFETY: there are panels only where the CPU has the tiles.
    let left = panels.map(|(terms, _)| unsafe { Panels::new(*terms, Side::Left, x, width, false) });
    let mut block = vec![0f32; rows * BLOCK.min(count)];
    for first in (0..count).step_by(BLOCK) {
        let n = BLOCK.min(count - first);
        // SAFETY: the block has room for n numbers a row; blocks begin at multiples of a pair; the numbers exist.
        unsafe {
            match (&left, panels) {
                (Some(left), Some((_, right))) => {
                    amx::multiply(left, right, first, n, block.as_mut_ptr(), n);
                }
                _ => {
                    let weights = &latents.weights[first * width..][..n * width];
                    let to = Target {
                        start: block.as_mut_ptr(),
                        stride: n,
                        add: false,
                    };
                    let right = Matrix::new(weights, width).transposed();
                    product([rows, n, width], Matrix::new(x, width), right, to, false);
                }
            }
        }
        let part = |of: &'_ [f32]| first..(first + n).min(of.len());
        for (row, products) in state.iter_mut().zip(block.chunks_exact(n)) {
            let which = match keep {
                Keep::Top(k) | Keep::TopSigned(k) => Which::Top(k),
                Keep::Above(bounds) => Which::Above(&bounds[part(bounds)]),
            };
            run(Sift {
                products,
                bias: &latents.bias[part(latents.bias)],
                scale: latents.scale.map(|scale| &scale[part(scale)]),
                first,
                row,
                which,
            });
        }
    }
    gathered(state, keep)
}

/// What the rows of a band kept.
fn gathered(state: Vec<Row>, keep: Keep) -> Entries {
    let mut out = Entries::new();
    for mut row in state {
        match keep {
            Keep::Top(0) | Keep::TopSigned(0) => row.found.clear(),
            Keep::Top(k) | Keep::TopSigned(k) => {
                row.prune(k);
                row.found.sort_unstable_by_key(|(_, latent)| *latent);
            }
            Keep::Above(_) => {}
        }
        out.push(row.found.into_iter().map(|(value, latent)| (latent, value)));
    }
    out
}
