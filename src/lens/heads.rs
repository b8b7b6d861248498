//! What kind of head makes a pattern, on the text that was read.
//!
//! Each score is a mean over queries of the weight on certain keys, in `[0, 1]`. Queries 0 and 1 are left out: there the
//! first, the previous and the current token are not three different keys. TransformerLens' `head_detector` asks for the
//! same keys but divides the weight on them by the weight of all queries; here only queries that have such a key count,
//! so that a text with few repetitions does not make an induction head look weak.
//!
//! Duplicate and induction need a text in which tokens repeat. [`probe_heads`] gives one that says nothing else: random
//! tokens, twice (Olsson et al. 2022, "In-context learning and induction heads").

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::LensError;
use super::attention::{Attention, attention, layers_at_once};
use crate::hooks::Edit;
use crate::model::{Checkpoint, Decoder};

/// A head whose highest score is below this is diffuse.
pub const KIND_THRESHOLD: f64 = 0.4;
/// Fewest tokens with a query that counts.
const LEAST: usize = 3;

/// How much a head does of what heads are known for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeadScores {
    /// Mean weight on the token before.
    pub previous: f64,
    /// Mean weight on the first token (the attention sink, as a rule).
    pub first: f64,
    /// Mean weight on the token itself.
    pub current: f64,
    /// Mean weight on earlier occurrences of the token, over queries that have one; `None` if no token repeats.
    pub duplicate: Option<f64>,
    /// Mean weight on the tokens right after earlier occurrences (the token itself left out), over queries that have one.
    pub induction: Option<f64>,
    /// Mean entropy of the rows, nats. No kind, but low for any sharp head.
    pub entropy: f64,
}

/// What a head does most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// Looks at the token before.
    Previous,
    /// Looks at the first token.
    First,
    /// Looks at itself.
    Current,
    /// Looks at earlier occurrences of its token.
    Duplicate,
    /// Looks at what came after earlier occurrences of its token.
    Induction,
    /// None of these above [`KIND_THRESHOLD`].
    Diffuse,
}

impl HeadKind {
    /// For tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Previous => "previous token",
            Self::First => "first token",
            Self::Current => "current token",
            Self::Duplicate => "duplicate token",
            Self::Induction => "induction",
            Self::Diffuse => "diffuse",
        }
    }
}

impl HeadScores {
    /// The kind of the highest score, and that score; `Diffuse` with the score that was not high enough.
    pub fn kind(&self) -> (HeadKind, f64) {
        let all = [
            (HeadKind::Previous, self.previous),
            (HeadKind::First, self.first),
            (HeadKind::Current, self.current),
            (HeadKind::Duplicate, self.duplicate.unwrap_or(0.0)),
            (HeadKind::Induction, self.induction.unwrap_or(0.0)),
        ];
        let best = all.into_iter().reduce(|a, b| if b.1 > a.1 { b } else { a });
        match best {
            Some((kind, score)) if score >= KIND_THRESHOLD => (kind, score),
            best => (HeadKind::Diffuse, best.map_or(0.0, |b| b.1)),
        }
    }
}

/// A head with its scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeadSummary {
    /// The layer.
    pub layer: usize,
    /// The head.
    pub head: usize,
    /// What it does most.
    pub kind: HeadKind,
    /// How much, of everything.
    pub scores: HeadScores,
}

impl Attention {
    /// Every head of these layers, by layer and head.
    ///
    /// # Errors
    /// A text of fewer than 3 tokens.
    pub fn heads(&self) -> Result<Vec<HeadSummary>, LensError> {
        let n = self.tokens().len();
        if n < LEAST {
            return Err(LensError::TooShort {
                what: "the kind of a head",
                least: LEAST,
                found: n,
            });
        }
        let earlier = Earlier::of(self.tokens());
        let mut out = Vec::with_capacity(self.layers().len() * self.n_heads());
        for (index, &layer) in self.layers().iter().enumerate() {
            for head in 0..self.n_heads() {
                let scores = scores(self, index, head, &earlier);
                out.push(HeadSummary {
                    layer,
                    head,
                    kind: scores.kind().0,
                    scores,
                });
            }
        }
        Ok(out)
    }
}

/// For each query the keys that duplicate and induction heads look for.
struct Earlier {
    same: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
}

impl Earlier {
    fn of(tokens: &[u32]) -> Self {
        let same = |query: usize| -> Vec<usize> {
            (0..query)
                .filter(|&key| tokens[key] == tokens[query])
                .collect()
        };
        let same: Vec<Vec<usize>> = (0..tokens.len()).map(same).collect();
        let after = |(query, keys): (usize, &Vec<usize>)| {
            let next = keys.iter().map(|key| key + 1);
            next.filter(|&key| key < query).collect()
        };
        Self {
            after: same.iter().enumerate().map(after).collect(),
            same,
        }
    }
}

fn scores(attention: &Attention, layer: usize, head: usize, earlier: &Earlier) -> HeadScores {
    let queries = LEAST - 1..attention.tokens().len();
    let count = queries.len() as f64;
    let row = |query: usize| attention.row(layer, head, query);
    let mean = |key: &dyn Fn(usize) -> usize| {
        let weight = |query| f64::from(row(query)[key(query)]);
        queries.clone().map(weight).sum::<f64>() / count
    };
    let found = |keys: &[Vec<usize>]| -> Option<f64> {
        let with: Vec<f64> = queries
            .clone()
            .filter(|&query| !keys[query].is_empty())
            .map(|query| {
                keys[query]
                    .iter()
                    .map(|&key| f64::from(row(query)[key]))
                    .sum()
            })
            .collect();
        (!with.is_empty()).then(|| with.iter().sum::<f64>() / with.len() as f64)
    };
    let entropy = |query: usize| -> f64 {
        let terms = row(query).iter().map(|&w| f64::from(w));
        terms.filter(|&w| w > 0.0).map(|w| -w * w.ln()).sum()
    };
    HeadScores {
        previous: mean(&|query| query - 1),
        first: mean(&|_| 0),
        current: mean(&|query| query),
        duplicate: found(&earlier.same),
        induction: found(&earlier.after),
        entropy: queries.clone().map(entropy).sum::<f64>() / count,
    }
}

/// Every head of a model on a text. Layers are read in several passes where all patterns would be too many at once.
///
/// # Errors
/// As [`attention`], and a text of fewer than 3 tokens.
pub fn head_kinds(
    model: &Decoder,
    ids: &[u32],
    edits: &[Edit],
) -> Result<Vec<HeadSummary>, LensError> {
    let layers: Vec<usize> = (0..model.config().n_layers).collect();
    let mut out = Vec::new();
    for some in layers.chunks(layers_at_once(model.config().n_heads, ids.len())) {
        out.extend(attention(model, ids, some, edits)?.heads()?);
    }
    Ok(out)
}

/// The model's first token, if it has one, and `n` random ordinary tokens twice.
pub fn repeated_tokens(checkpoint: &Checkpoint, n: usize, seed: u64) -> Vec<u32> {
    let words = &checkpoint.tokenizer;
    let ordinary: Vec<u32> = (0..words.vocab_size() as u32)
        .filter(|&id| !words.is_special(id) && words.token_bytes(id).is_some())
        .collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let once: Vec<u32> = (0..n.min(n * ordinary.len()))
        .map(|_| ordinary[random.random_range(0..ordinary.len())])
        .collect();
    words
        .bos()
        .into_iter()
        .chain(once.iter().copied())
        .chain(once.iter().copied())
        .collect()
}

/// Every head on `n` random tokens that come twice: the standard test of previous-token, duplicate and induction heads.
///
/// # Errors
/// As [`head_kinds`].
pub fn probe_heads(
    checkpoint: &Checkpoint,
    n: usize,
    seed: u64,
    edits: &[Edit],
) -> Result<Vec<HeadSummary>, LensError> {
    head_kinds(
        &checkpoint.decoder,
        &repeated_tokens(checkpoint, n, seed),
        edits,
    )
}
