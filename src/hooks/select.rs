//! Which entries of a tensor an edit touches: rows of the batch, positions, heads, channels.
//!
//! Positions are logical: 0 is the first token of a row whatever its padding; negative ones count from the end of the
//! row in the present pass, so while generating with a cache -1 is each new token. Prompt and answer are told apart by
//! the slot where all prompts end, which left padding makes the same for every row. A selector that names something the
//! tensor lacks is refused; it never selects nothing by accident.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{HookError, HookPoint, Shape};

/// Some or all indices of an axis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Every index.
    #[default]
    All,
    /// These.
    Only(Vec<usize>),
}

/// Some or all positions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionSelect {
    /// Every position.
    #[default]
    All,
    /// These; negative from the row's end.
    At(Vec<i64>),
    /// This one and all later.
    From(usize),
    /// Those of the prompt. A pass that nobody said otherwise of is all prompt.
    Prompt,
    /// Those that were generated after the prompt, none while the prompt is read: the first new token comes of the
    /// prompt's last position, which is not among them.
    Generated,
    /// The last so many of the prompt and all that are generated after it.
    Tail(usize),
}

impl PositionSelect {
    /// Whether it is told from where the prompt ends.
    pub fn of_prompt(&self) -> bool {
        matches!(self, Self::Prompt | Self::Generated | Self::Tail(_))
    }
}

/// The entries an edit touches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// Rows of the batch.
    pub rows: Axis,
    /// Token positions (query positions for scores and patterns).
    pub positions: PositionSelect,
    /// Heads, where the tensor has them.
    pub heads: Axis,
    /// Entries of the last axis.
    pub channels: Axis,
}

impl Selector {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these positions.
    pub fn positions(positions: PositionSelect) -> Self {
        Self {
            positions,
            ..Self::default()
        }
    }

    /// True when nothing is left out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// What a pass looks like to selectors: where each query slot stands in its row.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Rows.
    pub batch: usize,
    /// Query slots of this pass.
    pub queries: usize,
    /// Key slots, cached ones included.
    pub keys: usize,
    /// First query's slot: cached slots before this pass.
    pub offset: usize,
    /// Slots shared by all rows before any padding.
    pub prefix: usize,
    /// Padding of each row, after the prefix.
    pub pad: Vec<usize>,
    /// The slot at which all prompts end and what is generated begins.
    pub prompt: usize,
}

impl Pass {
    /// Logical position of a slot in a row; `None` for padding.
    pub fn position(&self, row: usize, slot: usize) -> Option<usize> {
        let pad = self.pad.get(row).copied().unwrap_or(0);
        if slot < self.prefix {
            Some(slot)
        } else if slot < self.prefix + pad {
            None
        } else {
            Some(slot - pad)
        }
    }

    /// Slot of a logical position in a row.
    pub fn slot(&self, row: usize, position: usize) -> usize {
        let pad = self.pad.get(row).copied().unwrap_or(0);
        if position < self.prefix {
            position
        } else {
            position + pad
        }
    }

    /// Logical length of a row at the end of this pass.
    pub fn row_len(&self, row: usize) -> usize {
        self.offset + self.queries - self.pad.get(row).copied().unwrap_or(0)
    }

    /// `[batch * queries]` flags of the selected positions.
    pub(super) fn select(
        &self,
        at: HookPoint,
        which: &PositionSelect,
    ) -> Result<Vec<u8>, HookError> {
        let mut flags = vec![0u8; self.batch * self.queries];
        for row in 0..self.batch {
            let wanted = self.wanted(at, row, which)?;
            for q in 0..self.queries {
                let slot = self.offset + q;
                let Some(position) = self.position(row, slot) else {
                    continue;
                };
                let hit = match which {
                    PositionSelect::All => true,
                    PositionSelect::From(first) => position >= *first,
                    PositionSelect::At(_) => wanted.contains(&position),
                    PositionSelect::Prompt => slot < self.prompt,
                    PositionSelect::Generated => slot >= self.prompt,
                    PositionSelect::Tail(n) => slot.saturating_add(*n) >= self.prompt,
                };
                flags[row * self.queries + q] = u8::from(hit);
            }
        }
        Ok(flags)
    }

    /// Resolves listed positions of a row. Positions of other passes over the same cache are legal and fall away.
    fn wanted(
        &self,
        at: HookPoint,
        row: usize,
        which: &PositionSelect,
    ) -> Result<Vec<usize>, HookError> {
        let PositionSelect::At(list) = which else {
            return Ok(Vec::new());
        };
        let len = self.row_len(row);
        let resolve = |&p: &i64| {
            let position = if p < 0 { len as i64 + p } else { p };
            let first_pass = self.offset == 0;
            if (position < 0 || position >= len as i64) && first_pass && (p < 0 || self.queries > 1)
            {
                return Err(HookError::OutOfRange {
                    at: at.to_string(),
                    axis: "position",
                    index: p,
                    size: len,
                });
            }
            Ok(usize::try_from(position).ok())
        };
        Ok(list
            .iter()
            .map(resolve)
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect())
    }
}

/// A mask of the tensor's shape (u8), or `None` when everything is selected.
pub(super) fn mask(
    at: HookPoint,
    select: &Selector,
    pass: &Pass,
    dims: &[usize],
) -> Result<Option<Tensor>, HookError> {
    let shape = at.point.info().shape;
    check_axes(at, select, shape, dims, pass)?;
    if select.is_all() {
        return Ok(None);
    }
    let rows = axis_flags(&select.rows, pass.batch);
    let mut row_pos = pass.select(at, &select.positions)?;
    for (i, flag) in row_pos.iter_mut().enumerate() {
        *flag &= rows[i / pass.queries];
    }
    let candle = |source| HookError::Candle {
        at: at.to_string(),
        source,
    };
    let build = || -> candle_core::Result<Tensor> {
        let device = &Device::Cpu;
        let (b, q) = (pass.batch, pass.queries);
        let base = match shape {
            Shape::Attention => Tensor::from_vec(row_pos, (b, 1, q, 1), device)?,
            Shape::Heads | Shape::KvHeads | Shape::HeadModel => {
                Tensor::from_vec(row_pos, (b, q, 1, 1), device)?
            }
            _ => Tensor::from_vec(row_pos, (b, q, 1), device)?,
        };
        let mut full = base.to_dtype(DType::U8)?.broadcast_as(dims)?;
        if let Some(head_axis) = head_axis(shape) {
            let mut axes = vec![1; dims.len()];
            axes[head_axis] = dims[head_axis];
            let heads = Tensor::from_vec(axis_flags(&select.heads, dims[head_axis]), axes, device)?;
            full = full.broadcast_mul(&heads)?;
        }
        if select.channels != Axis::All {
            let width = dims[dims.len() - 1];
            full = full.broadcast_mul(&Tensor::from_vec(
                axis_flags(&select.channels, width),
                width,
                device,
            )?)?;
        }
        Ok(full)
    };
    build().map(Some).map_err(candle)
}

fn head_axis(shape: Shape) -> Option<usize> {
    match shape {
        Shape::Heads | Shape::KvHeads | Shape::HeadModel => Some(2),
        Shape::Attention => Some(1),
        Shape::Model | Shape::Mlp | Shape::Vocab => None,
    }
}

fn axis_flags(axis: &Axis, size: usize) -> Vec<u8> {
    match axis {
        Axis::All => vec![1; size],
        Axis::Only(list) => (0..size).map(|i| u8::from(list.contains(&i))).collect(),
    }
}

fn check_axes(
    at: HookPoint,
    select: &Selector,
    shape: Shape,
    dims: &[usize],
    pass: &Pass,
) -> Result<(), HookError> {
    let within = |axis: &'static str, which: &Axis, size: usize| match which {
        Axis::Only(list) => match list.iter().find(|&&i| i >= size) {
            Some(&index) => Err(HookError::OutOfRange {
                at: at.to_string(),
                axis,
                index: index as i64,
                size,
            }),
            None => Ok(()),
        },
        Axis::All => Ok(()),
    };
    within("row", &select.rows, pass.batch)?;
    let no_axis = |axis| HookError::NoAxis {
        at: at.to_string(),
        axis,
        shape: format!("{shape:?}"),
    };
    match (head_axis(shape), &select.heads) {
        (Some(axis), heads) => within("head", heads, dims[axis])?,
        (None, Axis::Only(_)) => return Err(no_axis("head")),
        (None, Axis::All) => {}
    }
    if shape == Shape::Attention && select.channels != Axis::All {
        return Err(no_axis("channel"));
    }
    within("channel", &select.channels, dims[dims.len() - 1])
}
