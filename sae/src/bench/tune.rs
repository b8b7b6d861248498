//! The coefficient of a penalty by what it does: a search for the one at which as many latents fire as asked.

use serde::{Deserialize, Serialize};

use crate::SaeError;

/// A coefficient that was searched for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// The coefficient.
    pub coefficient: f64,
    /// Latents that fired in a row with it.
    pub l0: f64,
    /// Dictionaries that were trained to find it.
    pub tries: usize,
}

/// From one try to the next while the target lies on one side only.
const STRIDE: f64 = 4.0;
/// Near enough: this share of the target.
const NEAR: f64 = 0.03;

/// Searches from `first` on, with at most `tries` calls of `l0_of`, which falls as the coefficient rises: strides until the
/// target lies between two tries, then halves on a logarithmic scale. Returns the nearest of the tries; `None` if `l0_of`
/// gave up.
///
/// # Errors
/// As `l0_of`.
pub fn tune(
    target: f64,
    first: f64,
    tries: usize,
    l0_of: &mut dyn FnMut(f64) -> Result<Option<f64>, SaeError>,
) -> Result<Option<Tuned>, SaeError> {
    // The largest coefficient with too many latents, the smallest with too few.
    let (mut low, mut high) = (None::<f64>, None::<f64>);
    let mut coefficient = first;
    let mut best: Option<Tuned> = None;
    let off = |l0: f64| (l0.max(f64::MIN_POSITIVE) / target).ln().abs();
    for number in 1..=tries.max(1) {
        let Some(l0) = l0_of(coefficient)? else {
            return Ok(None);
        };
        if best.is_none_or(|best| off(l0) < off(best.l0)) {
            best = Some(Tuned {
                coefficient,
                l0,
                tries: number,
            });
        }
        if let Some(best) = &mut best {
            best.tries = number;
        }
        if (l0 / target - 1.0).abs() <= NEAR {
            break;
        }
        if l0 > target {
            low = Some(coefficient);
        } else {
            high = Some(coefficient);
        }
        coefficient = match (low, high) {
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * STRIDE,
            (None, Some(high)) => high / STRIDE,
            (None, None) => break,
        };
    }
    Ok(best)
}
