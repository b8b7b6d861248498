//! A decoder whose weights train, or an adapter on it: each trained tensor a `Var` under the name it is saved with.
//!
//! Always: the decoder to read from ([`Trainable::decoder`]) and the one that tracks gradients share storage, so every step of
//! an optimiser that writes in place is seen by both; a tied unembedding is one `Var`; what is written as a Hugging Face
//! folder in f32 reads back to the same bits ([`Trainable::settle`] says why that takes a step for Gemma).
//! Losses are in `train/loss`.

use std::path::Path;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use candle_core::{DType, Tensor, Var};

use super::{
    Batch, Decoder, LoadOptions, LoraAdapter, LoraSpec, ModelError, Opened, convert, lora,
    score::{self, ScoreModel},
    slots::{linears, slots},
    weights::Weights,
};
use crate::config::ModelConfig;
use crate::files::{
    SafetensorsFolder, TensorSource,
    write::{WriteOptions, write_safetensors_file},
};

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
    /// The value head of a policy that values its own states.
    value: Option<Var>,
    adapter: Option<Adapted>,
}

/// The value head beside a policy: a file of its own, which readers of the policy do not look at.
const VALUE_FILE: &str = "value_head.safetensors";
const VALUE_NAME: &str = "value_head.weight";

/// What a model has whose adapter trains and not its weights.
#[derive(Debug)]
struct Adapted {
    adapter: LoraAdapter,
    /// What the adapters' dropout masks are drawn from; 0 for no dropout.
    key: Arc<AtomicU64>,
    /// The name of the base model that a saved adapter carries.
    base: String,
}

impl Trainable {
    /// Every weight of the decoder trains. The decoder that is passed in keeps its own values.
    ///
    /// # Errors
    /// Weights in bf16: steps would be lost in rounding. A model with an adapter: merge it first, or train it.
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

    /// A fresh adapter on the decoder trains; its weights do not.
    ///
    /// # Errors
    /// A spec outside its range, a target that the model does not have.
    pub fn lora(decoder: Decoder, spec: &LoraSpec, seed: u64) -> Result<Self, ModelError> {
        let adapter = LoraAdapter::fresh(&decoder, spec, seed)?;
        Self::adapted(decoder, adapter, None)
    }

    /// An adapter goes on training on the decoder it belongs to.
    ///
    /// # Errors
    /// An adapter of another model.
    pub fn lora_from(decoder: Decoder, adapter: &LoraAdapter) -> Result<Self, ModelError> {
        Self::adapted(decoder, adapter.clone(), None)
    }

    /// A fresh adapter on a reward or value model trains, and its score head does.
    ///
    /// # Errors
    /// As [`Self::lora`].
    pub fn lora_scored(model: &ScoreModel, spec: &LoraSpec, seed: u64) -> Result<Self, ModelError> {
        let adapter = LoraAdapter::fresh(model.decoder(), spec, seed)?;
        Self::adapted(model.decoder().clone(), adapter, Some(model.head()))
    }

    /// An adapter goes on training on a reward or value model, and its score head does.
    ///
    /// # Errors
    /// An adapter of another model.
    pub fn lora_scored_from(model: &ScoreModel, adapter: &LoraAdapter) -> Result<Self, ModelError> {
        Self::adapted(model.decoder().clone(), adapter.clone(), Some(model.head()))
    }

    fn adapted(
        decoder: Decoder,
        adapter: LoraAdapter,
        score: Option<&Tensor>,
    ) -> Result<Self, ModelError> {
        let (adapter, vars) = adapter.trained(decoder.compute_dtype())?;
        let param = |(name, var)| Param {
            name,
            var,
            decay: true,
        };
        let mut params: Vec<Param> = vars.into_iter().map(param).collect();
        let score = score.map(Var::from_tensor).transpose()?;
        params.extend(
            score
                .iter()
                .map(|var| param((lora::score_name(), var.clone()))),
        );
        let key = Arc::new(AtomicU64::new(0));
        let tracked = adapter.put_on(&decoder, Some(&key))?;
        let adapted = Adapted {
            adapter,
            key,
            base: String::new(),
        };
        Ok(Self::of(tracked, params, score, Some(adapted)))
    }

    fn all(mut decoder: Decoder, score: Option<&Tensor>) -> Result<Self, ModelError> {
        refuse_half(&decoder)?;
        if decoder.is_adapted() {
            return Err(ModelError::Adapter {
                of: "training of every weight".to_owned(),
                expected: "a model without one; merge it first, or train it".to_owned(),
                found: "one on the model".to_owned(),
            });
        }
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
        Ok(Self::of(decoder, params, score, None))
    }

    fn of(
        tracked: Decoder,
        params: Vec<Param>,
        score: Option<Var>,
        adapter: Option<Adapted>,
    ) -> Self {
        let mut decoder = tracked.clone();
        let config = decoder.config().clone();
        detach(decoder.weights_mut(), &config);
        Self {
            tracked,
            decoder,
            params,
            score,
            value: None,
            adapter,
        }
    }

    /// With a value head `[1, d_model]` on the policy's own states (PPO with a shared value model); it trains as well.
    ///
    /// # Errors
    /// A head of another shape, or a model that is a score model already.
    pub fn with_value_head(mut self, head: &Tensor) -> Result<Self, ModelError> {
        let model = ScoreModel::new(self.decoder.clone(), head.clone())?;
        if self.score.is_some() {
            return Err(ModelError::Empty {
                what: "a score model has a head already; a value head goes on a language model",
            });
        }
        let var = Var::from_tensor(&model.head().detach())?;
        self.params.push(Param {
            name: VALUE_NAME.to_owned(),
            var: var.clone(),
            decay: true,
        });
        self.value = Some(var);
        Ok(self)
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

    /// The score head of a reward or value model, or the value head of a policy, tracked: `[1, d_model]`.
    ///
    /// # Errors
    /// A language model has none.
    pub fn score_head(&self) -> Result<&Tensor, ModelError> {
        (self.score.as_ref().or(self.value.as_ref()))
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

    /// The adapter that trains, sharing its numbers; none where every weight trains.
    pub fn adapter(&self) -> Option<&LoraAdapter> {
        self.adapter.as_ref().map(|a| &a.adapter)
    }

    /// The model that an adapter began from: the decoder with the adapter off. It is the reference of a fresh adapter; of one
    /// that goes on training the reference is its frozen copy (`adapter().frozen()?.on(&base)`).
    ///
    /// # Errors
    /// Where every weight trains there is no base left; keep a copy of the decoder.
    pub fn base(&self) -> Result<Decoder, ModelError> {
        if self.adapter.is_none() {
            return Err(ModelError::Empty {
                what: "every weight of this model trains, so its base is gone; open the reference as a model of its own",
            });
        }
        Ok(self.decoder.without_adapter())
    }

    /// Draws the dropout of an adapter from a key from now on; `None` for no dropout, as at first. The masks are a function of
    /// the key: a pass that is run again sees the same, and a key for each pass (from the run's generator) makes a run that
    /// goes on the run that never stopped.
    pub fn set_dropout(&self, key: Option<u64>) {
        if let Some(adapted) = &self.adapter {
            // 0 stands for none.
            let key = key.map_or(0, |key| key.max(1));
            adapted.key.store(key, Ordering::Relaxed);
        }
    }

    /// Whether the passes that train keep of each block its input alone; see [`Decoder::set_checkpointing`].
    pub fn set_checkpointing(&mut self, on: bool) {
        self.tracked.set_checkpointing(on);
    }

    /// The name of the base model, for adapters that are saved.
    pub fn set_base_name(&mut self, name: &str) {
        if let Some(adapted) = &mut self.adapter {
            name.clone_into(&mut adapted.base);
        }
    }

    /// Gemma's files keep the gains of its norms less 1, which has fewer digits near 0 than the gain. This moves gains to the
    /// nearest ones that a file can hold, a change in the last bit; for other families it does nothing. Call it after each
    /// step of the optimiser, so that a run that goes on from a file is the run that never stopped.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn settle(&self) -> Result<(), ModelError> {
        if !self.tracked.config().norm_gain_minus_one || self.adapter.is_some() {
            return Ok(());
        }
        for param in self.params.iter().filter(|p| p.var.rank() == 1) {
            let stored = (param.var.as_detached_tensor() - 1.0)?;
            param.var.set(&(stored + 1.0)?)?;
        }
        Ok(())
    }

    /// Writes the weights as a Hugging Face folder without a tokenizer: `config.json` and safetensors, settled first as
    /// [`Self::settle`] does. Of a model whose adapter trains, the adapter alone as PEFT has it.
    ///
    /// # Errors
    /// The folder holds weights already; the disk.
    pub fn write(&self, folder: &Path, dtype: DType) -> Result<(), ModelError> {
        self.settle()?;
        self.write_weights(folder, dtype)?;
        if let Some(value) = &self.value {
            let plan = [(VALUE_NAME.to_owned(), value.dims().to_vec())];
            let value = |_: &str| Ok::<_, candle_core::Error>(value.as_detached_tensor());
            let options = WriteOptions::default();
            write_safetensors_file(&folder.join(VALUE_FILE), &plan, &options, value)?;
        }
        Ok(())
    }

    fn write_weights(&self, folder: &Path, dtype: DType) -> Result<(), ModelError> {
        if let Some(adapted) = &self.adapter {
            let head = self.score.as_ref().map(Var::as_detached_tensor);
            let config = self.decoder.config();
            let adapter = &adapted.adapter;
            return adapter.write_with_head(folder, config, &adapted.base, head.as_ref());
        }
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
        let mut values = self.read(folder)?;
        if self.value.is_some() {
            let source = SafetensorsFolder::open(&folder.join(VALUE_FILE))?;
            let value = source.load(VALUE_NAME, self.decoder.compute_dtype())?;
            values.push((VALUE_NAME.to_owned(), value));
        }
        self.restore(&values)
    }

    /// The weights of a folder by the names of what trains.
    fn read(&self, folder: &Path) -> Result<Vec<(String, Tensor)>, ModelError> {
        if self.adapter.is_some() {
            let config = self.decoder.config();
            let (adapter, head) = LoraAdapter::read_with_head(folder, config)?;
            let (_, vars) = adapter.trained(self.decoder.compute_dtype())?;
            let vars = vars.into_iter().map(|(name, var)| (name, var.into_inner()));
            let head = head.map(|head| (lora::score_name(), head));
            return Ok(vars.chain(head).collect());
        }
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
        Ok(values)
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

/// Cuts all weights and adapters from the graph; they keep their storage, and a tied unembedding stays the embedding.
fn detach(weights: &mut Weights, config: &ModelConfig) {
    for slot in slots(weights, config) {
        *slot.tensor = slot.tensor.detach();
    }
    for layer in &mut weights.layers {
        for (_, linear) in linears(layer) {
            linear.adapter = linear.adapter.as_ref().map(lora::Pair::detached);
        }
    }
    if config.tied {
        weights.head = weights.embed.clone();
    }
}
