//! A [`ModelConfig`] as Hugging Face `config.json`: the inverse of `hf.rs`.
//!
//! Keys are those that transformers 4 writes (`rope_theta`, `rope_scaling`), which 5 reads as well. Always holds: what is
//! written reads back as the same config; one that cannot be said in this format is refused, never approximated.

use serde_json::{Map, Value, json};

use super::rope::longrope_magnitude;
use super::{
    Activation, ConfigError, Family, ModelConfig, Positions, Rope, RopeScaling, from_hf_json,
};

/// The config as `config.json` for weights stored in `dtype` (`float32`, `float16` or `bfloat16`).
///
/// # Errors
/// A config that this format cannot express, naming the part.
pub fn to_hf_json(config: &ModelConfig, dtype: &str) -> Result<String, ConfigError> {
    let mut keys = Map::new();
    let architecture = match config.family {
        Family::Gpt2 => "GPT2LMHeadModel",
        Family::GptNeox => "GPTNeoXForCausalLM",
        Family::Llama => "LlamaForCausalLM",
        Family::Mistral => "MistralForCausalLM",
        Family::Qwen2 => "Qwen2ForCausalLM",
        Family::Qwen3 => "Qwen3ForCausalLM",
        Family::Gemma2 => "Gemma2ForCausalLM",
        Family::Gemma3 => "Gemma3ForCausalLM",
        Family::Phi3 => "Phi3ForCausalLM",
        Family::Olmo2 => "Olmo2ForCausalLM",
    };
    put(&mut keys, "architectures", [architecture]);
    put(&mut keys, "model_type", config.family.name());
    put(&mut keys, "torch_dtype", dtype);
    put(&mut keys, "vocab_size", config.vocab_size);
    put(&mut keys, "tie_word_embeddings", config.tied);
    put(&mut keys, "bos_token_id", config.bos);
    match config.eos.as_slice() {
        [] => put(&mut keys, "eos_token_id", Value::Null),
        [one] => put(&mut keys, "eos_token_id", *one),
        several => put(&mut keys, "eos_token_id", several),
    }
    match config.family {
        Family::Gpt2 => gpt2(config, &mut keys),
        Family::GptNeox => gpt_neox(config, &mut keys),
        _ => llama_like(config, &mut keys),
    }
    let text = format!("{:#}\n", Value::Object(keys));
    check(config, &text)?;
    Ok(text)
}

/// The config of a model with a score head of one label in the place of the unembedding.
///
/// # Errors
/// As [`to_hf_json`].
pub fn to_hf_score_json(config: &ModelConfig, dtype: &str) -> Result<String, ConfigError> {
    let text = to_hf_json(config, dtype)?;
    let architecture = match config.family {
        Family::Gpt2 => "GPT2ForSequenceClassification",
        Family::GptNeox => "GPTNeoXForSequenceClassification",
        Family::Llama => "LlamaForSequenceClassification",
        Family::Mistral => "MistralForSequenceClassification",
        Family::Qwen2 => "Qwen2ForSequenceClassification",
        Family::Qwen3 => "Qwen3ForSequenceClassification",
        Family::Gemma2 => "Gemma2ForSequenceClassification",
        Family::Gemma3 => "Gemma3TextForSequenceClassification",
        Family::Phi3 => "Phi3ForSequenceClassification",
        Family::Olmo2 => "Olmo2ForSequenceClassification",
    };
    let Ok(Value::Object(mut keys)) = serde_json::from_str(&text) else {
        return Ok(text);
    };
    put(&mut keys, "architectures", [architecture]);
    put(&mut keys, "id2label", json!({"0": "LABEL_0"}));
    put(&mut keys, "label2id", json!({"LABEL_0": 0}));
    Ok(format!("{:#}\n", Value::Object(keys)))
}

fn put(keys: &mut Map<String, Value>, key: &str, value: impl serde::Serialize) {
    keys.insert(key.to_owned(), json!(value));
}

fn gpt2(c: &ModelConfig, keys: &mut Map<String, Value>) {
    let scale = |layer: usize| c.layers.get(layer).map_or(1.0, |l| l.attn_scale);
    put(keys, "n_embd", c.d_model);
    put(keys, "n_layer", c.n_layers);
    put(keys, "n_head", c.n_heads);
    put(keys, "n_positions", c.n_ctx);
    put(keys, "n_inner", c.d_mlp);
    put(keys, "layer_norm_epsilon", c.norm_eps);
    put(
        keys,
        "activation_function",
        activation(c.activation, "gelu_new"),
    );
    put(keys, "scale_attn_weights", scale(0) != 1.0);
    put(
        keys,
        "scale_attn_by_inverse_layer_idx",
        c.n_layers > 1 && scale(0) != scale(1),
    );
}

fn gpt_neox(c: &ModelConfig, keys: &mut Map<String, Value>) {
    sizes(c, keys);
    put(keys, "layer_norm_eps", c.norm_eps);
    put(
        keys,
        "hidden_act",
        activation(c.activation, "gelu_pytorch_tanh"),
    );
    put(keys, "attention_bias", c.biases.qkv);
    put(keys, "use_parallel_residual", c.parallel);
    if let Some(rope) = c.ropes().first() {
        put(keys, "rotary_pct", fraction(rope.dim, c.d_head));
        put(keys, "rotary_emb_base", rope.theta);
        let scaled = scaling(c, rope, keys);
        put(keys, "rope_scaling", scaled);
    }
}

fn llama_like(c: &ModelConfig, keys: &mut Map<String, Value>) {
    let gemma = matches!(c.family, Family::Gemma2 | Family::Gemma3);
    sizes(c, keys);
    put(keys, "num_key_value_heads", c.n_kv_heads);
    put(keys, "head_dim", c.d_head);
    put(keys, "rms_norm_eps", c.norm_eps);
    let act = activation(c.activation, "gelu_pytorch_tanh");
    put(
        keys,
        if gemma {
            "hidden_activation"
        } else {
            "hidden_act"
        },
        act,
    );
    if !matches!(c.family, Family::Qwen2 | Family::Phi3 | Family::Mistral) {
        put(keys, "attention_bias", c.biases.qkv);
    }
    if c.family == Family::Llama {
        put(keys, "mlp_bias", c.biases.mlp);
    }
    if gemma {
        let scale = c.layers.first().map_or(1.0, |l| l.attn_scale);
        put(keys, "query_pre_attn_scalar", inverse_square(scale));
        put(keys, "attn_logit_softcapping", c.attn_softcap);
        put(keys, "final_logit_softcapping", c.final_softcap);
    }
    windows(c, keys);
    let Some(rope) = c.ropes().first() else {
        return;
    };
    put(keys, "rope_theta", rope.theta);
    if rope.dim != c.d_head {
        put(keys, "partial_rotary_factor", fraction(rope.dim, c.d_head));
    }
    let scaled = scaling(c, rope, keys);
    put(keys, "rope_scaling", scaled);
    if let Some(local) = c.ropes().get(1) {
        put(keys, "rope_local_base_freq", local.theta);
    }
}

fn sizes(c: &ModelConfig, keys: &mut Map<String, Value>) {
    put(keys, "hidden_size", c.d_model);
    put(keys, "num_hidden_layers", c.n_layers);
    put(keys, "num_attention_heads", c.n_heads);
    put(keys, "intermediate_size", c.d_mlp);
    put(keys, "max_position_embeddings", c.n_ctx);
}

fn activation(activation: Activation, tanh: &'static str) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => tanh,
        Activation::GeluErf => "gelu",
        Activation::Relu => "relu",
    }
}

fn windows(c: &ModelConfig, keys: &mut Map<String, Value>) {
    if matches!(c.family, Family::Llama | Family::Olmo2) {
        return;
    }
    let window = c.layers.iter().find_map(|layer| layer.window);
    put(keys, "sliding_window", window);
    if matches!(c.family, Family::Mistral | Family::Phi3) {
        return;
    }
    if matches!(c.family, Family::Qwen2 | Family::Qwen3) {
        let first = c.layers.iter().position(|layer| layer.window.is_some());
        put(keys, "use_sliding_window", window.is_some());
        put(
            keys,
            "max_window_layers",
            first.unwrap_or(c.n_layers).max(1),
        );
    }
    let kinds = c.layers.iter().map(|layer| match layer.window {
        Some(_) => "sliding_attention",
        None => "full_attention",
    });
    put(keys, "layer_types", kinds.collect::<Vec<_>>());
}

/// A share of a head's channels that `hf.rs`, which cuts off the decimals, reads as `dim`.
fn fraction(dim: usize, d_head: usize) -> f64 {
    let share = dim as f64 / d_head as f64;
    if (share * d_head as f64) as usize == dim {
        share
    } else {
        share.next_up()
    }
}

/// The number whose inverse square root is `scale`; a whole one where there is one.
fn inverse_square(scale: f64) -> f64 {
    let number = scale.powf(-2.0);
    if number.round().powf(-0.5) == scale {
        number.round()
    } else {
        number
    }
}

/// `rope_scaling`, or null.
fn scaling(c: &ModelConfig, rope: &Rope, keys: &mut Map<String, Value>) -> Value {
    match &rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Dynamic { factor, .. } => json!({"rope_type": "dynamic", "factor": factor}),
        RopeScaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            attention_factor,
            truncate,
        } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "attention_factor": attention_factor,
            "truncate": truncate,
        }),
        RopeScaling::Llama3 {
            factor,
            original,
            low_freq_factor,
            high_freq_factor,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "original_max_position_embeddings": original,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
        }),
        RopeScaling::LongRope {
            short,
            long,
            original,
            attention_factor,
        } => {
            // Outside, because Phi-3's config in transformers 4 allows nothing but the three keys inside.
            put(keys, "original_max_position_embeddings", *original);
            let mut map =
                json!({"rope_type": "longrope", "short_factor": short, "long_factor": long});
            let factor = c.n_ctx as f64 / *original as f64;
            if *attention_factor != longrope_magnitude(factor, *original) {
                map["attention_factor"] = json!(attention_factor);
            }
            if c.family == Family::Phi3 {
                map["type"] = json!("longrope");
            }
            map
        }
        RopeScaling::Divisors(divisors) => {
            put(keys, "original_max_position_embeddings", c.n_ctx);
            json!({
                "rope_type": "longrope",
                "short_factor": divisors,
                "long_factor": divisors,
                "factor": 1.0,
                "attention_factor": 1.0,
            })
        }
    }
}

/// Reads the text back and compares.
fn check(config: &ModelConfig, text: &str) -> Result<(), ConfigError> {
    let read = from_hf_json("the config to be written", text, &[])?;
    let (ours, theirs) = (comparable(config), comparable(&read));
    if ours == theirs {
        return Ok(());
    }
    let as_keys = |c: &ModelConfig| serde_json::to_value(c).unwrap_or_default();
    let (ours, theirs) = (as_keys(&ours), as_keys(&theirs));
    let differs = ours
        .as_object()
        .into_iter()
        .flatten()
        .find(|(key, value)| theirs.get(key) != Some(value));
    let (key, value) = differs.map_or(("config", &Value::Null), |(k, v)| (k.as_str(), v));
    Err(ConfigError::Key {
        file: "config.json".into(),
        key: key.to_owned(),
        expected: format!(
            "a value that a Hugging Face {} config can express",
            config.family.name()
        ),
        found: value.to_string(),
    })
}

/// The config without what only says how the source stored it.
fn comparable(config: &ModelConfig) -> ModelConfig {
    let mut config = config.clone();
    config.norm_gain_minus_one = false;
    let original = config.n_ctx;
    if let Positions::Rotary(ropes) = &mut config.positions {
        for rope in ropes {
            if let RopeScaling::Divisors(divisors) = &rope.scaling {
                rope.scaling = RopeScaling::LongRope {
                    short: divisors.clone(),
                    long: divisors.clone(),
                    original,
                    attention_factor: 1.0,
                };
            }
        }
    }
    config
}
