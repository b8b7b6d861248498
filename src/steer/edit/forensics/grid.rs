//! Was a matrix only rounded? Told exactly: the new numbers are the old ones on a known grid.

use candle_core::{DType, Tensor};
use serde::Serialize;

use crate::steer::edit::EditError;

/// A grid that numbers were rounded to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "to")]
pub enum Grid {
    /// Half precision of either kind.
    Float {
        /// `bf16` or `f16`.
        dtype: &'static str,
    },
    /// Whole multiples of a step that the largest entry of each group sets (symmetric absmax quantisation).
    Integer {
        /// The largest multiple: 127 for int8.
        levels: u32,
        /// Entries that share a step; none for the whole matrix.
        group: Option<usize>,
    },
}

/// Multiples that the largest entry may stand for: int8, and both uses of int4.
const LEVELS: [u32; 3] = [127, 8, 7];

/// Entries that share a step, beside a row and the whole matrix.
const GROUPS: [usize; 3] = [128, 64, 32];

/// How far from a whole multiple counts as one; f32 leaves 1e-5 at 127 levels.
const OFF: f32 = 2e-3;

/// The grid that the old numbers were rounded to, if one is known that fits every entry.
pub fn grid(new: &Tensor, old: &Tensor) -> Result<Option<Grid>, EditError> {
    for (dtype, name) in [(DType::BF16, "bf16"), (DType::F16, "f16")] {
        let rounded = old.to_dtype(dtype)?.to_dtype(new.dtype())?;
        if !super::kind::differ(new, &rounded)? {
            return Ok(Some(Grid::Float { dtype: name }));
        }
    }
    let flat = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (now, was) = (flat(new)?, flat(old)?);
    let columns = new.dims().last().copied().unwrap_or(1).max(1);
    let fits = |levels: u32, size: usize| {
        let mut groups = now.chunks(size).zip(was.chunks(size));
        groups.all(|(now, was)| on_grid(now, was, levels as f32))
    };
    for levels in LEVELS {
        let groups = GROUPS
            .into_iter()
            .filter(|g| columns % g == 0 && *g < columns);
        let sizes = [(None, now.len()), (Some(columns), columns)]
            .into_iter()
            .chain(groups.map(|g| (Some(g), g)));
        for (group, size) in sizes {
            if fits(levels, size) {
                return Ok(Some(Grid::Integer { levels, group }));
            }
        }
    }
    Ok(None)
}

/// Every new number is a multiple of the step, and no further from the old one than rounding brings it.
fn on_grid(now: &[f32], was: &[f32], levels: f32) -> bool {
    let step = now.iter().fold(0.0f32, |m, x| m.max(x.abs())) / levels;
    if step == 0.0 {
        return was.iter().all(|x| *x == 0.0);
    }
    now.iter().zip(was).all(|(now, was)| {
        let multiple = now / step;
        (multiple - multiple.round()).abs() < OFF && (now - was).abs() <= 0.52 * step
    })
}
