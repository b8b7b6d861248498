//! Hugging Face `config.json` of both generations onto [`ModelConfig`].
//!
//! A family is one function below that says what differs from Llama; defaults are those of the transformers config
//! classes, because hub configs leave them out.

use serde_json::Value;

use super::ConfigError;
use super::hf_rope::{RotaryDefaults, positions, rope};
use super::keys::Keys;
use super::{
    Activation, Biases, Family, LayerConfig, ModelConfig, NormKind, NormPlacement, Positions,
    QkNorm,
};

/// Reads a config. `file` is for messages, `accepted` lists unknown keys that the user vouches for.
pub fn from_hf_json(
    file: &str,
    json: &str,
    accepted: &[String],
) -> Result<ModelConfig, ConfigError> {
    let malformed = |found: String| ConfigError::Key {
        file: file.to_string(),
        key: "(whole file)".into(),
        expected: "a JSON object".into(),
        found,
    };
    let value: Value = serde_json::from_str(json).map_err(|e| malformed(e.to_string()))?;
    let map = value
        .as_object()
        .ok_or_else(|| malformed("another JSON value".into()))?;
    let keys = Keys::new(file, map);
    let family = family(&keys)?;
    keys.must_be_off("quantization_config")?;
    keys.must_be_off("add_cross_attention")?;
    let config = match family {
        Family::Gpt2 => gpt2(&keys)?,
        Family::GptNeox => gpt_neox(&keys)?,
        _ => llama_like(&keys, family)?,
    };
    check(&keys, &config)?;
    keys.finish(accepted)?;
    Ok(config)
}

fn family(keys: &Keys) -> Result<Family, ConfigError> {
    let found = keys.text("model_type")?.unwrap_or("(none)");
    Family::ALL
        .iter()
        .find(|(_, name)| *name == found)
        .map(|(family, _)| *family)
        .ok_or_else(|| ConfigError::UnknownFamily {
            file: keys.file.to_string(),
            found: found.to_string(),
            served: Family::ALL.map(|(_, name)| name).join(", "),
        })
}

fn activation(keys: &Keys, key: &str, default: &str) -> Result<Activation, ConfigError> {
    let name = keys.text(key)?.unwrap_or(default);
    Ok(match name {
        "silu" | "swish" => Activation::Silu,
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_python_tanh" => Activation::GeluTanh,
        "gelu" | "gelu_python" => Activation::GeluErf,
        "relu" => Activation::Relu,
        other => {
            return Err(keys.refuse(
                key,
                "silu, gelu, gelu_new, gelu_pytorch_tanh or relu",
                other,
            ));
        }
    })
}

/// What GPT-2 and GPT-NeoX call the same things.
struct GptKeys {
    d_model: &'static str,
    n_heads: &'static str,
    n_layers: &'static str,
    d_mlp: &'static str,
    norm_eps: &'static str,
    /// The key, and what its absence means.
    activation: (&'static str, &'static str),
    /// What the absence of `tie_word_embeddings` means.
    tied: bool,
}

/// What GPT-2 and GPT-NeoX share: LayerNorm before each sublayer, a plain MLP, biases, no caps. With learned positions.
fn gpt(
    keys: &Keys,
    family: Family,
    names: &GptKeys,
    n_ctx: usize,
) -> Result<ModelConfig, ConfigError> {
    let (d_model, n_heads) = (
        keys.need_size(names.d_model)?,
        keys.need_size(names.n_heads)?,
    );
    let n_layers = keys.need_size(names.n_layers)?;
    if d_model % n_heads != 0 {
        let expected = format!("a divisor of {}", names.d_model);
        return Err(keys.refuse(names.n_heads, &expected, n_heads));
    }
    let d_head = d_model / n_heads;
    let (activation_key, default) = names.activation;
    Ok(ModelConfig {
        family,
        vocab_size: keys.need_size("vocab_size")?,
        d_model,
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: keys.size(names.d_mlp)?.unwrap_or(4 * d_model),
        n_ctx,
        norm: NormKind::Layer,
        norm_eps: keys.positive(names.norm_eps)?.unwrap_or(1e-5),
        norm_gain_minus_one: false,
        placement: NormPlacement::Pre,
        parallel: false,
        qk_norm: QkNorm::None,
        biases: Biases {
            qkv: true,
            attn_out: true,
            mlp: true,
        },
        gated_mlp: false,
        activation: activation(keys, activation_key, default)?,
        positions: Positions::Learned,
        layers: uniform_layers(n_layers, (d_head as f64).powf(-0.5)),
        attn_softcap: None,
        final_softcap: None,
        embed_scale: None,
        tied: keys.flag("tie_word_embeddings")?.unwrap_or(names.tied),
        bos: keys.token_ids("bos_token_id")?.first().copied(),
        eos: keys.token_ids("eos_token_id")?,
    })
}

fn gpt2(keys: &Keys) -> Result<ModelConfig, ConfigError> {
    let names = GptKeys {
        d_model: "n_embd",
        n_heads: "n_head",
        n_layers: "n_layer",
        d_mlp: "n_inner",
        norm_eps: "layer_norm_epsilon",
        activation: ("activation_function", "gelu_new"),
        tied: true,
    };
    let n_ctx = match (keys.size("n_positions")?, keys.size("n_ctx")?) {
        (Some(n), _) | (None, Some(n)) => n,
        (None, None) => 1024,
    };
    let mut config = gpt(keys, Family::Gpt2, &names, n_ctx)?;
    let scaled = keys.flag("scale_attn_weights")?.unwrap_or(true);
    let by_layer = keys
        .flag("scale_attn_by_inverse_layer_idx")?
        .unwrap_or(false);
    for (i, layer) in config.layers.iter_mut().enumerate() {
        if !scaled {
            layer.attn_scale = 1.0;
        }
        if by_layer {
            layer.attn_scale /= (i + 1) as f64;
        }
    }
    Ok(config)
}

fn gpt_neox(keys: &Keys) -> Result<ModelConfig, ConfigError> {
    let names = GptKeys {
        d_model: "hidden_size",
        n_heads: "num_attention_heads",
        n_layers: "num_hidden_layers",
        d_mlp: "intermediate_size",
        norm_eps: "layer_norm_eps",
        activation: ("hidden_act", "gelu"),
        tied: false,
    };
    let n_ctx = keys.size("max_position_embeddings")?.unwrap_or(2048);
    let mut config = gpt(keys, Family::GptNeox, &names, n_ctx)?;
    let old_theta = keys.positive("rotary_emb_base")?;
    let rotary = RotaryDefaults {
        theta: old_theta.unwrap_or(10_000.0),
        fraction: keys.positive("rotary_pct")?.unwrap_or(0.25),
        d_head: config.d_head,
        n_ctx,
    };
    config.positions = Positions::Rotary(vec![rope(keys, &rotary)?]);
    config.parallel = keys.flag("use_parallel_residual")?.unwrap_or(true);
    let bias = keys.flag("attention_bias")?.unwrap_or(true);
    (config.biases.qkv, config.biases.attn_out) = (bias, bias);
    Ok(config)
}

/// Llama and the families that share its config keys.
fn llama_like(keys: &Keys, family: Family) -> Result<ModelConfig, ConfigError> {
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    let (d_model, n_heads) = (
        keys.need_size("hidden_size")?,
        keys.need_size("num_attention_heads")?,
    );
    let n_layers = keys.need_size("num_hidden_layers")?;
    let n_kv_heads = keys.size("num_key_value_heads")?.unwrap_or(match family {
        Family::Mistral => 8,
        Family::Qwen2 | Family::Qwen3 => 32,
        _ => n_heads,
    });
    let default_head = match family {
        Family::Gemma2 | Family::Gemma3 => 256,
        Family::Qwen3 => 128,
        _ => d_model / n_heads.max(1),
    };
    let d_head = keys.size("head_dim")?.unwrap_or(default_head);
    let n_ctx = keys
        .size("max_position_embeddings")?
        .unwrap_or(match family {
            Family::Gemma2 => 8192,
            Family::Gemma3 => 131_072,
            Family::Phi3 => 4096,
            Family::Mistral => 131_072,
            Family::Qwen2 | Family::Qwen3 => 32_768,
            _ => 2048,
        });
    let (act_key, act_default) = if gemma {
        ("hidden_activation", "gelu_pytorch_tanh")
    } else {
        ("hidden_act", "silu")
    };
    if gemma {
        // Gemma 2's first configs say `hidden_act: gelu` and mean the tanh form; transformers reads only the other key.
        keys.get("hidden_act");
        keys.must_be_off("use_bidirectional_attention")?;
    }
    let attention_bias = keys.flag("attention_bias")?.unwrap_or(false);
    let biases = match family {
        // Qwen2 hard-codes biases on Q, K and V; the key is not read there.
        Family::Qwen2 => Biases {
            qkv: true,
            attn_out: false,
            mlp: false,
        },
        Family::Llama => Biases {
            qkv: attention_bias,
            attn_out: attention_bias,
            mlp: keys.flag("mlp_bias")?.unwrap_or(false),
        },
        Family::Phi3 | Family::Mistral => Biases {
            qkv: false,
            attn_out: false,
            mlp: false,
        },
        _ => Biases {
            qkv: attention_bias,
            attn_out: attention_bias,
            mlp: false,
        },
    };
    if attention_bias && matches!(family, Family::Phi3 | Family::Mistral | Family::Qwen2) {
        return Err(keys.refuse(
            "attention_bias",
            "false (this family has no such option)",
            true,
        ));
    }
    let (positions, layer_ropes) = positions(keys, family, d_head, n_ctx, n_layers)?;
    let scale_of = if gemma {
        keys.positive("query_pre_attn_scalar")?.unwrap_or(256.0)
    } else {
        d_head as f64
    };
    let windows = windows(keys, family, n_layers)?;
    let layers = windows
        .iter()
        .zip(layer_ropes)
        .map(|(window, rope)| LayerConfig {
            window: *window,
            rope,
            attn_scale: scale_of.powf(-0.5),
        })
        .collect();
    let eps_default = match family {
        Family::Phi3 | Family::Olmo2 => 1e-5,
        _ => 1e-6,
    };
    Ok(ModelConfig {
        family,
        vocab_size: keys.need_size("vocab_size")?,
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp: keys.need_size("intermediate_size")?,
        n_ctx,
        norm: NormKind::Rms,
        norm_eps: keys.positive("rms_norm_eps")?.unwrap_or(eps_default),
        norm_gain_minus_one: gemma,
        placement: match family {
            Family::Gemma2 | Family::Gemma3 => NormPlacement::Sandwich,
            Family::Olmo2 => NormPlacement::Post,
            _ => NormPlacement::Pre,
        },
        parallel: false,
        qk_norm: match family {
            Family::Qwen3 | Family::Gemma3 => QkNorm::PerHead,
            Family::Olmo2 => QkNorm::Flat,
            _ => QkNorm::None,
        },
        biases,
        gated_mlp: true,
        activation: activation(keys, act_key, act_default)?,
        positions,
        layers,
        attn_softcap: if gemma {
            keys.positive("attn_logit_softcapping")?
        } else {
            None
        },
        final_softcap: if gemma {
            keys.positive("final_logit_softcapping")?
        } else {
            None
        },
        embed_scale: gemma.then(|| (d_model as f64).sqrt()),
        tied: keys.flag("tie_word_embeddings")?.unwrap_or(gemma),
        bos: keys.token_ids("bos_token_id")?.first().copied(),
        eos: keys.token_ids("eos_token_id")?,
    })
}

fn uniform_layers(n: usize, attn_scale: f64) -> Vec<LayerConfig> {
    vec![
        LayerConfig {
            window: None,
            rope: 0,
            attn_scale
        };
        n
    ]
}

/// The window of each layer.
pub(super) fn windows(
    keys: &Keys,
    family: Family,
    n_layers: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let default = match family {
        Family::Gemma2 | Family::Gemma3 => Some(4096),
        _ => None,
    };
    let window = keys.size("sliding_window")?.or(default);
    let on = match family {
        Family::Qwen2 | Family::Qwen3 => keys.flag("use_sliding_window")?.unwrap_or(false),
        Family::Mistral | Family::Phi3 | Family::Gemma2 | Family::Gemma3 => true,
        _ if window.is_some() => {
            return Err(keys.refuse(
                "sliding_window",
                "nothing (this family has no windows)",
                "a number",
            ));
        }
        _ => false,
    };
    let max_window_layers = keys.size("max_window_layers")?.unwrap_or(28);
    let pattern = match (
        keys.size("sliding_window_pattern")?,
        keys.size("_sliding_window_pattern")?,
    ) {
        (Some(p), _) | (None, Some(p)) => p,
        (None, None) => 6,
    };
    if let Some(types) = keys.get("layer_types") {
        let list = types.as_array().filter(|l| l.len() == n_layers);
        let list = list.ok_or_else(|| keys.refuse("layer_types", "one entry a layer", types))?;
        return list
            .iter()
            .map(|t| match t.as_str() {
                Some("full_attention") => Ok(None),
                Some("sliding_attention") if window.is_some() => Ok(window),
                _ => Err(keys.refuse(
                    "layer_types",
                    "full_attention, or sliding_attention with a window",
                    t,
                )),
            })
            .collect();
    }
    let sliding = |layer: usize| match family {
        Family::Gemma2 => layer.is_multiple_of(2),
        Family::Gemma3 => !(layer + 1).is_multiple_of(pattern),
        Family::Qwen2 | Family::Qwen3 => layer >= max_window_layers,
        _ => true,
    };
    Ok((0..n_layers)
        .map(|i| window.filter(|_| on && sliding(i)))
        .collect())
}

/// Relations between sizes that every family needs.
fn check(keys: &Keys, c: &ModelConfig) -> Result<(), ConfigError> {
    if !c.n_heads.is_multiple_of(c.n_kv_heads) {
        return Err(keys.refuse(
            "num_key_value_heads",
            &format!("a divisor of {}", c.n_heads),
            c.n_kv_heads,
        ));
    }
    if c.n_layers > 4096 || c.d_head > 4096 {
        return Err(keys.refuse(
            "num_hidden_layers",
            "at most 4096 layers and channels a head",
            c.n_layers,
        ));
    }
    Ok(())
}
