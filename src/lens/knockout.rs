//! What the next token's distribution loses when a head or an edge of attention is cut.
//!
//! A head is cut by setting its z to 0 at every position (zero ablation); an edge by masking it before the softmax, so that
//! the row's other weights grow in proportion. Always: both passes run the same decoder under the same other edits; KL is
//! in nats.

use candle_core::DType;
use serde::Serialize;

use super::logit::{largest, log_sum_exp};
use super::{LensError, Ranked};
use crate::hooks::{Axis, Edge, Edit, EditOp, HookPoint, Hooks, Point, Selector};
use crate::model::{Batch, Decoder, LogitsAt, ModelError};

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// A whole head.
    Head {
        /// Its layer.
        layer: usize,
        /// Which.
        head: usize,
    },
    /// One look; positions may count from the end.
    Edge {
        /// The layer.
        layer: usize,
        /// In this head only; in all if `None`.
        head: Option<usize>,
        /// The looking position.
        query: i64,
        /// The position looked at.
        key: i64,
    },
}

impl Cut {
    /// As an edit of a pass. Whether layer, head and positions exist shows when it is applied.
    pub fn edit(self) -> Edit {
        let heads = |head: Option<usize>| Selector {
            heads: head.map_or(Axis::All, |head| Axis::Only(vec![head])),
            ..Selector::all()
        };
        match self {
            Self::Head { layer, head } => {
                let zero = EditOp::Scale { factor: 0.0 };
                Edit::new(HookPoint::new(Point::Z, layer), zero).on(heads(Some(head)))
            }
            Self::Edge {
                layer,
                head,
                query,
                key,
            } => {
                let edges = vec![Edge { query, key }];
                let at = HookPoint::new(Point::AttnScores, layer);
                Edit::new(at, EditOp::Knockout { edges }).on(heads(head))
            }
        }
    }
}

/// A token whose probability changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// The token.
    pub id: u32,
    /// Its probability without the cut.
    pub before: f64,
    /// And with it.
    pub after: f64,
}

/// The next token's distribution at the last position, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// The likeliest tokens before, falling.
    pub before: Vec<Ranked>,
    /// The likeliest tokens after, falling.
    pub after: Vec<Ranked>,
    /// The tokens whose probability changes most, either way, by the size of the change.
    pub changes: Vec<Change>,
    /// `KL(before ‖ after)`, nats.
    pub kl: f64,
}

/// Compares the next token under `edits` with that under `edits` and `cut`; keeps `top` tokens of each list.
///
/// # Errors
/// An edit that cannot apply, `top` out of range, logits that are not finite.
pub fn knockout_effect(
    model: &Decoder,
    ids: &[u32],
    edits: &[Edit],
    cut: &[Edit],
    top: usize,
) -> Result<Effect, LensError> {
    let vocab = model.config().vocab_size;
    if top == 0 || top > vocab {
        return Err(LensError::TopK { found: top, vocab });
    }
    let all: Vec<Edit> = edits.iter().chain(cut).cloned().collect();
    let (before, after) = (log_probs(model, ids, edits)?, log_probs(model, ids, &all)?);
    let pairs = before.iter().zip(&after);
    let kl: f64 = pairs.clone().map(|(b, a)| b.exp() * (b - a)).sum();
    let moved: Vec<f64> = pairs.map(|(b, a)| (b.exp() - a.exp()).abs()).collect();
    let ranked = |from: &[f64]| -> Vec<Ranked> {
        let rank = |id: u32| Ranked {
            id,
            probability: from[id as usize].exp(),
        };
        largest(from, top).into_iter().map(rank).collect()
    };
    let change = |id: u32| Change {
        id,
        before: before[id as usize].exp(),
        after: after[id as usize].exp(),
    };
    Ok(Effect {
        changes: largest(&moved, top).into_iter().map(change).collect(),
        before: ranked(&before),
        after: ranked(&after),
        // Gibbs: never negative but for rounding.
        kl: kl.max(0.0),
    })
}

/// Log-probabilities of the next token, `[vocab]`.
fn log_probs(model: &Decoder, ids: &[u32], edits: &[Edit]) -> Result<Vec<f64>, LensError> {
    let hooks = Hooks::new().edits(edits.iter().cloned());
    let batch = Batch::single(ids)?;
    let logits = model.forward(&batch, &hooks, LogitsAt::Last)?.logits()?;
    let read = || logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let logits = read().map_err(ModelError::from)?;
    let lse = log_sum_exp(&logits);
    if !lse.is_finite() || logits.iter().any(|x| !x.is_finite()) {
        return Err(LensError::NotFinite {
            row: "the output".into(),
            position: ids.len() - 1,
        });
    }
    Ok(logits.iter().map(|x| x - lse).collect())
}
