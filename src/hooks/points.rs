//! The table of hook points. Names, shapes, definitions, refusals, help and docs all derive from [`POINTS`].
//!
//! A point names exactly one tensor of the forward pass. Near neighbours are distinct points: `attn_out` is what the
//! attention module returns, `attn_contrib` is what is added to the stream; they differ where a post-norm sits between.
//! Shapes are `[batch, pos, ...]`, heads as TransformerLens has them, except scores and patterns, which are
//! `[batch, head, query, key]`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::HookError;
use crate::config::{ModelConfig, NormPlacement};

/// A tensor of the forward pass, without its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // each variant is defined in POINTS, where docs, help and errors read it
pub enum Point {
    Embed,
    PosEmbed,
    ResidPre,
    AttnIn,
    Q,
    K,
    V,
    RotQ,
    RotK,
    AttnScores,
    Pattern,
    Z,
    HeadResult,
    AttnOut,
    AttnContrib,
    ResidMid,
    MlpIn,
    MlpPre,
    MlpPreLinear,
    MlpAct,
    MlpOut,
    MlpContrib,
    ResidPost,
    FinalNorm,
    Logits,
}

/// The axes of a point's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[batch, pos, d_model]`
    Model,
    /// `[batch, pos, head, d_head]`
    Heads,
    /// `[batch, pos, kv_head, d_head]`
    KvHeads,
    /// `[batch, head, query, key]`
    Attention,
    /// `[batch, pos, head, d_model]`
    HeadModel,
    /// `[batch, pos, d_mlp]`
    Mlp,
    /// `[batch, pos, vocab]`
    Vocab,
}

/// One row of the table.
pub struct PointInfo {
    /// The point.
    pub point: Point,
    /// Its name.
    pub name: &'static str,
    /// TransformerLens' name for the same tensor; `{L}` is the layer. Empty where it has none.
    pub alias: &'static str,
    /// Its axes.
    pub shape: Shape,
    /// Once per layer, or once per pass.
    pub per_layer: bool,
    /// Which models have it.
    pub exists: Exists,
    /// One sentence.
    pub definition: &'static str,
}

/// A condition on the config, with the reason that is given when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exists {
    /// In every model.
    Always,
    /// Only with a learned position table.
    LearnedPositions,
    /// Only with rotary embeddings.
    Rotary,
    /// Not where attention and MLP run side by side.
    SequentialBlock,
    /// Only with a gated MLP.
    GatedMlp,
}

impl Exists {
    /// The reason why `config` lacks the point, if it does.
    pub fn missing(self, config: &ModelConfig) -> Option<&'static str> {
        let (there, reason) = match self {
            Self::Always => (true, ""),
            Self::LearnedPositions => (
                !config.rotary(),
                "this model has no learned position table (its positions are rotary)",
            ),
            Self::Rotary => (
                config.rotary(),
                "this model has no rotary embedding; q and k enter the scores as they are",
            ),
            Self::SequentialBlock => (
                !config.parallel,
                "attention and MLP of this model run in parallel from the block's input, so there is no stream between them",
            ),
            Self::GatedMlp => (
                config.gated_mlp,
                "this model's MLP has no gate; see mlp_pre",
            ),
        };
        (!there).then_some(reason)
    }
}

const fn row(
    point: Point,
    name: &'static str,
    alias: &'static str,
    shape: Shape,
    exists: Exists,
    definition: &'static str,
) -> PointInfo {
    let per_layer = !matches!(
        point,
        Point::Embed | Point::PosEmbed | Point::FinalNorm | Point::Logits
    );
    PointInfo {
        point,
        name,
        alias,
        shape,
        per_layer,
        exists,
        definition,
    }
}

/// Every hook point, in the order in which a forward pass reaches them.
pub const POINTS: &[PointInfo] = &[
    row(
        Point::Embed,
        "embed",
        "hook_embed",
        Shape::Model,
        Exists::Always,
        "Token embedding as it enters the stream: after a model's embedding multiplier (Gemma), before learned positions are added.",
    ),
    row(
        Point::PosEmbed,
        "pos_embed",
        "hook_pos_embed",
        Shape::Model,
        Exists::LearnedPositions,
        "Learned position embedding that is added to the token embedding.",
    ),
    row(
        Point::ResidPre,
        "resid_pre",
        "blocks.{L}.hook_resid_pre",
        Shape::Model,
        Exists::Always,
        "Residual stream at the entry of a block.",
    ),
    row(
        Point::AttnIn,
        "attn_in",
        "blocks.{L}.attn.hook_in",
        Shape::Model,
        Exists::Always,
        "Input of the attention module: the stream after the norm before it and that norm's gain (the stream itself where there is no such norm).",
    ),
    row(
        Point::Q,
        "q",
        "blocks.{L}.attn.hook_q",
        Shape::Heads,
        Exists::Always,
        "Queries as projected, bias included, before QK-norm and rotary embedding.",
    ),
    row(
        Point::K,
        "k",
        "blocks.{L}.attn.hook_k",
        Shape::KvHeads,
        Exists::Always,
        "Keys as projected, bias included, before QK-norm and rotary embedding; one per key/value head.",
    ),
    row(
        Point::V,
        "v",
        "blocks.{L}.attn.hook_v",
        Shape::KvHeads,
        Exists::Always,
        "Values as projected, bias included; one per key/value head.",
    ),
    row(
        Point::RotQ,
        "rot_q",
        "blocks.{L}.attn.hook_rot_q",
        Shape::Heads,
        Exists::Rotary,
        "Queries as they enter the scores: after QK-norm and rotary embedding.",
    ),
    row(
        Point::RotK,
        "rot_k",
        "blocks.{L}.attn.hook_rot_k",
        Shape::KvHeads,
        Exists::Rotary,
        "Keys as they enter the scores and the KV cache: after QK-norm and rotary embedding.",
    ),
    row(
        Point::AttnScores,
        "attn_scores",
        "blocks.{L}.attn.hook_attn_scores",
        Shape::Attention,
        Exists::Always,
        "Attention scores after scale, soft-cap and mask (-inf where a query may not look), before the softmax.",
    ),
    row(
        Point::Pattern,
        "pattern",
        "blocks.{L}.attn.hook_pattern",
        Shape::Attention,
        Exists::Always,
        "Attention weights: softmax of the scores over keys. Rows sum to 1; rows of padding are 0.",
    ),
    row(
        Point::Z,
        "z",
        "blocks.{L}.attn.hook_z",
        Shape::Heads,
        Exists::Always,
        "Per-head mixture of values, pattern times v, before the output projection.",
    ),
    row(
        Point::HeadResult,
        "head_result",
        "blocks.{L}.attn.hook_result",
        Shape::HeadModel,
        Exists::Always,
        "What each head writes: z of the head through its slice of the output projection, without the bias. Large: n_heads times the stream.",
    ),
    row(
        Point::AttnOut,
        "attn_out",
        "blocks.{L}.attn.hook_out",
        Shape::Model,
        Exists::Always,
        "Raw output of the attention module, output bias included, before any post-norm.",
    ),
    row(
        Point::AttnContrib,
        "attn_contrib",
        "blocks.{L}.hook_attn_out",
        Shape::Model,
        Exists::Always,
        "What attention adds to the stream: attn_out after the post-norm where there is one, else equal to it.",
    ),
    row(
        Point::ResidMid,
        "resid_mid",
        "blocks.{L}.hook_resid_mid",
        Shape::Model,
        Exists::SequentialBlock,
        "Residual stream between attention and MLP.",
    ),
    row(
        Point::MlpIn,
        "mlp_in",
        "blocks.{L}.mlp.hook_in",
        Shape::Model,
        Exists::Always,
        "Input of the MLP module: the stream after the norm before it and that norm's gain (the stream itself where there is no such norm).",
    ),
    row(
        Point::MlpPre,
        "mlp_pre",
        "blocks.{L}.mlp.hook_pre",
        Shape::Mlp,
        Exists::Always,
        "Neurons before the non-linearity: the gate projection of a gated MLP, else the up projection.",
    ),
    row(
        Point::MlpPreLinear,
        "mlp_pre_linear",
        "blocks.{L}.mlp.hook_pre_linear",
        Shape::Mlp,
        Exists::GatedMlp,
        "The up projection of a gated MLP, which multiplies the activated gate.",
    ),
    row(
        Point::MlpAct,
        "mlp_act",
        "blocks.{L}.mlp.hook_post",
        Shape::Mlp,
        Exists::Always,
        "Neurons after the non-linearity (and after the product with the up branch): the input of the down projection.",
    ),
    row(
        Point::MlpOut,
        "mlp_out",
        "blocks.{L}.mlp.hook_out",
        Shape::Model,
        Exists::Always,
        "Raw output of the MLP module, bias included, before any post-norm.",
    ),
    row(
        Point::MlpContrib,
        "mlp_contrib",
        "blocks.{L}.hook_mlp_out",
        Shape::Model,
        Exists::Always,
        "What the MLP adds to the stream: mlp_out after the post-norm where there is one, else equal to it.",
    ),
    row(
        Point::ResidPost,
        "resid_post",
        "blocks.{L}.hook_resid_post",
        Shape::Model,
        Exists::Always,
        "Residual stream at the exit of a block; equals resid_pre of the next.",
    ),
    row(
        Point::FinalNorm,
        "final_norm",
        "ln_final.hook_out",
        Shape::Model,
        Exists::Always,
        "Output of the final norm, gain included: the input of the unembedding.",
    ),
    row(
        Point::Logits,
        "logits",
        "",
        Shape::Vocab,
        Exists::Always,
        "Next-token logits, after the final soft-cap where there is one.",
    ),
];

impl Point {
    /// Number of points.
    pub const COUNT: usize = POINTS.len();

    /// Its row of the table.
    pub fn info(self) -> &'static PointInfo {
        &POINTS[self as usize]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info().name
    }
}

impl PointInfo {
    /// The shape for a model, with named axes: `[batch, pos, d_model=576]`.
    pub fn shape_text(&self, c: &ModelConfig) -> String {
        match self.shape {
            Shape::Model => format!("[batch, pos, d_model={}]", c.d_model),
            Shape::Heads => format!("[batch, pos, head={}, d_head={}]", c.n_heads, c.d_head),
            Shape::KvHeads => format!(
                "[batch, pos, kv_head={}, d_head={}]",
                c.n_kv_heads, c.d_head
            ),
            Shape::Attention => format!("[batch, head={}, query, key]", c.n_heads),
            Shape::HeadModel => format!("[batch, pos, head={}, d_model={}]", c.n_heads, c.d_model),
            Shape::Mlp => format!("[batch, pos, d_mlp={}]", c.d_mlp),
            Shape::Vocab => format!("[batch, pos, vocab={}]", c.vocab_size),
        }
    }

    /// Sizes for a pass of `queries` tokens over `keys` slots.
    pub fn dims(&self, c: &ModelConfig, batch: usize, queries: usize, keys: usize) -> Vec<usize> {
        match self.shape {
            Shape::Model => vec![batch, queries, c.d_model],
            Shape::Heads => vec![batch, queries, c.n_heads, c.d_head],
            Shape::KvHeads => vec![batch, queries, c.n_kv_heads, c.d_head],
            Shape::Attention => vec![batch, c.n_heads, queries, keys],
            Shape::HeadModel => vec![batch, queries, c.n_heads, c.d_model],
            Shape::Mlp => vec![batch, queries, c.d_mlp],
            Shape::Vocab => vec![batch, queries, c.vocab_size],
        }
    }

    /// What this tensor equals exactly in `config`, where a post-norm is absent; for `hooks MODEL`.
    pub fn note(&self, config: &ModelConfig) -> Option<&'static str> {
        match self.point {
            Point::AttnContrib if config.placement == NormPlacement::Pre => {
                Some("equals attn_out here")
            }
            Point::MlpContrib if config.placement == NormPlacement::Pre => {
                Some("equals mlp_out here")
            }
            _ => None,
        }
    }
}

/// A point at a layer: the address of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookPoint {
    /// Which tensor.
    pub point: Point,
    /// Which block; 0 for points outside blocks.
    pub layer: usize,
}

impl HookPoint {
    /// An address; not yet checked against a model.
    pub fn new(point: Point, layer: usize) -> Self {
        Self { point, layer }
    }

    /// Refuses an address that `config` does not have, with the reason.
    pub fn check(self, config: &ModelConfig) -> Result<Self, HookError> {
        let info = self.point.info();
        if let Some(why) = info.exists.missing(config) {
            return Err(HookError::NotInModel {
                point: info.name,
                why,
            });
        }
        if self.layer >= config.n_layers {
            return Err(HookError::Layer {
                point: info.name,
                layer: self.layer,
                n_layers: config.n_layers,
            });
        }
        Ok(self)
    }

    /// Position in the forward pass: what comes later is larger.
    pub fn order(self) -> usize {
        let last = usize::MAX / 2;
        match self.point {
            Point::Embed | Point::PosEmbed => self.point as usize,
            Point::FinalNorm | Point::Logits => last + self.point as usize,
            point => Point::COUNT * (self.layer + 1) + point as usize,
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.point.info();
        if info.per_layer {
            write!(f, "{}.{}", info.name, self.layer)
        } else {
            f.write_str(info.name)
        }
    }
}

impl FromStr for HookPoint {
    type Err = HookError;

    /// `resid_pre.3`, or TransformerLens' `blocks.3.hook_resid_pre`.
    fn from_str(text: &str) -> Result<Self, HookError> {
        for info in POINTS {
            if let Some(layer) = matches_name(info, text).or_else(|| matches_alias(info, text)) {
                return Ok(Self::new(info.point, layer));
            }
        }
        Err(HookError::unknown_point(text))
    }
}

fn matches_name(info: &PointInfo, text: &str) -> Option<usize> {
    let rest = text.strip_prefix(info.name)?;
    if info.per_layer {
        rest.strip_prefix('.')?.parse().ok()
    } else {
        rest.is_empty().then_some(0)
    }
}

fn matches_alias(info: &PointInfo, text: &str) -> Option<usize> {
    if info.alias.is_empty() {
        return None;
    }
    match info.alias.split_once("{L}") {
        None => (text == info.alias).then_some(0),
        Some((head, tail)) => text.strip_prefix(head)?.strip_suffix(tail)?.parse().ok(),
    }
}

impl Serialize for HookPoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HookPoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Expands a pattern to addresses of a model: `resid_post.*`, `resid_post.0-3`, `q.1,2`, or a single address.
pub fn expand(pattern: &str, config: &ModelConfig) -> Result<Vec<HookPoint>, HookError> {
    if let Ok(single) = pattern.parse::<HookPoint>() {
        return Ok(vec![single.check(config)?]);
    }
    let (name, layers) = pattern.split_once('.').unwrap_or((pattern, ""));
    let info = POINTS.iter().find(|i| i.name == name && i.per_layer);
    let info = info.ok_or_else(|| HookError::unknown_point(pattern))?;
    let bad = || HookError::Layers {
        pattern: pattern.to_string(),
        n_layers: config.n_layers,
    };
    let mut out = Vec::new();
    for part in layers.split(',') {
        let (from, to) = match part.split_once('-') {
            _ if part == "*" => (0, config.n_layers - 1),
            Some((a, b)) => (a.parse().map_err(|_| bad())?, b.parse().map_err(|_| bad())?),
            None => {
                let one = part.parse().map_err(|_| bad())?;
                (one, one)
            }
        };
        if from > to {
            return Err(bad());
        }
        for layer in from..=to {
            out.push(HookPoint::new(info.point, layer).check(config)?);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_names_are_unique() {
        for (i, info) in POINTS.iter().enumerate() {
            assert_eq!(info.point as usize, i, "{}", info.name);
            assert_eq!(
                POINTS
                    .iter()
                    .filter(
                        |o| o.name == info.name || (!o.alias.is_empty() && o.alias == info.alias)
                    )
                    .count(),
                1
            );
            assert!(info.definition.ends_with('.'));
        }
    }

    #[test]
    fn names_and_aliases_parse_to_the_same_address_and_typos_are_refused() {
        for info in POINTS {
            let at = HookPoint::new(info.point, if info.per_layer { 7 } else { 0 });
            assert_eq!(at.to_string().parse::<HookPoint>().unwrap(), at);
            if !info.alias.is_empty() {
                assert_eq!(
                    info.alias.replace("{L}", "7").parse::<HookPoint>().unwrap(),
                    at
                );
            }
        }
        for typo in [
            "resid_pre",
            "resid_pr.3",
            "resid_pre.x",
            "blocks.0.attn.hook_zz",
            "embed.0",
            "q.-1",
            "",
        ] {
            assert!(typo.parse::<HookPoint>().is_err(), "{typo}");
        }
        let error = "resid_pots.3".parse::<HookPoint>().unwrap_err().to_string();
        assert!(error.contains("resid_post"), "{error}");
    }
}
