//! What an edit left, matrix by matrix, and how far the edited weights are from the same edit by hook.
//!
//! Always: measured on the weights that are there, not derived from the edit that was asked for; in f64.

use candle_core::{DType, Tensor};
use rayon::prelude::*;
use serde::Serialize;

use super::{
    Basis, EditError, Site, Through, WeightEdit, Writer,
    matrix::{frobenius, written_length},
    writers,
};
use crate::hooks::{Edit, Hooks};
use crate::model::weights::Weights;
use crate::model::{Batch, Decoder, LogitsAt};
use crate::steer::ablation_subspace;

/// A writer of which less than this share is left counts as removed: a hundred times what rounding to f32 leaves.
pub const REMOVED: f64 = 1e-5;

/// What one writer writes along the subspace, before and after.
#[derive(Debug, Clone, Serialize)]
pub struct Left {
    /// Where.
    pub site: Site,
    /// The tensor in a Hugging Face file.
    pub name: String,
    /// What its output goes through; under a post-norm the subspace is the one on its far side.
    pub through: Through,
    /// `‖Uᵀ W‖` before: no input of unit length has more written along the subspace.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// `after / before`; 0 where there never was anything.
    pub left: f64,
    /// `after / ‖W‖`.
    pub of_matrix: f64,
    /// Length of the bias's part in the subspace, before and after.
    pub bias: Option<[f64; 2]>,
    /// The same for the bias of a post-norm.
    pub norm_bias: Option<[f64; 2]>,
}

/// How an edit came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No writer differs in any bit.
    Unedited,
    /// No writer writes along the subspace any more, biases included ([`REMOVED`]).
    Removed,
    /// Something is left, as asked for or not.
    Partial,
}

/// What an edit left.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// How it came out.
    pub outcome: Outcome,
    /// In a sentence.
    pub says: String,
    /// Directions taken out.
    pub rank: usize,
    /// The largest [`Left::left`] of a matrix or bias.
    pub largest_left: f64,
    /// Every writer, edited or not.
    pub writers: Vec<Left>,
    /// What the model computes, where prompts were run.
    pub logits: Option<LogitDifference>,
}

/// Largest difference of logits over all positions of some prompts.
#[derive(Debug, Clone, Serialize)]
pub struct LogitDifference {
    /// Prompts run.
    pub prompts: usize,
    /// Positions compared.
    pub tokens: usize,
    /// The largest logit under ablation by hook, in size.
    pub largest_logit: f64,
    /// Edited weights against the same edit by hook; none where norms are kept, which no hook does.
    pub same_edit: Option<Gap>,
    /// Edited weights against [`crate::steer::ablation`], which is the same function where the whole subspace was taken out
    /// everywhere and there are no post-norms, and another one elsewhere.
    pub ablation: Gap,
    /// Edited weights against the unedited model: what the edit does.
    pub unedited: Gap,
}

/// A difference of logits.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Gap {
    /// Largest, in size.
    pub max_abs: f64,
    /// Over the largest logit.
    pub relative: f64,
    /// Share of positions whose likeliest token is the same.
    pub same_top: f64,
}

/// Compares two models along a subspace. They must have the same shapes; adapters are merged.
///
/// # Errors
/// Other shapes, a basis of another width.
pub fn certificate(
    before: &Decoder,
    after: &Decoder,
    basis: &Basis,
) -> Result<Certificate, EditError> {
    let (before, after) = (before.merged()?, after.merged()?);
    let rows = writers(before.config())
        .into_par_iter()
        .map(|writer| row(&writer, before.weights(), after.weights(), basis))
        .collect::<Result<Vec<_>, _>>()?;
    let changed = rows.iter().any(|(_, changed)| *changed);
    let writers: Vec<Left> = rows.into_iter().map(|(left, _)| left).collect();
    let shares = writers.iter().flat_map(Left::shares);
    let largest_left = shares.fold(0.0, f64::max);
    let outcome = match (changed, largest_left < REMOVED) {
        (false, _) => Outcome::Unedited,
        (true, true) => Outcome::Removed,
        (true, false) => Outcome::Partial,
    };
    Ok(Certificate {
        says: outcome.says(largest_left),
        outcome,
        rank: basis.rank(),
        largest_left,
        writers,
        logits: None,
    })
}

impl Outcome {
    fn says(self, largest: f64) -> String {
        match self {
            Self::Unedited => "no weight that writes to the residual stream was changed".to_owned(),
            Self::Removed => format!(
                "no input of any layer has anything written along the direction: at most {largest:.1e} of what there was is \
                 left, which is rounding"
            ),
            Self::Partial => format!(
                "changed, and at least one writer keeps {largest:.1e} of what it wrote along the direction"
            ),
        }
    }
}

impl Left {
    /// What is left of the matrix and of the biases, each beside what there was.
    fn shares(&self) -> impl Iterator<Item = f64> {
        let biases = [self.bias, self.norm_bias].into_iter().flatten();
        let of = biases.map(|[before, after]| share(before, after));
        std::iter::once(self.left).chain(of)
    }
}

fn share(before: f64, after: f64) -> f64 {
    if after == 0.0 { 0.0 } else { after / before }
}

fn row(
    writer: &Writer,
    before: &Weights,
    after: &Weights,
    basis: &Basis,
) -> Result<(Left, bool), EditError> {
    let missing = || EditError::Architecture {
        field: "a weight",
        expected: writer.name.clone(),
        found: "missing".to_owned(),
    };
    let old = writer.weight(before).ok_or_else(missing)?;
    let new = writer.weight(after).ok_or_else(missing)?;
    if old.dims() != new.dims() {
        return Err(EditError::Architecture {
            field: "the shape of a weight",
            expected: format!("{} {:?}", writer.name, old.dims()),
            found: format!("{:?}", new.dims()),
        });
    }
    let axis = writer.axis();
    let (was, is) = (
        written_length(old, axis, &writer.basis(basis, before)?)?,
        written_length(new, axis, &writer.basis(basis, after)?)?,
    );
    let of_bias = |pick: for<'a> fn(&Writer, &'a Weights) -> Option<&'a Tensor>, own: bool| {
        let length = |weights| -> Result<f64, EditError> {
            let basis = if own {
                writer.basis(basis, weights)?
            } else {
                basis.clone()
            };
            pick(writer, weights).map_or(Ok(0.0), |bias| part_length(bias, &basis))
        };
        if pick(writer, before).is_none() && pick(writer, after).is_none() {
            return Ok::<_, EditError>((None, false));
        }
        let changed = match (pick(writer, before), pick(writer, after)) {
            (Some(a), Some(b)) => differ(a, b)?,
            (a, b) => a.is_some() != b.is_some(),
        };
        Ok((Some([length(before)?, length(after)?]), changed))
    };
    let (bias, bias_changed) = of_bias(Writer::bias, true)?;
    let (norm_bias, norm_changed) = of_bias(Writer::norm_bias, false)?;
    let left = Left {
        site: writer.site,
        name: writer.name.clone(),
        through: writer.through,
        before: was,
        after: is,
        left: share(was, is),
        of_matrix: share(frobenius(new)?, is),
        bias,
        norm_bias,
    };
    Ok((left, differ(old, new)? || bias_changed || norm_changed))
}

fn part_length(bias: &Tensor, basis: &Basis) -> Result<f64, EditError> {
    let wide = bias.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    Ok(super::basis::length(&basis.along(&wide)))
}

fn differ(a: &Tensor, b: &Tensor) -> Result<bool, EditError> {
    if a.id() == b.id() {
        return Ok(false);
    }
    let unequal = a.ne(&b.to_dtype(a.dtype())?)?.to_dtype(DType::U8)?;
    Ok(unequal.flatten_all()?.max(0)?.to_scalar::<u8>()? != 0)
}

/// Runs prompts under the edit's weights, the same edit by hook, plain ablation, and nothing.
///
/// # Errors
/// A prompt that the model cannot run.
pub fn logit_difference(
    before: &Decoder,
    after: &Decoder,
    edit: &WeightEdit,
    prompts: &[Vec<u32>],
) -> Result<LogitDifference, EditError> {
    let same = edit.hooks(before)?;
    let ablation = ablation_subspace(&edit.basis.vectors(), before.config());
    let mut total = [Sum::default(), Sum::default(), Sum::default()];
    let (mut tokens, mut largest) = (0, 0.0f64);
    for ids in prompts {
        let run = |model: &Decoder, edits: &[Edit]| -> Result<Vec<Vec<f64>>, EditError> {
            let hooks = Hooks::new().edits(edits.to_vec());
            let out = model.forward(&Batch::single(ids)?, &hooks, LogitsAt::All)?;
            let logits = out.logits()?.squeeze(0)?.to_dtype(DType::F64)?;
            Ok(logits.to_vec2()?)
        };
        let baked = run(after, &[])?;
        let hooked = run(before, &ablation)?;
        largest = hooked.iter().flatten().fold(largest, |m, x| m.max(x.abs()));
        tokens += baked.len();
        total[0].add(&baked, &hooked);
        total[1].add(&baked, &run(before, &[])?);
        if let Some(same) = &same {
            total[2].add(&baked, &run(before, same)?);
        }
    }
    let gap = |sum: &Sum| Gap {
        max_abs: sum.max_abs,
        relative: share(largest, sum.max_abs),
        same_top: sum.same as f64 / tokens.max(1) as f64,
    };
    Ok(LogitDifference {
        prompts: prompts.len(),
        tokens,
        largest_logit: largest,
        same_edit: same.is_some().then(|| gap(&total[2])),
        ablation: gap(&total[0]),
        unedited: gap(&total[1]),
    })
}

#[derive(Default)]
struct Sum {
    max_abs: f64,
    same: usize,
}

impl Sum {
    fn add(&mut self, a: &[Vec<f64>], b: &[Vec<f64>]) {
        for (a, b) in a.iter().zip(b) {
            for (x, y) in a.iter().zip(b) {
                // Not `max`: a NaN must show.
                let gap = (x - y).abs();
                if gap > self.max_abs || gap.is_nan() {
                    self.max_abs = gap;
                }
            }
            self.same += usize::from(top(a) == top(b));
        }
    }
}

fn top(row: &[f64]) -> Option<usize> {
    (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]))
}
