//! GGUF metadata onto [`ModelConfig`].
//!
//! llama.cpp stores less than Hugging Face does; what it leaves to its own code per architecture (Gemma's window
//! pattern and local base, activations) is filled in here, and an architecture or scaling that is not served is refused.

use super::ConfigError;
use super::rope::{longrope_magnitude, yarn_mscale};
use super::{
    Activation, Biases, Family, LayerConfig, ModelConfig, NormKind, NormPlacement, Positions,
    QkNorm, Rope, RopeScaling,
};
use crate::files::{Gguf, TensorSource};

/// Reads the config of a GGUF file.
pub fn from_gguf(gguf: &Gguf) -> Result<ModelConfig, ConfigError> {
    let meta = Meta::new(gguf)?;
    let family = meta.family()?;
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    let layer_norm = matches!(family, Family::Gpt2 | Family::GptNeox);
    let (d_model, n_heads) = (
        meta.size("embedding_length")?,
        meta.size("attention.head_count")?,
    );
    let n_layers = meta.size("block_count")?;
    let d_head = meta.size_or("attention.key_length", d_model / n_heads)?;
    let n_ctx = meta.size("context_length")?;
    let n_kv_heads = meta.size_or("attention.head_count_kv", n_heads)?;
    if n_heads % n_kv_heads != 0 || n_layers > 4096 {
        return Err(meta.refuse(
            "attention.head_count_kv",
            "a divisor of the head count",
            n_kv_heads,
        ));
    }
    let vocab_size = gguf
        .info("token_embd.weight")
        .and_then(|info| info.shape.first().copied())
        .ok_or_else(|| meta.refuse("token_embd.weight", "the embedding tensor", "nothing"))?;
    let eps_key = if layer_norm {
        "attention.layer_norm_epsilon"
    } else {
        "attention.layer_norm_rms_epsilon"
    };
    let eps = meta
        .float(eps_key)
        .ok_or_else(|| meta.refuse(eps_key, "a number", "nothing"))?;
    let windows = meta.windows(family, n_layers)?;
    let scale = match (family, n_layers, d_model) {
        // Gemma 2 27B and Gemma 3 27B scale by d_model / n_heads, which the file does not say (llama.cpp hard-codes it).
        (Family::Gemma2, 46, _) | (Family::Gemma3, 62, _) => (d_model / n_heads) as f64,
        _ => d_head as f64,
    };
    let has = |name: &str| gguf.info(name).is_some();
    let rope = if family == Family::Gpt2 {
        None
    } else {
        Some(meta.rope(d_head, n_ctx)?)
    };
    let positions = match (&rope, family) {
        (None, _) => Positions::Learned,
        (Some(global), Family::Gemma3) => Positions::Rotary(vec![
            global.clone(),
            Rope::plain(
                global.dim,
                meta.float("rope.freq_base_swa").unwrap_or(10_000.0),
            ),
        ]),
        (Some(rope), _) => Positions::Rotary(vec![rope.clone()]),
    };
    let layers = windows
        .iter()
        .map(|&window| LayerConfig {
            window,
            rope: usize::from(family == Family::Gemma3 && window.is_some()),
            attn_scale: scale.powf(-0.5),
        })
        .collect();
    Ok(ModelConfig {
        family,
        vocab_size,
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp: meta.size("feed_forward_length")?,
        n_ctx,
        norm: if layer_norm {
            NormKind::Layer
        } else {
            NormKind::Rms
        },
        norm_eps: eps,
        norm_gain_minus_one: false,
        placement: match family {
            Family::Gemma2 | Family::Gemma3 => NormPlacement::Sandwich,
            Family::Olmo2 => NormPlacement::Post,
            _ => NormPlacement::Pre,
        },
        parallel: family == Family::GptNeox && meta.flag("use_parallel_residual").unwrap_or(true),
        qk_norm: match family {
            Family::Qwen3 | Family::Gemma3 => QkNorm::PerHead,
            Family::Olmo2 => QkNorm::Flat,
            _ => QkNorm::None,
        },
        biases: Biases {
            qkv: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
            attn_out: has("blk.0.attn_output.bias"),
            mlp: has("blk.0.ffn_down.bias"),
        },
        gated_mlp: !layer_norm,
        activation: match family {
            Family::Gpt2 | Family::Gemma2 | Family::Gemma3 => Activation::GeluTanh,
            Family::GptNeox => Activation::GeluErf,
            _ => Activation::Silu,
        },
        positions,
        layers,
        attn_softcap: if gemma {
            meta.float("attn_logit_softcapping")
        } else {
            None
        },
        final_softcap: if gemma {
            meta.float("final_logit_softcapping")
        } else {
            None
        },
        embed_scale: gemma.then(|| (d_model as f64).sqrt()),
        tied: !has("output.weight"),
        bos: gguf
            .u64("tokenizer.ggml.bos_token_id")
            .and_then(|id| u32::try_from(id).ok()),
        eos: gguf
            .u64("tokenizer.ggml.eos_token_id")
            .and_then(|id| u32::try_from(id).ok())
            .into_iter()
            .collect(),
    })
}

/// Metadata under the file's architecture.
struct Meta<'a> {
    gguf: &'a Gguf,
    file: String,
    arch: &'a str,
}

impl<'a> Meta<'a> {
    fn new(gguf: &'a Gguf) -> Result<Self, ConfigError> {
        let file = gguf.describe();
        let arch = gguf
            .str("general.architecture")
            .ok_or_else(|| ConfigError::Key {
                file: file.clone(),
                key: "general.architecture".into(),
                expected: "a string".into(),
                found: "nothing".into(),
            })?;
        Ok(Self { gguf, file, arch })
    }

    fn refuse(&self, key: &str, expected: &str, found: impl ToString) -> ConfigError {
        ConfigError::Key {
            file: self.file.clone(),
            key: format!("{}.{key}", self.arch),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn family(&self) -> Result<Family, ConfigError> {
        Ok(match self.arch {
            "gpt2" => Family::Gpt2,
            "gptneox" => Family::GptNeox,
            // llama.cpp writes Mistral (without a window) as llama too.
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "gemma2" => Family::Gemma2,
            "gemma3" => Family::Gemma3,
            "phi3" => Family::Phi3,
            "olmo2" => Family::Olmo2,
            other => {
                return Err(ConfigError::UnknownFamily {
                    file: self.file.clone(),
                    found: other.to_string(),
                    served: "gpt2, gptneox, llama, qwen2, qwen3, gemma2, gemma3, phi3, olmo2"
                        .into(),
                });
            }
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.gguf
            .f64(&self.key(key))
            .filter(|x| x.is_finite() && *x > 0.0)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.gguf.bool(&self.key(key))
    }

    /// llama.cpp writes 0 for "none" (a window, say).
    fn maybe_size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        match self.gguf.u64(&self.key(key)) {
            None | Some(0) => Ok(None),
            Some(n) if (1..=1 << 31).contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(self.refuse(key, "an integer from 1 to 2^31", n)),
        }
    }

    fn size(&self, key: &str) -> Result<usize, ConfigError> {
        self.maybe_size(key)?
            .ok_or_else(|| self.refuse(key, "an integer", "nothing"))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        Ok(self.maybe_size(key)?.unwrap_or(default))
    }

    fn windows(&self, family: Family, n_layers: usize) -> Result<Vec<Option<usize>>, ConfigError> {
        let window = self.maybe_size("attention.sliding_window")?;
        let window = match family {
            Family::Gemma2 | Family::Gemma3 => Some(window.unwrap_or(4096)),
            _ => window,
        };
        let slides = |layer: usize| match family {
            Family::Gemma2 => layer.is_multiple_of(2),
            Family::Gemma3 => !(layer + 1).is_multiple_of(6),
            _ => true,
        };
        Ok((0..n_layers)
            .map(|layer| window.filter(|_| slides(layer)))
            .collect())
    }

    fn rope(&self, d_head: usize, n_ctx: usize) -> Result<Rope, ConfigError> {
        let dim = self.size_or("rope.dimension_count", d_head)?;
        if dim > d_head || dim % 2 != 0 {
            return Err(self.refuse(
                "rope.dimension_count",
                "an even number within the head",
                dim,
            ));
        }
        let theta = self.float("rope.freq_base").unwrap_or(10_000.0);
        let original = self.size_or("rope.scaling.original_context_length", n_ctx)?;
        let factor = self.float("rope.scaling.factor");
        let scaling = match (self.gguf.str(&self.key("rope.scaling.type")), factor) {
            (None | Some("none"), _) => RopeScaling::None,
            (Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
            (Some("yarn"), Some(factor)) => RopeScaling::Yarn {
                factor,
                original,
                beta_fast: self.float("rope.scaling.yarn_beta_fast").unwrap_or(32.0),
                beta_slow: self.float("rope.scaling.yarn_beta_slow").unwrap_or(1.0),
                attention_factor: yarn_mscale(factor, 1.0),
                truncate: true,
            },
            (Some(other), _) => {
                return Err(self.refuse(
                    "rope.scaling.type",
                    "none, or linear or yarn with a factor",
                    other,
                ));
            }
        };
        let scaling = self.divisors(scaling, dim, original, n_ctx)?;
        Ok(Rope {
            dim,
            theta,
            scaling,
        })
    }

    /// Frequency divisors that llama.cpp stores as tensors: one set (Llama 3.1) or a short and a long one (Phi-3).
    fn divisors(
        &self,
        plain: RopeScaling,
        dim: usize,
        original: usize,
        n_ctx: usize,
    ) -> Result<RopeScaling, ConfigError> {
        let read = |name: &str| -> Result<Option<Vec<f64>>, ConfigError> {
            if self.gguf.info(name).is_none() {
                return Ok(None);
            }
            let list: Vec<f64> = self
                .gguf
                .load(name, candle_core::DType::F64)?
                .flatten_all()
                .and_then(|t| t.to_vec1())
                .map_err(|error| self.refuse(name, "numbers", error))?;
            if list.len() != dim / 2 {
                return Err(self.refuse(name, &format!("{} numbers", dim / 2), list.len()));
            }
            Ok(Some(list))
        };
        let (short, long) = (
            read("rope_factors_short.weight")?,
            read("rope_factors_long.weight")?,
        );
        if let (Some(short), Some(long)) = (short, long) {
            let factor = n_ctx as f64 / original as f64;
            let default = longrope_magnitude(factor, original);
            let attention_factor = self.float("rope.scaling.attn_factor").unwrap_or(default);
            return Ok(RopeScaling::LongRope {
                short,
                long,
                original,
                attention_factor,
            });
        }
        Ok(read("rope_freqs.weight")?.map_or(plain, RopeScaling::Divisors))
    }
}
