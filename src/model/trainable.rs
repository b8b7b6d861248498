//! A decoder whose weights train: each weight a `Var` under the name it is saved with.
//!
//! Always: the decoder to read from ([`Trainable::decoder`]) and the one that tracks gradients share storage, so every step of
//! an optimiser that writes in place is seen by both; a tied unembedding is one `Var`; what is written as a Hugging Face
//! folder in f32 reads back to the same bits ([`Trainable::settle`] says why that takes a step for Gemma).
//! Losses are in `train/loss`.

use std::path::Path;

use candle_core::{DType, Tensor, Var};

use super::{
    Batch, Decoder, LoadOptions, ModelError, Opened, convert,
    score::{self, ScoreModel},
    slots::slots,
    weights::Weights,
};
use crate::config::ModelConfig;

/// One trained tensor.
#[derive(Debug, Clone)]
pub struct Param {
    /// The name in a Hugging Face file, or of an adapter's part in a PEFT file; pieces of a fused tensor add which in
    /// brackets (`transformer.h.0.attn.c_attn.weight[q]`).
    pub name: String,
    /// The values, in the decoder's orientation (`[out, in]`).
    pub var: Var,
    /// Whether weight decay applies: matrices yes; norms and biases no.
    pub decay: bool,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainable {
    tracked: Decoder,
    decoder: Decoder,
    params: Vec<Param>,
    score: Option<Var>,
}

impl Trainable {
    /// Every weight of the decoder trains. The decoder that is passed in keeps its own values.
    ///
    /// # Errors
    /// Weights in bf16: steps would be lost in rounding.
    pub fn full(decoder: Decoder) -> Result<Self, ModelError> {
        Self::all(decoder, None)
    }

    /// Every weight trains but the unembedding, which a reward or value model does not have, and so does its score head.
    ///
    /// # Errors
    /// As [`Self::full`].
    pub fn scored(model: &ScoreModel) -> Result<Self, ModelError> {
        Self::all(model.decoder().clone(), Some(model.head()))
    }

    fn all(mut decoder: Decoder, score: Option<&Tensor>) -> Result<Self, ModelError> {
        refuse_half(&decoder)?;
        let config = decoder.config().clone();
        let mut params = Vec::new();
        let weights = decoder.weights_mut();
        for slot in slots(weights, &config) {
            let name = slot.name();
            if score.is_some() && name == score::head_name(&config) {
                continue;
            }
            let var = Var::from_tensor(&slot.tensor.contiguous()?)?;
            *slot.tensor = var.as_tensor().clone();
            params.push(Param {
                name,
                decay: var.rank() > 1,
                var,
            });
        }
        if config.tied {
            weights.head = weights.embed.clone();
        }
        let score = score.map(Var::from_tensor).transpose()?;
        params.extend(score.iter().map(|var| Param {
            name: score::NAME.to_owned(),
            var: var.clone(),
            decay: true,
        }));
        Self::of(decoder, params, score)
    }

    fn of(
        tracked: Decoder,
        params: Vec<Param>,
        score: Option<Var>,
    ) -> Result<Self, ModelError> {
        let mut decoder = tracked.clone();
        let config = decoder.config().clone();
        detach(decoder.weights_mut(), &config);
        Ok(Self {
            tracked,
            decoder,
            params,
            score,
        })
    }

    /// The model with its present weights and no gradients: to sample from, evaluate, audit and save.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The same weights, tracked: every pass over it builds a graph. For losses that need more than [`Self::hidden`].
    pub fn tracked(&self) -> &Decoder {
        &self.tracked
    }

    /// What trains, in the order of the forward pass. The same order for the same model.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Output of the final norm at every position, tracked: `[batch, pos, d_model]`. A row's tokens end in the last slot.
    ///
    /// # Errors
    /// Tokens outside the vocabulary, rows beyond the context.
    pub fn hidden(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        self.tracked.hidden(batch)
    }

    /// The unembedding that log-probabilities are taken with, tracked where it trains: `[vocab, d_model]`.
    pub fn head(&self) -> &Tensor {
        &self.tracked.weights().head
    }

    /// The score head of a reward or value model, tracked: `[1, d_model]`.
    ///
    /// # Errors
    /// A language model has none.
    pub fn score_head(&self) -> Result<&Tensor, ModelError> {
        self.score
            .as_ref()
            .map(Var::as_tensor)
            .ok_or(ModelError::Empty {
                what: "this model has no score head; open it as a reward or value model",
            })
    }

    /// The scores as they are now, as a model of its own that shares storage; to read rewards and values from.
    ///
    /// # Errors
    /// A language model has no score head.
    pub fn score_model(&self) -> Result<ScoreModel, ModelError> {
        ScoreModel::new(self.decoder.clone(), self.score_head()?.detach())
    }

    /// Gemma's files keep the gains of its norms less 1, which has fewer digits near 0 than the gain. This moves gains to the
    /// nearest ones that a file can hold, a change in the last bit; for other families it does nothing. Call it after each
    /// step of the optimiser, so that a run that goes on from a file is the run that never stopped.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn settle(&self) -> Result<(), ModelError> {
        if !self.tracked.config().norm_gain_minus_one {
            return Ok(());
        }
        for param in self.params.iter().filter(|p| p.var.rank() == 1) {
            let stored = (param.var.as_detached_tensor() - 1.0)?;
            param.var.set(&(stored + 1.0)?)?;
        }
        Ok(())
    }

    /// Writes the weights as a Hugging Face folder without a tokenizer: `config.json` and safetensors. The
    /// weights are settled first, as [`Self::settle`] does.
    ///
    /// # Errors
    /// The folder holds weights already; the disk.
    pub fn write(&self, folder: &Path, dtype: DType) -> Result<(), ModelError> {
        self.settle()?;
        match &self.score {
            None => convert::write_model(&self.decoder, folder, dtype),
            Some(score) => convert::write_scored(&self.decoder, score, folder, dtype),
        }
    }

    /// Takes over the weights of a folder that [`Self::write`] made.
    ///
    /// # Errors
    /// Another model.
    pub fn reload(&self, folder: &Path) -> Result<(), ModelError> {
        let options = LoadOptions {
            dtype: self.decoder.weight_dtype(),
            ..LoadOptions::default()
        };
        let (decoder, score) = if self.score.is_some() {
            let model = ScoreModel::open(folder, &options)?;
            (model.decoder().clone(), Some(model.head().clone()))
        } else {
            (Opened::at(folder, &options)?.decoder(&options)?, None)
        };
        let config = decoder.config().clone();
        let mut weights = decoder.weights().clone();
        let mut values: Vec<(String, Tensor)> = slots(&mut weights, &config)
            .into_iter()
            .map(|slot| (slot.name(), slot.tensor.clone()))
            .collect();
        values.extend(score.map(|score| (score::NAME.to_owned(), score)));
        self.restore(&values)
    }

    /// The values of what trains, by name; they share storage with it.
    pub fn values(&self) -> Vec<(String, Tensor)> {
        let value = |p: &Param| (p.name.clone(), p.var.as_detached_tensor());
        self.params.iter().map(value).collect()
    }

    /// Sets every trained tensor from `values`, which may hold more.
    ///
    /// # Errors
    /// One is missing or has another shape; then nothing has changed.
    pub fn restore(&self, values: &[(String, Tensor)]) -> Result<(), ModelError> {
        let source = || "the saved weights".to_owned();
        let mut found = Vec::with_capacity(self.params.len());
        for param in &self.params {
            let (_, value) = values
                .iter()
                .find(|(name, _)| *name == param.name)
                .ok_or_else(|| ModelError::MissingTensor {
                    file: source(),
                    tensor: param.name.clone(),
                    needed_for: "a weight that trains".to_owned(),
                })?;
            if value.dims() != param.var.dims() {
                return Err(ModelError::Shape {
                    file: source(),
                    tensor: param.name.clone(),
                    expected: param.var.dims().to_vec(),
                    found: value.dims().to_vec(),
                });
            }
            found.push(value.to_dtype(param.var.dtype())?.force_contiguous()?);
        }
        for (param, value) in self.params.iter().zip(found) {
            param.var.set(&value)?;
        }
        Ok(())
    }
}

fn refuse_half(decoder: &Decoder) -> Result<(), ModelError> {
    match decoder.weight_dtype() {
        DType::F32 | DType::F64 => Ok(()),
        other => Err(ModelError::Dtype {
            file: "weights that train (open them in f32)".to_owned(),
            found: other.as_str(),
        }),
    }
}

/// Cuts all weights from the graph; they keep their storage, and a tied unembedding stays the embedding.
fn detach(weights: &mut Weights, config: &ModelConfig) {
    for slot in slots(weights, config) {
        *slot.tensor = slot.tensor.detach();
    }
    if config.tied {
        weights.head = weights.embed.clone();
    }
}
