//! From a tensor file to the decoder's weights: every tensor found, cut, checked against the config, and none left over.

use std::collections::BTreeSet;
use std::sync::Mutex;

use candle_core::{DType, Tensor};
use candlescope_ops as ops;
use rayon::prelude::*;

use super::{
    ModelError, lora,
    names::{Outer, Place, Role, Scheme, Take, layer_place, outer_stem},
};
use crate::config::{ModelConfig, NormKind, NormPlacement, QkNorm};
use crate::files::TensorSource;

/// A linear layer, `[out, in]`. What runs is [`Linear::apply`]; the weight alone is not the layer where it has an adapter.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
    /// What an adapter adds; see `lora/`.
    pub adapter: Option<lora::Pair>,
}

impl Linear {
    /// `x [.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (w, bias) = (&self.weight, self.bias.as_ref());
        match &self.adapter {
            None => ops::linear(x, w, bias),
            Some(adapter) => ops::linear_adapted(x, w, bias, &adapter.update()),
        }
    }

    /// [`Self::apply`] in a step of sampling: one token for each row, after others.
    pub(super) fn apply_step(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (w, bias) = (&self.weight, self.bias.as_ref());
        match &self.adapter {
            None => ops::linear_step(x, w, bias),
            Some(adapter) => ops::linear_adapted_step(x, w, bias, &adapter.update()),
        }
    }

    /// What some inputs alone add, without the bias: columns from `start`, `x [.., columns]` to `[.., out]`.
    pub(super) fn apply_columns(&self, x: &Tensor, start: usize) -> candle_core::Result<Tensor> {
        let columns = x.dim(x.rank() - 1)?;
        let slice = self.weight.narrow(1, start, columns)?.contiguous()?;
        let y = ops::linear(x, &slice, None)?;
        match &self.adapter {
            None => Ok(y),
            Some(adapter) => ops::add(&y, &adapter.of_columns(x, start)?),
        }
    }

    /// The matrix that the layer multiplies with, its adapter included: `[out, in]`, for reading.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn matrix(&self) -> candle_core::Result<Tensor> {
        match &self.adapter {
            None => Ok(self.weight.clone()),
            Some(adapter) => {
                let delta = adapter.delta()?;
                self.weight.to_dtype(delta.dtype())? + delta
            }
        }
    }
}

/// Gain and, for LayerNorm, bias.
#[derive(Debug, Clone)]
pub struct NormWeights {
    /// `[width]`
    pub gain: Tensor,
    /// `[width]`
    pub bias: Option<Tensor>,
}

/// One block's weights.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the roles are defined in names.rs
pub struct LayerWeights {
    pub attn_norm: Option<NormWeights>,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    pub q_norm: Option<Tensor>,
    pub k_norm: Option<Tensor>,
    pub attn_post_norm: Option<NormWeights>,
    pub mlp_norm: Option<NormWeights>,
    pub gate: Option<Linear>,
    pub up: Linear,
    pub down: Linear,
    pub mlp_post_norm: Option<NormWeights>,
}

/// All weights of a decoder.
#[derive(Debug, Clone)]
pub struct Weights {
    /// `[vocab, d_model]`
    pub embed: Tensor,
    /// `[n_ctx, d_model]`
    pub pos_embed: Option<Tensor>,
    /// Blocks.
    pub layers: Vec<LayerWeights>,
    /// Final norm.
    pub final_norm: NormWeights,
    /// `[vocab, d_model]`; the embedding itself when tied.
    pub head: Tensor,
}

/// Reads all weights. `weight_dtype` is what matrices are kept in; norms and biases are kept in `F32` beside bf16. Without
/// `head` the embedding stands in the unembedding's place, which the file does not have.
pub fn load(
    source: &dyn TensorSource,
    scheme: Scheme,
    config: &ModelConfig,
    weight_dtype: DType,
    head: bool,
) -> Result<Weights, ModelError> {
    let loader = Loader {
        source,
        scheme,
        config,
        matrices: weight_dtype,
        head,
        used: Mutex::default(),
    };
    // Layers in parallel: dequantising and converting is compute, and page faults overlap.
    let (outer, layers) = rayon::join(
        || loader.outer(),
        || {
            (0..config.n_layers)
                .into_par_iter()
                .map(|i| loader.layer(i))
                .collect::<Result<Vec<_>, _>>()
        },
    );
    let (embed, pos_embed, final_norm, head) = outer?;
    let weights = Weights {
        embed,
        pos_embed,
        layers: layers?,
        final_norm,
        head,
    };
    loader.refuse_left_over()?;
    Ok(weights)
}

struct Loader<'a> {
    source: &'a dyn TensorSource,
    scheme: Scheme,
    config: &'a ModelConfig,
    matrices: DType,
    head: bool,
    used: Mutex<BTreeSet<String>>,
}

type OuterWeights = (Tensor, Option<Tensor>, NormWeights, Tensor);

impl Loader<'_> {
    fn vectors(&self) -> DType {
        if self.matrices == DType::F64 {
            DType::F64
        } else {
            DType::F32
        }
    }

    fn outer(&self) -> Result<OuterWeights, ModelError> {
        let c = self.config;
        let stem = |what| outer_stem(c, self.scheme, what);
        let (embed, norm) = (stem(Outer::Embed), stem(Outer::FinalNorm));
        let table = |stem: &str, rows| {
            let place = Place {
                name: format!("{stem}.weight"),
                take: Take::All,
            };
            self.fetch(&place, &[rows, c.d_model], self.matrices)
        };
        let embed = table(embed, c.vocab_size)?;
        let pos_embed = if c.rotary() {
            None
        } else {
            Some(table(stem(Outer::PosEmbed), c.n_ctx)?)
        };
        let final_norm = self.norm_at(|part| Place {
            name: format!("{norm}.{part}"),
            take: Take::All,
        })?;
        let head = if c.tied || !self.head {
            embed.clone()
        } else {
            table(stem(Outer::Head), c.vocab_size)?
        };
        Ok((embed, pos_embed, final_norm, head))
    }

    fn layer(&self, i: usize) -> Result<LayerWeights, ModelError> {
        let c = self.config;
        let (q, kv) = (c.n_heads * c.d_head, c.n_kv_heads * c.d_head);
        let linear = |role, rows, cols, bias| self.linear(i, role, rows, cols, bias);
        let norm = |role, there: bool| -> Result<Option<NormWeights>, ModelError> {
            if !there {
                return Ok(None);
            }
            self.norm_at(|part| layer_place(c, self.scheme, i, role, part))
                .map(Some)
        };
        let pre = c.placement != NormPlacement::Post;
        let post = c.placement != NormPlacement::Pre;
        let qk = |role, flat: usize| -> Result<Option<Tensor>, ModelError> {
            let width = match c.qk_norm {
                QkNorm::None => return Ok(None),
                QkNorm::PerHead => c.d_head,
                QkNorm::Flat => flat,
            };
            self.gain(&layer_place(c, self.scheme, i, role, "weight"), width)
                .map(Some)
        };
        Ok(LayerWeights {
            attn_norm: norm(Role::AttnNorm, pre)?,
            q: linear(Role::Q, q, c.d_model, c.biases.qkv)?,
            k: linear(Role::K, kv, c.d_model, c.biases.qkv)?,
            v: linear(Role::V, kv, c.d_model, c.biases.qkv)?,
            o: linear(Role::O, c.d_model, q, c.biases.attn_out)?,
            q_norm: qk(Role::QNorm, q)?,
            k_norm: qk(Role::KNorm, kv)?,
            attn_post_norm: norm(Role::AttnPostNorm, post)?,
            mlp_norm: norm(Role::MlpNorm, pre)?,
            gate: if c.gated_mlp {
                Some(linear(Role::Gate, c.d_mlp, c.d_model, c.biases.mlp)?)
            } else {
                None
            },
            up: linear(Role::Up, c.d_mlp, c.d_model, c.biases.mlp)?,
            down: linear(Role::Down, c.d_model, c.d_mlp, c.biases.mlp)?,
            mlp_post_norm: norm(Role::MlpPostNorm, post)?,
        })
    }

    fn linear(
        &self,
        layer: usize,
        role: Role,
        out: usize,
        input: usize,
        bias: bool,
    ) -> Result<Linear, ModelError> {
        let place = |part| layer_place(self.config, self.scheme, layer, role, part);
        let weight = self.fetch(&place("weight"), &[out, input], self.matrices)?;
        let bias = if bias {
            Some(self.fetch(&place("bias"), &[out], self.vectors())?)
        } else {
            None
        };
        Ok(Linear {
            weight,
            bias,
            adapter: None,
        })
    }

    fn norm_at(&self, place: impl Fn(&str) -> Place) -> Result<NormWeights, ModelError> {
        let width = self.config.d_model;
        let gain = self.gain(&place("weight"), width)?;
        let bias = match self.config.norm {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.fetch(&place("bias"), &[width], self.vectors())?),
        };
        Ok(NormWeights { gain, bias })
    }

    fn gain(&self, place: &Place, width: usize) -> Result<Tensor, ModelError> {
        let gain = self.fetch(place, &[width], self.vectors())?;
        Ok(if self.config.norm_gain_minus_one {
            (gain + 1.0)?
        } else {
            gain
        })
    }

    /// Loads a tensor, checks its stored shape, and cuts the weight of `shape` out of it.
    fn fetch(&self, place: &Place, shape: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        let info = self
            .source
            .info(&place.name)
            .ok_or_else(|| ModelError::MissingTensor {
                file: self.source.describe(),
                tensor: place.name.clone(),
                needed_for: format!(
                    "a weight of shape {shape:?} in a {} model",
                    self.config.family.name()
                ),
            })?;
        let expected = stored_shape(place.take, shape);
        if info.shape != expected {
            return Err(ModelError::Shape {
                file: self.source.describe(),
                tensor: place.name.clone(),
                expected,
                found: info.shape,
            });
        }
        if let Ok(mut used) = self.used.lock() {
            used.insert(place.name.clone());
        }
        let stored = self.source.load(&place.name, dtype)?;
        Ok(cut(&stored, place.take, self.config)?)
    }

    /// A tensor nobody reads would mean that the forward pass here is not the checkpoint's.
    fn refuse_left_over(&self) -> Result<(), ModelError> {
        let used = self.used.lock().map(|u| u.clone()).unwrap_or_default();
        let left: Vec<String> = self
            .source
            .names()
            .into_iter()
            .filter(|name| !used.contains(name) && !self.is_derived(name))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(ModelError::ExtraTensors {
            file: self.source.describe(),
            count: left.len(),
            tensors: left.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Buffers that old checkpoints carry and that the config already implies, and copies of a tied unembedding.
    fn is_derived(&self, name: &str) -> bool {
        let derived = [
            ".rotary_emb.inv_freq",
            ".attention.bias",
            ".attention.masked_bias",
            ".attn.bias",
            ".attn.masked_bias",
        ];
        let tied_copy = self.config.tied && matches!(name, "lm_head.weight" | "embed_out.weight");
        let in_config = name.starts_with("rope_freqs") || name.starts_with("rope_factors");
        derived.iter().any(|d| name.ends_with(d)) || tied_copy || in_config
    }
}

/// The shape a tensor must have in the file for `shape` to be cut out of it.
fn stored_shape(take: Take, shape: &[usize]) -> Vec<usize> {
    match (take, shape) {
        (Take::Transposed, [out, input]) => vec![*input, *out],
        (Take::ColumnsTransposed(part), [_, input]) => vec![*input, part.of],
        (Take::NeoxQkv(_), [rows, rest @ ..]) => [&[3 * rows], rest].concat(),
        (Take::Rows(part), [_, rest @ ..]) => [&[part.of], rest].concat(),
        _ => shape.to_vec(),
    }
}

pub(super) fn cut(
    stored: &Tensor,
    take: Take,
    config: &ModelConfig,
) -> candle_core::Result<Tensor> {
    match take {
        Take::All => Ok(stored.clone()),
        Take::Transposed => stored.t()?.contiguous(),
        Take::Rows(part) => stored.narrow(0, part.start, part.len)?.force_contiguous(),
        Take::ColumnsTransposed(part) => stored.narrow(1, part.start, part.len)?.t()?.contiguous(),
        Take::NeoxQkv(which) => {
            let (heads, d_head) = (config.n_heads, config.d_head);
            let rest = &stored.dims()[1..];
            let split = stored
                .reshape([&[heads, 3, d_head], rest].concat())?
                .narrow(1, which, 1)?;
            split
                .contiguous()?
                .reshape([&[heads * d_head], rest].concat())
        }
        Take::Unpermuted(heads) => {
            let (rows, rest) = (stored.dims()[0], &stored.dims()[1..]);
            let half = rows / heads / 2;
            let pairs = stored.reshape([&[heads, half, 2], rest].concat())?;
            pairs.transpose(1, 2)?.contiguous()?.reshape(stored.dims())
        }
    }
}
