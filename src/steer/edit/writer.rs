//! Which weights write to the residual stream and which read from it, each with its residual axis fixed by its type.
//!
//! Always: every matrix of a decoder is exactly one of the two; the axis follows from the role, never from a shape (a square
//! `o_proj` has no telling one); names come from the loader's table (`model/names.rs`). Weights are as the loader puts them:
//! linear layers `[out, in]` for every family, so GPT-2's Conv1D is transposed on the way in and out, and gains are factors,
//! also Gemma's, whose files hold the gain less one.

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::{Basis, EditError, matrix::Axis};
use crate::config::{ModelConfig, NormKind, NormPlacement};
use crate::hooks::{HookPoint, Point};
use crate::model::names::{Outer, Role, Scheme, layer_place, outer_stem};
use crate::model::weights::{LayerWeights, Linear, NormWeights, Weights};

/// Where in the model a weight writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// Token embedding `[vocab, d_model]`.
    Embed,
    /// Learned positions `[n_ctx, d_model]`.
    PosEmbed,
    /// Attention's output projection `[d_model, heads · d_head]` of a block.
    Attn(usize),
    /// The MLP's down projection `[d_model, d_mlp]` of a block.
    Mlp(usize),
}

/// What lies between a writer's output and the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// Nothing, or a factor: the output itself is added.
    Direct,
    /// `g ⊙ y / rms(y)`: no component along r comes out iff y has none along `g ⊙ r`.
    Rms,
    /// `g ⊙ (y - ȳ) / σ + β`: the same with `g ⊙ r` less its mean, and β apart.
    Layer,
}

/// A weight whose output is added to the residual stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Writer {
    /// Where.
    pub site: Site,
    /// The tensor in a Hugging Face file.
    pub name: String,
    /// What its output goes through.
    pub through: Through,
}

/// A weight whose input is the residual stream, normed or not; its residual axis is the last, `[out, d_model]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reader {
    /// The tensor in a Hugging Face file; several pieces of a fused tensor share one.
    pub name: String,
    at: ReadAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum ReadAt {
    Block(usize, ReadRole),
    Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum ReadRole {
    Q,
    K,
    V,
    Gate,
    Up,
}

impl ReadRole {
    fn role(self) -> Role {
        match self {
            Self::Q => Role::Q,
            Self::K => Role::K,
            Self::V => Role::V,
            Self::Gate => Role::Gate,
            Self::Up => Role::Up,
        }
    }
}

/// Every writer of a model of this config, in the order of the forward pass.
pub fn writers(config: &ModelConfig) -> Vec<Writer> {
    let table = |site, what| Writer {
        site,
        name: format!("{}.weight", outer_stem(config, Scheme::HuggingFace, what)),
        through: Through::Direct,
    };
    let mut all = vec![table(Site::Embed, Outer::Embed)];
    if !config.rotary() {
        all.push(table(Site::PosEmbed, Outer::PosEmbed));
    }
    let through = match (config.placement, config.norm) {
        (NormPlacement::Pre, _) => Through::Direct,
        (_, NormKind::Rms) => Through::Rms,
        (_, NormKind::Layer) => Through::Layer,
    };
    for layer in 0..config.n_layers {
        for (site, role) in [(Site::Attn(layer), Role::O), (Site::Mlp(layer), Role::Down)] {
            all.push(Writer {
                site,
                name: layer_place(config, Scheme::HuggingFace, layer, role, "weight").name,
                through,
            });
        }
    }
    all
}

/// Every reader of a model of this config. A tied unembedding is the embedding and counts as a writer alone.
pub fn readers(config: &ModelConfig) -> Vec<Reader> {
    let mut all = Vec::new();
    for layer in 0..config.n_layers {
        let gate = config.gated_mlp.then_some(ReadRole::Gate);
        let attention = [ReadRole::Q, ReadRole::K, ReadRole::V];
        for role in attention.into_iter().chain(gate).chain([ReadRole::Up]) {
            let place = layer_place(config, Scheme::HuggingFace, layer, role.role(), "weight");
            let at = ReadAt::Block(layer, role);
            all.push(Reader {
                name: place.name,
                at,
            });
        }
    }
    if !config.tied {
        let stem = outer_stem(config, Scheme::HuggingFace, Outer::Head);
        all.push(Reader {
            name: format!("{stem}.weight"),
            at: ReadAt::Head,
        });
    }
    all
}

impl Reader {
    /// The matrix, `[out, d_model]`.
    pub fn weight<'a>(&self, weights: &'a Weights) -> Option<&'a Tensor> {
        let (layer, role) = match self.at {
            ReadAt::Head => return Some(&weights.head),
            ReadAt::Block(layer, role) => (weights.layers.get(layer)?, role),
        };
        let linear = match role {
            ReadRole::Q => &layer.q,
            ReadRole::K => &layer.k,
            ReadRole::V => &layer.v,
            ReadRole::Gate => layer.gate.as_ref()?,
            ReadRole::Up => &layer.up,
        };
        Some(&linear.weight)
    }
}

impl Writer {
    /// The axis of its matrix that is the residual stream.
    pub fn axis(&self) -> Axis {
        match self.site {
            Site::Embed | Site::PosEmbed => Axis::Columns,
            Site::Attn(_) | Site::Mlp(_) => Axis::Rows,
        }
    }

    /// Its block.
    pub fn layer(&self) -> Option<usize> {
        match self.site {
            Site::Attn(layer) | Site::Mlp(layer) => Some(layer),
            _ => None,
        }
    }

    /// Where its own output can be edited, before a post-norm.
    pub(super) fn output(&self) -> HookPoint {
        match self.site {
            Site::Embed => HookPoint::new(Point::Embed, 0),
            Site::PosEmbed => HookPoint::new(Point::PosEmbed, 0),
            Site::Attn(layer) => HookPoint::new(Point::AttnOut, layer),
            Site::Mlp(layer) => HookPoint::new(Point::MlpOut, layer),
        }
    }

    /// Where what it adds to the stream can be edited.
    pub(super) fn contribution(&self) -> HookPoint {
        match self.site {
            Site::Attn(layer) => HookPoint::new(Point::AttnContrib, layer),
            Site::Mlp(layer) => HookPoint::new(Point::MlpContrib, layer),
            _ => self.output(),
        }
    }

    /// The role of a linear layer.
    pub(super) fn role(&self) -> Option<(usize, Role)> {
        match self.site {
            Site::Attn(layer) => Some((layer, Role::O)),
            Site::Mlp(layer) => Some((layer, Role::Down)),
            _ => None,
        }
    }

    /// The matrix.
    pub fn weight<'a>(&self, weights: &'a Weights) -> Option<&'a Tensor> {
        match self.site {
            Site::Embed => Some(&weights.embed),
            Site::PosEmbed => weights.pos_embed.as_ref(),
            Site::Attn(_) | Site::Mlp(_) => Some(&self.linear(weights)?.weight),
        }
    }

    /// The bias beside it, `[d_model]`.
    pub fn bias<'a>(&self, weights: &'a Weights) -> Option<&'a Tensor> {
        self.linear(weights)?.bias.as_ref()
    }

    /// The bias of its post-norm, `[d_model]`, which is added to the stream.
    pub fn norm_bias<'a>(&self, weights: &'a Weights) -> Option<&'a Tensor> {
        self.norm(weights)?.bias.as_ref()
    }

    /// What the subspace is for the output itself: a post-norm's gain is the only thing between.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn basis(&self, basis: &Basis, weights: &Weights) -> Result<Basis, EditError> {
        let Some(norm) = self.norm(weights) else {
            return Ok(basis.clone());
        };
        let gain = norm.gain.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let scaled = |row: &[f64]| {
            row.iter()
                .zip(&gain)
                .map(|(r, g)| r * g)
                .collect::<Vec<_>>()
        };
        Ok(match self.through {
            Through::Direct => basis.clone(),
            Through::Rms => basis.mapped(scaled),
            Through::Layer => basis.mapped(|row| {
                let mut row = scaled(row);
                let mean = row.iter().sum::<f64>() / row.len() as f64;
                for x in &mut row {
                    *x -= mean;
                }
                row
            }),
        })
    }

    /// The post-norm.
    pub(super) fn norm<'a>(&self, weights: &'a Weights) -> Option<&'a NormWeights> {
        match self.site {
            Site::Attn(layer) => weights.layers.get(layer)?.attn_post_norm.as_ref(),
            Site::Mlp(layer) => weights.layers.get(layer)?.mlp_post_norm.as_ref(),
            _ => None,
        }
    }

    fn linear<'a>(&self, weights: &'a Weights) -> Option<&'a Linear> {
        let layer = weights.layers.get(self.layer()?)?;
        Some(match self.site {
            Site::Attn(_) => &layer.o,
            _ => &layer.down,
        })
    }

    /// Puts other numbers in the place of its own; `None` leaves a part as it is.
    pub(super) fn put(&self, weights: &mut Weights, edited: Edited) {
        let set = |place: Option<&mut Tensor>, new: Option<Tensor>| {
            if let (Some(place), Some(new)) = (place, new) {
                *place = new;
            }
        };
        let Edited {
            weight,
            bias,
            norm_bias,
        } = edited;
        match self.site {
            Site::Embed => weights.embed = weight,
            Site::PosEmbed => weights.pos_embed = Some(weight),
            Site::Attn(i) | Site::Mlp(i) => {
                let Some(LayerWeights {
                    o,
                    down,
                    attn_post_norm,
                    mlp_post_norm,
                    ..
                }) = weights.layers.get_mut(i)
                else {
                    return;
                };
                let (linear, norm) = match self.site {
                    Site::Attn(_) => (o, attn_post_norm),
                    _ => (down, mlp_post_norm),
                };
                linear.weight = weight;
                set(linear.bias.as_mut(), bias);
                set(norm.as_mut().and_then(|n| n.bias.as_mut()), norm_bias);
            }
        }
    }
}

/// A writer's new numbers.
pub(super) struct Edited {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub norm_bias: Option<Tensor>,
}
