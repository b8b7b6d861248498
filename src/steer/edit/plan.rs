//! One weight edit as a value: which subspace, how much of it in each component, and what becomes of the rest.
//!
//! Always: [`WeightEdit::apply`], [`WeightEdit::hooks`] and [`WeightEdit::adapter`] do the same to a model, to rounding;
//! where one of them cannot, it says so by name. An amount of 0 leaves a tensor as it is, bit for bit.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Axis, Basis, EditError, Removal, Site, Through, Writer,
    matrix::{removed, vector_removed, written},
    writer::Edited,
    writers,
};
use crate::config::ModelConfig;
use crate::hooks::{Edit, EditOp, HookPoint, Vector};
use crate::model::weights::Weights;
use crate::model::{Decoder, LoraAdapter};

/// How much of the subspace is taken out where: 1 all of it, 0 nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Token and position embeddings.
    pub embed: f64,
    /// Attention output of each block.
    pub attn: Vec<f64>,
    /// MLP output of each block.
    pub mlp: Vec<f64>,
}

impl Amounts {
    /// The same everywhere.
    pub fn uniform(config: &ModelConfig, amount: f64) -> Self {
        Self {
            embed: amount,
            attn: vec![amount; config.n_layers],
            mlp: vec![amount; config.n_layers],
        }
    }

    /// In these blocks, and nothing in the embeddings.
    pub fn of_layers(config: &ModelConfig, layers: &[usize], amount: f64) -> Self {
        let of = |layer: usize| {
            if layers.contains(&layer) { amount } else { 0.0 }
        };
        let each: Vec<f64> = (0..config.n_layers).map(of).collect();
        Self {
            embed: 0.0,
            attn: each.clone(),
            mlp: each,
        }
    }

    /// Of one writer.
    pub fn at(&self, site: Site) -> f64 {
        match site {
            Site::Embed | Site::PosEmbed => self.embed,
            Site::Attn(layer) => self.attn.get(layer).copied().unwrap_or(0.0),
            Site::Mlp(layer) => self.mlp.get(layer).copied().unwrap_or(0.0),
        }
    }

    fn check(&self, config: &ModelConfig) -> Result<(), EditError> {
        for (component, amounts) in [
            ("embed", std::slice::from_ref(&self.embed)),
            ("attn", &self.attn),
            ("mlp", &self.mlp),
        ] {
            if component != "embed" && amounts.len() != config.n_layers {
                return Err(EditError::Amounts {
                    component,
                    expected: format!("one for each of {} layers", config.n_layers),
                    found: amounts.len().to_string(),
                });
            }
            if let Some(bad) = amounts.iter().find(|x| !x.is_finite()) {
                return Err(EditError::Amounts {
                    component,
                    expected: "finite numbers".to_owned(),
                    found: bad.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// What becomes of an unembedding that is the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tied {
    /// It keeps its own unedited copy, and the config says that the two are no longer tied.
    Untie,
    /// The edit is refused.
    Refuse,
}

/// Taking a subspace out of what a model's weights write to its residual stream.
///
/// Under a post-norm the weights are edited against the gain times the direction ([`Writer::basis`]). That leaves no
/// component along the direction, as [`crate::steer::ablation`] does; but the norm then sees another length, so the rest
/// of the contribution differs from that of the ablation, and no weights of the family give the ablation itself.
/// [`Self::hooks`] is the same edit by hook, for every family.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightEdit {
    /// What is taken out.
    pub basis: Basis,
    /// How much of it, where.
    pub amounts: Amounts,
    /// Whether biases beside the edited matrices, and those of post-norms, are edited too.
    pub biases: bool,
    /// Whether written vectors keep their lengths ([`Removal::keep_norms`]).
    pub keep_norms: bool,
    /// What becomes of a tied unembedding.
    pub tied: Tied,
}

impl WeightEdit {
    /// The exact edit: all of it everywhere.
    pub fn new(basis: Basis, config: &ModelConfig) -> Self {
        Self {
            basis,
            amounts: Amounts::uniform(config, 1.0),
            biases: true,
            keep_norms: false,
            tied: Tied::Untie,
        }
    }

    /// Refuses a model that the edit was not made for, and gives the writers it changes.
    fn writers(&self, config: &ModelConfig) -> Result<Vec<(Writer, f64)>, EditError> {
        if self.basis.width() != config.d_model {
            return Err(EditError::Width {
                what: "the direction".to_owned(),
                expected: config.d_model,
                found: self.basis.width(),
            });
        }
        self.amounts.check(config)?;
        let all = writers(config).into_iter();
        let with = all.map(|writer| {
            let amount = self.amounts.at(writer.site);
            (writer, amount)
        });
        Ok(with.filter(|(_, amount)| *amount != 0.0).collect())
    }

    /// The model with edited weights; an adapter that it carries is merged first. Tensors that are not edited are shared.
    ///
    /// # Errors
    /// A model of another width or number of layers; tied embeddings under [`Tied::Refuse`].
    pub fn apply(&self, model: &Decoder) -> Result<Decoder, EditError> {
        let chosen = self.writers(model.config())?;
        let merged = model.merged()?;
        let mut config = merged.config().clone();
        let mut weights = merged.weights().clone();
        if config.tied
            && let Some((embed, _)) = chosen.iter().find(|(w, _)| w.site == Site::Embed)
        {
            if self.tied == Tied::Refuse {
                return Err(EditError::Tied {
                    tensor: embed.name.clone(),
                });
            }
            // The head is a tensor of its own in memory: it stays when the embedding is replaced.
            config.tied = false;
        }
        let edited = chosen
            .par_iter()
            .map(|(writer, amount)| self.edited(writer, *amount, merged.weights()))
            .collect::<Result<Vec<_>, _>>()?;
        for ((writer, _), edited) in chosen.iter().zip(edited) {
            if let Some(edited) = edited {
                writer.put(&mut weights, edited);
            }
        }
        let mut edited = Decoder::new(config, weights);
        edited.set_standing_edits(merged.standing_edits().to_vec());
        Ok(edited)
    }

    fn edited(
        &self,
        writer: &Writer,
        amount: f64,
        weights: &Weights,
    ) -> Result<Option<Edited>, EditError> {
        let Some(weight) = writer.weight(weights) else {
            return Ok(None);
        };
        let own = writer.basis(&self.basis, weights)?;
        let how = Removal {
            amount,
            keep_norms: self.keep_norms,
        };
        let vector = |vector: Option<&Tensor>, basis: &Basis| {
            vector
                .filter(|_| self.biases)
                .map(|vector| vector_removed(vector, basis, amount))
                .transpose()
        };
        Ok(Some(Edited {
            weight: removed(weight, writer.axis(), &own, how)?,
            bias: vector(writer.bias(weights), &own)?,
            norm_bias: vector(writer.norm_bias(weights), &self.basis)?,
        }))
    }

    /// The same edit by hook; `None` where norms are kept, which no hook does.
    ///
    /// Without post-norms, with all biases and amount 1 this is [`crate::steer::ablation`], written at the writers alone.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn hooks(&self, model: &Decoder) -> Result<Option<Vec<Edit>>, EditError> {
        if self.keep_norms {
            return Ok(None);
        }
        let mut edits = Vec::new();
        for (writer, amount) in self.writers(model.config())? {
            let weights = model.weights();
            let own = writer.basis(&self.basis, weights)?;
            if own.rank() > 0 {
                let op = EditOp::Ablate {
                    directions: own.vectors(),
                    amount,
                };
                edits.push(Edit::new(writer.output(), op));
            }
            // What the hook took of a bias that the edit leaves, and what the edit takes of a bias after the norm.
            if let Some(bias) = writer.bias(weights).filter(|_| !self.biases) {
                edits.push(added(writer.output(), bias, &own, amount)?);
            }
            if let Some(bias) = writer.norm_bias(weights).filter(|_| self.biases) {
                edits.push(added(writer.contribution(), bias, &self.basis, -amount)?);
            }
        }
        Ok(Some(edits))
    }

    /// The same edit as a LoRA adapter: `ΔW = -amount · U (Uᵀ W)`, of rank [`Basis::rank`], exact to f32.
    ///
    /// # Errors
    /// As [`Self::apply`]; what such an adapter cannot hold: embeddings, biases that have a component, kept norms.
    pub fn adapter(&self, model: &Decoder) -> Result<LoraAdapter, EditError> {
        let refuse = |what: &str, instead| {
            Err(EditError::NotInAdapter {
                what: what.to_owned(),
                instead,
            })
        };
        if self.keep_norms {
            let instead = "write a full checkpoint, or leave the norms";
            return refuse(
                "a norm-preserving edit, whose change has full rank,",
                instead,
            );
        }
        let chosen = self.writers(model.config())?;
        let weights = model.weights();
        let rank = self.basis.rank();
        let mut pairs = Vec::new();
        for (writer, amount) in &chosen {
            let (Some((layer, role)), Some(weight)) = (writer.role(), writer.weight(weights))
            else {
                let instead = "leave the embedding to another output (--no-embedding), or write a full checkpoint";
                return refuse(&format!("`{}`", writer.name), instead);
            };
            let own = writer.basis(&self.basis, weights)?;
            for (bias, basis) in [
                (writer.bias(weights), &own),
                (writer.norm_bias(weights), &self.basis),
            ] {
                let Some(bias) = bias.filter(|_| self.biases) else {
                    continue;
                };
                let wide = bias.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                if basis.along(&wide).iter().any(|x| *x != 0.0) {
                    let what = format!("the bias beside `{}`", writer.name);
                    let instead =
                        "leave biases as they are (--no-bias), or write a full checkpoint";
                    return refuse(&what, instead);
                }
            }
            pairs.push((layer, role, pair(weight, &own, rank, *amount)?));
        }
        if pairs.is_empty() {
            return Err(EditError::NoChange);
        }
        Ok(LoraAdapter::given(model.config(), rank, pairs)?)
    }
}

/// `A = Uᵀ W [rank, in]` and `B = -amount · U [out, rank]`; rows of a smaller basis are zero.
fn pair(
    weight: &Tensor,
    basis: &Basis,
    rank: usize,
    amount: f64,
) -> Result<[Tensor; 2], EditError> {
    let (out, input) = weight.dims2()?;
    let mut a: Vec<f64> = written(weight, Axis::Rows, basis)?.concat();
    a.resize(rank * input, 0.0);
    let mut b = vec![0.0; out * rank];
    for (k, row) in basis.rows().iter().enumerate() {
        for (i, u) in row.iter().enumerate() {
            b[i * rank + k] = -amount * u;
        }
    }
    let narrow = |values, shape: (usize, usize)| {
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::F32)
    };
    Ok([narrow(a, (rank, input))?, narrow(b, (out, rank))?])
}

/// `factor` times the part of a bias in the subspace, added at a point.
fn added(at: HookPoint, bias: &Tensor, basis: &Basis, factor: f64) -> Result<Edit, EditError> {
    let wide = bias.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let part = basis.part_of(&wide);
    let vector: Vector = Arc::new(part.iter().map(|&x| x as f32).collect());
    let op = EditOp::Add {
        vector,
        alpha: factor,
    };
    Ok(Edit::new(at, op))
}

impl Through {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Rms => "RMS post-norm",
            Self::Layer => "LayerNorm post-norm",
        }
    }
}
