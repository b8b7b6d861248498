//! Activations of all (hook point, layer, position) cells in one pass over the prompts.
//!
//! Prompts run shortest first, in batches, over the prefix that they share, which is computed once unless a mean over all
//! tokens is wanted. Only what a cell needs is kept: rows × cells × width × 4 bytes ([`Plan::bytes`]), bounded before
//! anything runs. Means are summed in f64. An activation that is not finite is refused with its row.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;
use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{Encoded, Position, ProbingError};
use crate::config::ModelConfig;
use crate::hooks::{HookPoint, Hooks, Keep, Shape, expand};
use crate::model::{Decoder, LogitsAt};
use crate::steer::{EncodedPrompt, PromptSet};
use crate::text::amount::bytes;

/// A place where a probe reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The hook point with its layer.
    pub point: HookPoint,
    /// The position.
    pub position: Position,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.point, self.position)
    }
}

/// What is to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Points in the order of the forward pass as asked for.
    pub points: Vec<HookPoint>,
    /// Numbers that each point has at one token.
    pub widths: Vec<usize>,
    /// Positions.
    pub positions: Vec<Position>,
}

impl Plan {
    /// Points by pattern (`resid_post.*`, `z.3`), each with all positions.
    ///
    /// # Errors
    /// A point that the model lacks or that has nothing at a single token, no point or position.
    pub fn new(
        patterns: &[&str],
        positions: &[Position],
        config: &ModelConfig,
    ) -> Result<Self, ProbingError> {
        let mut points = Vec::new();
        for pattern in patterns {
            for point in expand(pattern, config)? {
                if !points.contains(&point) {
                    points.push(point);
                }
            }
        }
        let mut distinct: Vec<Position> = Vec::new();
        for &position in positions {
            if !distinct.contains(&position) {
                distinct.push(position);
            }
        }
        for (what, none) in [
            ("points", points.is_empty()),
            ("positions", distinct.is_empty()),
        ] {
            if none {
                return Err(ProbingError::Written {
                    what,
                    expected: "at least one",
                    found: String::new(),
                });
            }
        }
        let widths = points
            .iter()
            .map(|&at| width(at, config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            points,
            widths,
            positions: distinct,
        })
    }

    /// The places, point by point.
    pub fn places(&self) -> Vec<Place> {
        let of = |&point: &HookPoint| {
            let at = move |&position| Place { point, position };
            self.positions.iter().map(at)
        };
        self.points.iter().flat_map(of).collect()
    }

    /// Bytes that the activations of so many rows take.
    pub fn bytes(&self, rows: usize) -> u64 {
        let wide: u64 = self.widths.iter().map(|&w| w as u64).sum();
        4 * wide * self.positions.len() as u64 * rows as u64
    }
}

/// Numbers of a point at one token.
pub(super) fn width(at: HookPoint, config: &ModelConfig) -> Result<usize, ProbingError> {
    let info = at.point.info();
    match info.shape {
        Shape::Model | Shape::Heads | Shape::KvHeads | Shape::Mlp => {
            Ok(info.dims(config, 1, 1, 1)[2..].iter().product())
        }
        Shape::Attention | Shape::HeadModel | Shape::Vocab => Err(ProbingError::Point {
            point: at.to_string(),
            reason: format!(
                "its shape is {}; a probe reads residual streams, module outputs, heads or neurons",
                info.shape_text(config)
            ),
        }),
    }
}

/// How a harvest runs.
#[derive(Clone, Copy)]
pub struct HarvestOptions<'a> {
    /// Prompts in a batch.
    pub batch: usize,
    /// The most bytes of activations kept.
    pub memory: u64,
    /// Called with (done, total) prompts after each batch.
    pub progress: Option<&'a dyn Fn(usize, usize)>,
    /// Set to true to stop at the next batch.
    pub cancel: Option<&'a AtomicBool>,
}

impl Default for HarvestOptions<'_> {
    fn default() -> Self {
        Self {
            batch: 16,
            memory: 4 << 30,
            progress: None,
            cancel: None,
        }
    }
}

/// Activations of rows at places.
#[derive(Debug, Clone)]
pub struct Harvest {
    /// The places.
    pub places: Vec<Place>,
    /// `[row, width]` at each place.
    pub data: Vec<Array2<f32>>,
}

impl Harvest {
    /// Activations `[row, width]` at a place; `None` if it was not read.
    pub fn at(&self, place: Place) -> Option<ArrayView2<'_, f32>> {
        let index = self.places.iter().position(|&p| p == place)?;
        Some(self.data[index].view())
    }
}

/// Reads every place of the plan for every row, without edits.
///
/// # Errors
/// A position that a row lacks, too many activations, one that is not finite, an interruption.
pub fn harvest(
    model: &Decoder,
    rows: &[Encoded],
    plan: &Plan,
    options: &HarvestOptions,
) -> Result<Harvest, ProbingError> {
    let needed = plan.bytes(rows.len());
    if needed > options.memory {
        return Err(ProbingError::Memory {
            cells: plan.points.len() * plan.positions.len(),
            rows: rows.len(),
            needed: bytes(needed),
            limit: bytes(options.memory),
        });
    }
    let mut data: Vec<Array2<f32>> = plan
        .widths
        .iter()
        .flat_map(|&w| plan.positions.iter().map(move |_| w))
        .map(|w| Array2::zeros((rows.len(), w)))
        .collect();
    let ranges = ranges(rows, plan)?;
    read(
        model,
        rows,
        plan,
        &ranges,
        options,
        &mut |cell, row, tokens, n| mean_into(data[cell].row_mut(row), tokens, n),
    )?;
    Ok(Harvest {
        places: plan.places(),
        data,
    })
}

/// Activations of every token of a stretch of each row, at one point.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The point, and the stretch.
    pub place: Place,
    /// `[token, width]`, row after row.
    pub data: Array2<f32>,
    /// Where each row begins in them, and where the last ends, `[row + 1]`.
    pub starts: Vec<usize>,
}

/// Reads every token of the plan's positions for every row, without edits.
///
/// # Errors
/// Those of [`harvest`].
pub fn harvest_tokens(
    model: &Decoder,
    rows: &[Encoded],
    plan: &Plan,
    options: &HarvestOptions,
) -> Result<Vec<Tokens>, ProbingError> {
    let ranges = ranges(rows, plan)?;
    let mut found = Vec::new();
    for place in plan.places() {
        let position = plan.positions.iter().position(|&p| p == place.position);
        let width = plan.points.iter().position(|&p| p == place.point);
        let width = width.map_or(0, |at| plan.widths[at]);
        let mut starts = vec![0];
        for of_row in &ranges {
            let len = position.map_or(0, |at| of_row[at].len());
            starts.push(starts[starts.len() - 1] + len);
        }
        found.push((place, width, starts));
    }
    let of = |(_, width, starts): &(Place, usize, Vec<usize>)| width * starts[rows.len()];
    let needed = 4 * found.iter().map(|cell| of(cell) as u64).sum::<u64>();
    if needed > options.memory {
        return Err(ProbingError::Memory {
            cells: found.len(),
            rows: rows.len(),
            needed: bytes(needed),
            limit: bytes(options.memory),
        });
    }
    let mut found: Vec<Tokens> = (found.into_iter())
        .map(|(place, width, starts)| Tokens {
            place,
            data: Array2::zeros((starts[rows.len()], width)),
            starts,
        })
        .collect();
    read(
        model,
        rows,
        plan,
        &ranges,
        options,
        &mut |cell, row, tokens, _| {
            let start = found[cell].starts[row];
            let mut finite = true;
            for (t, token) in tokens.enumerate() {
                finite &= token.iter().all(|v| v.is_finite());
                found[cell]
                    .data
                    .row_mut(start + t)
                    .assign(&ArrayView1::from(token));
            }
            finite
        },
    )?;
    Ok(found)
}

/// The tokens of each row's positions.
fn ranges(rows: &[Encoded], plan: &Plan) -> Result<Vec<Vec<Range<usize>>>, ProbingError> {
    (rows.iter())
        .map(|row| plan.positions.iter().map(|&p| row.range(p)).collect())
        .collect()
}

/// Takes (cell, row, its tokens, how many); false if they are not finite.
type OnTokens<'a> = dyn FnMut(usize, usize, &mut dyn Iterator<Item = &[f32]>, usize) -> bool + 'a;

/// One pass over the rows.
fn read(
    model: &Decoder,
    rows: &[Encoded],
    plan: &Plan,
    ranges: &[Vec<Range<usize>>],
    options: &HarvestOptions,
    take: &mut OnTokens,
) -> Result<(), ProbingError> {
    let first = ranges.iter().flatten().map(|r| r.start).min().unwrap_or(0);
    let prompts: Vec<EncodedPrompt> = rows.iter().map(prompt).collect();
    let set = PromptSet::keeping(&prompts, |_| first);
    let prefix = set.prefix(model, &Hooks::new())?;
    let shared = prefix.ids().len();
    let mut done = 0;
    for indices in set.batches(options.batch) {
        if options
            .cancel
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            return Err(ProbingError::Interrupted);
        }
        let (mut cache, batch) = prefix.split(&set.rows(indices), 0)?;
        // Rows are padded on the left: what is kept are the last tokens of each.
        let starts = indices.iter().map(|&i| {
            let earliest = ranges[i].iter().map(|r| r.start).min().unwrap_or(0);
            rows[i].ids.len() - earliest
        });
        let reach = starts.max().unwrap_or(1);
        let shortest = indices.iter().map(|&i| rows[i].ids.len() - shared).min();
        let keep = if shortest.is_some_and(|s| reach <= s) {
            Keep::Last(reach)
        } else {
            Keep::All
        };
        let hooks = plan
            .points
            .iter()
            .fold(Hooks::new(), |hooks, &at| hooks.capture_kept(at, keep));
        let mut captured = model
            .forward_cached(&batch, &mut cache, &hooks, LogitsAt::Last)?
            .captured;
        for (p, (at, &width)) in plan.points.iter().zip(&plan.widths).enumerate() {
            let Some(tensor) = captured.remove(at) else {
                return Err(ProbingError::Point {
                    point: at.to_string(),
                    reason: "the pass did not reach it".into(),
                });
            };
            let kept = tensor.dim(1)?;
            let flat = tensor
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            for (row, &index) in indices.iter().enumerate() {
                let len = rows[index].ids.len();
                for (w, range) in ranges[index].iter().enumerate() {
                    // The token `len - 1` is at `kept - 1`.
                    let start = row * kept + kept + range.start - len;
                    let mut tokens =
                        flat[start * width..(start + range.len()) * width].chunks(width);
                    let cell = p * plan.positions.len() + w;
                    if !take(cell, index, &mut tokens, range.len()) {
                        return Err(ProbingError::NotFinite {
                            id: rows[index].id.clone(),
                            point: at.to_string(),
                        });
                    }
                }
            }
        }
        done += indices.len();
        if let Some(progress) = options.progress {
            progress(done, rows.len());
        }
    }
    Ok(())
}

fn prompt(row: &Encoded) -> EncodedPrompt {
    let end = row.content.as_ref().map_or(row.ids.len(), |c| c.end);
    EncodedPrompt {
        id: row.id.clone(),
        ids: row.ids.clone(),
        instruction_end: end.saturating_sub(1),
        tail: end..row.ids.len(),
    }
}

/// The mean of tokens; false if it is not finite.
fn mean_into(
    mut target: ndarray::ArrayViewMut1<f32>,
    tokens: &mut dyn Iterator<Item = &[f32]>,
    n: usize,
) -> bool {
    let mut sum = vec![0f64; target.len()];
    for token in tokens {
        for (s, &v) in sum.iter_mut().zip(token) {
            *s += f64::from(v);
        }
    }
    for (t, s) in target.iter_mut().zip(sum) {
        *t = (s / n as f64) as f32;
    }
    target.iter().all(|v| v.is_finite())
}
