//! Generating and recording: a session of the model whose every pass leaves a step of the trace.
//!
//! Always: a token is drawn, then read, so that each step is whole; a cancelled pass changes nothing and is run again by the
//! next call. A branch keeps what was computed before the token where it begins (the keys and values of the cache), and has
//! the bits of a run that had its turns from the beginning.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use ndarray::Array2;

use super::tape::{Seen, Tape, entries};
use super::{Channel, End, Step, Trace, Turns};
use crate::config::ModelConfig;
use crate::features::{FeatureError, LatentEdit, Splice};
use crate::hooks::{Edit, HookPoint, Hooks, Point};
use crate::model::generate::Continue;
use crate::model::sample::SampleOptions;
use crate::model::session::describe::describe;
use crate::model::{Decoder, ModelError, Session};

/// Prompt tokens whose logits are held at a time.
const CHUNK: usize = 32;

/// What is looked at in a model: a dictionary's latents, and channels.
#[derive(Debug, Clone)]
pub struct Scope {
    splice: Splice,
    channels: Arc<Vec<Channel>>,
    edits: Vec<Edit>,
    /// Input of the final norm: the logits of the prompt's tokens come from it.
    last: HookPoint,
}

/// When a recording ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens after the prompt; the context's end comes first if it is nearer.
    pub max_new: usize,
    /// Tokens that end it; they are kept.
    pub stop: Vec<u32>,
}

/// A recording that can go on.
#[derive(Debug)]
pub struct Recorder {
    scope: Scope,
    tape: Tape,
    session: Session,
    trace: Trace,
}

impl Scope {
    /// A dictionary and channels on a model, under edits that hold throughout.
    ///
    /// # Errors
    /// A channel at a point that the model lacks, or of another width.
    pub fn new(
        config: &ModelConfig,
        splice: Splice,
        channels: Vec<Channel>,
        edits: Vec<Edit>,
    ) -> Result<Self, FeatureError> {
        for channel in &channels {
            channel.check(config)?;
        }
        Ok(Self {
            splice: splice.keeping_error(),
            channels: Arc::new(channels),
            edits,
            last: HookPoint::new(Point::ResidPost, config.n_layers.saturating_sub(1)),
        })
    }

    /// The dictionary in its place.
    pub fn splice(&self) -> &Splice {
        &self.splice
    }

    /// The probes and directions.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// A recording at the end of a prompt; nothing is computed yet.
    ///
    /// # Errors
    /// An empty prompt, bad sampling options, a latent that the dictionary lacks, an edit that cannot apply.
    pub fn start(
        &self,
        model: &Decoder,
        prompt: &[u32],
        sample: &SampleOptions,
        turns: Turns,
    ) -> Result<Recorder, FeatureError> {
        self.check(&turns)?;
        let tape = Tape::default();
        let hooks = self.hooks(&tape, &turns);
        Ok(Recorder {
            session: Session::new(model, prompt, sample, &hooks)?,
            trace: Trace {
                prompt: prompt.len(),
                sample: *sample,
                turns,
                channels: self.channels.iter().map(|c| c.info().clone()).collect(),
                branched: None,
                steps: Vec::new(),
                end: None,
            },
            tape,
            scope: self.clone(),
        })
    }

    fn check(&self, turns: &Turns) -> Result<(), FeatureError> {
        let mut edits = turns.all().iter().flat_map(|turn| &turn.edits);
        edits.try_for_each(|edit| edit.check(self.splice.dictionary()))
    }

    /// The edits of passes under these turns.
    pub(super) fn edits(&self, tape: &Tape, turns: &Turns) -> Vec<Edit> {
        let own = tape.edits(&self.splice, turns);
        self.edits.iter().cloned().chain(own).collect()
    }

    fn hooks(&self, tape: &Tape, turns: &Turns) -> Hooks {
        let hooks = Hooks::new().edits(self.edits(tape, turns));
        let hooks = hooks.capture(self.last);
        let points = self.channels.iter().map(|channel| channel.info().at);
        points.fold(hooks, Hooks::capture)
    }

    /// Whether the logits are those of the last block's output: nothing is edited after it.
    fn plain_end(&self, model: &Decoder) -> bool {
        let all = self.edits.iter().chain(model.standing_edits());
        let late = |edit: &Edit| matches!(edit.at.point, Point::FinalNorm | Point::Logits);
        !all.into_iter().any(late)
    }
}

impl Recorder {
    /// What was recorded so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What it looks at.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Goes on until it ends, or the receiver wants no more; `told` sees the trace and the steps that are new in it: all of
    /// the prompt at first, then token by token.
    ///
    /// # Errors
    /// Anything a pass can fail with; a cancellation, after which it can go on.
    pub fn run(
        &mut self,
        model: &Decoder,
        limits: &Limits,
        told: &mut dyn FnMut(&Trace, Range<usize>) -> Continue,
    ) -> Result<(), FeatureError> {
        loop {
            if self.trace.steps.len() < self.session.ids().len() {
                let new = self.read(model)?;
                if told(&self.trace, new) == Continue::No {
                    return Ok(());
                }
            }
            self.trace.end = self.end(model, limits);
            if self.trace.end.is_some() {
                return Ok(());
            }
            self.session.step(model)?;
        }
    }

    fn end(&self, model: &Decoder, limits: &Limits) -> Option<End> {
        let answer = self.session.answer();
        if answer.last().is_some_and(|id| limits.stop.contains(id)) {
            return Some(End::Stop);
        }
        let room = model.config().max_positions();
        let room = room.saturating_sub(self.trace.prompt);
        (answer.len() >= limits.max_new.min(room)).then_some(End::Length)
    }

    /// Another recording that keeps this one's tokens up to position `at`, and those of the prompt; from `at` on these
    /// latents are edited and no others.
    ///
    /// # Errors
    /// A position after the last token, a latent that the dictionary lacks.
    pub fn branch(
        &self,
        model: &Decoder,
        at: usize,
        edits: Vec<LatentEdit>,
    ) -> Result<Self, FeatureError> {
        let have = self.trace.steps.len();
        if at >= have {
            let what = format!("a branch begins at a token: there are {have}, none at {at}");
            return Err(FeatureError::Nothing { what });
        }
        self.turned(model, at, self.trace.turns.with(at, edits))
    }

    /// Another recording under other turns: it keeps all before the first position where they differ.
    ///
    /// # Errors
    /// A latent that the dictionary lacks.
    pub fn under(&self, model: &Decoder, turns: Turns) -> Result<Self, FeatureError> {
        let have = self.session.ids().len();
        let at = self.trace.turns.differ(&turns);
        self.turned(model, at.unwrap_or(have).min(have), turns)
    }

    /// Edits these latents and no others from the next token on, in this recording.
    ///
    /// # Errors
    /// A latent that the dictionary lacks.
    pub fn turn(&mut self, model: &Decoder, edits: Vec<LatentEdit>) -> Result<(), FeatureError> {
        let turns = self.trace.turns.with(self.session.ids().len(), edits);
        let branched = self.trace.branched;
        *self = self.under(model, turns)?;
        self.trace.branched = branched;
        Ok(())
    }

    fn turned(&self, model: &Decoder, at: usize, turns: Turns) -> Result<Self, FeatureError> {
        self.scope.check(&turns)?;
        let tape = Tape::default();
        let hooks = self.scope.hooks(&tape, &turns);
        let session = self.session.turned(model, &hooks, at)?;
        let mut trace = self.trace.clone();
        // A prompt that is changed is read again.
        let kept = if at < trace.prompt { 0 } else { at };
        trace.steps.truncate(kept);
        (trace.turns, trace.end, trace.branched) = (turns, None, Some(at));
        Ok(Self {
            scope: self.scope.clone(),
            tape,
            session,
            trace,
        })
    }

    /// Runs the model over the tokens that were not read, and records them.
    fn read(&mut self, model: &Decoder) -> Result<Range<usize>, FeatureError> {
        self.session.read(model)?;
        let seen = self.tape.take()?;
        let (first, captured) = self.session.captured();
        let rows = |at: &HookPoint| -> Result<&Tensor, FeatureError> {
            let what = "the pass captured nothing where a channel reads";
            Ok(captured.get(at).ok_or(ModelError::Empty { what })?)
        };
        let mut values = Vec::with_capacity(self.scope.channels.len());
        for channel in self.scope.channels.iter() {
            values.push(channel.read(matrix(rows(&channel.info().at)?)?.view())?);
        }
        let ids = self.session.ids();
        let prompt = if first < self.trace.prompt && self.scope.plain_end(model) {
            told(model, rows(&self.scope.last)?, &ids[first + 1..])?
        } else {
            Vec::new()
        };
        self.trace.steps.truncate(first);
        for (position, &id) in ids.iter().enumerate().skip(first) {
            let row = position - first;
            let answered = position.checked_sub(self.trace.prompt);
            let said = match answered {
                Some(at) => Some((
                    self.session.steps()[at].log_prob,
                    self.session.steps()[at].entropy,
                )),
                None => row.checked_sub(1).and_then(|row| prompt.get(row).copied()),
            };
            let (written, unedited) = codes(&seen, row, &self.trace.turns);
            self.trace.steps.push(Step {
                id,
                log_prob: said.map(|said| said.0),
                entropy: said.map(|said| said.1),
                codes: written,
                unedited,
                values: values.iter().map(|channel| channel[row]).collect(),
            });
        }
        Ok(first..ids.len())
    }
}

/// A row's codes as they went on, and what the edited ones of them were.
#[allow(clippy::type_complexity)] // two lists of the same kind
fn codes(seen: &Seen, row: usize, turns: &Turns) -> (Vec<(u32, f32)>, Vec<(u32, f32)>) {
    let edits = turns.at(seen.first + row);
    let mut latents: Vec<u32> = edits.iter().map(|edit| edit.latent as u32).collect();
    latents.sort_unstable();
    latents.dedup();
    let before = latents.iter().map(|&l| (l, seen.read.value(row, l)));
    (entries(&seen.written, row).collect(), before.collect())
}

/// `[1, pos, ..]` as `[pos, width]`.
fn matrix(x: &Tensor) -> Result<Array2<f32>, FeatureError> {
    let positions = x.dim(1)?;
    let values: Vec<f32> = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let width = values.len() / positions.max(1);
    let rows = Array2::from_shape_vec((positions, width), values);
    Ok(rows.map_err(candle_core::Error::wrap)?)
}

/// Log-probability of each of these tokens and entropy before it, from the last block's output `[1, pos, d_model]` at the
/// tokens before them.
fn told(model: &Decoder, last: &Tensor, ids: &[u32]) -> Result<Vec<(f32, f32)>, FeatureError> {
    let mut found = Vec::with_capacity(ids.len());
    for (chunk, ids) in ids.chunks(CHUNK).enumerate() {
        let rows = last.narrow(1, chunk * CHUNK, ids.len())?.contiguous()?;
        let logits = model.unembed(&rows)?.squeeze(0)?.to_dtype(DType::F32)?;
        for (logits, &id) in logits.to_vec2::<f32>()?.iter().zip(ids) {
            let (log_prob, entropy, _) = describe(logits, id as usize)?;
            found.push((log_prob, entropy));
        }
    }
    Ok(found)
}
