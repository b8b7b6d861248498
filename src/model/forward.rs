//! The forward pass itself: one pass in flight through embedding, blocks and unembedding.
//!
//! Always holds: every tensor named in `hooks/points.rs` passes through the tap under that name, or is not formed at all
//! because nobody asked for it. `decoder.rs` prepares a pass and answers for what it returns.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candlescope_ops::{self as ops, AttentionSpec, KeyLayout};

use super::{
    Batch, Cancel, Decoder, KvCache, LogitsAt, ModelError,
    batch::Documents,
    weights::{LayerWeights, Linear, NormWeights},
};
use crate::config::{QkNorm, Rope};
use crate::hooks::{Pass, Point, Stop, Tap};

/// cos and sin of one rotary embedding for the queries of a pass, `[1|batch, queries, dim/2]`.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

/// Tokens of the longest sequence of a pass.
pub(super) fn longest(pass: &Pass, batch: &Batch) -> usize {
    let rows = 0..pass.batch;
    if batch.is_packed() {
        let documents = rows.flat_map(|row| batch.documents(row));
        documents.map(|d| d.len()).max().unwrap_or(0)
    } else {
        rows.map(|row| pass.row_len(row)).max().unwrap_or(0)
    }
}

/// Attention inside each document of packed rows, `[batch, pos, head, d_head]`.
fn attention_apart(
    documents: &Documents,
    [q, k, v]: [&Tensor; 3],
    mut spec: AttentionSpec,
) -> candle_core::Result<Tensor> {
    spec.layout.pad.clone_from(&documents.pad);
    let rows = q.dim(0)?;
    let [q, k, v] = [q, k, v].map(|x| documents.apart(x));
    documents.together(&ops::attention(&q?, &k?, &v?, &spec)?, rows)
}

/// Why a pass is left early.
pub(super) enum Flow {
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

/// What a block needs to be computed again when the pass itself is gone.
struct Again {
    model: Decoder,
    batch: Batch,
    pass: Pass,
    angles: Arc<[Angles]>,
}

impl Again {
    /// A block of which only the input is kept for the backward.
    fn checkpoint(self: &Arc<Self>, i: usize, x: &Tensor) -> candle_core::Result<Tensor> {
        let again = Arc::clone(self);
        ops::checkpoint(x, move |x| again.block(i, x))
    }

    fn block(&self, i: usize, x: &Tensor) -> candle_core::Result<Tensor> {
        let pass = self.pass.clone();
        let mut tap = Tap::new(None, pass.clone(), false);
        let mut run = Run::new(&self.model, &self.batch, pass, None, LogitsAt::None);
        let layer = &self.model.weights().layers[i];
        match run.block(i, layer, x.clone(), &self.angles, &mut tap) {
            Ok(y) => Ok(y),
            Err(Flow::Failed(error)) => Err(candle_core::Error::wrap(error)),
            Err(Flow::Done) => candle_core::bail!("block {i}: left early"),
        }
    }
}

/// One pass in flight.
pub(super) struct Run<'a> {
    model: &'a Decoder,
    batch: &'a Batch,
    documents: Option<Documents>,
    pass: Pass,
    cache: Option<&'a mut KvCache>,
    logits: LogitsAt,
    cancel: Cancel,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        model: &'a Decoder,
        batch: &'a Batch,
        pass: Pass,
        cache: Option<&'a mut KvCache>,
        logits: LogitsAt,
    ) -> Self {
        Self {
            model,
            batch,
            documents: Documents::of(batch),
            pass,
            cache,
            logits,
            cancel: Cancel::current(),
        }
    }

    /// One token for each row, after others: such a pass waits for the weights to come from memory.
    fn step(&self) -> bool {
        self.pass.offset > 0 && self.pass.queries == 1
    }

    fn linear(&self, layer: &Linear, x: &Tensor) -> candle_core::Result<Tensor> {
        if self.step() {
            layer.apply_step(x)
        } else {
            layer.apply(x)
        }
    }

    /// The logits of what the final norm gave.
    fn project(&self, normed: &Tensor) -> Result<Tensor, ModelError> {
        if self.step() {
            self.model.project_step(normed)
        } else {
            self.model.project(normed)
        }
    }

    pub(super) fn forward(
        &mut self,
        start: Option<(usize, Tensor)>,
        tap: &mut Tap,
    ) -> Result<Option<Tensor>, Flow> {
        let model = self.model;
        let (first, mut x) = match start {
            Some(start) => start,
            None => (0, self.embed(tap)?),
        };
        let angles: Arc<[Angles]> = self.angles()?.into();
        let again = (model.checkpointing() && self.cache.is_none()).then(|| {
            Arc::new(Again {
                model: model.clone(),
                batch: self.batch.clone(),
                pass: self.pass.clone(),
                angles: Arc::clone(&angles),
            })
        });
        for (i, layer) in model.weights().layers.iter().enumerate().skip(first) {
            if self.cancel.requested() {
                return Err(Flow::Failed(ModelError::Cancelled));
            }
            x = match &again {
                Some(again) if !tap.wants_in_block(i) => again.checkpoint(i, &x)?,
                _ => self.block(i, layer, x, &angles, tap)?,
            };
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
            let normed = model.norm(&model.weights().final_norm, &x)?;
            return Ok(Some(self.project(&normed)?));
        }
        let normed = model.norm(&model.weights().final_norm, &x)?;
        let normed = tap.at(Point::FinalNorm, 0, normed)?;
        let logits = tap.at(Point::Logits, 0, self.project(&normed)?)?;
        Ok(match self.logits {
            LogitsAt::All => Some(logits),
            LogitsAt::Last => Some(logits.narrow(1, self.pass.queries - 1, 1)?.contiguous()?),
            LogitsAt::None => None,
        })
    }

    fn embed(&self, tap: &mut Tap) -> Result<Tensor, Flow> {
        let model = self.model;
        let shape = (self.pass.batch, self.pass.queries, model.config().d_model);
        let rows = ops::embedding(&model.weights().embed, &self.batch.ids)?;
        let mut x = ops::reshape(&rows, shape)?.to_dtype(model.compute_dtype())?;
        if let Some(scale) = model.config().embed_scale {
            x = (x * scale)?;
        }
        let mut x = tap.at(Point::Embed, 0, x)?;
        if let Some(table) = &model.weights().pos_embed {
            let positions = ops::embedding(table, &self.positions())?
                .reshape(shape)?
                .to_dtype(model.compute_dtype())?;
            let positions = tap.at(Point::PosEmbed, 0, positions)?;
            x = ops::add(&x, &positions)?;
        }
        Ok(x)
    }

    /// Logical positions of the query slots `[batch * queries]`; 0 for padding.
    fn positions(&self) -> Vec<u32> {
        if self.documents.is_some() {
            return self.batch.positions();
        }
        let pass = &self.pass;
        let slot = |row, q| pass.position(row, pass.offset + q).unwrap_or(0) as u32;
        (0..pass.batch)
            .flat_map(|row| (0..pass.queries).map(move |q| slot(row, q)))
            .collect()
    }

    fn angles(&self) -> Result<Vec<Angles>, Flow> {
        let pass = &self.pass;
        let same = self.documents.is_none() && pass.pad.windows(2).all(|w| w[0] == w[1]);
        let rows = if same { 1 } else { pass.batch };
        let positions = &self.positions()[..rows * pass.queries];
        let longest = longest(pass, self.batch).max(1);
        let single = self.model.compute_dtype() == DType::F32;
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
                Tensor::from_vec(v, shape, &Device::Cpu)?.to_dtype(self.model.compute_dtype())
            };
            Ok(Angles {
                cos: tensor(cos)?,
                sin: tensor(sin)?,
            })
        };
        self.model.config().ropes().iter().map(table).collect()
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
        if self.model.config().parallel {
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
        let c = self.model.config();
        let (b, s) = (self.pass.batch, self.pass.queries);
        let input = tap.at(Point::AttnIn, i, self.normed(w.attn_norm.as_ref(), x)?)?;
        let heads = |t: Tensor, n: usize| ops::reshape(&t, (b, s, n, c.d_head));
        let q = tap.at(Point::Q, i, heads(self.linear(&w.q, &input)?, c.n_heads)?)?;
        let k = tap.at(
            Point::K,
            i,
            heads(self.linear(&w.k, &input)?, c.n_kv_heads)?,
        )?;
        let v = tap.at(
            Point::V,
            i,
            heads(self.linear(&w.v, &input)?, c.n_kv_heads)?,
        )?;
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
        let z = if let Some(documents) = &self.documents {
            if tap.wants(Point::AttnScores, i) || tap.wants(Point::Pattern, i) {
                let why =
                    "their scores and patterns have no single shape; capture documents one by one";
                return Err(Flow::Failed(ModelError::Packed { why: why.into() }));
            }
            attention_apart(documents, [&q, &k, &v], spec)?
        } else if tap.wants(Point::AttnScores, i) || tap.wants(Point::Pattern, i) {
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
        let eps = self.model.config().norm_eps;
        Ok(match self.model.config().qk_norm {
            QkNorm::Flat => {
                let flat = x.flatten_from(2)?;
                ops::rms_norm(&flat, gain, eps)?.reshape(x.shape())?
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
            let (b, s, heads, width) = z.dims4()?;
            let flat = ops::reshape(z, (b, s, heads * width))?;
            return Ok(self.linear(&w.o, &flat)?);
        }
        let c = self.model.config();
        let per_head = (0..c.n_heads)
            .map(|h| {
                let z = z.narrow(2, h, 1)?.squeeze(2)?.contiguous()?;
                w.o.apply_columns(&z, h * c.d_head)
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
        let activation = self.model.config().activation.into();
        let input = tap.at(Point::MlpIn, i, self.normed(w.mlp_norm.as_ref(), x)?)?;
        let act = match &w.gate {
            Some(gate) => {
                let pre = tap.at(Point::MlpPre, i, self.linear(gate, &input)?)?;
                let up = tap.at(Point::MlpPreLinear, i, self.linear(&w.up, &input)?)?;
                ops::gated(&pre, &up, activation)?
            }
            None => {
                let pre = tap.at(Point::MlpPre, i, self.linear(&w.up, &input)?)?;
                ops::activation(&pre, activation)?
            }
        };
        let act = tap.at(Point::MlpAct, i, act)?;
        let out = tap.at(Point::MlpOut, i, self.linear(&w.down, &act)?)?;
        let contrib = match &w.mlp_post_norm {
            Some(norm) => self.model.norm(norm, &out)?,
            None => out,
        };
        Ok(tap.at(Point::MlpContrib, i, contrib)?)
    }
}
