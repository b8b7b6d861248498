//! The residual stream of a list of prompts at chosen layers and positions.
//!
//! Layer L is `resid_pre.L` (the input of block L); the layer after the last block, L = n_layers, is `resid_post` of the
//! last one. Only the positions asked for are kept, so memory is n × places × d_model floats however long the prompts are.

use std::fmt;

use candle_core::DType;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::pass::each_batch;
use super::{EncodedPrompt, Options, PromptSet, SteerError};
use crate::hooks::{HookPoint, Hooks, Keep, Point, tail};
use crate::model::{Decoder, LogitsAt};

/// A position of a prompt that means the same in every prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// The last token of the instruction.
    InstructionEnd,
    /// The k-th token from the end; 1 is the last.
    FromEnd(usize),
}

impl Where {
    /// Every position after the instruction that all these prompts have, first to last, and before them its end.
    pub fn all(prompts: &[EncodedPrompt]) -> Vec<Self> {
        let tail = prompts.iter().map(|p| p.tail.len()).min().unwrap_or(0);
        std::iter::once(Self::InstructionEnd)
            .chain((1..=tail).rev().map(Self::FromEnd))
            .collect()
    }

    /// Its index in a prompt; `None` where the prompt is too short.
    pub fn index(self, prompt: &EncodedPrompt) -> Option<usize> {
        let len = prompt.ids.len();
        match self {
            Self::InstructionEnd => Some(prompt.instruction_end).filter(|&i| i < len),
            Self::FromEnd(0) => None,
            Self::FromEnd(k) => len.checked_sub(k),
        }
    }

    /// As a position counted from the end, as Arditi et al. write it; `None` for the instruction's end.
    pub fn from_end(self) -> Option<i64> {
        match self {
            Self::InstructionEnd => None,
            Self::FromEnd(k) => Some(-(k as i64)),
        }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstructionEnd => f.write_str("instruction end"),
            Self::FromEnd(k) => write!(f, "position -{k}"),
        }
    }
}

/// Activations of prompts at several places.
#[derive(Debug, Clone)]
pub struct Residuals {
    /// Layers, in the order asked for.
    pub layers: Vec<usize>,
    /// Positions, in the order asked for.
    pub wheres: Vec<Where>,
    /// Blocks of the model.
    pub n_layers: usize,
    /// `[prompt, d_model]` at each place, layer by layer.
    pub data: Vec<Array2<f32>>,
}

impl Residuals {
    /// Activations `[prompt, d_model]` at the i-th layer and the j-th position asked for.
    ///
    /// # Panics
    /// On an index that was not asked for.
    pub fn at(&self, layer_idx: usize, where_idx: usize) -> ArrayView2<'_, f32> {
        assert!(where_idx < self.wheres.len(), "no such position");
        self.data[layer_idx * self.wheres.len() + where_idx].view()
    }

    /// Activations at a place by its name; `None` if it was not asked for.
    pub fn find(&self, layer: usize, place: Where) -> Option<ArrayView2<'_, f32>> {
        let layer = self.layers.iter().position(|&l| l == layer)?;
        let place = self.wheres.iter().position(|&w| w == place)?;
        Some(self.at(layer, place))
    }

    /// Prompts.
    pub fn n(&self) -> usize {
        self.data.first().map_or(0, Array2::nrows)
    }

    /// Width.
    pub fn d(&self) -> usize {
        self.data.first().map_or(0, Array2::ncols)
    }
}

/// Reads the residual stream of each prompt, without edits.
///
/// # Errors
/// A layer the model lacks, a position a prompt lacks, an activation that is not finite, an interruption.
pub fn residuals(
    model: &impl AsRef<Decoder>,
    prompts: &[EncodedPrompt],
    layers: &[usize],
    wheres: &[Where],
    options: &Options,
) -> Result<Residuals, SteerError> {
    read(
        model.as_ref(),
        prompts,
        layers,
        wheres,
        &Hooks::new(),
        options,
    )
}

/// [`residuals`] under edits.
pub(super) fn read(
    model: &Decoder,
    prompts: &[EncodedPrompt],
    layers: &[usize],
    wheres: &[Where],
    edits: &Hooks,
    options: &Options,
) -> Result<Residuals, SteerError> {
    let n_layers = model.config().n_layers;
    let points = layers
        .iter()
        .map(|&layer| point(layer, n_layers))
        .collect::<Result<Vec<_>, _>>()?;
    // Distance from the end, at least 1, of each wanted position of each prompt.
    let back = prompts
        .iter()
        .map(|prompt| wheres.iter().map(|&w| back(prompt, w)).collect())
        .collect::<Result<Vec<Vec<usize>>, _>>()?;
    let deepest = |index: usize| back[index].iter().copied().max().unwrap_or(1);
    let furthest: Vec<usize> = (0..prompts.len()).map(deepest).collect();
    let mut starts = furthest.iter().zip(prompts).map(|(b, p)| p.ids.len() - b);
    let first_wanted = starts.by_ref().min().unwrap_or(0);
    let counted = tail(model.standing_edits().iter().chain(edits.edit_list()));
    let set = PromptSet::keeping(prompts, |prompt| {
        first_wanted.min(prompt.ids.len().saturating_sub(counted))
    });
    let shape = (prompts.len(), model.config().d_model);
    let mut data = vec![Array2::<f32>::zeros(shape); layers.len() * wheres.len()];
    if data.is_empty() {
        return Ok(Residuals {
            layers: layers.to_vec(),
            wheres: wheres.to_vec(),
            n_layers,
            data,
        });
    }
    each_batch(model, &set, edits, options, &mut |prefix, indices, rows| {
        let (mut cache, batch) = prefix.split(rows, 0)?;
        let wanted = indices.iter().map(|&i| furthest[i]).max().unwrap_or(1);
        let shortest = rows.iter().map(|r| r.len()).min().unwrap_or(1) - prefix.ids().len();
        // A batch of unlike tails may need positions that its shortest row lacks.
        let keep = if wanted <= shortest {
            Keep::Last(wanted)
        } else {
            Keep::All
        };
        let hooks = points
            .iter()
            .fold(edits.clone(), |hooks, &at| hooks.capture_kept(at, keep));
        let captured = model
            .forward_cached(&batch, &mut cache, &hooks, LogitsAt::Last)?
            .captured;
        for (l, at) in points.iter().enumerate() {
            let tensor = captured[at].to_dtype(DType::F32)?;
            let kept = tensor.dim(1)?;
            for (row, &index) in indices.iter().enumerate() {
                for (w, &back) in back[index].iter().enumerate() {
                    let values = tensor.get(row)?.get(kept - back)?.to_vec1::<f32>()?;
                    if values.iter().any(|x| !x.is_finite()) {
                        return Err(SteerError::NotFinite {
                            id: prompts[index].id.clone(),
                            what: "residual stream",
                        });
                    }
                    let mut target = data[l * wheres.len() + w].row_mut(index);
                    target.iter_mut().zip(values).for_each(|(t, v)| *t = v);
                }
            }
        }
        Ok(())
    })?;
    Ok(Residuals {
        layers: layers.to_vec(),
        wheres: wheres.to_vec(),
        n_layers,
        data,
    })
}

fn point(layer: usize, n_layers: usize) -> Result<HookPoint, SteerError> {
    match layer {
        l if l < n_layers => Ok(HookPoint::new(Point::ResidPre, l)),
        l if l == n_layers => Ok(HookPoint::new(Point::ResidPost, l - 1)),
        layer => Err(SteerError::Layer { layer, n_layers }),
    }
}

fn back(prompt: &EncodedPrompt, place: Where) -> Result<usize, SteerError> {
    let tokens = prompt.ids.len();
    place
        .index(prompt)
        .map(|i| tokens - i)
        .ok_or_else(|| SteerError::NoPosition {
            id: prompt.id.clone(),
            tokens,
            position: place.to_string(),
        })
}
