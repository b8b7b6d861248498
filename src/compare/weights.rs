//! How far each weight of one checkpoint has moved from another's: the Frobenius norm of the change over that of the first.
//!
//! Always: tensors are paired by role and layer, so a GGUF and a safetensors folder can be compared too; an adapter counts as
//! what it adds; equal tensors have a change of exactly 0. A tensor that is zero in the first and not in the second has moved
//! infinitely far, and one that only one of them has is refused but for biases, which are zero where they are not there.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};

use super::CompareError;
use crate::model::weights::{LayerWeights, Linear, NormWeights, Weights};
use crate::model::{Decoder, ModelError};

/// Numbers of a weight that are looked at together: a whole embedding need not be copied.
const CHUNK: usize = 1 << 20;

/// A weight beside its counterpart.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightChange {
    /// The block; none for what stands before and after the blocks.
    pub layer: Option<usize>,
    /// What it is in its block: `q`, `down`, `attn_norm`; `embed`, `head`.
    pub role: String,
    /// `‖second − first‖ / ‖first‖` (Frobenius).
    pub relative: f64,
    /// Numbers in it.
    pub size: usize,
}

impl WeightChange {
    /// `layers.3.down`, or the role alone.
    pub fn name(&self) -> String {
        match self.layer {
            Some(layer) => format!("layers.{layer}.{}", self.role),
            None => self.role.clone(),
        }
    }
}

/// Compares all weights, in the order of the decoder. `told` hears how many places are done of how many and may stop it.
///
/// # Errors
/// Architectures that cannot be paired, weights that are not finite, [`ModelError::Cancelled`] where `told` breaks.
pub fn weight_changes(
    first: &Decoder,
    second: &Decoder,
    told: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<WeightChange>, CompareError> {
    let (a, b) = (first.config(), second.config());
    for (what, expected, found) in [
        ("n_layers", a.n_layers, b.n_layers),
        ("d_model", a.d_model, b.d_model),
    ] {
        if expected != found {
            return Err(unpaired(what, expected.to_string(), found.to_string()));
        }
    }
    let (first, second) = (first.weights(), second.weights());
    let places = first.layers.len() + 1;
    let mut changes = Vec::new();
    for place in 0..places {
        if told(place, places).is_break() {
            return Err(ModelError::Cancelled.into());
        }
        let layer = place.checked_sub(1);
        let of = |weights: &Weights| -> Result<Vec<Named>, CompareError> {
            match layer {
                None => Ok(outer(weights)),
                Some(layer) => block(&weights.layers[layer]),
            }
        };
        for ((role, one), (_, other)) in of(first)?.into_iter().zip(of(second)?) {
            let (one, other) = match (one, other) {
                (None, None) => continue,
                (Some(one), Some(other)) => (one, other),
                // A bias that is not there adds nothing, as one of zeros does.
                (Some(one), None) if role.ends_with("bias") => {
                    let zeros = one.zeros_like()?;
                    (one, zeros)
                }
                (None, Some(other)) if role.ends_with("bias") => (other.zeros_like()?, other),
                (one, _) => {
                    let word = |there: bool| if there { "there" } else { "not there" };
                    let there = one.is_some();
                    let (expected, found) = (word(there).to_owned(), word(!there).to_owned());
                    return Err(unpaired(&role, expected, found));
                }
            };
            let mut change = WeightChange {
                layer,
                role,
                relative: 0.0,
                size: one.elem_count(),
            };
            change.relative = relative(&one, &other, &change)?;
            changes.push(change);
        }
    }
    Ok(changes)
}

fn unpaired(what: &str, expected: String, found: String) -> CompareError {
    CompareError::Unpaired {
        what: what.to_owned(),
        expected,
        found,
    }
}

fn relative(first: &Tensor, second: &Tensor, of: &WeightChange) -> Result<f64, CompareError> {
    if first.dims() != second.dims() {
        let shape = |t: &Tensor| format!("{:?}", t.dims());
        return Err(unpaired(&of.name(), shape(first), shape(second)));
    }
    let rows = first.dims().first().copied().unwrap_or(0);
    let each = (CHUNK / (first.elem_count() / rows.max(1)).max(1)).max(1);
    let (mut moved, mut before) = (0.0f64, 0.0f64);
    for from in (0..rows).step_by(each) {
        let values = |t: &Tensor| -> Result<Vec<f32>, CompareError> {
            let some = t.narrow(0, from, each.min(rows - from))?;
            Ok(some.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        for (a, b) in values(first)?.iter().zip(&values(second)?) {
            moved += (f64::from(*b) - f64::from(*a)).powi(2);
            before += f64::from(*a).powi(2);
        }
    }
    if !moved.is_finite() || !before.is_finite() {
        return Err(CompareError::NotFinite { what: of.name() });
    }
    // Nothing moved is 0, also from 0.
    Ok(if moved == 0.0 {
        0.0
    } else {
        (moved / before).sqrt()
    })
}

/// A role and its tensor, if the model has one.
type Named = (String, Option<Tensor>);

fn outer(weights: &Weights) -> Vec<Named> {
    let tied = weights.head.id() == weights.embed.id();
    let mut all = vec![
        ("embed".to_owned(), Some(weights.embed.clone())),
        ("pos_embed".to_owned(), weights.pos_embed.clone()),
    ];
    norm("final_norm", Some(&weights.final_norm), &mut all);
    all.push((
        "head".to_owned(),
        // A tied head is the embedding: it has no change of its own.
        (!tied).then(|| weights.head.clone()),
    ));
    all
}

fn block(layer: &LayerWeights) -> Result<Vec<Named>, CompareError> {
    let mut all = Vec::new();
    norm("attn_norm", layer.attn_norm.as_ref(), &mut all);
    for (role, one) in [
        ("q", Some(&layer.q)),
        ("k", Some(&layer.k)),
        ("v", Some(&layer.v)),
        ("o", Some(&layer.o)),
    ] {
        linear(role, one, &mut all)?;
    }
    all.push(("q_norm".to_owned(), layer.q_norm.clone()));
    all.push(("k_norm".to_owned(), layer.k_norm.clone()));
    norm("attn_post_norm", layer.attn_post_norm.as_ref(), &mut all);
    norm("mlp_norm", layer.mlp_norm.as_ref(), &mut all);
    for (role, one) in [
        ("gate", layer.gate.as_ref()),
        ("up", Some(&layer.up)),
        ("down", Some(&layer.down)),
    ] {
        linear(role, one, &mut all)?;
    }
    norm("mlp_post_norm", layer.mlp_post_norm.as_ref(), &mut all);
    Ok(all)
}

fn linear(role: &str, one: Option<&Linear>, all: &mut Vec<Named>) -> Result<(), CompareError> {
    let matrix = one.map(Linear::matrix).transpose()?;
    all.push((role.to_owned(), matrix));
    let bias = one.and_then(|linear| linear.bias.clone());
    all.push((format!("{role}_bias"), bias));
    Ok(())
}

fn norm(role: &str, one: Option<&NormWeights>, all: &mut Vec<Named>) {
    all.push((role.to_owned(), one.map(|norm| norm.gain.clone())));
    let bias = one.and_then(|norm| norm.bias.clone());
    all.push((format!("{role}_bias"), bias));
}
