//! Direct logit attribution: what each component adds to the logit of a token at the last position.
//!
//! The final stream is the sum of the embedding, every head, every MLP and the biases. The final norm is not linear, but
//! with its scale frozen at the value it has in this pass it is, and so each term's share of the logit is the dot product of
//! the normed term with the token's row of the unembedding (Elhage et al. 2021; TransformerLens' `logit_attrs`). Post-norms
//! are frozen alike. A share is direct: what a head does through later layers counts for those.
//!
//! Always: the shares and the remainder sum to the logit (before a final soft-cap); the remainder is rounding, unless an
//! edit changes a sum rather than a term. A share in one logit may be the same in all logits, which changes no probability;
//! `against` another token leaves only what tells the two apart.

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::LensError;
use super::logit::{argmax, refuse_late};
use crate::config::{ModelConfig, NormKind};
use crate::hooks::{Captured, Edit, HookPoint, Hooks, Keep, Point};
use crate::model::weights::NormWeights;
use crate::model::{Batch, Decoder, LogitsAt, ModelError};

/// A term of the final residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Token and, where they are learned, position embedding.
    Embed,
    /// An attention head.
    Head {
        /// Its layer.
        layer: usize,
        /// Which.
        head: usize,
    },
    /// The bias of an attention layer's output projection or post-norm.
    AttnBias {
        /// The layer.
        layer: usize,
    },
    /// An MLP, biases included.
    Mlp {
        /// The layer.
        layer: usize,
    },
    /// The final norm's bias.
    NormBias,
}

/// A component's share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Contribution {
    /// Whose.
    pub component: Component,
    /// Its share of the logit.
    pub logit: f64,
}

/// A logit taken apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attribution {
    /// The token whose logit it is.
    pub target: u32,
    /// The token whose logit is subtracted.
    pub against: Option<u32>,
    /// The logit (or the difference) at the last position, before a final soft-cap.
    pub logit: f64,
    /// In the order of the forward pass.
    pub contributions: Vec<Contribution>,
    /// The logit minus all contributions.
    pub remainder: f64,
}

/// Takes the logit of `target` (what the model says next, if `None`) at the last position apart, under these edits.
///
/// # Errors
/// A token outside the vocabulary; an edit that cannot apply or lies after the stream.
pub fn attribute(
    model: &Decoder,
    ids: &[u32],
    target: Option<u32>,
    against: Option<u32>,
    edits: &[Edit],
) -> Result<Attribution, LensError> {
    let c = model.config();
    refuse_late(edits)?;
    let vocab = c.vocab_size;
    let beyond = |id: &u32| *id as usize >= vocab;
    if let Some(id) = target.into_iter().chain(against).find(beyond) {
        return Err(ModelError::TokenOutOfRange { id, vocab }.into());
    }
    let captured = model
        .forward(&Batch::single(ids)?, &hooks(c, edits), LogitsAt::None)?
        .captured;
    let read = |point, layer| vectors(&captured, HookPoint::new(point, layer));
    let last = read(Point::ResidPost, c.n_layers - 1)?.swap_remove(0);
    let target = match target {
        Some(target) => target,
        None => said(model, &captured)?,
    };
    let w = model.weights();
    let mut reader = row(&w.head, target)?;
    if let Some(against) = against {
        for (x, y) in reader.iter_mut().zip(row(&w.head, against)?) {
            *x -= y;
        }
    }
    let norm = Frozen::new(c, &w.final_norm, &last)?;
    let share = |x: &[f64]| dot(&norm.scaled(x), &reader);
    let mut terms = vec![(Component::Embed, share(&read(Point::ResidPre, 0)?[0]))];
    for (layer, weights) in w.layers.iter().enumerate() {
        let post = match &weights.attn_post_norm {
            Some(post) => Some(Frozen::new(c, post, &read(Point::AttnOut, layer)?[0])?),
            None => None,
        };
        let added = |x: Vec<f64>| post.as_ref().map_or(x.clone(), |post| post.scaled(&x));
        for (head, x) in read(Point::HeadResult, layer)?.into_iter().enumerate() {
            terms.push((Component::Head { layer, head }, share(&added(x))));
        }
        let mut bias = vec![0.0; c.d_model];
        if let Some(b) = &weights.o.bias {
            bias = added(vector(b)?);
        }
        if let Some(b) = post.as_ref().and_then(|post| post.bias.as_ref()) {
            bias.iter_mut().zip(b).for_each(|(x, b)| *x += b);
        }
        if bias.iter().any(|&x| x != 0.0) {
            terms.push((Component::AttnBias { layer }, share(&bias)));
        }
        let mlp = &read(Point::MlpContrib, layer)?[0];
        terms.push((Component::Mlp { layer }, share(mlp)));
    }
    let mut logit = share(&last);
    if let Some(bias) = &norm.bias {
        let of_norm = dot(bias, &reader);
        terms.push((Component::NormBias, of_norm));
        logit += of_norm;
    }
    Ok(Attribution {
        target,
        against,
        logit,
        remainder: logit - terms.iter().map(|(_, x)| x).sum::<f64>(),
        contributions: terms
            .into_iter()
            .map(|(component, logit)| Contribution { component, logit })
            .collect(),
    })
}

/// Everything that is added to the stream, at the last position only.
fn hooks(c: &ModelConfig, edits: &[Edit]) -> Hooks {
    let hooks = Hooks::new().edits(edits.iter().cloned());
    let keep = |h: Hooks, point, layer| h.capture_kept(HookPoint::new(point, layer), Keep::Last(1));
    let hooks = keep(hooks, Point::ResidPre, 0);
    let hooks = keep(hooks, Point::ResidPost, c.n_layers - 1);
    (0..c.n_layers).fold(hooks, |h, layer| {
        [Point::HeadResult, Point::AttnOut, Point::MlpContrib]
            .into_iter()
            .fold(h, |h, point| keep(h, point, layer))
    })
}

/// What the model says next.
fn said(model: &Decoder, captured: &Captured) -> Result<u32, LensError> {
    let at = HookPoint::new(Point::ResidPost, model.config().n_layers - 1);
    let logits = model.unembed(capture(captured, at)?)?;
    Ok(argmax(&vector(&logits)?))
}

/// A norm with its scale held at what it is for one input.
struct Frozen {
    centred: bool,
    scale: f64,
    gain: Vec<f64>,
    bias: Option<Vec<f64>>,
}

impl Frozen {
    fn new(c: &ModelConfig, weights: &NormWeights, input: &[f64]) -> Result<Self, LensError> {
        let n = input.len() as f64;
        let centred = c.norm == NormKind::Layer;
        let middle = if centred { mean(input) } else { 0.0 };
        let square = input.iter().map(|x| (x - middle).powi(2)).sum::<f64>() / n;
        Ok(Self {
            centred,
            scale: (square + c.norm_eps).sqrt().recip(),
            gain: vector(&weights.gain)?,
            bias: weights.bias.as_ref().map(vector).transpose()?,
        })
    }

    /// Its linear part.
    fn scaled(&self, x: &[f64]) -> Vec<f64> {
        let middle = if self.centred { mean(x) } else { 0.0 };
        let gained = x.iter().zip(&self.gain);
        gained.map(|(x, g)| (x - middle) * self.scale * g).collect()
    }
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn capture(captured: &Captured, at: HookPoint) -> Result<&Tensor, LensError> {
    Ok(captured.get(&at).ok_or(ModelError::Empty {
        what: "the pass captured no residual stream",
    })?)
}

/// The rows of `[1, 1, d_model]` or `[1, 1, head, d_model]`.
fn vectors(captured: &Captured, at: HookPoint) -> Result<Vec<Vec<f64>>, LensError> {
    let tensor = capture(captured, at)?;
    let read = || {
        let width = tensor.dims()[tensor.rank() - 1];
        let rows = tensor.reshape(((), width))?;
        rows.to_dtype(DType::F64)?.to_vec2::<f64>()
    };
    Ok(read().map_err(ModelError::from)?)
}

fn row(matrix: &Tensor, id: u32) -> Result<Vec<f64>, LensError> {
    vector(&matrix.get(id as usize).map_err(ModelError::from)?)
}

fn vector(tensor: &Tensor) -> Result<Vec<f64>, LensError> {
    let read = || tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    Ok(read().map_err(ModelError::from)?)
}
