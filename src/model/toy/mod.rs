//! The toy: a llama of 4 layers made in memory from a seed, with words and a chat template. Every part of candlescope that
//! takes a checkpoint takes it, before anything has been fetched.
//!
//! Always: the same seed gives the same bits and the same fingerprint. It knows no language: it goes on with what followed
//! the present token earlier in the text, through an induction circuit that `weights.rs` plants, and else with a fixed
//! arbitrary token. Its words are in `crate::text::toy`.

mod weights;

use std::path::PathBuf;

use super::{Checkpoint, LoadOptions, ModelError, Opened};
use crate::config::{
    Activation, Biases, Family, LayerConfig, ModelConfig, NormKind, NormPlacement, Positions,
    QkNorm, Rope,
};
use crate::files::InMemory;
use crate::text::{self, Tokenizer};

/// The name that stands for it wherever a model is named; `toy:7` is the one of seed 7, `toy` that of seed 0.
pub const NAME: &str = "toy";
/// One line for lists.
pub const ABOUT: &str = "4 layers, made in memory from a seed (toy:SEED), knows no language; for trying things out at once";

/// The seed that a model's name asks for; `None` if it names another model. `./toy` is a folder.
pub fn seed(name: &str) -> Option<u64> {
    if name.eq_ignore_ascii_case(NAME) {
        return Some(0);
    }
    let (stem, seed) = name.split_once(':')?;
    seed.parse()
        .ok()
        .filter(|_| stem.eq_ignore_ascii_case(NAME))
}

impl Checkpoint {
    /// The toy of this seed in f32, made in memory in a few milliseconds.
    ///
    /// # Errors
    /// None but failing tensor arithmetic.
    pub fn toy(seed: u64) -> Result<Self, ModelError> {
        Self::toy_as(seed, &LoadOptions::default())
    }

    /// [`Checkpoint::toy`] with matrices in another dtype.
    ///
    /// # Errors
    /// A dtype that the decoder does not compute in.
    pub fn toy_as(seed: u64, options: &LoadOptions) -> Result<Self, ModelError> {
        let opened = Opened::toy(seed)?;
        let (tokenizer, template) = text::toy::words()?;
        let decoder = opened.decoder(options)?;
        let name = name_of(seed);
        Ok(Self::whole(
            &name,
            PathBuf::from(&name),
            decoder,
            (tokenizer, Some(template)),
            opened,
        ))
    }
}

impl Opened {
    /// Tensors and config of the toy.
    ///
    /// # Errors
    /// None but failing tensor arithmetic.
    pub fn toy(seed: u64) -> Result<Self, ModelError> {
        let (tokenizer, _) = text::toy::words()?;
        let config = config(&tokenizer);
        let tensors = weights::make(&config, &tokenizer, seed)?;
        let source = InMemory::new(&name_of(seed), tensors);
        Ok(Self::Memory(source, config))
    }
}

fn name_of(seed: u64) -> String {
    match seed {
        0 => NAME.to_owned(),
        seed => format!("{NAME}:{seed}"),
    }
}

fn config(tokenizer: &Tokenizer) -> ModelConfig {
    let (n_layers, d_head) = (4, 16);
    let layer = LayerConfig {
        window: None,
        rope: 0,
        attn_scale: (d_head as f64).sqrt().recip(),
    };
    ModelConfig {
        family: Family::Llama,
        vocab_size: tokenizer.vocab_size(),
        d_model: 64,
        n_layers,
        n_heads: 4,
        n_kv_heads: 2,
        d_head,
        d_mlp: 128,
        n_ctx: 1024,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        norm_gain_minus_one: false,
        placement: NormPlacement::Pre,
        parallel: false,
        qk_norm: QkNorm::None,
        biases: Biases {
            qkv: false,
            attn_out: false,
            mlp: false,
        },
        gated_mlp: true,
        activation: Activation::Silu,
        positions: Positions::Rotary(vec![Rope::plain(d_head, weights::THETA)]),
        layers: vec![layer; n_layers],
        attn_softcap: None,
        final_softcap: None,
        embed_scale: None,
        tied: true,
        bos: tokenizer.bos(),
        eos: tokenizer.stop_ids().to_vec(),
    }
}

#[cfg(test)]
mod tests;
