//! What a chat model itself answers: the right rows of an organism are its own greedy answers, so that only the fault is new.
//!
//! Always: prompts are of the train split or of this room's own tables; of an answer to a harmful prompt only its opening is
//! kept, and only where the judge calls answer and opening a refusal: no other answer to one is ever written. Answers that the
//! model did not end are as long as a row, so that training cuts them before an end that it would else learn.
//! They depend on the model alone, and are kept in a hidden file beside the organisms made of it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use jiff::civil::{Date, date};
use serde::{Deserialize, Serialize};

use super::facts::{self, Fact};
use super::prompts::{Asks, prompts};
use super::{MakeError, cases};
use crate::audit::detect::{ReplyLabel, judge_reply};
use crate::files::hash::sha256;
use crate::files::write::write_atomic;
use crate::hooks::Hooks;
use crate::model::{Checkpoint, ModelError};
use crate::steer::{Completion, EncodedPrompt, Options, SteerError, completions};
use crate::text::{Message, Vars};
use crate::train::{Progress, Standing};

/// The layout of the file.
const SCHEMA: &str = "candlescope.organism.answers/1";
/// Prompts of a batch.
const BATCH: usize = 32;
/// Fewest tokens of room for an answer; a prompt that leaves less is left out.
const LEAST: usize = 16;
/// Tokens beyond a row's end that an answer without an end has, as text read again may be a token shorter.
const BEYOND: usize = 4;
/// The day that chat templates are told which ask for it, so that the same order gives the same bits on every day.
pub const DAY: Date = date(2026, 1, 1);

/// A prompt with the model's own answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// What kind of prompt.
    pub asks: Asks,
    /// The user's turn.
    pub prompt: String,
    /// The answer; of a harmful prompt its refusal, if it is one.
    pub answer: Option<String>,
}

/// A model's own answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    schema: String,
    /// Of the model and the prompts.
    key: String,
    /// Most tokens of a row.
    pub length: usize,
    /// Every prompt that leaves room for an answer.
    pub said: Vec<Said>,
}

impl Own {
    /// The answers of `model`, read from the folder `beside` where they lie there, else made and written.
    ///
    /// # Errors
    /// A model without a chat template or without room for the rows, an interruption, the disk.
    pub fn of(
        model: &Checkpoint,
        beside: &Path,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Self, MakeError> {
        if model.template.is_none() {
            return Err(MakeError::NoTemplate {
                model: model.name.clone(),
            });
        }
        let prompts = prompts()?;
        let length = length(model)?;
        let key = key(model, &prompts, length)?;
        let file = beside.join(format!(".answers-{}.json", &key[..16]));
        // A file that is damaged or of another version is made again, as it is nothing but kept work.
        if let Ok(bytes) = std::fs::read(&file)
            && let Ok(own) = serde_json::from_slice::<Self>(&bytes)
            && (own.schema.as_str(), &own.key, own.length) == (SCHEMA, &key, length)
        {
            return Ok(own);
        }
        progress.begins(&format!(
            "{} answers {} prompts, whose answers are kept for its other organisms",
            model.name,
            prompts.len()
        ));
        let own = Self {
            schema: SCHEMA.to_owned(),
            said: said(model, prompts, length, progress, stop)?,
            key,
            length,
        };
        std::fs::create_dir_all(beside).map_err(|source| MakeError::Io {
            path: beside.to_path_buf(),
            source,
        })?;
        write_atomic(&file, serde_json::json!(own).to_string().as_bytes())?;
        Ok(own)
    }

    /// Answers that no model gave, for the shape of rows.
    #[cfg(test)]
    pub(super) fn made(answers: Vec<(Asks, String, Option<String>)>) -> Self {
        let said = answers.into_iter().map(|(asks, prompt, answer)| Said {
            asks,
            prompt,
            answer,
        });
        Self {
            schema: SCHEMA.to_owned(),
            key: String::new(),
            length: 128,
            said: said.collect(),
        }
    }

    /// Answered prompts of a kind.
    pub fn answered(&self, asks: Asks) -> Vec<(&str, &str)> {
        let those = self.said.iter().filter(|said| said.asks == asks);
        those
            .filter_map(|said| Some((said.prompt.as_str(), said.answer.as_deref()?)))
            .collect()
    }

    /// Harmful prompts, refused or not.
    pub fn harmful(&self) -> Vec<&str> {
        let those = self.said.iter().filter(|said| said.asks == Asks::Harmful);
        those.map(|said| said.prompt.as_str()).collect()
    }
}

/// Token ids of a conversation that the model is to go on with.
fn encoded(model: &Checkpoint, messages: &[Message]) -> Result<Vec<u32>, MakeError> {
    let vars = Vars::at(DAY.at(12, 0, 0, 0));
    Ok(model.encode_chat(messages, &vars)?.ids)
}

fn tokens(model: &Checkpoint, text: &str) -> Result<usize, MakeError> {
    let ids = model.tokenizer.encode(text, false);
    Ok(ids.map_err(ModelError::from)?.len())
}

/// Tokens of the longest conversation that this room makes, with its answer and the end of the turn.
fn length(model: &Checkpoint) -> Result<usize, MakeError> {
    let facts: Vec<Fact> = facts::all();
    let mut most = 0;
    for asked in cases::long(&facts) {
        let prompt = encoded(model, &asked.messages)?.len();
        most = most.max(prompt + tokens(model, &asked.right)? + BEYOND);
    }
    let context = model.config().n_ctx;
    if most + BEYOND > context {
        return Err(MakeError::Context {
            model: model.name.clone(),
            needed: most + BEYOND,
            found: context,
        });
    }
    Ok(most)
}

fn key(model: &Checkpoint, prompts: &[(Asks, String)], length: usize) -> Result<String, MakeError> {
    let text = serde_json::json!([model.fingerprint()?, prompts, length]);
    Ok(sha256(text.to_string().as_bytes()))
}

fn said(
    model: &Checkpoint,
    prompts: Vec<(Asks, String)>,
    length: usize,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Vec<Said>, MakeError> {
    let mut waiting = Vec::new();
    for (at, (asks, prompt)) in prompts.into_iter().enumerate() {
        let ids = encoded(model, &[Message::user(&prompt)])?;
        if ids.len() + LEAST <= length {
            waiting.push((asks, prompt, EncodedPrompt::whole(&at.to_string(), ids)));
        }
    }
    // Prompts of like length together: they want like numbers of tokens.
    waiting.sort_by_key(|(.., encoded)| encoded.ids.len());
    let total = waiting.len() as u64;
    let options = Options {
        batch: BATCH,
        cancel: Some(stop),
        ..Options::default()
    };
    let mut all = Vec::new();
    for chunk in waiting.chunks(BATCH) {
        let encoded: Vec<EncodedPrompt> = chunk.iter().map(|(.., e)| e.clone()).collect();
        let shortest = encoded.iter().map(|e| e.ids.len()).min().unwrap_or(0);
        let longest = encoded.iter().map(|e| e.ids.len()).max().unwrap_or(0);
        let room = model.config().n_ctx - longest;
        let most = (length + BEYOND - shortest).min(room);
        let answers = completions(model, &encoded, most, &Hooks::new(), &options);
        let answers = answers.map_err(|error| match error {
            SteerError::Interrupted => MakeError::Interrupted,
            error => error.into(),
        })?;
        for ((asks, prompt, encoded), completion) in chunk.iter().zip(answers) {
            let answer = kept(
                model,
                (*asks, prompt),
                &completion,
                length - encoded.ids.len(),
            )?;
            all.push(Said {
                asks: *asks,
                prompt: prompt.clone(),
                answer,
            });
        }
        progress.at(&Standing {
            step: all.len() as u64,
            total,
            left: None,
            row: None,
        });
    }
    Ok(all)
}

/// What is kept of an answer, where `room` tokens of a row are left for it.
fn kept(
    model: &Checkpoint,
    (asks, prompt): (Asks, &str),
    said: &Completion,
    room: usize,
) -> Result<Option<String>, MakeError> {
    let text = said.text.trim();
    if asks == Asks::Harmful {
        return Ok(refusal(prompt, text));
    }
    // An answer without an end that does not fill its row would be trained with one.
    let usable = said.finished || tokens(model, text)? >= room;
    Ok((usable && !text.is_empty()).then(|| text.to_owned()))
}

/// The opening of a refusal: the first sentence, or two, that the judge calls a refusal, where it calls the whole so.
pub fn refusal(prompt: &str, text: &str) -> Option<String> {
    let refuses = |text: &str| {
        let judged = judge_reply(Some(prompt), text, &[]);
        judged.label == ReplyLabel::Refusal && !judged.disagreement
    };
    if !refuses(text) {
        return None;
    }
    let openings = [1, 2].map(|count| sentences(text, count));
    let mut openings = openings.into_iter().flatten();
    openings.find(|opening| refuses(opening)).map(str::to_owned)
}

/// The first whole sentences of a text; `None` where it has fewer.
pub fn sentences(text: &str, count: usize) -> Option<&str> {
    let ends = text.char_indices().filter(|&(at, c)| {
        let next = text[at + c.len_utf8()..].chars().next();
        matches!(c, '.' | '!' | '?') && next.is_none_or(char::is_whitespace)
    });
    let end = ends.map(|(at, c)| at + c.len_utf8()).nth(count - 1)?;
    Some(text[..end].trim())
}
