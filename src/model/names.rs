//! Where each weight of the decoder lies in a file: one table for Hugging Face names, one for GGUF names.
//!
//! A weight is a [`Place`]: a tensor name and how to take it out. Adding a family means adding rows here.

use crate::config::{Family, ModelConfig, NormPlacement};

/// How a weight is cut out of a stored tensor. All weights end up `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// As stored.
    All,
    /// Stored `[in, out]` (GPT-2's Conv1D): transposed.
    Transposed,
    /// Some rows of a fused tensor.
    Rows(Part),
    /// Some columns of a fused Conv1D, transposed.
    ColumnsTransposed(Part),
    /// Query (0), key (1) or value (2) of GPT-NeoX's tensor, interleaved by head: `[head, 3, d_head]` rows.
    NeoxQkv(usize),
    /// llama.cpp's interleaved rotary row order, put back to halves, for this many heads.
    Unpermuted(usize),
}

/// `start .. start + len` out of `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First row or column.
    pub start: usize,
    /// How many.
    pub len: usize,
    /// How many the stored tensor has.
    pub of: usize,
}

/// A stored tensor and how to take the weight out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The tensor's name.
    pub name: String,
    /// The cut.
    pub take: Take,
}

/// Which naming scheme a file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `model.layers.0.self_attn.q_proj.weight`.
    HuggingFace,
    /// `blk.0.attn_q.weight`.
    Gguf,
}

/// A weight's role in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Norm before attention.
    AttnNorm,
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Attention output projection.
    O,
    /// Norm on queries.
    QNorm,
    /// Norm on keys.
    KNorm,
    /// Norm on attention's output.
    AttnPostNorm,
    /// Norm before the MLP.
    MlpNorm,
    /// Gate of a gated MLP.
    Gate,
    /// Up projection (the only one in, when not gated).
    Up,
    /// Down projection.
    Down,
    /// Norm on the MLP's output.
    MlpPostNorm,
}

/// Weights outside the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    /// Token embedding.
    Embed,
    /// Learned positions.
    PosEmbed,
    /// Final norm.
    FinalNorm,
    /// Unembedding.
    Head,
}

/// The name without `.weight` or `.bias`.
pub fn outer_stem(config: &ModelConfig, scheme: Scheme, what: Outer) -> &'static str {
    match (scheme, config.family, what) {
        (Scheme::Gguf, _, Outer::Embed) => "token_embd",
        (Scheme::Gguf, _, Outer::PosEmbed) => "position_embd",
        (Scheme::Gguf, _, Outer::FinalNorm) => "output_norm",
        (Scheme::Gguf, _, Outer::Head) => "output",
        (_, Family::Gpt2, Outer::Embed) => "transformer.wte",
        (_, Family::Gpt2, Outer::PosEmbed) => "transformer.wpe",
        (_, Family::Gpt2, Outer::FinalNorm) => "transformer.ln_f",
        (_, Family::GptNeox, Outer::Embed) => "gpt_neox.embed_in",
        (_, Family::GptNeox, Outer::FinalNorm) => "gpt_neox.final_layer_norm",
        (_, Family::GptNeox, Outer::Head) => "embed_out",
        (_, _, Outer::Embed) => "model.embed_tokens",
        (_, _, Outer::PosEmbed) => "model.embed_positions",
        (_, _, Outer::FinalNorm) => "model.norm",
        (_, _, Outer::Head) => "lm_head",
    }
}

/// The place of a layer's weight (`part` is "weight" or "bias").
pub fn layer_place(
    config: &ModelConfig,
    scheme: Scheme,
    layer: usize,
    role: Role,
    part: &str,
) -> Place {
    let (stem, take) = match scheme {
        Scheme::Gguf => gguf_layer(config, role),
        Scheme::HuggingFace => match config.family {
            Family::Gpt2 => gpt2_layer(config, role),
            Family::GptNeox => neox_layer(role),
            _ => llama_layer(config, role),
        },
    };
    let prefix = match (scheme, config.family) {
        (Scheme::Gguf, _) => "blk",
        (_, Family::Gpt2) => "transformer.h",
        (_, Family::GptNeox) => "gpt_neox.layers",
        _ => "model.layers",
    };
    // A bias has one axis: nothing to transpose, the same rows to take.
    let take = match (part, take) {
        ("bias", Take::Transposed) => Take::All,
        ("bias", Take::ColumnsTransposed(part)) => Take::Rows(part),
        (_, take) => take,
    };
    Place {
        name: format!("{prefix}.{layer}.{stem}.{part}"),
        take,
    }
}

/// Where queries, keys or values lie in a tensor that holds all three one after the other.
fn qkv_part(config: &ModelConfig, role: Role) -> Part {
    let (q, kv) = (
        config.n_heads * config.d_head,
        config.n_kv_heads * config.d_head,
    );
    let (start, len) = match role {
        Role::Q => (0, q),
        Role::K => (q, kv),
        _ => (q + kv, kv),
    };
    Part {
        start,
        len,
        of: q + 2 * kv,
    }
}

/// Where gate or up lie in Phi-3's fused tensor.
fn gate_up_part(config: &ModelConfig, role: Role) -> Part {
    let start = if role == Role::Gate { 0 } else { config.d_mlp };
    Part {
        start,
        len: config.d_mlp,
        of: 2 * config.d_mlp,
    }
}

fn gpt2_layer(config: &ModelConfig, role: Role) -> (&'static str, Take) {
    match role {
        Role::AttnNorm => ("ln_1", Take::All),
        Role::Q | Role::K | Role::V => (
            "attn.c_attn",
            Take::ColumnsTransposed(qkv_part(config, role)),
        ),
        Role::O => ("attn.c_proj", Take::Transposed),
        Role::MlpNorm => ("ln_2", Take::All),
        Role::Up => ("mlp.c_fc", Take::Transposed),
        Role::Down => ("mlp.c_proj", Take::Transposed),
        _ => ("(none)", Take::All),
    }
}

fn neox_layer(role: Role) -> (&'static str, Take) {
    match role {
        Role::AttnNorm => ("input_layernorm", Take::All),
        Role::Q => ("attention.query_key_value", Take::NeoxQkv(0)),
        Role::K => ("attention.query_key_value", Take::NeoxQkv(1)),
        Role::V => ("attention.query_key_value", Take::NeoxQkv(2)),
        Role::O => ("attention.dense", Take::All),
        Role::MlpNorm => ("post_attention_layernorm", Take::All),
        Role::Up => ("mlp.dense_h_to_4h", Take::All),
        Role::Down => ("mlp.dense_4h_to_h", Take::All),
        _ => ("(none)", Take::All),
    }
}

fn llama_layer(config: &ModelConfig, role: Role) -> (&'static str, Take) {
    let phi3 = config.family == Family::Phi3;
    let sandwich = config.placement == NormPlacement::Sandwich;
    match role {
        Role::AttnNorm => ("input_layernorm", Take::All),
        Role::Q | Role::K | Role::V if phi3 => {
            ("self_attn.qkv_proj", Take::Rows(qkv_part(config, role)))
        }
        Role::Q => ("self_attn.q_proj", Take::All),
        Role::K => ("self_attn.k_proj", Take::All),
        Role::V => ("self_attn.v_proj", Take::All),
        Role::O => ("self_attn.o_proj", Take::All),
        Role::QNorm => ("self_attn.q_norm", Take::All),
        Role::KNorm => ("self_attn.k_norm", Take::All),
        Role::AttnPostNorm => ("post_attention_layernorm", Take::All),
        Role::MlpNorm if sandwich => ("pre_feedforward_layernorm", Take::All),
        Role::MlpNorm => ("post_attention_layernorm", Take::All),
        Role::Gate | Role::Up if phi3 => {
            ("mlp.gate_up_proj", Take::Rows(gate_up_part(config, role)))
        }
        Role::Gate => ("mlp.gate_proj", Take::All),
        Role::Up => ("mlp.up_proj", Take::All),
        Role::Down => ("mlp.down_proj", Take::All),
        Role::MlpPostNorm => ("post_feedforward_layernorm", Take::All),
    }
}

fn gguf_layer(config: &ModelConfig, role: Role) -> (&'static str, Take) {
    let fused = matches!(config.family, Family::Gpt2 | Family::GptNeox | Family::Phi3);
    let permuted = config.family == Family::Llama;
    match role {
        Role::AttnNorm => ("attn_norm", Take::All),
        Role::Q | Role::K | Role::V if fused => ("attn_qkv", Take::Rows(qkv_part(config, role))),
        Role::Q if permuted => ("attn_q", Take::Unpermuted(config.n_heads)),
        Role::K if permuted => ("attn_k", Take::Unpermuted(config.n_kv_heads)),
        Role::Q => ("attn_q", Take::All),
        Role::K => ("attn_k", Take::All),
        Role::V => ("attn_v", Take::All),
        Role::O => ("attn_output", Take::All),
        Role::QNorm => ("attn_q_norm", Take::All),
        Role::KNorm => ("attn_k_norm", Take::All),
        Role::AttnPostNorm => ("post_attention_norm", Take::All),
        Role::MlpNorm => ("ffn_norm", Take::All),
        Role::Gate | Role::Up if config.family == Family::Phi3 => {
            ("ffn_up", Take::Rows(gate_up_part(config, role)))
        }
        Role::Gate => ("ffn_gate", Take::All),
        Role::Up => ("ffn_up", Take::All),
        Role::Down => ("ffn_down", Take::All),
        Role::MlpPostNorm => ("post_ffw_norm", Take::All),
    }
}
