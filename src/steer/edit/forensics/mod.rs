//! What somebody did to a checkpoint's weights, told from the weights alone: abliteration, rank-one edits, adapters, rounding.
//!
//! Always: both sides are paired by role, along the residual axis that the role fixes; thresholds are the constants of
//! `kind.rs`, documented there, and the numbers behind every word are in the result. A word is a resemblance, not a proof.
//! `spectrum.rs` is the shape of a change, `kind.rs` one matrix, `grid.rs` rounding, `verdict.rs` the whole model.

mod grid;
mod kind;
mod spectrum;
mod verdict;

pub use grid::Grid;
pub use kind::{
    ALIGNED, Along, KEPT_NORMS, Kind, LEADS, LOW_RANK, MatrixFinding, RANK_ONE, SCALING, STRENGTH,
    SUPPRESSED,
};
pub use spectrum::{Spectrum, Sums, sums};
pub use verdict::{AGREE, Common, Verdict};

use candle_core::Tensor;
use rayon::prelude::*;
use serde::Serialize;

use super::{Axis, Basis, EditError, Site, Writer, readers, writers, written};
use crate::config::ModelConfig;
use crate::model::Decoder;
use crate::model::weights::Weights;
use crate::steer::random_directions;

/// Random directions that a writer's output is compared along.
pub const RANDOM: usize = 32;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Forensics {
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence.
    pub says: String,
    /// The directions of the changed writers beside each other; none with fewer than two.
    pub common: Option<Common>,
    /// Median of [`MatrixFinding::strength`] over writers that were orthogonalised.
    pub strength: Option<f64>,
    /// Whether those kept the lengths of what they write ([`KEPT_NORMS`]).
    pub norms_kept: bool,
    /// Whether the token embedding differs.
    pub embedding_changed: bool,
    /// Whether the unembedding was the embedding and no longer is.
    pub untied: bool,
    /// Biases of writers and post-norms that the baseline does not have.
    pub new_biases: Vec<String>,
    /// Biases and gains that differ.
    pub changed_vectors: Vec<String>,
    /// Cosine of the found direction with the given one.
    pub cosine: Option<f64>,
    /// Random directions behind [`kind::Along::least_random`].
    pub random: usize,
    /// Every matrix.
    pub matrices: Vec<MatrixFinding>,
}

/// Compares a checkpoint with its baseline; `direction` is looked along beside what is found.
///
/// # Errors
/// Other architectures; entries that are not finite; a direction of another width.
pub fn forensics(
    subject: &Decoder,
    baseline: &Decoder,
    direction: Option<&Basis>,
    seed: u64,
) -> Result<Forensics, EditError> {
    paired(subject.config(), baseline.config())?;
    let (subject, baseline) = (subject.merged()?, baseline.merged()?);
    let (new, old) = (subject.weights(), baseline.weights());
    let all = subjects(&subject, &baseline);
    let mut matrices = all
        .par_iter()
        .map(|one| kind::finding(one, seed))
        .collect::<Result<Vec<_>, _>>()?;
    let writing: Vec<Option<&Writer>> = all.iter().map(|one| one.writer.as_ref()).collect();
    let common = verdict::common(&matrices, &writing, old)?;
    let width = baseline.config().d_model;
    let probe = direction.cloned().or_else(|| {
        let found = common.as_ref()?;
        Some(Basis::of_rows(vec![found.direction.clone()], width))
    });
    if let Some(probe) = &probe {
        let random = random_directions(RANDOM, width, seed)?;
        let random = random
            .iter()
            .map(|r| Basis::new(std::slice::from_ref(r)))
            .collect::<Result<Vec<_>, _>>()?;
        let along = all
            .par_iter()
            .map(|one| kind::along(one, new, old, probe, &random))
            .collect::<Result<Vec<_>, _>>()?;
        for (matrix, along) in matrices.iter_mut().zip(along) {
            matrix.along = along;
        }
    }
    let (new_biases, changed_vectors) = vectors(new, old)?;
    let cosine = direction.zip(common.as_ref()).and_then(|(given, found)| {
        (given.rank() == 1).then(|| given.along(&found.direction)[0].abs())
    });
    let embed = matrices.iter().find(|m| m.site == Some(Site::Embed));
    let mut out = Forensics {
        verdict: Verdict::Identical,
        says: String::new(),
        strength: verdict::strength(&matrices),
        norms_kept: verdict::norms_kept(&matrices),
        embedding_changed: embed.is_some_and(|m| m.kind != Kind::Unchanged),
        untied: baseline.config().tied && !subject.config().tied,
        common,
        new_biases,
        changed_vectors,
        cosine,
        random: if probe.is_some() { RANDOM } else { 0 },
        matrices,
    };
    out.verdict = verdict::verdict(&out);
    out.says = verdict::says(&out);
    Ok(out)
}

/// A matrix to look at: a writer, or a reader with its name and both tensors.
struct Subject<'a> {
    name: String,
    axis: Axis,
    writer: Option<Writer>,
    new: &'a Tensor,
    old: &'a Tensor,
}

fn subjects<'a>(subject: &'a Decoder, baseline: &'a Decoder) -> Vec<Subject<'a>> {
    let (new, old) = (subject.weights(), baseline.weights());
    // Of a tied and an untied model, the untied one names the unembedding; in memory both have it.
    let untied = if baseline.config().tied {
        subject.config()
    } else {
        baseline.config()
    };
    let written = writers(baseline.config()).into_iter().filter_map(|writer| {
        Some(Subject {
            name: writer.name.clone(),
            axis: writer.axis(),
            new: writer.weight(new)?,
            old: writer.weight(old)?,
            writer: Some(writer),
        })
    });
    let read = readers(untied).into_iter().filter_map(|reader| {
        Some(Subject {
            new: reader.weight(new)?,
            old: reader.weight(old)?,
            name: reader.name,
            axis: Axis::Columns,
            writer: None,
        })
    });
    written.chain(read).collect()
}

fn paired(subject: &ModelConfig, baseline: &ModelConfig) -> Result<(), EditError> {
    let fields: [(&'static str, String, String); 6] = [
        (
            "family",
            baseline.family.name().into(),
            subject.family.name().into(),
        ),
        (
            "d_model",
            baseline.d_model.to_string(),
            subject.d_model.to_string(),
        ),
        (
            "n_layers",
            baseline.n_layers.to_string(),
            subject.n_layers.to_string(),
        ),
        (
            "d_mlp",
            baseline.d_mlp.to_string(),
            subject.d_mlp.to_string(),
        ),
        (
            "vocab_size",
            baseline.vocab_size.to_string(),
            subject.vocab_size.to_string(),
        ),
        (
            "placement",
            format!("{:?}", baseline.placement),
            format!("{:?}", subject.placement),
        ),
    ];
    match fields
        .into_iter()
        .find(|(_, expected, found)| expected != found)
    {
        None => Ok(()),
        Some((field, expected, found)) => Err(EditError::Architecture {
            field,
            expected,
            found,
        }),
    }
}

/// Names of vectors that are new, and of those that differ.
fn vectors(new: &Weights, old: &Weights) -> Result<(Vec<String>, Vec<String>), EditError> {
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for ((name, now), (_, before)) in named(new).into_iter().zip(named(old)) {
        match (now, before) {
            (Some(_), None) => added.push(name),
            (Some(now), Some(before)) if kind::differ(now, before)? => changed.push(name),
            _ => {}
        }
    }
    Ok((added, changed))
}

/// Gains and biases by role; those that are not there too, so that two lists pair up.
fn named(weights: &Weights) -> Vec<(String, Option<&Tensor>)> {
    let mut all = Vec::new();
    for (i, layer) in weights.layers.iter().enumerate() {
        let linears = [
            ("q", Some(&layer.q)),
            ("k", Some(&layer.k)),
            ("v", Some(&layer.v)),
            ("o", Some(&layer.o)),
            ("gate", layer.gate.as_ref()),
            ("up", Some(&layer.up)),
            ("down", Some(&layer.down)),
        ];
        for (role, linear) in linears {
            let bias = linear.and_then(|linear| linear.bias.as_ref());
            all.push((format!("layers.{i}.{role}.bias"), bias));
        }
        let norms = [
            ("attn_norm", &layer.attn_norm),
            ("attn_post_norm", &layer.attn_post_norm),
            ("mlp_norm", &layer.mlp_norm),
            ("mlp_post_norm", &layer.mlp_post_norm),
        ];
        for (role, norm) in norms {
            let norm = norm.as_ref();
            all.push((format!("layers.{i}.{role}.gain"), norm.map(|n| &n.gain)));
            let bias = norm.and_then(|n| n.bias.as_ref());
            all.push((format!("layers.{i}.{role}.bias"), bias));
        }
        all.push((format!("layers.{i}.q_norm"), layer.q_norm.as_ref()));
        all.push((format!("layers.{i}.k_norm"), layer.k_norm.as_ref()));
    }
    let last = &weights.final_norm;
    all.push(("final_norm.gain".to_owned(), Some(&last.gain)));
    all.push(("final_norm.bias".to_owned(), last.bias.as_ref()));
    all
}

/// `uᵀ W` for one unit vector on the residual side.
fn row_along(weight: &Tensor, axis: Axis, u: &[f64]) -> Result<Vec<f64>, EditError> {
    let basis = Basis::of_rows(vec![u.to_vec()], u.len());
    Ok(written(weight, axis, &basis)?.concat())
}
