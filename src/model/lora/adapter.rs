//! A whole model's adapter: made fresh, put on a decoder, taken off, merged into the weights, cloned.

use std::collections::BTreeMap;
use std::sync::{Arc, atomic::AtomicU64};

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{LoraSpec, Module, Pair, Targets, pair::Dropout};
use crate::config::ModelConfig;
use crate::model::{
    Decoder, ModelError, convert,
    names::Role,
    slots::{linears, piece},
    weights::{self, Linear},
};

/// An adapter apart from any model.
#[derive(Debug, Clone)]
pub struct LoraAdapter {
    pub(super) spec: LoraSpec,
    pub(super) parts: Vec<Part>,
}

/// One module's matrices.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub module: Module,
    /// `[rank, in]`
    pub a: Tensor,
    /// `[out, rank]` for each role of the module.
    pub b: Vec<Tensor>,
}

impl LoraAdapter {
    /// One that changes nothing yet: A uniform in `±1/√in` (Kaiming's with `a = √5`, PEFT's choice), B zero.
    ///
    /// # Errors
    /// A spec outside its range, a target that the model does not have.
    pub fn fresh(decoder: &Decoder, spec: &LoraSpec, seed: u64) -> Result<Self, ModelError> {
        let config = decoder.config();
        spec.check(config)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parts = Vec::new();
        for module in spec.targets.pick(config)? {
            let shapes = module.shapes(decoder);
            let input = shapes[0][1];
            let bound = (input as f64).sqrt().recip();
            let n = spec.rank * input;
            let values: Vec<f64> = (0..n).map(|_| rng.random_range(-bound..bound)).collect();
            let dtype = decoder.compute_dtype();
            let a = Tensor::from_vec(values, (spec.rank, input), &Device::Cpu)?.to_dtype(dtype)?;
            let zero = |s: &[usize; 2]| Tensor::zeros((s[0], spec.rank), dtype, &Device::Cpu);
            let b = shapes
                .iter()
                .map(zero)
                .collect::<candle_core::Result<_>>()?;
            parts.push(Part { module, a, b });
        }
        Ok(Self {
            spec: spec.clone(),
            parts,
        })
    }

    /// One of given matrices, `A [rank, in]` and `B [out, rank]` by layer and role, that adds `B A` to each weight.
    ///
    /// # Errors
    /// A role whose weight is a part of a fused module, or that the model does not have; shapes are checked when it is put on.
    pub fn given(
        config: &ModelConfig,
        rank: usize,
        pairs: Vec<(usize, Role, [Tensor; 2])>,
    ) -> Result<Self, ModelError> {
        let all = super::modules(config);
        let mut parts = Vec::new();
        for (layer, role, [a, b]) in pairs {
            let module = all
                .iter()
                .find(|m| m.layer == layer && matches!(m.roles[..], [(only, _)] if only == role));
            let module = module.cloned().ok_or_else(|| ModelError::Adapter {
                of: format!("{role:?} of layer {layer}"),
                expected: "a linear layer that is a module of its own".to_owned(),
                found: "none".to_owned(),
            })?;
            let b = vec![b];
            parts.push(Part { module, a, b });
        }
        let names = parts.iter().map(|part| part.module.name.clone());
        let spec = LoraSpec {
            rank,
            alpha: rank as f64,
            dropout: 0.0,
            targets: Targets::Modules(names.collect()),
            rslora: false,
        };
        spec.check(config)?;
        Ok(Self { spec, parts })
    }

    /// Its options.
    pub fn spec(&self) -> &LoraSpec {
        &self.spec
    }

    /// The same with another dropout in training.
    #[must_use]
    pub fn with_dropout(mut self, share: f64) -> Self {
        self.spec.dropout = share;
        self
    }

    /// Whether it is on exactly these linear layers of its model.
    ///
    /// # Errors
    /// A target that the model does not have.
    pub fn is_on(&self, targets: &Targets, config: &ModelConfig) -> Result<bool, ModelError> {
        let picked = targets.pick(config)?;
        Ok(self
            .modules()
            .eq(picked.iter().map(|module| module.name.as_str())))
    }

    /// The modules it changes, as transformers names them.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.module.name.as_str())
    }

    /// Numbers that train.
    pub fn size(&self) -> usize {
        let of = |p: &Part| p.a.elem_count() + p.b.iter().map(Tensor::elem_count).sum::<usize>();
        self.parts.iter().map(of).sum()
    }

    /// A copy of its present numbers that no training changes: a reference to keep.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn frozen(&self) -> Result<Self, ModelError> {
        let mut copy = self.clone();
        for part in &mut copy.parts {
            part.a = part.a.detach().copy()?;
            for b in &mut part.b {
                *b = b.detach().copy()?;
            }
        }
        Ok(copy)
    }

    /// The same with every matrix a `Var` of its own, and their names: those of PEFT, a fused module's pieces of B with which in
    /// brackets.
    pub(in crate::model) fn trained(
        mut self,
        dtype: DType,
    ) -> Result<(Self, Vec<(String, Var)>), ModelError> {
        let mut vars = Vec::new();
        for part in &mut self.parts {
            let stem = format!("base_model.model.{}", part.module.name);
            let a = Var::from_tensor(&part.a.detach().to_dtype(dtype)?)?;
            part.a = a.as_tensor().clone();
            vars.push((format!("{stem}.lora_A.weight"), a));
            let fused = part.module.roles.len() > 1;
            for (b, (role, _)) in part.b.iter_mut().zip(&part.module.roles) {
                let var = Var::from_tensor(&b.detach().to_dtype(dtype)?)?;
                *b = var.as_tensor().clone();
                let which = if fused {
                    format!("[{}]", piece(*role))
                } else {
                    String::new()
                };
                vars.push((format!("{stem}.lora_B.weight{which}"), var));
            }
        }
        Ok((self, vars))
    }

    /// A decoder with this adapter on; one that it had comes off. The weights are shared.
    ///
    /// # Errors
    /// Another model: a module that it does not have, or of another shape.
    pub fn on(&self, decoder: &Decoder) -> Result<Decoder, ModelError> {
        self.put_on(decoder, None)
    }

    /// [`Self::on`] with dropout under a key.
    pub(in crate::model) fn put_on(
        &self,
        decoder: &Decoder,
        key: Option<&Arc<AtomicU64>>,
    ) -> Result<Decoder, ModelError> {
        let mut decoder = decoder.without_adapter();
        let dtype = decoder.compute_dtype();
        let mut pairs: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
        for (i, part) in self.parts.iter().enumerate() {
            part.check(&decoder)?;
            for ((role, _), b) in part.module.roles.iter().zip(&part.b) {
                let pair = Pair {
                    a: part.a.to_dtype(dtype)?,
                    b: b.to_dtype(dtype)?,
                    scale: self.spec.scale(),
                    dropout: key.filter(|_| self.spec.dropout > 0.0).map(|key| Dropout {
                        share: self.spec.dropout,
                        key: Arc::clone(key),
                        module: i as u64,
                    }),
                };
                pairs.insert((part.module.layer, *role as usize), pair);
            }
        }
        for (i, layer) in decoder.weights_mut().layers.iter_mut().enumerate() {
            for (role, linear) in linears(layer) {
                linear.adapter = pairs.remove(&(i, role as usize));
            }
        }
        Ok(decoder)
    }

    /// The matrices of a module as PEFT stores them, `A [rank, in]` and `B [out, rank]`.
    pub(super) fn stored(part: &Part, config: &ModelConfig) -> Result<[Tensor; 2], ModelError> {
        let takes = part.module.roles.iter().map(|(_, take)| *take);
        let pieces: Vec<_> = takes.zip(part.b.iter().map(Tensor::detach)).collect();
        Ok([part.a.detach(), convert::joined(&pieces, config)?])
    }

    /// The inverse of [`Self::stored`].
    pub(super) fn part(
        module: Module,
        [a, b]: [Tensor; 2],
        config: &ModelConfig,
    ) -> Result<Part, ModelError> {
        let cut = |(_, take): &(Role, _)| weights::cut(&b, *take, config)?.contiguous();
        let b = module
            .roles
            .iter()
            .map(cut)
            .collect::<candle_core::Result<_>>()?;
        Ok(Part { module, a, b })
    }
}

impl Module {
    /// Shapes `[out, in]` of the weights of its roles.
    pub(super) fn shapes(&self, decoder: &Decoder) -> Vec<[usize; 2]> {
        let mut layer = decoder.weights().layers[self.layer].clone();
        let all = linears(&mut layer);
        let shape = |linear: &Linear| [linear.weight.dims()[0], linear.weight.dims()[1]];
        let of = |role: &Role| all.iter().find(|(r, _)| r == role).map(|(_, l)| shape(l));
        self.roles.iter().filter_map(|(role, _)| of(role)).collect()
    }
}

impl Part {
    /// Refuses a decoder whose weights have other shapes.
    fn check(&self, decoder: &Decoder) -> Result<(), ModelError> {
        let there = super::modules(decoder.config());
        let refuse = |expected: String, found: String| ModelError::Adapter {
            of: format!("module `{}`", self.module.name),
            expected,
            found,
        };
        if !there.iter().any(|m| m.name == self.module.name) {
            let kinds = super::kinds(&there).join(", ");
            return Err(refuse(
                format!("a module of this model ({kinds})"),
                "none".into(),
            ));
        }
        let rank = self.a.dim(0)?;
        let shapes = self.module.shapes(decoder);
        for (b, [out, input]) in self.b.iter().zip(&shapes) {
            let expected = ([rank, *input], [*out, rank]);
            if self.a.dims() != expected.0 || b.dims() != expected.1 {
                let found = format!("{:?} and {:?}", self.a.dims(), b.dims());
                return Err(refuse(
                    format!("{:?} and {:?}", expected.0, expected.1),
                    found,
                ));
            }
        }
        Ok(())
    }
}

impl Decoder {
    /// The model without its adapter; the weights are shared.
    pub fn without_adapter(&self) -> Self {
        let mut decoder = self.clone();
        for layer in &mut decoder.weights_mut().layers {
            for (_, linear) in linears(layer) {
                linear.adapter = None;
            }
        }
        decoder
    }

    /// Whether a linear layer has an adapter.
    pub fn is_adapted(&self) -> bool {
        let mut weights = self.weights().clone();
        let mut layers = weights.layers.iter_mut();
        layers.any(|layer| linears(layer).iter().any(|(_, l)| l.adapter.is_some()))
    }

    /// The model with its adapter in the weights: the same function to rounding, in one matrix a layer. Without an adapter it is
    /// the model itself.
    ///
    /// # Errors
    /// Weights in bf16, which would swallow small changes.
    pub fn merged(&self) -> Result<Self, ModelError> {
        let mut decoder = self.clone();
        for layer in &mut decoder.weights_mut().layers {
            for (_, linear) in linears(layer) {
                if let Some(pair) = linear.adapter.take() {
                    if linear.weight.dtype() == DType::BF16 {
                        return Err(ModelError::Adapter {
                            of: "merging".to_owned(),
                            expected: "weights in f32 or f64".to_owned(),
                            found: "bf16, which would swallow small changes".to_owned(),
                        });
                    }
                    linear.weight = pair.merged_into(&linear.weight)?;
                }
            }
        }
        Ok(decoder)
    }
}
