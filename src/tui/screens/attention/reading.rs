//! What the worker reads for the attention screen: one layer's patterns and kinds of heads, what the interventions change
//! about the next token, and what each head of the layer would change.
//!
//! Always: plain numbers, each part with what it was computed for; the parts come as soon as each is there.

use std::collections::BTreeMap;

use candle_core::DType;

use crate::hooks::{Edit, HookPoint, Hooks, Point};
use crate::lens::knockout::{Cut, Effect, knockout_effect};
use crate::lens::{HeadSummary, attention, head_kinds};
use crate::model::{Batch, Checkpoint, LogitsAt};
use crate::tui::shared::Token;
use crate::tui::work::Ticket;

/// Tokens that are kept of an effect.
pub const TOP: usize = 10;
/// A head's kind needs this many tokens.
pub const LEAST: usize = 3;

/// What is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Of model, prompt and interventions.
    pub version: u64,
    /// Which layer.
    pub layer: usize,
    /// Scores before the softmax too.
    pub scores: bool,
    /// What each head of the layer would change.
    pub impact: bool,
    /// The kinds of all heads of the model.
    pub survey: bool,
}

/// One layer over one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// What it was computed for.
    pub wish: Wish,
    /// The text.
    pub tokens: Vec<Token>,
    /// Count of heads.
    pub heads: usize,
    /// `[head][query][key]`, flat.
    pub weights: Vec<f32>,
    /// `‖W_O^h v_k‖`, `[head][key]`, flat.
    pub value_norms: Vec<f32>,
    /// `[head][query][key]`, flat, -inf where masked; empty unless wished.
    pub scores: Vec<f32>,
    /// By head; empty for a text that is too short.
    pub kinds: Vec<HeadSummary>,
}

/// Which number of an edge is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The weight.
    Weight,
    /// The weight times the length of what is moved.
    Weighted,
    /// The score before the softmax.
    Score,
}

impl Layer {
    /// An edge's number; NaN where a query cannot look, or the number was not asked for.
    pub fn value(&self, value: Value, head: usize, query: usize, key: usize) -> f32 {
        let n = self.tokens.len();
        if key > query || query >= n || head >= self.heads {
            return f32::NAN;
        }
        let at = (head * n + query) * n + key;
        let get = |values: &[f32], at: usize| values.get(at).copied().unwrap_or(f32::NAN);
        match value {
            Value::Weight => get(&self.weights, at),
            Value::Weighted => get(&self.weights, at) * get(&self.value_norms, head * n + key),
            Value::Score => get(&self.scores, at),
        }
    }

    /// A query's numbers by key, up to itself.
    pub fn row(&self, value: Value, head: usize, query: usize) -> Vec<f32> {
        let keys = 0..(query + 1).min(self.tokens.len());
        keys.map(|key| self.value(value, head, query, key))
            .collect()
    }

    /// Whether it shows what is wished.
    pub fn serves(&self, wish: &Wish) -> bool {
        let scores = self.wish.scores || !wish.scores;
        self.wish.version == wish.version && self.wish.layer == wish.layer && scores
    }
}

/// What the interventions change about the next token.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Computed for this version.
    pub version: u64,
    /// Unedited against edited.
    pub effect: Effect,
    /// Texts of its tokens.
    pub words: BTreeMap<u32, String>,
}

/// What each head of a layer would change, on top of the interventions.
#[derive(Debug, Clone, PartialEq)]
pub struct Impact {
    /// Computed for this.
    pub wish: Wish,
    /// `KL(before ‖ after)` of the next token in nats, by head; fewer while it goes on.
    pub kl: Vec<f64>,
}

/// The kinds of all heads of the model on one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Computed for this version.
    pub version: u64,
    /// By layer and head.
    pub kinds: Vec<HeadSummary>,
}

/// Part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Patterns.
    Layer(Layer),
    /// Effect of the interventions.
    Changed(Changed),
    /// Heads so far.
    Impact(Impact),
    /// All heads of the model.
    Survey(Survey),
    /// There is no more.
    End,
}

/// An answer with the model it is of.
pub struct Reply {
    /// As [`Ask::model`].
    pub model: usize,
    /// What came.
    pub answer: Answer,
}

/// What the worker is given.
pub struct Ask {
    /// Tells one open model from another.
    pub model: usize,
    /// What for.
    pub wish: Wish,
    /// The text.
    pub tokens: Vec<Token>,
    /// The interventions.
    pub edits: Vec<Edit>,
    /// Whether the layer is needed; else it is there already.
    pub layer: bool,
    /// Whether the effect is needed.
    pub effect: bool,
    /// Whether the heads' effects are needed.
    pub impact: bool,
    /// Whether the kinds of all heads are needed.
    pub survey: bool,
}

/// Sends each part, and ends.
pub fn read(checkpoint: &Checkpoint, ticket: &Ticket, ask: &Ask) -> Result<Reply, String> {
    let part = |answer| {
        ticket.part(Reply {
            model: ask.model,
            answer,
        });
    };
    if ask.layer {
        part(Answer::Layer(layer(checkpoint, ask)?));
    }
    if ask.effect {
        part(Answer::Changed(changed(checkpoint, ask)?));
    }
    if ask.survey {
        let kinds = head_kinds(&checkpoint.decoder, &ids(ask), &ask.edits);
        part(Answer::Survey(Survey {
            version: ask.wish.version,
            kinds: kinds.map_err(|error| error.to_string())?,
        }));
    }
    if ask.impact {
        let mut kl = Vec::new();
        for head in 0..checkpoint.config().n_heads {
            let cut = Cut::Head {
                layer: ask.wish.layer,
                head,
            }
            .edit();
            let ids = ids(ask);
            let effect = knockout_effect(&checkpoint.decoder, &ids, &ask.edits, &[cut], 1);
            kl.push(effect.map_err(|error| error.to_string())?.kl);
            part(Answer::Impact(Impact {
                wish: ask.wish,
                kl: kl.clone(),
            }));
        }
    }
    Ok(Reply {
        model: ask.model,
        answer: Answer::End,
    })
}

fn ids(ask: &Ask) -> Vec<u32> {
    ask.tokens.iter().map(|token| token.id).collect()
}

fn layer(checkpoint: &Checkpoint, ask: &Ask) -> Result<Layer, String> {
    let ids = ids(ask);
    let read = attention(&checkpoint.decoder, &ids, &[ask.wish.layer], &ask.edits);
    let read = read.map_err(|error| error.to_string())?;
    let kinds = if ids.len() < LEAST {
        Vec::new()
    } else {
        read.heads().map_err(|error| error.to_string())?
    };
    let mut weights = Vec::with_capacity(read.n_heads() * ids.len() * ids.len());
    let mut value_norms = Vec::with_capacity(read.n_heads() * ids.len());
    for head in 0..read.n_heads() {
        (0..ids.len()).for_each(|query| weights.extend_from_slice(read.row(0, head, query)));
        value_norms.extend_from_slice(read.value_norms(0, head));
    }
    Ok(Layer {
        wish: ask.wish,
        tokens: ask.tokens.clone(),
        heads: read.n_heads(),
        weights,
        value_norms,
        scores: if ask.wish.scores {
            scores(checkpoint, ask, &ids)?
        } else {
            Vec::new()
        },
        kinds,
    })
}

fn scores(checkpoint: &Checkpoint, ask: &Ask, ids: &[u32]) -> Result<Vec<f32>, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let at = HookPoint::new(Point::AttnScores, ask.wish.layer);
    let hooks = Hooks::new().edits(ask.edits.iter().cloned()).capture(at);
    let batch = Batch::single(ids).map_err(|e| words(&e))?;
    let output = checkpoint.decoder.forward(&batch, &hooks, LogitsAt::None);
    let captured = output.map_err(|e| words(&e))?.captured;
    let tensor = captured
        .get(&at)
        .ok_or_else(|| format!("the pass did not reach {at}"))?;
    let values = tensor
        .to_dtype(DType::F32)
        .and_then(|t| t.flatten_all()?.to_vec1::<f32>());
    values.map_err(|e| words(&e))
}

fn changed(checkpoint: &Checkpoint, ask: &Ask) -> Result<Changed, String> {
    let top = TOP.min(checkpoint.config().vocab_size);
    let effect = knockout_effect(&checkpoint.decoder, &ids(ask), &[], &ask.edits, top);
    let effect = effect.map_err(|error| error.to_string())?;
    let ids = effect.changes.iter().map(|change| change.id);
    let ranked = effect
        .before
        .iter()
        .chain(&effect.after)
        .map(|ranked| ranked.id);
    let words = ids
        .chain(ranked)
        .map(|id| (id, checkpoint.tokenizer.token(id)))
        .collect();
    Ok(Changed {
        version: ask.wish.version,
        effect,
        words,
    })
}
