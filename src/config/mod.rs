//! What a decoder is, as data: one struct that every family maps onto, whatever file it came from.
//!
//! Always holds: a `ModelConfig` describes the forward pass completely; nothing in the decoder asks for the family.
//! It knows nothing of what runs, hooks or edits a model: `crate::model` and `crate::hooks` build on it.
//! `hf.rs` reads Hugging Face `config.json`, `to_hf.rs` writes one, `gguf.rs` reads GGUF metadata, `rope.rs` holds the rotary variants.

mod differ;
mod error;
mod gguf;
mod hf;
mod hf_rope;
mod keys;
mod rope;
mod to_hf;

pub use differ::{Difference, differences};
pub use error::ConfigError;
pub use gguf::from_gguf;
pub use hf::from_hf_json;
pub use rope::{Rope, RopeScaling};
pub use to_hf::{to_hf_json, to_hf_score_json};

use candlescope_ops as ops;
use serde::Serialize;

/// The families served. A further one is a mapping onto [`ModelConfig`] and a table of tensor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// GPT-2: learned positions, LayerNorm, fused Conv1D projections.
    Gpt2,
    /// GPT-NeoX and Pythia: parallel block, partial rotary.
    GptNeox,
    /// Llama 1 to 3, SmolLM, and the many that share its config.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
    /// Qwen2 and 2.5: Llama with Q/K/V biases.
    Qwen2,
    /// Qwen3: Llama with per-head QK-norm.
    Qwen3,
    /// Gemma 2: post-norms, soft-caps, alternating windows.
    Gemma2,
    /// Gemma 3 (text): post-norms, QK-norm, two rotary bases.
    Gemma3,
    /// Phi-3: Llama with fused projections.
    Phi3,
    /// OLMo 2: post-norm only, flat QK-norm.
    Olmo2,
}

impl Family {
    /// Every family, with the `model_type` Hugging Face gives it.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Gpt2, "gpt2"),
        (Self::GptNeox, "gpt_neox"),
        (Self::Llama, "llama"),
        (Self::Mistral, "mistral"),
        (Self::Qwen2, "qwen2"),
        (Self::Qwen3, "qwen3"),
        (Self::Gemma2, "gemma2"),
        (Self::Gemma3, "gemma3_text"),
        (Self::Phi3, "phi3"),
        (Self::Olmo2, "olmo2"),
    ];

    /// The Hugging Face `model_type`.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(f, _)| *f == self)
            .map_or("?", |(_, n)| n)
    }
}

/// Which normalisation a block uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Root mean square, no mean removal (Zhang and Sennrich 2019).
    Rms,
    /// Mean and variance (Ba et al. 2016).
    Layer,
}

/// Where norms sit around a sublayer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// `x + f(norm(x))`.
    Pre,
    /// `x + norm(f(norm(x)))` (Gemma 2 and 3).
    Sandwich,
    /// `x + norm(f(x))` (OLMo 2).
    Post,
}

/// Normalisation of queries and keys before the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head's channels (Qwen3, Gemma 3).
    PerHead,
    /// Over all heads' channels at once (OLMo 2).
    Flat,
}

/// The MLP's non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// GELU, tanh approximation.
    GeluTanh,
    /// GELU, exact.
    GeluErf,
    /// max(x, 0).
    Relu,
}

impl From<Activation> for ops::Activation {
    fn from(a: Activation) -> Self {
        match a {
            Activation::Silu => Self::Silu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::GeluErf => Self::GeluErf,
            Activation::Relu => Self::Relu,
        }
    }
}

/// Which linear layers carry a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Biases {
    /// Query, key and value projections.
    pub qkv: bool,
    /// Attention output projection.
    pub attn_out: bool,
    /// All MLP projections.
    pub mlp: bool,
}

/// How a model knows positions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A learned table, added to the embedding.
    Learned,
    /// Rotary; layers choose among these by index.
    Rotary(Vec<Rope>),
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerConfig {
    /// Keys further back than this many positions (self included) are not seen.
    pub window: Option<usize>,
    /// Index into [`Positions::Rotary`].
    pub rope: usize,
    /// Factor on query-key products.
    pub attn_scale: f64,
}

/// A decoder-only transformer, described by data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    /// The family it was mapped from (for display and tensor names, never for the forward pass).
    pub family: Family,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads (grouped-query attention).
    pub n_kv_heads: usize,
    /// Channels of a head.
    pub d_head: usize,
    /// Neurons of an MLP.
    pub d_mlp: usize,
    /// Longest context the checkpoint claims.
    pub n_ctx: usize,
    /// Norm kind.
    pub norm: NormKind,
    /// Epsilon inside every norm.
    pub norm_eps: f64,
    /// The file stores gain - 1 (Gemma in safetensors; llama.cpp adds the 1 on conversion).
    pub norm_gain_minus_one: bool,
    /// Where the norms sit.
    pub placement: NormPlacement,
    /// Attention and MLP both read the block's input (GPT-NeoX).
    pub parallel: bool,
    /// Norm on queries and keys.
    pub qk_norm: QkNorm,
    /// Which projections have biases.
    pub biases: Biases,
    /// Gate times up, or a plain two-layer MLP.
    pub gated_mlp: bool,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// Positions.
    pub positions: Positions,
    /// Per-layer settings, `n_layers` of them.
    pub layers: Vec<LayerConfig>,
    /// Scores pass through `c * tanh(s / c)`.
    pub attn_softcap: Option<f64>,
    /// Logits pass through `c * tanh(l / c)`.
    pub final_softcap: Option<f64>,
    /// Factor on token embeddings (Gemma: sqrt(d_model)).
    pub embed_scale: Option<f64>,
    /// The unembedding is the embedding.
    pub tied: bool,
    /// Begin-of-sequence token, when the config names one.
    pub bos: Option<u32>,
    /// End-of-sequence tokens the config names.
    pub eos: Vec<u32>,
}

impl ModelConfig {
    /// Rotary embeddings, empty for learned positions.
    pub fn ropes(&self) -> &[Rope] {
        match &self.positions {
            Positions::Learned => &[],
            Positions::Rotary(ropes) => ropes,
        }
    }

    /// Positions the model can be run with: its context, except that dynamic scaling stretches without a bound.
    pub fn max_positions(&self) -> usize {
        let dynamic = |rope: &Rope| matches!(rope.scaling, RopeScaling::Dynamic { .. });
        if self.ropes().iter().any(dynamic) {
            usize::MAX
        } else {
            self.n_ctx
        }
    }

    /// True when positions are rotary.
    pub fn rotary(&self) -> bool {
        matches!(self.positions, Positions::Rotary(_))
    }

    /// Parameters of the decoder, counted from the shapes (tied embedding once).
    pub fn n_params(&self) -> usize {
        let norm = self.d_model * if self.norm == NormKind::Layer { 2 } else { 1 };
        let (q, kv) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        let attn = self.d_model * (2 * q + 2 * kv)
            + if self.biases.qkv { q + 2 * kv } else { 0 }
            + if self.biases.attn_out {
                self.d_model
            } else {
                0
            }
            + match self.qk_norm {
                QkNorm::None => 0,
                QkNorm::PerHead => 2 * self.d_head,
                QkNorm::Flat => q + kv,
            };
        let mats = if self.gated_mlp { 3 } else { 2 };
        let mlp = mats * self.d_model * self.d_mlp
            + if self.biases.mlp {
                (mats - 1) * self.d_mlp + self.d_model
            } else {
                0
            };
        let norms = if self.placement == NormPlacement::Sandwich {
            4
        } else {
            2
        };
        let positions = if self.rotary() {
            0
        } else {
            self.n_ctx * self.d_model
        };
        let embeds = self.vocab_size * self.d_model * if self.tied { 1 } else { 2 };
        embeds + positions + self.n_layers * (attn + mlp + norms * norm) + norm
    }
}
