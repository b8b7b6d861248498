//! A generation that can be held, gone back in and taken another way: one row with its cache, and what the model thought
//! of each token.
//!
//! Always: the i-th new token is drawn with the i-th draw of the seed, whatever was rewound or put in by hand before it, so
//! a session that was rewound gives the same bits as one that never was, and the same tokens as [`super::generate`].
//! Edits belong to the session and hold for prompt and answer alike. A step that is cancelled changes nothing.

use candle_core::{DType, Tensor};

use super::{
    Batch, Decoder, KvCache, LogitsAt, ModelError,
    sample::{SampleOptions, Sampler},
};
use crate::hooks::{Captured, HookPoint, Hooks, Marks, Plan, Point, first_changed_layer};

pub(crate) mod describe;
mod turn;

pub use describe::ALTERNATIVES;
use describe::describe;

/// Slots beyond the prompt that a cache begins with; it grows when they are used up.
const ROOM: usize = 128;

/// A token of an answer with the distribution it was taken from: the model's own, before temperature and top-p.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The token.
    pub id: u32,
    /// Its log-probability, nats.
    pub log_prob: f32,
    /// Entropy of the distribution, nats.
    pub entropy: f32,
    /// The most likely tokens and their log-probabilities, the best first; of equals the lower id.
    pub top: Vec<(u32, f32)>,
    /// True if it was put in by [`Session::push`].
    pub forced: bool,
}

/// One answer in the making.
#[derive(Debug)]
pub struct Session {
    cache: KvCache,
    hooks: Hooks,
    edits_id: Option<u64>,
    /// Prompt and answer.
    ids: Vec<u32>,
    prompt: usize,
    steps: Vec<Step>,
    sample: SampleOptions,
    sampler: Sampler,
    /// Draws taken from the sampler.
    drawn: usize,
    /// Logits `[vocab]` after the last token, once they are computed.
    next: Option<Tensor>,
    /// What the edits do where.
    marks: Marks,
    /// The block whose input over the prompt is kept when the prompt is run: where the next change of the edits is looked for.
    keep: Option<usize>,
    /// That block and its input `[1, prompt, d_model]`, before any edit there.
    kept: Option<(usize, Tensor)>,
    /// The prompt is run from there on; the cache holds the blocks below.
    begin: bool,
    /// What the last pass captured, and the position of its first token.
    seen: (usize, Captured),
}

impl Session {
    /// A session at the end of a prompt; nothing is computed yet.
    ///
    /// # Errors
    /// An empty prompt, bad sampling options, an edit that cannot apply.
    pub fn new(
        model: &Decoder,
        prompt: &[u32],
        sample: &SampleOptions,
        hooks: &Hooks,
    ) -> Result<Self, ModelError> {
        if prompt.is_empty() {
            return Err(ModelError::Empty {
                what: "the prompt has no token",
            });
        }
        let plan = plan(model, hooks)?;
        Ok(Self {
            cache: KvCache::new(model.config(), 1, prompt.len() + ROOM),
            edits_id: plan.edits_id(),
            marks: plan.marks().clone(),
            keep: None,
            kept: None,
            begin: false,
            hooks: hooks.clone(),
            ids: prompt.to_vec(),
            prompt: prompt.len(),
            steps: Vec::new(),
            sample: *sample,
            sampler: Sampler::new(sample, 1)?,
            drawn: 0,
            next: None,
            seen: (0, Captured::new()),
        })
    }

    /// [`Self::new`] with what `other` has computed already, as far as prompt and edits allow: all common tokens under
    /// the same edits, those before the first edited position where the other session has no edits. Where the same prompt
    /// is run under edits that differ from some block on, and the other session differed there too from the one it came
    /// after, the blocks below are not run again: the second and every later step of a dose costs what lies above it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn after(
        model: &Decoder,
        other: &Self,
        prompt: &[u32],
        sample: &SampleOptions,
        hooks: &Hooks,
    ) -> Result<Self, ModelError> {
        let mut new = Self::new(model, prompt, sample, hooks)?;
        let plan = plan(model, hooks)?;
        let layers = model.config().n_layers;
        let changed = first_changed_layer(&new.marks, &other.marks, layers);
        if let Some(layer) = changed.filter(|&layer| layer > 0)
            && other.prompt() == prompt
        {
            new.keep = Some(layer);
            if let Some((at, _)) = &other.kept
                && *at == layer
            {
                new.cache = other.cache.fork()?;
                new.cache.truncate(0)?;
                new.kept.clone_from(&other.kept);
                new.begin = true;
                return Ok(new);
            }
        }
        let unchanged = match (other.edits_id, new.edits_id) {
            // What was an answer there may be part of the prompt here.
            _ if plan.of_prompt() && other.prompt != new.prompt => 0,
            (theirs, ours) if theirs == ours => usize::MAX,
            (None, Some(_)) => plan.first_edited_position(),
            _ => 0,
        };
        let common = prompt
            .iter()
            .zip(&other.ids)
            .take_while(|(a, b)| a == b)
            .count();
        // The last token is run again for its logits.
        let keep = common
            .min(prompt.len() - 1)
            .min(other.cache.len())
            .min(unchanged);
        if keep > 0 {
            // The pass is not over the whole prompt.
            new.keep = None;
            new.cache = other.cache.fork()?;
            new.cache.truncate(keep)?;
        }
        Ok(new)
    }

    /// Whether its prompt will not have to be run whole, now or after the next change of the same edits.
    pub fn saves(&self) -> bool {
        self.keep.is_some() || !self.cache.is_empty()
    }

    /// The prompt's tokens.
    pub fn prompt(&self) -> &[u32] {
        &self.ids[..self.prompt]
    }

    /// The answer so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The answer's token ids so far.
    pub fn answer(&self) -> &[u32] {
        &self.ids[self.prompt..]
    }

    /// Identity of its edits, none without any.
    pub fn edits_id(&self) -> Option<u64> {
        self.edits_id
    }

    /// How it draws.
    pub fn sample(&self) -> &SampleOptions {
        &self.sample
    }

    /// Draws otherwise from here on; the next token is drawn as if it had been so from the beginning.
    ///
    /// # Errors
    /// Bad sampling options.
    pub fn set_sample(&mut self, sample: &SampleOptions) -> Result<(), ModelError> {
        self.sampler = Sampler::new(sample, 1)?;
        self.sample = *sample;
        self.drawn = 0;
        Ok(())
    }

    /// Draws the next token.
    ///
    /// # Errors
    /// The context is full, logits that are NaN, a cancelled pass.
    pub fn step(&mut self, model: &Decoder) -> Result<&Step, ModelError> {
        let logits = self.logits(model)?;
        if self.drawn > self.steps.len() {
            self.sampler = Sampler::new(&self.sample, 1)?;
            self.drawn = 0;
        }
        while self.drawn < self.steps.len() {
            self.sampler.skip(0)?;
            self.drawn += 1;
        }
        let id = self.sampler.next(0, &logits)?;
        self.drawn += 1;
        self.put(id, &logits, false)
    }

    /// Takes this token instead of drawing one.
    ///
    /// # Errors
    /// As [`Self::step`]; a token outside the vocabulary.
    pub fn push(&mut self, model: &Decoder, id: u32) -> Result<&Step, ModelError> {
        let vocab = model.config().vocab_size;
        if id as usize >= vocab {
            return Err(ModelError::TokenOutOfRange { id, vocab });
        }
        let logits = self.logits(model)?;
        self.put(id, &logits, true)
    }

    /// Forgets the answer from its `kept`-th token on.
    ///
    /// # Errors
    /// The answer is shorter than that.
    pub fn rewind_to(&mut self, kept: usize) -> Result<(), ModelError> {
        let have = self.steps.len();
        if kept > have {
            let why = format!("the answer has {have} tokens and cannot be cut to {kept}");
            return Err(ModelError::Cache { why });
        }
        if kept == have {
            return Ok(());
        }
        self.steps.truncate(kept);
        self.ids.truncate(self.prompt + kept);
        // The last token is run again for its logits.
        self.cache
            .truncate(self.cache.len().min(self.ids.len() - 1))?;
        self.next = None;
        Ok(())
    }

    /// An independent copy, to branch from.
    ///
    /// # Errors
    /// No memory for the cache.
    pub fn fork(&self) -> Result<Self, ModelError> {
        Ok(Self {
            cache: self.cache.fork()?,
            hooks: self.hooks.clone(),
            edits_id: self.edits_id,
            ids: self.ids.clone(),
            prompt: self.prompt,
            steps: self.steps.clone(),
            sample: self.sample,
            sampler: Sampler::new(&self.sample, 1)?,
            drawn: 0,
            next: self.next.clone(),
            marks: self.marks.clone(),
            keep: self.keep,
            kept: self.kept.clone(),
            begin: self.begin,
            seen: (0, Captured::new()),
        })
    }

    /// Logits `[vocab]` after the last token.
    fn logits(&mut self, model: &Decoder) -> Result<Tensor, ModelError> {
        if let Some(next) = &self.next {
            return Ok(next.clone());
        }
        let first = self.cache.len();
        let rest = Batch::single(&self.ids[first..])?;
        self.cache.set_prompt_end(self.prompt);
        let fresh = self.cache.is_empty() && self.ids.len() == self.prompt;
        let mut out = match (&self.kept, self.keep) {
            (Some(kept), _) if fresh && self.begin => {
                let start = kept.clone();
                model.forward_from(start, &rest, &mut self.cache, &self.hooks, LogitsAt::Last)?
            }
            (_, Some(layer)) if fresh => {
                let below = HookPoint::new(Point::ResidPost, layer - 1);
                let hooks = self.hooks.clone().capture(below);
                let mut out =
                    model.forward_cached(&rest, &mut self.cache, &hooks, LogitsAt::Last)?;
                self.kept = out.captured.remove(&below).map(|input| (layer, input));
                out
            }
            _ => model.forward_cached(&rest, &mut self.cache, &self.hooks, LogitsAt::Last)?,
        };
        self.begin = false;
        self.seen = (first, std::mem::take(&mut out.captured));
        let logits = out.logits()?.get(0)?.get(0)?;
        Ok(self.next.insert(logits).clone())
    }

    fn put(&mut self, id: u32, logits: &Tensor, forced: bool) -> Result<&Step, ModelError> {
        let values: Vec<f32> = logits.to_dtype(DType::F32)?.to_vec1()?;
        let (log_prob, entropy, top) = describe(&values, id as usize)?;
        self.next = None;
        self.ids.push(id);
        let at = self.steps.len();
        self.steps.push(Step {
            id,
            log_prob,
            entropy,
            top,
            forced,
        });
        Ok(&self.steps[at])
    }
}

fn plan(model: &Decoder, hooks: &Hooks) -> Result<Plan, ModelError> {
    let all = hooks.after(model.standing_edits());
    Ok(Plan::new(&all, model.config(), model.compute_dtype())?)
}
