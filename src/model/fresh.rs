//! A model that nothing has trained yet: its shape as a few numbers, its weights drawn from a seed.
//!
//! Always: the same shape and seed give the same bits, whatever the number of threads, since every tensor has a stream of the
//! generator of its own. Matrices are normal with deviation 0.02, those that write into the residual stream with
//! 0.02/√(2·layers) (GPT-2, Radford et al. 2019, section 2.3), gains are 1, biases 0.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use serde_json::json;

use super::{
    Checkpoint, Decoder, ModelError, Opened,
    names::Role,
    score::normal,
    slots::{Slot, slots},
    weights::{LayerWeights, Linear, NormWeights, Weights},
};
use crate::config::{ConfigError, ModelConfig, NormKind, NormPlacement, QkNorm, from_hf_json};
use crate::files::InMemory;
use crate::text::Tokenizer;

/// Deviation of a drawn matrix.
const DEVIATION: f64 = 0.02;
/// Families whose tensors stand alone in their files.
const FAMILIES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "olmo2"];
/// No fresh model is larger: it would not train on a processor.
const MAX_PARAMS: usize = 2_000_000_000;
/// Where messages say a number stands.
const PLACE: &str = "[model] new";

/// The shape of a fresh model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshShape {
    /// `llama`, `mistral`, `qwen2`, `qwen3` or `olmo2`.
    pub family: String,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Neurons of an MLP.
    pub d_mlp: usize,
    /// Longest context.
    pub n_ctx: usize,
    /// The unembedding is the embedding.
    pub tied: bool,
    /// Rows of the embedding.
    pub vocab: usize,
    /// The token a text begins with.
    pub bos: Option<u32>,
    /// The token that ends one.
    pub eos: Option<u32>,
}

impl FreshShape {
    /// The config of such a model.
    ///
    /// # Errors
    /// A number out of range, heads that do not divide the width or each other, a family that is not made here.
    pub fn config(&self) -> Result<ModelConfig, ModelError> {
        let refuse = |key: &str, expected: String, found: String| {
            let (file, key) = (PLACE.to_owned(), key.to_owned());
            ModelError::from(ConfigError::Key {
                file,
                key,
                expected,
                found,
            })
        };
        if !FAMILIES.contains(&self.family.as_str()) {
            let expected = format!("one of {}", FAMILIES.join(", "));
            return Err(refuse("family", expected, self.family.clone()));
        }
        for (key, value, most) in [
            ("d_model", self.d_model, 1 << 14),
            ("n_layers", self.n_layers, 1 << 8),
            ("n_heads", self.n_heads, 1 << 8),
            ("n_kv_heads", self.n_kv_heads, 1 << 8),
            ("d_mlp", self.d_mlp, 1 << 16),
            ("n_ctx", self.n_ctx, 1 << 17),
            ("vocab", self.vocab, 1 << 20),
        ] {
            if value == 0 || value > most {
                return Err(refuse(key, format!("1 to {most}"), value.to_string()));
            }
        }
        if !self.d_model.is_multiple_of(self.n_heads)
            || !(self.d_model / self.n_heads).is_multiple_of(2)
        {
            let expected = "a number of heads that cuts d_model into even parts".to_owned();
            return Err(refuse("n_heads", expected, self.n_heads.to_string()));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let expected = format!("a divisor of n_heads = {}", self.n_heads);
            return Err(refuse("n_kv_heads", expected, self.n_kv_heads.to_string()));
        }
        let mut keys = json!({
            "model_type": self.family,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.d_model / self.n_heads,
            "intermediate_size": self.d_mlp,
            "max_position_embeddings": self.n_ctx,
            "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
        });
        if self.family == "mistral" {
            keys["sliding_window"] = serde_json::Value::Null;
        }
        for (key, id) in [("bos_token_id", self.bos), ("eos_token_id", self.eos)] {
            if let Some(id) = id {
                keys[key] = id.into();
            }
        }
        let config = from_hf_json(PLACE, &keys.to_string(), &[])?;
        let params = config.n_params();
        if params > MAX_PARAMS {
            let expected = format!("a model of at most {MAX_PARAMS} parameters");
            return Err(refuse("(whole)", expected, params.to_string()));
        }
        Ok(config)
    }

    /// A short name: `new llama 5.3M`.
    pub fn name(&self, config: &ModelConfig) -> String {
        format!("new {} {:.1}M", self.family, config.n_params() as f64 / 1e6)
    }
}

impl Checkpoint {
    /// A fresh model of this shape with its words, made in memory.
    ///
    /// # Errors
    /// A shape that cannot be; a tokenizer with more ids than the embedding has rows.
    pub fn fresh(shape: &FreshShape, tokenizer: Tokenizer, seed: u64) -> Result<Self, ModelError> {
        let config = shape.config()?;
        tokenizer.check_vocab(config.vocab_size)?;
        let decoder = Decoder::fresh(&config, seed)?;
        let mut weights = decoder.weights().clone();
        let named: BTreeMap<String, Tensor> = slots(&mut weights, &config)
            .into_iter()
            .map(|slot| (slot.name(), slot.tensor.clone()))
            .collect();
        let name = shape.name(&config);
        let opened = Opened::Memory(InMemory::new(&name, named), config);
        let path = PathBuf::from(&name);
        Ok(Self::whole(&name, path, decoder, (tokenizer, None), opened))
    }
}

impl Decoder {
    /// A decoder of this config with drawn weights in f32.
    ///
    /// # Errors
    /// Failing tensor arithmetic.
    pub fn fresh(config: &ModelConfig, seed: u64) -> Result<Self, ModelError> {
        let mut weights = empty(config)?;
        let smaller = DEVIATION / (2.0 * config.n_layers as f64).sqrt();
        slots(&mut weights, config)
            .into_par_iter()
            .enumerate()
            .try_for_each(|(stream, slot)| fill(slot, stream as u64, seed, smaller))?;
        if config.tied {
            weights.head = weights.embed.clone();
        }
        Ok(Self::new(config.clone(), weights))
    }
}

/// Draws a matrix; vectors are as they should be.
fn fill(slot: Slot, stream: u64, seed: u64, smaller: f64) -> Result<(), ModelError> {
    if slot.tensor.rank() < 2 {
        return Ok(());
    }
    let deviation = match slot.role {
        Some(Role::O | Role::Down) => smaller,
        _ => DEVIATION,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let count = slot.tensor.elem_count();
    let values: Vec<f32> = (0..count)
        .map(|_| (deviation * normal(&mut rng)) as f32)
        .collect();
    *slot.tensor = Tensor::from_vec(values, slot.tensor.shape().clone(), &Device::Cpu)?;
    Ok(())
}

/// Weights of the right shapes: gains of 1, all else 0.
fn empty(c: &ModelConfig) -> Result<Weights, ModelError> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
    let ones = |width: usize| Tensor::ones(width, candle_core::DType::F32, &Device::Cpu);
    let linear = |out: usize, input: usize, bias: bool| -> candle_core::Result<Linear> {
        Ok(Linear {
            weight: zeros(&[out, input])?,
            bias: bias.then(|| zeros(&[out])).transpose()?,
            adapter: None,
        })
    };
    let norm = || -> candle_core::Result<NormWeights> {
        let biased = c.norm == NormKind::Layer;
        Ok(NormWeights {
            gain: ones(c.d_model)?,
            bias: biased.then(|| zeros(&[c.d_model])).transpose()?,
        })
    };
    let (q, kv) = (c.n_heads * c.d_head, c.n_kv_heads * c.d_head);
    let (pre, post) = (
        c.placement != NormPlacement::Post,
        c.placement != NormPlacement::Pre,
    );
    let qk = |flat: usize| -> candle_core::Result<Option<Tensor>> {
        match c.qk_norm {
            QkNorm::None => Ok(None),
            QkNorm::PerHead => ones(c.d_head).map(Some),
            QkNorm::Flat => ones(flat).map(Some),
        }
    };
    let gated = c.gated_mlp;
    let layer = || -> candle_core::Result<LayerWeights> {
        Ok(LayerWeights {
            attn_norm: pre.then(norm).transpose()?,
            q: linear(q, c.d_model, c.biases.qkv)?,
            k: linear(kv, c.d_model, c.biases.qkv)?,
            v: linear(kv, c.d_model, c.biases.qkv)?,
            o: linear(c.d_model, q, c.biases.attn_out)?,
            q_norm: qk(q)?,
            k_norm: qk(kv)?,
            attn_post_norm: post.then(norm).transpose()?,
            mlp_norm: pre.then(norm).transpose()?,
            gate: gated
                .then(|| linear(c.d_mlp, c.d_model, c.biases.mlp))
                .transpose()?,
            up: linear(c.d_mlp, c.d_model, c.biases.mlp)?,
            down: linear(c.d_model, c.d_mlp, c.biases.mlp)?,
            mlp_post_norm: post.then(norm).transpose()?,
        })
    };
    let embed = zeros(&[c.vocab_size, c.d_model])?;
    Ok(Weights {
        pos_embed: (!c.rotary())
            .then(|| zeros(&[c.n_ctx, c.d_model]))
            .transpose()?,
        layers: (0..c.n_layers)
            .map(|_| layer())
            .collect::<candle_core::Result<_>>()?,
        final_norm: norm()?,
        head: if c.tied {
            embed.clone()
        } else {
            zeros(&[c.vocab_size, c.d_model])?
        },
        embed,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape() -> FreshShape {
        FreshShape {
            family: "llama".to_owned(),
            d_model: 64,
            n_layers: 8,
            n_heads: 4,
            n_kv_heads: 2,
            d_mlp: 192,
            n_ctx: 128,
            tied: true,
            vocab: 700,
            bos: None,
            eos: None,
        }
    }

    fn deviation(x: &Tensor) -> f64 {
        let x = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
    }

    #[test]
    fn weights_have_the_deviations_of_gpt_2() {
        let config = shape().config().unwrap();
        let decoder = Decoder::fresh(&config, 1).unwrap();
        let w = decoder.weights();
        let layer = &w.layers[3];
        for (x, expected) in [
            (&w.embed, 0.02),
            (&layer.q.weight, 0.02),
            (&layer.up.weight, 0.02),
            // 0.02/√16
            (&layer.o.weight, 0.005),
            (&layer.down.weight, 0.005),
        ] {
            let found = deviation(x);
            assert!((found / expected - 1.0).abs() < 0.05, "{found} {expected}");
        }
        assert_eq!(w.final_norm.gain.to_vec1::<f32>().unwrap(), [1.0; 64]);
        // No two tensors of one draw.
        let first = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        assert_ne!(first(&layer.q.weight), first(&w.layers[4].q.weight));
    }

    #[test]
    fn every_family_is_whole_and_a_seed_decides_every_bit() {
        for family in FAMILIES {
            for tied in [true, false] {
                let shape = FreshShape {
                    family: family.to_owned(),
                    tied,
                    ..shape()
                };
                let config = shape.config().unwrap();
                let draw = |seed| {
                    let decoder = Decoder::fresh(&config, seed).unwrap();
                    let mut weights = decoder.weights().clone();
                    let values = slots(&mut weights, &config).into_iter();
                    let flat = |slot: Slot| slot.tensor.flatten_all()?.to_vec1::<f32>();
                    values.map(|s| flat(s).unwrap()).collect::<Vec<_>>()
                };
                let one = draw(3);
                assert_eq!(one, draw(3));
                assert_ne!(one, draw(4));
                let params: usize = one.iter().map(Vec::len).sum();
                assert_eq!(params, config.n_params(), "{family}");
            }
        }
    }

    #[test]
    fn shapes_that_cannot_be_are_refused_by_name() {
        let said = |shape: FreshShape| shape.config().unwrap_err().to_string();
        let error = said(FreshShape {
            n_heads: 5,
            ..shape()
        });
        assert!(error.contains("n_heads"), "{error}");
        let error = said(FreshShape {
            n_kv_heads: 3,
            ..shape()
        });
        assert!(error.contains("n_kv_heads"), "{error}");
        let error = said(FreshShape {
            family: "gpt2".to_owned(),
            ..shape()
        });
        assert!(error.contains("llama, mistral"), "{error}");
        let error = said(FreshShape {
            d_model: 1 << 14,
            n_heads: 64,
            n_kv_heads: 64,
            n_layers: 256,
            ..shape()
        });
        assert!(error.contains("parameters"), "{error}");
    }
}
