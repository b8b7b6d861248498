//! What was done to the model as a whole.

use serde::Serialize;

use super::{Forensics, Kind, MatrixFinding};
use crate::model::weights::Weights;
use crate::steer::edit::{
    Basis, EditError, Site, Through, Writer,
    basis::{dot, length},
};

/// Share of the changed writers' leading directions that must lie along one for them to count as one direction. Unrelated
/// ones in a wide stream have about one over their number.
pub const AGREE: f64 = 0.5;

/// In a word, most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every bit as in the baseline.
    Identical,
    /// Writers were orthogonalised against one direction.
    Abliteration,
    /// Writers were orthogonalised against a direction for each layer.
    AbliterationByLayer,
    /// Writers were orthogonalised, each against a direction of its own.
    Orthogonalised,
    /// Matrices changed by one singular value each.
    RankOneEdit,
    /// Most changes have few singular values: a merged adapter.
    LowRank,
    /// Only rounded.
    Rounded,
    /// Only vectors differ: biases or gains, as a steering vector baked in would.
    VectorsOnly,
    /// Many singular values: training or noise.
    FullRank,
}

/// Leading directions of changed writers beside each other.
#[derive(Debug, Clone, Serialize)]
pub struct Common {
    /// Writers compared.
    pub writers: usize,
    /// Share of their leading directions along [`Self::direction`]; through post-norms as an exact edit goes.
    pub agreement: f64,
    /// The same with post-norm gains left out, as the usual edit does; equal without post-norms.
    pub without_gains: f64,
    /// Mean squared cosine of attention and MLP within a layer; none where no layer has both.
    pub within_layers: Option<f64>,
    /// The direction in the stream, `[d_model]`, by the better of the two.
    #[serde(skip)]
    pub direction: Vec<f64>,
}

/// The writers that were orthogonalised or, where none were, those that changed.
fn telling(matrices: &[MatrixFinding]) -> Vec<usize> {
    let block = |m: &MatrixFinding| matches!(m.site, Some(Site::Attn(_) | Site::Mlp(_)));
    let of = |take: &dyn Fn(&MatrixFinding) -> bool| -> Vec<usize> {
        let all = matrices.iter().enumerate();
        all.filter(|(_, m)| block(m) && take(m))
            .map(|(i, _)| i)
            .collect()
    };
    let projected = of(&|m| m.kind == Kind::Orthogonalised);
    if projected.is_empty() {
        of(&|m| m.spectrum.is_some())
    } else {
        projected
    }
}

pub(super) fn common(
    matrices: &[MatrixFinding],
    writing: &[Option<&Writer>],
    old: &Weights,
) -> Result<Option<Common>, EditError> {
    let telling = telling(matrices);
    if telling.len() < 2 {
        return Ok(None);
    }
    let (mut plain, mut through, mut sites) = (Vec::new(), Vec::new(), Vec::new());
    for i in telling {
        let (Some(writer), Some(spectrum)) = (writing[i], &matrices[i].spectrum) else {
            continue;
        };
        plain.push(spectrum.first.clone());
        through.push(in_stream(&spectrum.first, writer, old)?);
        sites.push(writer.site);
    }
    let (with, direction) = leading(&through);
    let (without, naive) = leading(&plain);
    Ok(Some(Common {
        writers: plain.len(),
        agreement: with,
        without_gains: without,
        within_layers: within_layers(&through, &sites)
            .into_iter()
            .chain(within_layers(&plain, &sites))
            .reduce(f64::max),
        direction: if with >= without { direction } else { naive },
    }))
}

/// The direction of the stream that an exact edit along `u` of a writer's own output takes out: `u / g`.
fn in_stream(u: &[f64], writer: &Writer, weights: &Weights) -> Result<Vec<f64>, EditError> {
    let Some(norm) = writer.norm(weights) else {
        return Ok(u.to_vec());
    };
    if writer.through == Through::Direct {
        return Ok(u.to_vec());
    }
    let gain = norm
        .gain
        .to_dtype(candle_core::DType::F64)?
        .to_vec1::<f64>()?;
    let row: Vec<f64> = u
        .iter()
        .zip(&gain)
        .map(|(u, g)| if *g == 0.0 { 0.0 } else { u / g })
        .collect();
    let basis = Basis::of_rows(vec![row], u.len()).mapped(<[f64]>::to_vec);
    Ok(basis.rows().first().cloned().unwrap_or_else(|| u.to_vec()))
}

/// The leading eigenvector of `Σ v vᵀ` of unit vectors, and the share of it; by power iteration on their inner products.
fn leading(vectors: &[Vec<f64>]) -> (f64, Vec<f64>) {
    let n = vectors.len();
    let gram: Vec<Vec<f64>> = vectors
        .iter()
        .map(|a| vectors.iter().map(|b| dot(a, b)).collect())
        .collect();
    // From the vector that the others have most in common with.
    let most = |row: &[f64]| -> f64 { row.iter().map(|x| x * x).sum() };
    let start = (0..n).max_by(|&i, &j| most(&gram[i]).total_cmp(&most(&gram[j])));
    let mut weights = start.map_or_else(Vec::new, |i| gram[i].clone());
    let mut value = 0.0;
    for _ in 0..100 {
        let next: Vec<f64> = gram.iter().map(|row| dot(row, &weights)).collect();
        let size = length(&next);
        if size == 0.0 {
            break;
        }
        value = size / length(&weights).max(f64::MIN_POSITIVE);
        weights = next.into_iter().map(|x| x / size).collect();
    }
    let width = vectors.first().map_or(0, Vec::len);
    let mut direction = vec![0.0; width];
    for (vector, weight) in vectors.iter().zip(&weights) {
        direction
            .iter_mut()
            .zip(vector)
            .for_each(|(d, v)| *d += weight * v);
    }
    let size = length(&direction).max(f64::MIN_POSITIVE);
    for d in &mut direction {
        *d /= size;
    }
    (value / n.max(1) as f64, direction)
}

fn within_layers(vectors: &[Vec<f64>], sites: &[Site]) -> Option<f64> {
    let at = |site: Site| sites.iter().position(|s| *s == site).map(|i| &vectors[i]);
    let mut squares = Vec::new();
    for site in sites {
        if let Site::Attn(layer) = site
            && let (Some(a), Some(b)) = (at(*site), at(Site::Mlp(*layer)))
        {
            squares.push(dot(a, b).powi(2));
        }
    }
    (!squares.is_empty()).then(|| squares.iter().sum::<f64>() / squares.len() as f64)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn of_kind(matrices: &[MatrixFinding], kind: Kind) -> impl Iterator<Item = &MatrixFinding> {
    matrices.iter().filter(move |m| m.kind == kind)
}

pub(super) fn strength(matrices: &[MatrixFinding]) -> Option<f64> {
    let all = of_kind(matrices, Kind::Orthogonalised);
    median(all.filter_map(|m| m.strength).collect())
}

pub(super) fn norms_kept(matrices: &[MatrixFinding]) -> bool {
    let all = of_kind(matrices, Kind::Orthogonalised);
    median(all.filter_map(|m| m.norm_change).collect()).is_some_and(|x| x < super::KEPT_NORMS)
}

pub(super) fn verdict(found: &Forensics) -> Verdict {
    let matrices = &found.matrices;
    let count = |kind| of_kind(matrices, kind).count();
    let changed = matrices.len() - count(Kind::Unchanged);
    if changed == 0 {
        return if found.new_biases.is_empty() && found.changed_vectors.is_empty() {
            Verdict::Identical
        } else {
            Verdict::VectorsOnly
        };
    }
    let block = |m: &&MatrixFinding| matches!(m.site, Some(Site::Attn(_) | Site::Mlp(_)));
    let writers = matrices.iter().filter(block);
    let changed_writers = writers.filter(|m| m.kind != Kind::Unchanged).count();
    let projected = of_kind(matrices, Kind::Orthogonalised)
        .filter(block)
        .count();
    if projected >= 2 && 2 * projected >= changed_writers {
        let Some(common) = &found.common else {
            return Verdict::Orthogonalised;
        };
        return if common.agreement.max(common.without_gains) >= AGREE {
            Verdict::Abliteration
        } else if common.within_layers.is_some_and(|x| x >= AGREE) {
            Verdict::AbliterationByLayer
        } else {
            Verdict::Orthogonalised
        };
    }
    if count(Kind::Rounded) == changed {
        return Verdict::Rounded;
    }
    let (one, low) = (
        count(Kind::RankOne) + count(Kind::Orthogonalised),
        count(Kind::LowRank),
    );
    if 2 * one > changed {
        Verdict::RankOneEdit
    } else if 2 * (one + low) > changed {
        Verdict::LowRank
    } else {
        Verdict::FullRank
    }
}

impl Verdict {
    /// For tables.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Abliteration => "abliteration",
            Self::AbliterationByLayer => "abliteration, a direction for each layer",
            Self::Orthogonalised => "orthogonalised writers",
            Self::RankOneEdit => "rank-one edits",
            Self::LowRank => "low-rank update",
            Self::Rounded => "rounding",
            Self::VectorsOnly => "vectors only",
            Self::FullRank => "full-rank change",
        }
    }
}

pub(super) fn says(found: &Forensics) -> String {
    let changed = found.matrices.len() - of_kind(&found.matrices, Kind::Unchanged).count();
    let of = format!("{changed} of {} matrices differ", found.matrices.len());
    let projected = of_kind(&found.matrices, Kind::Orthogonalised).count();
    let strength = found.strength.unwrap_or(0.0);
    let norms = if found.norms_kept {
        ", with the lengths of what they write restored"
    } else {
        ""
    };
    match found.verdict {
        Verdict::Identical => "every weight is the baseline's, bit for bit".to_owned(),
        Verdict::Abliteration => {
            let common = found.common.as_ref();
            let gains = match common {
                Some(c) if c.without_gains > c.agreement + 0.1 => {
                    "; post-norm gains were left out, so much of it still comes through"
                }
                _ => "",
            };
            let agreement = common.map_or(0.0, |c| c.agreement.max(c.without_gains));
            format!(
                "{of}; {projected} had their own output along one direction taken out (strength {strength:.2}, agreement \
                 {agreement:.2}){norms}{gains}"
            )
        }
        Verdict::AbliterationByLayer | Verdict::Orthogonalised => format!(
            "{of}; {projected} had their own output along a direction taken out (strength {strength:.2}), and it is not one \
             direction for all{norms}"
        ),
        Verdict::RankOneEdit => format!("{of}, most of them by one singular value"),
        Verdict::LowRank => {
            format!(
                "{of}, most of them by few singular values and not along their own rows: a merged adapter"
            )
        }
        Verdict::Rounded => format!("{of}, each by rounding the baseline's to a grid"),
        Verdict::VectorsOnly => format!(
            "no matrix differs; {} vectors do and {} are new",
            found.changed_vectors.len(),
            found.new_biases.len()
        ),
        Verdict::FullRank => format!("{of}, by many singular values: training or noise"),
    }
}
