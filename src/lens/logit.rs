//! The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): what the model would say if it stopped at a
//! layer. Each residual stream goes through the model's own final norm and unembedding, final soft-cap included.
//!
//! Always: the last layer's row is the model's own distribution; only the top tokens and scalars of a cell are kept, so
//! `[layers, positions, vocab]` never exists; sums over the vocabulary are in f64. Logarithms are natural.

use candle_core::{DType, Tensor};
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use super::{LensError, Positions};
use crate::hooks::{Captured, Edit, HookPoint, Hooks, Point};
use crate::model::{Batch, Cancel, Decoder, LogitsAt, ModelError};

/// Bytes of work space for one chunk of positions; per position about 32 bytes a vocabulary entry are in use.
const WORK_BYTES: usize = 128 << 20;
const BYTES_PER_LOGIT: usize = 32;
/// A small chunk would read the unembedding matrix more often than it computes with it.
const LEAST_CHUNK: usize = 16;

/// A row of the lens: a place in the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LensRow {
    /// `resid_pre.0`: the embedding, positions added where they are learned.
    Embed,
    /// `resid_post.L`.
    Layer(usize),
}

impl LensRow {
    /// Every row of a model.
    pub fn all(n_layers: usize) -> Vec<Self> {
        std::iter::once(Self::Embed)
            .chain((0..n_layers).map(Self::Layer))
            .collect()
    }

    /// The tensor it reads.
    pub fn point(self) -> HookPoint {
        match self {
            Self::Embed => HookPoint::new(Point::ResidPre, 0),
            Self::Layer(layer) => HookPoint::new(Point::ResidPost, layer),
        }
    }

    /// `embed` or the layer's number.
    pub fn label(self) -> String {
        match self {
            Self::Embed => "embed".into(),
            Self::Layer(layer) => layer.to_string(),
        }
    }
}

impl Serialize for LensRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.label())
    }
}

/// What to read.
#[derive(Debug, Clone)]
pub struct LensOptions {
    /// How many of the likeliest tokens a cell keeps.
    pub top_k: usize,
    /// Which positions.
    pub positions: Positions,
    /// Which rows; all when empty.
    pub rows: Vec<LensRow>,
    /// The token whose rank and log-probability are followed; `None` follows what the model itself says next at each
    /// position.
    pub target: Option<u32>,
}

impl Default for LensOptions {
    fn default() -> Self {
        Self {
            top_k: 5,
            positions: Positions::all(),
            rows: Vec::new(),
            target: None,
        }
    }
}

/// A token with its probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ranked {
    /// The token.
    pub id: u32,
    /// Its probability.
    pub probability: f64,
}

/// One layer at one position.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The likeliest tokens, falling; equal ones by id.
    pub top: Vec<Ranked>,
    /// Entropy of the distribution, nats.
    pub entropy: f64,
    /// `KL(final ‖ layer)`, nats: what is lost by reading this layer where the model's output is meant.
    pub kl: f64,
    /// Rank of the target token, 1 for the likeliest.
    pub target_rank: usize,
    /// Log-probability of the target token.
    pub target_log_prob: f64,
    /// Euclidean norm of the residual stream.
    pub norm: f64,
}

/// A lens over `[rows, positions]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitLens {
    /// The layers, in the order of the forward pass.
    pub rows: Vec<LensRow>,
    /// The positions, rising.
    pub positions: Vec<usize>,
    /// The token at each position.
    pub tokens: Vec<u32>,
    /// The token that is followed at each position.
    pub targets: Vec<u32>,
    /// `[row][position]`.
    pub cells: Vec<Vec<Cell>>,
}

impl LogitLens {
    /// A cell by indices into `rows` and `positions`.
    pub fn cell(&self, row: usize, position: usize) -> &Cell {
        &self.cells[row][position]
    }
}

/// Reads a row of tokens through the lens, under these edits.
///
/// # Errors
/// Positions, layers, target or top-k out of range; an edit that cannot apply or lies after the stream; non-finite logits.
pub fn logit_lens(
    model: &Decoder,
    ids: &[u32],
    options: &LensOptions,
    edits: &[Edit],
) -> Result<LogitLens, LensError> {
    let chunk = WORK_BYTES / (model.config().vocab_size * BYTES_PER_LOGIT);
    in_chunks(model, ids, options, edits, chunk.max(LEAST_CHUNK))
}

/// [`logit_lens`] with a given number of positions in work at a time.
pub(super) fn in_chunks(
    model: &Decoder,
    ids: &[u32],
    options: &LensOptions,
    edits: &[Edit],
    chunk: usize,
) -> Result<LogitLens, LensError> {
    let config = model.config();
    let positions = options.positions.resolve(ids.len())?;
    check(model, options)?;
    let rows = rows_of(model, &options.rows)?;
    refuse_late(edits)?;
    let last = LensRow::Layer(config.n_layers - 1);
    let hooks = rows
        .iter()
        .chain([&last])
        .fold(Hooks::new().edits(edits.iter().cloned()), |h, row| {
            h.capture(row.point())
        });
    let captured = model
        .forward(&Batch::single(ids)?, &hooks, LogitsAt::None)?
        .captured;
    let mut lens = LogitLens {
        tokens: positions.iter().map(|&p| ids[p]).collect(),
        targets: Vec::with_capacity(positions.len()),
        cells: rows
            .iter()
            .map(|_| Vec::with_capacity(positions.len()))
            .collect(),
        rows,
        positions,
    };
    for positions in lens.positions.clone().chunks(chunk) {
        let reference = Logits::of(model, &captured, last, positions)?;
        let target = |i: usize| options.target.unwrap_or_else(|| argmax(reference.at(i)));
        let targets: Vec<u32> = (0..positions.len()).map(target).collect();
        let probabilities = reference.probabilities();
        for (row, cells) in lens.rows.iter().zip(&mut lens.cells) {
            Cancel::check()?;
            let logits = Logits::of(model, &captured, *row, positions)?;
            cells.extend(logits.cells(&reference, &probabilities, &targets, options.top_k)?);
        }
        lens.targets.extend(targets);
    }
    Ok(lens)
}

fn check(model: &Decoder, options: &LensOptions) -> Result<(), LensError> {
    let vocab = model.config().vocab_size;
    if options.top_k == 0 || options.top_k > vocab {
        return Err(LensError::TopK {
            found: options.top_k,
            vocab,
        });
    }
    if let Some(id) = options.target
        && id as usize >= vocab
    {
        return Err(ModelError::TokenOutOfRange { id, vocab }.into());
    }
    Ok(())
}

/// Refuses edits that no residual stream would show.
pub(super) fn refuse_late(edits: &[Edit]) -> Result<(), LensError> {
    let after = |edit: &&Edit| matches!(edit.at.point, Point::FinalNorm | Point::Logits);
    if let Some(edit) = edits.iter().find(after) {
        return Err(LensError::EditAfterStream {
            point: edit.at.to_string(),
        });
    }
    Ok(())
}

/// The rows asked for, all when none are named.
pub(super) fn rows_of(model: &Decoder, rows: &[LensRow]) -> Result<Vec<LensRow>, LensError> {
    let n_layers = model.config().n_layers;
    let beyond = |row: &&LensRow| matches!(row, LensRow::Layer(layer) if *layer >= n_layers);
    if let Some(LensRow::Layer(layer)) = rows.iter().find(beyond) {
        return Err(LensError::OutOfRange {
            axis: "layer",
            index: *layer as i64,
            size: n_layers,
        });
    }
    Ok(if rows.is_empty() {
        LensRow::all(n_layers)
    } else {
        rows.to_vec()
    })
}

/// Logits of some positions at one row, `[positions, vocab]`, with the norms of the streams they come from.
struct Logits {
    row: LensRow,
    positions: Vec<usize>,
    values: Vec<f64>,
    norms: Vec<f64>,
    /// `log Σ exp` of each position.
    lse: Vec<f64>,
    vocab: usize,
}

impl Logits {
    fn of(
        model: &Decoder,
        captured: &Captured,
        row: LensRow,
        positions: &[usize],
    ) -> Result<Self, LensError> {
        let stream = captured.get(&row.point()).ok_or(ModelError::Empty {
            what: "the pass captured no residual stream",
        })?;
        let read = || -> Result<_, ModelError> {
            let stream = pick(stream, positions)?;
            let norms = stream
                .to_dtype(DType::F64)?
                .sqr()?
                .sum(2)?
                .sqrt()?
                .flatten_all()?;
            let logits = model
                .unembed(&stream)?
                .to_dtype(DType::F64)?
                .flatten_all()?;
            Ok((norms.to_vec1::<f64>()?, logits.to_vec1::<f64>()?))
        };
        let (norms, values) = read()?;
        let vocab = model.config().vocab_size;
        let lse: Vec<f64> = values.par_chunks_exact(vocab).map(log_sum_exp).collect();
        if let Some(i) = lse.iter().position(|x| !x.is_finite()) {
            return Err(LensError::NotFinite {
                row: row.point().to_string(),
                position: positions[i],
            });
        }
        Ok(Self {
            row,
            positions: positions.to_vec(),
            values,
            norms,
            lse,
            vocab,
        })
    }

    fn at(&self, position: usize) -> &[f64] {
        &self.values[position * self.vocab..(position + 1) * self.vocab]
    }

    /// `[positions, vocab]`
    fn probabilities(&self) -> Vec<f64> {
        let mut out = self.values.clone();
        let rows = out.par_chunks_exact_mut(self.vocab).zip(&self.lse);
        rows.for_each(|(row, lse)| {
            for x in row {
                *x = (*x - lse).exp();
            }
        });
        out
    }

    fn cells(
        &self,
        reference: &Self,
        probabilities: &[f64],
        targets: &[u32],
        top_k: usize,
    ) -> Result<Vec<Cell>, LensError> {
        let cell = |i: usize| -> Result<Cell, LensError> {
            let (x, lse) = (self.at(i), self.lse[i]);
            let (f, f_lse) = (reference.at(i), reference.lse[i]);
            let p_final = &probabilities[i * self.vocab..(i + 1) * self.vocab];
            let (mut expected, mut kl) = (0.0, 0.0);
            for ((&x, &f), &p) in x.iter().zip(f).zip(p_final) {
                expected += (x - lse).exp() * x;
                // Both differences first: for the last layer each term is exactly zero.
                kl += p * ((f - f_lse) - (x - lse));
            }
            if !expected.is_finite() || !kl.is_finite() {
                return Err(LensError::NotFinite {
                    row: self.row.point().to_string(),
                    position: self.positions[i],
                });
            }
            let target = targets[i];
            let probability = |id: &u32| Ranked {
                id: *id,
                probability: (x[*id as usize] - lse).exp(),
            };
            Ok(Cell {
                top: largest(x, top_k).iter().map(probability).collect(),
                entropy: (lse - expected).max(0.0),
                // Gibbs: never negative but for rounding.
                kl: kl.max(0.0),
                target_rank: rank(x, target),
                target_log_prob: x[target as usize] - lse,
                norm: self.norms[i],
            })
        };
        (0..self.positions.len())
            .into_par_iter()
            .map(cell)
            .collect()
    }
}

/// `[1, positions, d_model]` of `[1, pos, d_model]`.
pub(super) fn pick(stream: &Tensor, positions: &[usize]) -> candle_core::Result<Tensor> {
    if positions.len() == stream.dim(1)? {
        return stream.contiguous();
    }
    let index: Vec<u32> = positions.iter().map(|&p| p as u32).collect();
    let index = Tensor::from_vec(index, positions.len(), stream.device())?;
    stream.index_select(&index, 1)?.contiguous()
}

pub(super) fn log_sum_exp(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

pub(super) fn argmax(row: &[f64]) -> u32 {
    largest(row, 1).first().copied().unwrap_or(0)
}

/// Indices of the `k` largest, falling; equal ones by index. Rows with a NaN have been refused before.
pub(super) fn largest(row: &[f64], k: usize) -> Vec<u32> {
    let falling = |a: &u32, b: &u32| {
        let (x, y) = (row[*a as usize], row[*b as usize]);
        y.partial_cmp(&x)
            .unwrap_or(std::cmp::Ordering::Equal)
            .then(a.cmp(b))
    };
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    if k < order.len() {
        order.select_nth_unstable_by(k, falling);
        order.truncate(k);
    }
    order.sort_unstable_by(falling);
    order
}

/// 1 plus the number of tokens before it in the order of [`largest`].
fn rank(row: &[f64], token: u32) -> usize {
    let x = row[token as usize];
    let before = |(i, y): (usize, &f64)| *y > x || (*y == x && i < token as usize);
    1 + row.iter().enumerate().filter(|&at| before(at)).count()
}
