//! The one decoder. Reading, steering, sampling, scoring and training run this forward pass.
//!
//! Always holds: with no hooks nothing is done beyond the model's own arithmetic. Rows are left-padded. The arithmetic is
//! `forward.rs`.

use candle_core::{DType, Tensor};
use candlescope_ops as ops;

use super::{
    Batch, KvCache, ModelError,
    forward::{Flow, Run, longest},
    weights::{NormWeights, Weights},
};
use crate::config::{ModelConfig, NormKind, Rope};
use crate::hooks::{Captured, Edit, HookError, HookPoint, Hooks, Pass, Plan, Point, Tap};

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
    /// Whether a tracked pass keeps of a block its input alone.
    checkpointing: bool,
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
            checkpointing: false,
        }
    }

    /// Whether passes that track gradients keep of each block its input alone, and compute the block again on the way back:
    /// the same bits in more time (Chen et al. 2016). Such gradients are found by `candlescope_ops::backward`.
    pub fn set_checkpointing(&mut self, on: bool) {
        self.checkpointing = on;
    }

    pub(super) fn checkpointing(&self) -> bool {
        self.checkpointing
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

    /// Output of the final norm at every slot, `[batch, pos, d_model]`; tracked when a weight is.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn hidden(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        let at = HookPoint::new(Point::FinalNorm, 0);
        let hooks = Hooks::new().capture(at);
        let mut out = self.forward(batch, &hooks, LogitsAt::None)?;
        out.captured.remove(&at).ok_or(ModelError::Empty {
            what: "the pass ended before the final norm",
        })
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
        if batch.is_packed() && (cache.is_some() || edits_id.is_some()) {
            let why = "they run in one pass without a cache and without edits, whose positions would be those of the row";
            return Err(ModelError::Packed { why: why.into() });
        }
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
        let mut run = Run::new(self, batch, pass, cache.as_deref_mut(), logits);
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
        let keys = offset + batch.len();
        let pass = Pass {
            batch: batch.rows(),
            queries: batch.len(),
            keys,
            offset,
            prefix,
            pad,
            prompt: cache.and_then(KvCache::prompt_end).unwrap_or(keys),
        };
        let longest = longest(&pass, batch);
        if longest > self.config.max_positions() {
            return Err(ModelError::ContextTooLong {
                tokens: longest,
                n_ctx: self.config.n_ctx,
            });
        }
        self.check_frequencies(offset, longest)?;
        if batch.is_packed() {
            self.check_one_scaling(batch, longest)?;
        }
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

    /// Documents that alone would have other frequencies than the longest of their batch would not be what they are alone.
    fn check_one_scaling(&self, batch: &Batch, longest: usize) -> Result<(), ModelError> {
        let documents = (0..batch.rows()).flat_map(|row| batch.documents(row));
        let shortest = documents.map(|d| d.len()).min().unwrap_or(longest);
        let changed = |rope: &Rope| {
            rope.by_length() && rope.frequencies(shortest, true) != rope.frequencies(longest, true)
        };
        if self.config.ropes().iter().any(changed) {
            let why = format!(
                "the rotary scaling of this model has other frequencies at {shortest} than at {longest} positions; \
                 give documents of such lengths rows of their own"
            );
            return Err(ModelError::Packed { why });
        }
        Ok(())
    }

    /// The final norm and unembedding of a residual stream `[.., d_model]`: the logit lens (nostalgebraist 2020).
    pub fn unembed(&self, resid: &Tensor) -> Result<Tensor, ModelError> {
        let normed = self.norm(&self.weights.final_norm, resid)?;
        self.project(&normed)
    }

    pub(super) fn project(&self, normed: &Tensor) -> Result<Tensor, ModelError> {
        self.capped(ops::linear(normed, &self.weights.head, None)?)
    }

    /// [`Self::project`] of a step of sampling.
    pub(super) fn project_step(&self, normed: &Tensor) -> Result<Tensor, ModelError> {
        self.capped(ops::linear_step(normed, &self.weights.head, None)?)
    }

    fn capped(&self, logits: Tensor) -> Result<Tensor, ModelError> {
        Ok(match self.config.final_softcap {
            Some(cap) => ((logits / cap)?.tanh()? * cap)?,
            None => logits,
        })
    }

    pub(super) fn norm(&self, w: &NormWeights, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self.config.norm {
            NormKind::Rms => ops::rms_norm(x, &w.gain, self.config.norm_eps)?,
            NormKind::Layer => ops::layer_norm(x, &w.gain, w.bias.as_ref(), self.config.norm_eps)?,
        })
    }
}
