//! Directions: where candidates come from, and the edits that take a direction out of a model or put it in.
//!
//! A direction is a difference of class means (`candlescope_probes`, in f64). Ablation acts on what is *added* to the
//! stream (`attn_contrib`, `mlp_contrib`), not on what a module returns: the two differ under a post-norm (Gemma 2 and
//! 3, OLMo 2), where ablating the module's output leaves most of the component in.

use std::sync::Arc;

use candlescope_probes::direction;
use candlescope_probes::roc::auroc_value;
use candlescope_probes::{Direction, ProbeError};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Method, Residuals, SteerError, Where};
use crate::config::ModelConfig;
use crate::hooks::{Edit, EditOp, HookPoint, Point, Vector};

/// Directional ablation (Arditi et al. 2024): x − (x·r̂)r̂ at all positions of every `resid_pre`, `attn_contrib` and
/// `mlp_contrib`. The vector need not be of unit length.
///
/// After it no residual stream has a component along the vector: the input of the first block has none, and nothing
/// that is added has any. The later `resid_pre` remove what rounding brings back.
pub fn ablation(vector: &Vector, config: &ModelConfig) -> Vec<Edit> {
    ablation_subspace(std::slice::from_ref(vector), config)
}

/// [`ablation`] of the span of several directions (they are orthonormalised).
pub fn ablation_subspace(vectors: &[Vector], config: &ModelConfig) -> Vec<Edit> {
    let op = EditOp::Ablate {
        directions: vectors.to_vec(),
        amount: 1.0,
    };
    let points = [Point::ResidPre, Point::AttnContrib, Point::MlpContrib];
    (0..config.n_layers)
        .flat_map(|layer| points.map(|point| HookPoint::new(point, layer)))
        .map(|at| Edit::new(at, op.clone()))
        .collect()
}

/// Activation addition: `alpha · vector` at all positions of the input of block `layer`, and nowhere else.
/// With [`Direction::scaled`] and alpha 1 it moves harmless prompts by the mean difference.
pub fn addition(vector: &Vector, layer: usize, alpha: f64) -> Vec<Edit> {
    let op = EditOp::Add {
        vector: vector.clone(),
        alpha,
    };
    vec![Edit::new(HookPoint::new(Point::ResidPre, layer), op)]
}

/// A direction with the place it was read at and how well it separates prompts it was not made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// `resid_pre` of this layer; additions go in here.
    pub layer: usize,
    /// Position.
    pub where_: Where,
    /// How it was made.
    #[serde(default)]
    pub method: Method,
    /// From harmless to harmful training prompts; a difference of means has its split-half reliability.
    pub direction: Direction,
    /// AUROC of the projection on harmful against harmless validation prompts.
    pub separation: f64,
}

impl Candidate {
    /// The unit vector, ready for edits.
    pub fn unit(&self) -> Vector {
        Arc::new(self.direction.vector.clone())
    }

    /// The vector at its own length, ready for edits.
    pub fn scaled(&self) -> Vector {
        Arc::new(self.direction.scaled())
    }
}

/// A candidate for each layer and position of the residuals, all four of which must be read at the same places.
///
/// Left out: the layer after the last block (an addition there has no block to act on), and places where the two means
/// are equal, as the input embeddings of template tokens are.
///
/// # Errors
/// Residuals of different places, fewer than 4 training prompts or 1 validation prompt in a class.
pub fn candidates(
    train_harmful: &Residuals,
    train_harmless: &Residuals,
    validation_harmful: &Residuals,
    validation_harmless: &Residuals,
    seed: u64,
) -> Result<Vec<Candidate>, SteerError> {
    candidates_by(
        Method::Means,
        [train_harmful, train_harmless],
        [validation_harmful, validation_harmless],
        seed,
    )
}

/// [`candidates`] made in another way, from activations of training and validation prompts (harmful, harmless). Reliability
/// costs twenty fits in each place and is measured for differences of means alone ([`Method::reliability`] gives the others').
///
/// # Errors
/// As [`candidates`].
pub fn candidates_by(
    method: Method,
    [train_harmful, train_harmless]: [&Residuals; 2],
    [validation_harmful, validation_harmless]: [&Residuals; 2],
    seed: u64,
) -> Result<Vec<Candidate>, SteerError> {
    for (what, other) in [
        ("harmless training activations", train_harmless),
        ("harmful validation activations", validation_harmful),
        ("harmless validation activations", validation_harmless),
    ] {
        if other.layers != train_harmful.layers
            || other.wheres != train_harmful.wheres
            || other.d() != train_harmful.d()
        {
            return Err(SteerError::Places { what });
        }
    }
    let places = train_harmful.layers.iter().enumerate();
    let places: Vec<(usize, usize, usize, Where)> = places
        .filter(|(_, layer)| **layer < train_harmful.n_layers)
        .flat_map(|(l, &layer)| {
            let wheres = train_harmful.wheres.iter().enumerate();
            wheres.map(move |(w, &where_)| (l, layer, w, where_))
        })
        .collect();
    let made = places.into_par_iter().map(|(l, layer, w, where_)| {
        let (positive, negative) = (train_harmful.at(l, w), train_harmless.at(l, w));
        let direction = match fit(method, positive, negative, seed) {
            Ok(direction) => direction,
            Err(ProbeError::NoDirection { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let separation = separation(
            &direction,
            validation_harmful.at(l, w),
            validation_harmless.at(l, w),
        )?;
        Ok(Some(Candidate {
            layer,
            where_,
            method,
            direction: Direction {
                layer: Some(layer),
                position: where_.from_end(),
                ..direction
            },
            separation,
        }))
    });
    let made: Vec<Option<Candidate>> = made.collect::<Result<_, _>>()?;
    Ok(made.into_iter().flatten().collect())
}

fn fit(
    method: Method,
    positive: ArrayView2<f32>,
    negative: ArrayView2<f32>,
    seed: u64,
) -> Result<Direction, ProbeError> {
    let mut direction = method.direction(positive, negative)?;
    if method == Method::Means {
        direction.reliability = Some(method.reliability(positive, negative, seed)?);
    }
    Ok(direction)
}

fn separation(
    direction: &Direction,
    positive: ArrayView2<f32>,
    negative: ArrayView2<f32>,
) -> Result<f64, ProbeError> {
    let mut scores = direction.project(positive)?;
    let mut labels = vec![true; scores.len()];
    scores.extend(direction.project(negative)?);
    labels.resize(scores.len(), false);
    auroc_value(&scores, &labels)
}

/// `n` random unit vectors with no preferred orientation.
pub fn random_directions(n: usize, d: usize, seed: u64) -> Result<Vec<Vector>, SteerError> {
    Ok(rows(&direction::isotropic_directions(d, n, seed)?))
}

/// `n` random unit vectors that lie where activations `[prompt, d]` vary.
pub fn covariance_matched_directions(
    activations: ArrayView2<f32>,
    n: usize,
    seed: u64,
) -> Result<Vec<Vector>, SteerError> {
    let drawn = direction::covariance_matched_directions(activations, n, seed)?;
    Ok(rows(&drawn))
}

fn rows(matrix: &Array2<f32>) -> Vec<Vector> {
    matrix
        .rows()
        .into_iter()
        .map(|row| Arc::new(row.to_vec()))
        .collect()
}
