//! The one decoder. Reading, steering, sampling, scoring and training run this forward pass.
//!
//! Always holds: every tensor named in `hooks/points.rs` passes through the tap under that name, or is not formed at all
//! because nobody asked for it; with no hooks nothing is done beyond the model's own arithmetic. Rows are left-padded.

use candle_core::{DType, Device, Tensor};
use candlescope_ops::{self as ops, AttentionSpec, KeyLayout};

use super::{
    Batch, Cancel, KvCache, ModelError,
    weights::{LayerWeights, Linear, NormWeights, Weights},
};
use crate::config::{ModelConfig, NormKind, QkNorm, Rope};
use crate::hooks::{Captured, Edit, HookError, Hooks, Pass, Plan, Point, Stop, Tap};

/// Which logits a pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsAt {
    /// `[batch, pos, vocab]`
    All,
    /// `[batch, 1, vocab]`, the last position of each row.
    Last,
    /// None; the pass stops after the last capture.
    None,
}

/// What a pass returns.
#[derive(Debug)]
pub struct Output {
    /// As asked for.
    pub logits: Option<Tensor>,
    /// Captured tensors by address.
    pub captured: Captured,
}

impl Output {
    /// The logits, or an error if none were asked for.
    pub fn logits(self) -> Result<Tensor, ModelError> {
        self.logits.ok_or(ModelError::Empty {
            what: "the pass computed no logits",
        })
    }
}

/// A model that runs.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: ModelConfig,
    weights: Weights,
    /// f32, or f64 for the exact twin; bf16 weights compute in f32.
    compute: DType,
    /// Edits of every pass, before those of its hooks.
    standing: Vec<Edit>,
}

/// cos and sin of one rotary embedding for the queries of a pass, `[1|batch, queries, dim/2]`.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Decoder {
    /// Puts weights and config together.
    pub fn new(config: ModelConfig, weights: Weights) -> Self {
        let compute = if weights.embed.dtype() == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        Self {
            config,
            weights,
            compute,
            standing: Vec::new(),
        }
    }

    /// Makes edits part of the model: they are applied in every pass, before those of the pass's own hooks.
    pub fn set_standing_edits(&mut self, edits: Vec<Edit>) {
        self.standing = edits;
    }

    /// The edits of every pass.
    pub fn standing_edits(&self) -> &[Edit] {
        &self.standing
    }

    /// The config.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The weights, to edit.
    pub fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    /// The dtype of activations.
    pub fn compute_dtype(&self) -> DType {
        self.compute
    }

    /// The dtype of matrices.
    pub fn weight_dtype(&self) -> DType {
        self.weights.embed.dtype()
    }

    /// A pass over whole rows, without a cache.
    pub fn forward(
        &self,
        batch: &Batch,
        hooks: &Hooks,
        logits: LogitsAt,
    ) -> Result<Output, ModelError> {
        self.run(batch, None, hooks, logits, None)
    }

    /// A pass over the next tokens of the rows in `cache`, which it extends.
    pub fn forward_cached(
        &self,
        batch: &Batch,
        cache: &mut KvCache,
        hooks: &Hooks,
        logits: LogitsAt,
    ) -> Result<Output, ModelError> {
        self.run(batch, Some(cache), hooks, logits, None)
    }

    /// [`Self::forward_cached`] over the first tokens of a row, begun before block `start.0` with its input `start.1`,
    /// `[batch, pos, d_model]`. The blocks below are as `cache` holds them: the caller has it from a pass over the same
    /// tokens that did the same up to there.
    pub(super) fn forward_from(
        &self,
        start: (usize, Tensor),
        batch: &Batch,
        cache: &mut KvCache,
        hooks: &Hooks,
        logits: LogitsAt,
    ) -> Result<Output, ModelError> {
        if !cache.is_empty() || !cache.begun(start.0) || start.1.dim(1)? != batch.len() {
            let why = format!("it cannot be begun before block {}", start.0);
            return Err(ModelError::Cache { why });
        }
        self.run(batch, Some(cache), hooks, logits, Some(start))
    }

    fn run(
        &self,
        batch: &Batch,
        mut cache: Option<&mut KvCache>,
        hooks: &Hooks,
        logits: LogitsAt,
        start: Option<(usize, Tensor)>,
    ) -> Result<Output, ModelError> {
        let plan = if hooks.is_empty() && self.standing.is_empty() {
            None
        } else if self.standing.is_empty() {
            Some(Plan::new(hooks, &self.config, self.compute)?)
        } else {
            let all = hooks.after(&self.standing);
            Some(Plan::new(&all, &self.config, self.compute)?)
        };
        let edits_id = plan.as_ref().and_then(Plan::edits_id);
        if let Some(cache) = cache.as_deref_mut() {
            match &plan {
                Some(plan) => plan.check_cache(cache.len(), cache.edits_id())?,
                None if cache.edits_id().is_some() && !cache.is_empty() => {
                    return Err(HookError::StaleCache {
                        cached: cache.len(),
                    }
                    .into());
                }
                None => {}
            }
            cache.set_padding(batch.pad())?;
        }
        let pass = self.pass(batch, cache.as_deref())?;
        let mut tap = Tap::new(plan.as_ref(), pass.clone(), logits == LogitsAt::None);
        let mut run = Run {
            model: self,
            batch,
            pass,
            cache: cache.as_deref_mut(),
            logits,
            cancel: Cancel::current(),
        };
        // On a thread of the pool: from outside each of a pass's several hundred kernels would be handed over to it anew.
        let out = rayon::scope(|_| run.forward(start, &mut tap));
        let logits = match out {
            Ok(logits) => logits,
            Err(Flow::Done) if cache.is_none() => None,
            Err(Flow::Done) => {
                let why = "a pass that fills a cache must run through all layers; ask for the last logits";
                return Err(ModelError::Cache { why: why.into() });
            }
            Err(Flow::Failed(error)) => return Err(error),
        };
        if let Some(cache) = cache {
            cache.advance(batch.len(), edits_id);
        }
        Ok(Output {
            logits,
            captured: tap.captured,
        })
    }

    fn pass(&self, batch: &Batch, cache: Option<&KvCache>) -> Result<Pass, ModelError> {
        let (offset, prefix, pad) = match cache {
            Some(c) => (c.len(), c.layout().prefix, c.layout().pad.clone()),
            None => (0, 0, batch.pad().to_vec()),
        };
        let pass = Pass {
            batch: batch.rows(),
            queries: batch.len(),
            keys: offset + batch.len(),
            offset,
            prefix,
            pad,
        };
        let longest = (0..pass.batch)
            .map(|row| pass.row_len(row))
            .max()
            .unwrap_or(0);
        if longest > self.config.max_positions() {
            return Err(ModelError::ContextTooLong {
                tokens: longest,
                n_ctx: self.config.n_ctx,
            });
        }
        self.check_frequencies(offset, longest)?;
        if let Some(&id) = batch
            .ids
            .iter()
            .find(|&&id| id as usize >= self.config.vocab_size)
        {
            return Err(ModelError::TokenOutOfRange {
                id,
                vocab: self.config.vocab_size,
            });
        }
        Ok(pass)
    }

    /// Under dynamic and LongRoPE scaling a longer sequence has other frequencies, at every position and in every layer, so
    /// what a cache holds is no longer what the model would compute.
    fn check_frequencies(&self, cached: usize, longest: usize) -> Result<(), ModelError> {
        let changed =
            |rope: &Rope| rope.frequencies(cached, true) != rope.frequencies(longest, true);
        if cached > 0
            && self
                .config
                .ropes()
                .iter()
                .any(|rope| rope.by_length() && changed(rope))
        {
            let why = format!(
                "at {longest} positions the rotary scaling of this model changes the frequencies its {cached} cached \
                 positions were computed with; run the whole sequence in one pass"
            );
            return Err(ModelError::Cache { why });
        }
        Ok(())
    }

    /// The final norm and unembedding of a residual stream `[.., d_model]`: the logit lens (nostalgebraist 2020).
    pub fn unembed(&self, resid: &Tensor) -> Result<Tensor, ModelError> {
        let normed = self.norm(&self.weights.final_norm, resid)?;
        self.project(&normed)
    }

    fn project(&self, normed: &Tensor) -> Result<Tensor, ModelError> {
        let logits = ops::linear(normed, &self.weights.head, None)?;
        Ok(match self.config.final_softcap {
            Some(cap) => ((logits / cap)?.tanh()? * cap)?,
            None => logits,
        })
    }

    fn norm(&self, w: &NormWeights, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self.config.norm {
            NormKind::Rms => ops::rms_norm(x, &w.gain, self.config.norm_eps)?,
            NormKind::Layer => ops::layer_norm(x, &w.gain, w.bias.as_ref(), self.config.norm_eps)?,
        })
    }
}

fn linear(l: &Linear, x: &Tensor) -> Result<Tensor, ModelError> {
    Ok(ops::linear(x, &l.weight, l.bias.as_ref())?)
}

/// Why a pass is left early.
enum Flow {
    /// Everything that was asked for has been captured.
    Done,
    /// It failed.
    Failed(ModelError),
}

impl<E: Into<ModelError>> From<E> for Flow {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Stop> for Flow {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Captured => Self::Done,
            Stop::Refused(error) => Self::Failed(error.into()),
        }
    }
}

/// One pass in flight.
struct Run<'a> {
    model: &'a Decoder,
    batch: &'a Batch,
    pass: Pass,
    cache: Option<&'a mut KvCache>,
    logits: LogitsAt,
    cancel: Cancel,
}

impl Run<'_> {
    fn forward(
        &mut self,
        start: Option<(usize, Tensor)>,
        tap: &mut Tap,
    ) -> Result<Option<Tensor>, Flow> {
        let model = self.model;
        let (first, mut x) = match start {
            Some(start) => start,
            None => (0, self.embed(tap)?),
        };
        let angles = self.angles()?;
        for (i, layer) in model.weights.layers.iter().enumerate().skip(first) {
            if self.cancel.requested() {
                return Err(Flow::Failed(ModelError::Cancelled));
            }
            x = self.block(i, layer, x, &angles, tap)?;
        }
        if self.logits == LogitsAt::None
            && !tap.wants(Point::FinalNorm, 0)
            && !tap.wants(Point::Logits, 0)
        {
            return Ok(None);
        }
        if self.logits == LogitsAt::Last
            && !tap.wants(Point::FinalNorm, 0)
            && !tap.wants(Point::Logits, 0)
        {
            x = x.narrow(1, self.pass.queries - 1, 1)?.contiguous()?;
            return Ok(Some(model.unembed(&x)?));
        }
        let normed = model.norm(&model.weights.final_norm, &x)?;
        let normed = tap.at(Point::FinalNorm, 0, normed)?;
        let logits = tap.at(Point::Logits, 0, model.project(&normed)?)?;
        Ok(match self.logits {
            LogitsAt::All => Some(logits),
            LogitsAt::Last => Some(logits.narrow(1, self.pass.queries - 1, 1)?.contiguous()?),
            LogitsAt::None => None,
        })
    }

    fn embed(&self, tap: &mut Tap) -> Result<Tensor, Flow> {
        let model = self.model;
        let shape = (self.pass.batch, self.pass.queries, model.config.d_model);
        let x = ops::embedding(&model.weights.embed, &self.batch.ids)?;
        let mut x = ops::reshape(&x, shape)?.to_dtype(model.compute)?;
        if let Some(scale) = model.config.embed_scale {
            x = (x * scale)?;
        }
        let mut x = tap.at(Point::Embed, 0, x)?;
        if let Some(table) = &model.weights.pos_embed {
            let positions = ops::embedding(table, &self.positions())?;
            let positions = ops::reshape(&positions, shape)?.to_dtype(model.compute)?;
            let positions = tap.at(Point::PosEmbed, 0, positions)?;
            x = ops::add(&x, &positions)?;
        }
        Ok(x)
    }

    /// Logical positions of the query slots `[batch * queries]`; 0 for padding.
    fn positions(&self) -> Vec<u32> {
        let pass = &self.pass;
        let slot = |row, q| pass.position(row, pass.offset + q).unwrap_or(0) as u32;
        (0..pass.batch)
            .flat_map(|row| (0..pass.queries).map(move |q| slot(row, q)))
            .collect()
    }

    fn angles(&self) -> Result<Vec<Angles>, Flow> {
        let pass = &self.pass;
        let same = pass.pad.windows(2).all(|w| w[0] == w[1]);
        let rows = if same { 1 } else { pass.batch };
        let positions = &self.positions()[..rows * pass.queries];
        let longest = (0..pass.batch)
            .map(|row| pass.row_len(row))
            .max()
            .unwrap_or(1);
        let single = self.model.compute == DType::F32;
        let table = |rope: &Rope| -> Result<Angles, Flow> {
            let (frequencies, factor) = rope.frequencies(longest, single);
            let turn = |p: u32, f: f64| {
                if single {
                    let (sin, cos) = (p as f32 * f as f32).sin_cos();
                    (f64::from(cos), f64::from(sin))
                } else {
                    ((f64::from(p) * f).cos(), (f64::from(p) * f).sin())
                }
            };
            let (cos, sin): (Vec<f64>, Vec<f64>) = positions
                .iter()
                .flat_map(|&p| frequencies.iter().map(move |&f| turn(p, f)))
                .map(|(cos, sin)| (cos * factor, sin * factor))
                .unzip();
            let shape = (rows, pass.queries, frequencies.len());
            let tensor = |v: Vec<f64>| {
                Tensor::from_vec(v, shape, &Device::Cpu)?.to_dtype(self.model.compute)
            };
            Ok(Angles {
                cos: tensor(cos)?,
                sin: tensor(sin)?,
            })
        };
        self.model.config.ropes().iter().map(table).collect()
    }

    fn block(
        &mut self,
        i: usize,
        w: &LayerWeights,
        x: Tensor,
        angles: &[Angles],
        tap: &mut Tap,
    ) -> Result<Tensor, Flow> {
        let x = tap.at(Point::ResidPre, i, x)?;
        let attn = self.attention(i, w, &x, angles, tap)?;
        if self.model.config.parallel {
            let mlp = self.mlp(i, w, &x, tap)?;
            let sum = ops::add(&ops::add(&mlp, &attn)?, &x)?;
            return Ok(tap.at(Point::ResidPost, i, sum)?);
        }
        let mid = tap.at(Point::ResidMid, i, ops::add(&x, &attn)?)?;
        let mlp = self.mlp(i, w, &mid, tap)?;
        Ok(tap.at(Point::ResidPost, i, ops::add(&mid, &mlp)?)?)
    }

    /// The module's input: the normed stream, or the stream itself.
    fn normed(&self, norm: Option<&NormWeights>, x: &Tensor) -> Result<Tensor, Flow> {
        Ok(match norm {
            Some(norm) => self.model.norm(norm, x)?,
            None => x.clone(),
        })
    }

    fn attention(
        &mut self,
        i: usize,
        w: &LayerWeights,
        x: &Tensor,
        angles: &[Angles],
        tap: &mut Tap,
    ) -> Result<Tensor, Flow> {
        let c = &self.model.config;
        let (b, s) = (self.pass.batch, self.pass.queries);
        let input = tap.at(Point::AttnIn, i, self.normed(w.attn_norm.as_ref(), x)?)?;
        let heads = |t: Tensor, n: usize| ops::reshape(&t, (b, s, n, c.d_head));
        let q = tap.at(Point::Q, i, heads(linear(&w.q, &input)?, c.n_heads)?)?;
        let k = tap.at(Point::K, i, heads(linear(&w.k, &input)?, c.n_kv_heads)?)?;
        let v = tap.at(Point::V, i, heads(linear(&w.v, &input)?, c.n_kv_heads)?)?;
        let mut q = self.qk_norm(w.q_norm.as_ref(), q)?;
        let mut k = self.qk_norm(w.k_norm.as_ref(), k)?;
        if let Some(angle) = angles.get(c.layers[i].rope) {
            q = tap.at(Point::RotQ, i, ops::rope(&q, &angle.cos, &angle.sin)?)?;
            k = tap.at(Point::RotK, i, ops::rope(&k, &angle.cos, &angle.sin)?)?;
        }
        let (k, v) = match self.cache.as_deref_mut() {
            Some(cache) => cache.append(i, &k, &v)?,
            None => (k, v),
        };
        let spec = AttentionSpec {
            scale: c.layers[i].attn_scale,
            softcap: c.attn_softcap,
            window: c.layers[i].window,
            layout: KeyLayout {
                prefix: self.pass.prefix,
                pad: self.pass.pad.clone(),
            },
            q_offset: self.pass.offset,
        };
        let z = if tap.wants(Point::AttnScores, i) || tap.wants(Point::Pattern, i) {
            let scores = tap.at(Point::AttnScores, i, ops::attention_scores(&q, &k, &spec)?)?;
            let pattern = tap.at(Point::Pattern, i, ops::softmax_last_dim(&scores)?)?;
            ops::attention_from_pattern(&pattern, &v)?
        } else {
            ops::attention(&q, &k, &v, &spec)?
        };
        let z = tap.at(Point::Z, i, z)?;
        let out = self.output_projection(i, w, &z, tap)?;
        let out = tap.at(Point::AttnOut, i, out)?;
        let contrib = match &w.attn_post_norm {
            Some(norm) => self.model.norm(norm, &out)?,
            None => out,
        };
        Ok(tap.at(Point::AttnContrib, i, contrib)?)
    }

    fn qk_norm(&self, gain: Option<&Tensor>, x: Tensor) -> Result<Tensor, Flow> {
        let Some(gain) = gain else { return Ok(x) };
        let eps = self.model.config.norm_eps;
        Ok(match self.model.config.qk_norm {
            QkNorm::Flat => {
                let (b, s, h, d) = x.dims4()?;
                let flat = ops::reshape(&x, (b, s, h * d))?;
                ops::reshape(&ops::rms_norm(&flat, gain, eps)?, x.shape())?
            }
            QkNorm::PerHead | QkNorm::None => ops::rms_norm(&x, gain, eps)?,
        })
    }

    /// The output projection; head by head when somebody looks at `head_result`.
    fn output_projection(
        &self,
        i: usize,
        w: &LayerWeights,
        z: &Tensor,
        tap: &mut Tap,
    ) -> Result<Tensor, Flow> {
        if !tap.wants(Point::HeadResult, i) {
            let (b, s, h, d) = z.dims4()?;
            return Ok(linear(&w.o, &ops::reshape(z, (b, s, h * d))?)?);
        }
        let c = &self.model.config;
        let per_head = (0..c.n_heads)
            .map(|h| {
                let slice = w.o.weight.narrow(1, h * c.d_head, c.d_head)?.contiguous()?;
                ops::linear(&z.narrow(2, h, 1)?.squeeze(2)?.contiguous()?, &slice, None)
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let results = tap.at(Point::HeadResult, i, Tensor::stack(&per_head, 2)?)?;
        let sum = results.sum(2)?;
        Ok(match &w.o.bias {
            Some(bias) => sum.broadcast_add(bias)?,
            None => sum,
        })
    }

    fn mlp(
        &mut self,
        i: usize,
        w: &LayerWeights,
        x: &Tensor,
        tap: &mut Tap,
    ) -> Result<Tensor, Flow> {
        let activation = self.model.config.activation.into();
        let input = tap.at(Point::MlpIn, i, self.normed(w.mlp_norm.as_ref(), x)?)?;
        let act = match &w.gate {
            Some(gate) => {
                let pre = tap.at(Point::MlpPre, i, linear(gate, &input)?)?;
                let up = tap.at(Point::MlpPreLinear, i, linear(&w.up, &input)?)?;
                ops::gated(&pre, &up, activation)?
            }
            None => {
                let pre = tap.at(Point::MlpPre, i, linear(&w.up, &input)?)?;
                ops::activation(&pre, activation)?
            }
        };
        let act = tap.at(Point::MlpAct, i, act)?;
        let out = tap.at(Point::MlpOut, i, linear(&w.down, &act)?)?;
        let contrib = match &w.mlp_post_norm {
            Some(norm) => self.model.norm(norm, &out)?,
            None => out,
        };
        Ok(tap.at(Point::MlpContrib, i, contrib)?)
    }
}
