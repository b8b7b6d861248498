//! What was done to one matrix.
//!
//! The mark of an orthogonalisation is that a matrix takes its own row away: `Δ = -λ u (uᵀ W)`, so `uᵀ Δ` points against
//! `uᵀ W`. An adapter's update has no reason to. That holds for any strength, in any direction, and needs none to be given.

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::{
    Grid, Subject, grid, row_along,
    spectrum::{Spectrum, sums},
};
use crate::model::weights::Weights;
use crate::steer::edit::{
    Basis, EditError, Site,
    basis::{dot, length},
    written_length,
};

/// `|cos(uᵀ Δ, uᵀ W)|` from which a matrix counts as having taken its own row away. Unrelated rows have about 1/√in: 0.04
/// at 576 inputs; bf16 rounding of an orthogonalised matrix costs under 0.01.
pub const ALIGNED: f64 = 0.9;

/// The least share of its own row that must be gone. Training moves a row by a few per cent.
pub const STRENGTH: f64 = 0.2;

/// A row must lose this many times what the matrix loses as a whole: weight decay shrinks every row alike.
pub const SCALING: f64 = 3.0;

/// Least share of a change's energy in its leading vector for it to be called an orthogonalisation along that vector.
pub const LEADS: f64 = 0.2;

/// Share of a change's energy in one singular value from which it counts as rank one. A LoRA of rank 16 has 0.1 to 0.9
/// there; rounding to bf16 takes some 0.001 from an exact one.
pub const RANK_ONE: f64 = 0.99;

/// An effective rank under this share of the shorter side counts as low, where 99 % of the energy is not found in fewer
/// directions. A full-rank change of independent entries has 0.5 (square) to 1 (tall).
pub const LOW_RANK: f64 = 0.1;

/// [`MatrixFinding::norm_change`] below which written vectors kept their lengths; a projection has 1.
pub const KEPT_NORMS: f64 = 0.2;

/// A writer with less than this share of its output left along a direction counts as suppressed along it.
pub const SUPPRESSED: f64 = 0.1;

/// What a change of a matrix looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every bit as before.
    Unchanged,
    /// The old matrix rounded.
    Rounded,
    /// Its own row along one direction was taken away: an orthogonalisation.
    Orthogonalised,
    /// One singular value, and not its own row: a rank-one edit.
    RankOne,
    /// Few singular values: an adapter.
    LowRank,
    /// Many: training, noise, or rounding to a grid that is not known here.
    FullRank,
}

impl Kind {
    /// For tables.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Rounded => "rounded",
            Self::Orthogonalised => "orthogonalised",
            Self::RankOne => "rank one",
            Self::LowRank => "low rank",
            Self::FullRank => "full rank",
        }
    }
}

/// A writer's output along a direction, beside the baseline's.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Along {
    /// `‖rᵀ W‖` over the baseline's, through a post-norm's gain where there is one.
    pub ratio: f64,
    /// The least such ratio among random directions.
    pub least_random: f64,
}

/// One matrix.
#[derive(Debug, Clone, Serialize)]
pub struct MatrixFinding {
    /// The tensor in a Hugging Face file.
    pub name: String,
    /// Where it writes; none for a reader.
    pub site: Option<Site>,
    /// What its change looks like.
    pub kind: Kind,
    /// `‖Δ‖ / ‖W‖`.
    pub relative: f64,
    /// The spectrum of the change.
    pub spectrum: Option<Spectrum>,
    /// `|cos(uᵀ Δ, uᵀ W)|` with u the change's leading vector ([`ALIGNED`]).
    pub own_row: Option<f64>,
    /// Share of its own row along u that is gone: 1 for an exact orthogonalisation.
    pub strength: Option<f64>,
    /// Change of the lengths of written vectors beside a projection's ([`KEPT_NORMS`]).
    pub norm_change: Option<f64>,
    /// The grid it was rounded to.
    pub grid: Option<Grid>,
    /// Output along the given or found direction; writers only.
    pub along: Option<Along>,
}

/// Measures one matrix.
pub(super) fn finding(one: &Subject, seed: u64) -> Result<MatrixFinding, EditError> {
    if one.new.dims() != one.old.dims() {
        return Err(EditError::Architecture {
            field: "the shape of a weight",
            expected: format!("{} {:?}", one.name, one.old.dims()),
            found: format!("{:?}", one.new.dims()),
        });
    }
    let mut found = MatrixFinding {
        name: one.name.clone(),
        site: one.writer.as_ref().map(|writer| writer.site),
        kind: Kind::Unchanged,
        relative: 0.0,
        spectrum: None,
        own_row: None,
        strength: None,
        norm_change: None,
        grid: None,
        along: None,
    };
    if !differ(one.new, one.old)? {
        return Ok(found);
    }
    let sums = sums(one.new, one.old, one.axis)?;
    if !sums.change.is_finite() || !sums.before.is_finite() {
        return Err(EditError::BrokenWeights {
            tensor: one.name.clone(),
        });
    }
    found.relative = (sums.change / sums.before.max(f64::MIN_POSITIVE)).sqrt();
    found.norm_change = Some(sums.norm_change);
    found.grid = grid::grid(one.new, one.old)?;
    found.spectrum = sums.spectrum(seed)?;
    let shrunk = -sums.product / sums.before.max(f64::MIN_POSITIVE);
    if let Some(spectrum) = &found.spectrum {
        let was = row_along(one.old, one.axis, &spectrum.first)?;
        let is = row_along(one.new, one.axis, &spectrum.first)?;
        let moved: Vec<f64> = is.iter().zip(&was).map(|(a, b)| a - b).collect();
        let product = dot(&moved, &was);
        let (moved, was) = (length(&moved), length(&was).max(f64::MIN_POSITIVE));
        found.own_row = Some((product / (moved.max(f64::MIN_POSITIVE) * was)).abs());
        found.strength = Some(-product / (was * was));
    }
    found.kind = kind(&found, shrunk, one);
    Ok(found)
}

fn kind(found: &MatrixFinding, shrunk: f64, one: &Subject) -> Kind {
    let Some(spectrum) = &found.spectrum else {
        return Kind::Unchanged;
    };
    if found.grid.is_some() {
        return Kind::Rounded;
    }
    let strength = found.strength.unwrap_or(0.0);
    if found.own_row.unwrap_or(0.0) >= ALIGNED
        && strength >= STRENGTH
        && strength >= SCALING * shrunk
        && spectrum.rank1_share >= LEADS
    {
        return Kind::Orthogonalised;
    }
    if spectrum.rank1_share >= RANK_ONE {
        return Kind::RankOne;
    }
    let shorter = one.old.dims().iter().copied().min().unwrap_or(1) as f64;
    if spectrum.rank99.is_some() || spectrum.effective_rank < LOW_RANK * shorter {
        return Kind::LowRank;
    }
    Kind::FullRank
}

/// What a writer writes along a direction, beside the baseline and beside random directions.
pub(super) fn along(
    one: &Subject,
    new: &Weights,
    old: &Weights,
    probe: &Basis,
    random: &[Basis],
) -> Result<Option<Along>, EditError> {
    let Some(writer) = &one.writer else {
        return Ok(None);
    };
    let ratio = |basis: &Basis| -> Result<f64, EditError> {
        let is = written_length(one.new, one.axis, &writer.basis(basis, new)?)?;
        let was = written_length(one.old, one.axis, &writer.basis(basis, old)?)?;
        Ok(if is == was { 1.0 } else { is / was })
    };
    // What is the same bit for bit needs no comparison; the embedding is large.
    if !differ(one.new, one.old)? {
        return Ok(Some(Along {
            ratio: 1.0,
            least_random: 1.0,
        }));
    }
    let mut least_random = f64::INFINITY;
    for basis in random {
        least_random = least_random.min(ratio(basis)?);
    }
    Ok(Some(Along {
        ratio: ratio(probe)?,
        least_random,
    }))
}

/// Whether any number differs; what is stored once is the same.
pub(super) fn differ(a: &Tensor, b: &Tensor) -> Result<bool, EditError> {
    if a.id() == b.id() {
        return Ok(false);
    }
    let unequal = a.ne(&b.to_dtype(a.dtype())?)?.to_dtype(DType::U8)?;
    Ok(unequal.flatten_all()?.max(0)?.to_scalar::<u8>()? != 0)
}
