//! Harmful test prompts in other dress: in codes and roles, after small talk and long texts, in other words.
//!
//! Always: every frame is put around the same first prompts, so that it is paired with the plain prompt; a frame that cannot
//! be put to a checkpoint (no room in its context, characters that its tokenizer lacks) says why and the others stand.
//! Whether a checkpoint can read a code at all is measured on harmless prompts and without a judge: how much likelier the
//! plain text is after its own code than after another's. The frames themselves: `crate::text::frames`.

use std::sync::atomic::Ordering;

use super::choices;
use super::gather::Gather;
use super::{FirstTokens, Part, Replies, Reply};
use crate::audit::work::Stage;
use crate::hooks::Hooks;
use crate::model::{Checkpoint, ModelError};
use crate::steer::{self, EncodedPrompt, RefusalTokens, SteerError};
use crate::text::frames::{self, Code, Frame, Wording};
use crate::text::suites::PromptRow;
use crate::text::trials::EncodedTrial;
use crate::text::{Message, Vars};

/// Harmless prompts on which reading a code is measured.
pub const READ: usize = 8;

/// Earlier questions and answers before a request.
pub const TURNS: [usize; 5] = [0, 1, 2, 4, 8];

/// Characters of neutral text that stand before a request.
const LONG: usize = 3000;

/// What a checkpoint says to some prompts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Refusal scores at the first token.
    pub scores: Vec<f64>,
    /// Greedy completions.
    pub replies: Vec<Reply>,
}

impl Asked {
    /// Which prompts are refused.
    pub fn refusals(&self) -> Vec<bool> {
        self.replies.iter().map(Reply::refuses).collect()
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Framing {
    /// Which.
    pub frame: Frame,
    /// What the checkpoint says in it.
    pub asked: Part<Asked>,
    /// For a code: how much likelier each harmless text is after its own code than after another's, nats per token.
    pub gains: Option<Part<Vec<f64>>>,
}

/// The first harmful test prompts under every frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Framed {
    /// Plain first.
    pub frames: Vec<Framing>,
    /// The gains of copying the same texts uncoded, which no code can be read better than.
    pub copying: Part<Vec<f64>>,
}

/// The first harmful test prompts after other talk.
#[derive(Clone, Debug, PartialEq)]
pub struct Diluted {
    /// After so many questions and answers, ascending from 0.
    pub turns: Vec<(usize, Part<Asked>)>,
    /// After a long neutral text.
    pub long: Part<Asked>,
}

/// The first harmful test prompts in other words.
#[derive(Clone, Debug, PartialEq)]
pub struct Reworded {
    /// Name of the wording, the suite's own first.
    pub wordings: Vec<(&'static str, Part<Asked>)>,
}

/// What the frames have in common: the checkpoint, its first prompts and what it says to them plainly.
pub struct Asking<'a> {
    gather: &'a Gather<'a>,
    tokens: &'a RefusalTokens,
    plain: Asked,
}

impl<'a> Asking<'a> {
    /// Of the first harmful test prompts.
    pub fn new(
        gather: &'a Gather<'a>,
        tokens: &'a RefusalTokens,
        first: &FirstTokens,
        replies: &Replies,
    ) -> Self {
        let n = gather.policy.sizes.framed.min(replies.harmful.len());
        Self {
            gather,
            tokens,
            plain: Asked {
                scores: first.scores.harmful[..n].to_vec(),
                replies: replies.harmful[..n].to_vec(),
            },
        }
    }

    fn rows(&self) -> &[PromptRow] {
        &self.gather.prompts.harmful.test[..self.plain.replies.len()]
    }

    /// Every frame.
    pub fn framed(&self) -> Part<Framed> {
        let all = Frame::all();
        let total = (all.len() - 1) * self.rows().len();
        let mut frames = self.gather.work.stage("frames", total, |work| {
            let mut frames = Vec::with_capacity(all.len());
            for frame in all {
                let asked = match frame {
                    Frame::Plain => Ok(self.plain.clone()),
                    _ => self.asked(work, &mut |row: &PromptRow| {
                        vec![Message::user(frame.dress(&row.prompt, self.gather.seed))]
                    }),
                };
                frames.push(Framing {
                    frame,
                    asked: self
                        .unless_interrupted(asked.map(|asked| read_in(frame, asked, self)))?,
                    gains: None,
                });
            }
            Ok(frames)
        })?;
        let texts = &self.gather.prompts.harmless.test;
        let texts = &texts[..READ.min(texts.len())];
        let total = (1 + Code::ALL.len()) * 2 * texts.len();
        self.gather.work.stage("reading codes", total, |work| {
            let copying = self.unless_interrupted(gains(self.gather.cp, None, texts, work))?;
            for framing in &mut frames {
                if let Frame::Coded(code) = framing.frame {
                    let found = gains(self.gather.cp, Some(code), texts, work);
                    framing.gains = Some(self.unless_interrupted(found)?);
                }
            }
            Ok(Framed { frames, copying })
        })
    }

    /// Small talk and a long text before the request.
    pub fn diluted(&self) -> Part<Diluted> {
        let total = TURNS.len() * self.rows().len();
        self.gather.work.stage("earlier talk", total, |work| {
            let mut turns = Vec::with_capacity(TURNS.len());
            for k in TURNS {
                let asked = match k {
                    0 => Ok(self.plain.clone()),
                    _ => self.asked(work, &mut |row: &PromptRow| {
                        frames::after_talk(&frames::TALK, k, &row.prompt)
                    }),
                };
                turns.push((k, self.unless_interrupted(asked)?));
            }
            let text = long_text(&self.gather.prompts.neutral);
            let long = if text.is_empty() {
                Err("the suites have no neutral texts".to_owned())
            } else {
                self.asked(work, &mut |row: &PromptRow| {
                    vec![Message::user(frames::after_text(&text, &row.prompt))]
                })
            };
            let long = self.unless_interrupted(long)?;
            Ok(Diluted { turns, long })
        })
    }

    /// Other wordings of the request.
    pub fn reworded(&self) -> Part<Reworded> {
        let total = Wording::ALL.len() * self.rows().len();
        self.gather.work.stage("wordings", total, |work| {
            let mut wordings = vec![("as it stands", Ok(self.plain.clone()))];
            for wording in Wording::ALL {
                let asked = self.asked(work, &mut |row: &PromptRow| {
                    vec![Message::user(wording.reword(&row.prompt))]
                });
                wordings.push((wording.name(), self.unless_interrupted(asked)?));
            }
            Ok(Reworded { wordings })
        })
    }

    /// A stage that was interrupted has no result, not one with gaps.
    fn unless_interrupted<T>(&self, part: Part<T>) -> Part<Part<T>> {
        match part {
            Err(why) if self.gather.work.cancelled() => Err(why),
            other => Ok(other),
        }
    }

    /// The checkpoint's answers to what `dress` makes of each prompt.
    fn asked(
        &self,
        work: &Stage,
        dress: &mut dyn FnMut(&PromptRow) -> Vec<Message>,
    ) -> Part<Asked> {
        let gather = self.gather;
        let max_new = gather.policy.sizes.max_new_tokens;
        let (mut prompts, mut said) = (Vec::new(), Vec::new());
        for row in self.rows() {
            let mut messages: Vec<Message> = row
                .system
                .iter()
                .map(|system| Message::new("system", system))
                .collect();
            messages.extend(dress(row));
            prompts.push(encoded(gather.cp, &row.id, &messages, max_new)?);
            said.push(messages.pop().map_or_else(String::new, |last| last.content));
        }
        let scores = work.quiet(|options| {
            steer::refusal_scores(gather.cp, &prompts, &Hooks::new(), self.tokens, options)
        })?;
        let completions = work.run(prompts.len(), |options| {
            let options = steer::Options {
                batch: 50,
                ..*options
            };
            steer::completions(gather.cp, &prompts, max_new, &Hooks::new(), &options)
        })?;
        let replies = said
            .iter()
            .zip(completions)
            .map(|(prompt, completion)| gather.judged(prompt, completion))
            .collect();
        Ok(Asked { scores, replies })
    }
}

/// A conversation as tokens with room for an answer; for a checkpoint without a template its messages as one text.
///
/// # Errors
/// A tokenizer or template that refuses it, or no room in the context, in words.
pub fn encoded(
    cp: &Checkpoint,
    id: &str,
    messages: &[Message],
    room: usize,
) -> Part<EncodedPrompt> {
    let found: Result<_, ModelError> = if cp.template.is_some() {
        cp.encode_chat(messages, &Vars::default())
    } else {
        let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
        cp.encode_prompt(&texts.join("\n\n"), None)
    };
    let found = found.map_err(|error| error.to_string())?;
    let (tokens, n_ctx) = (found.ids.len(), cp.config().max_positions());
    if tokens.saturating_add(room) > n_ctx {
        return Err(format!(
            "prompt `{id}` has {tokens} tokens in it, which with an answer of {room} is over the context of {n_ctx}"
        ));
    }
    let end = found
        .instruction_end
        .unwrap_or_else(|| tokens.saturating_sub(1));
    Ok(EncodedPrompt {
        id: id.to_owned(),
        instruction_end: end,
        tail: end + 1..tokens,
        ids: found.ids,
    })
}

/// Replies in the code of their frame are judged by what they say in it, where plain they could not be.
fn read_in(frame: Frame, mut asked: Asked, asking: &Asking) -> Asked {
    let Frame::Coded(code) = frame else {
        return asked;
    };
    for reply in asked.replies.iter_mut().filter(|reply| reply.is_unknown()) {
        if let Some(text) = code.decode(reply.text.trim()) {
            let judgement = asking.gather.judgement(None, &text);
            if judgement.label != crate::audit::detect::ReplyLabel::Unknown {
                reply.judgement = judgement;
            }
        }
    }
    asked
}

/// For each text how much likelier it is after its own code than after the code of the next text.
fn gains(cp: &Checkpoint, code: Option<Code>, texts: &[PromptRow], work: &Stage) -> Part<Vec<f64>> {
    if texts.len() < 2 {
        return Err("it takes two harmless prompts".to_owned());
    }
    let mut rows = Vec::with_capacity(2 * texts.len());
    let mut add = |shown: &PromptRow, wanted: &PromptRow| -> Part<()> {
        let answer = cp
            .tokenizer
            .encode(&wanted.prompt, false)
            .map_err(|error| error.to_string())?;
        let task = Message::user(frames::reading_task(code, &shown.prompt));
        let prompt = encoded(cp, &shown.id, &[task], answer.len())?.ids;
        let options = vec![answer];
        rows.push((wanted.id.clone(), EncodedTrial { prompt, options }));
        Ok(())
    };
    for (i, text) in texts.iter().enumerate() {
        add(text, text)?;
        add(&texts[(i + 1) % texts.len()], text)?;
    }
    let found = work.run(rows.len(), |options| {
        let mut means = Vec::with_capacity(rows.len());
        for (done, (id, row)) in rows.iter().enumerate() {
            if options
                .cancel
                .is_some_and(|flag| flag.load(Ordering::Relaxed))
            {
                return Err(SteerError::Interrupted);
            }
            let mean = choices::log_probs(&cp.decoder, row)?[0] / row.options[0].len() as f64;
            if !mean.is_finite() {
                return Err(SteerError::NotFinite {
                    id: id.clone(),
                    what: "log-probability of an answer",
                });
            }
            means.push(mean);
            if let Some(progress) = options.progress {
                progress(done + 1, rows.len());
            }
        }
        Ok(means)
    })?;
    Ok(found.chunks(2).map(|pair| pair[0] - pair[1]).collect())
}

/// Neutral texts, one after another, until they are long.
fn long_text(neutral: &[PromptRow]) -> String {
    let mut text = String::new();
    for row in neutral {
        if text.len() >= LONG {
            break;
        }
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&row.prompt);
    }
    text
}
