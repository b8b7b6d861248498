//! One answer: generated, streamed if somebody watches, and timed from the start of the command.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::room;
use crate::{
    audit::report::text::visible,
    cli::{
        interrupt,
        output::{Out, bytes},
    },
    hooks::Hooks,
    model::{
        Checkpoint, ModelError,
        generate::{Continue, GenerateOptions, generate},
        sample::SampleOptions,
    },
    text::Streamer,
};

/// New tokens when the user names no number.
const MAX_NEW: usize = 128;

/// Everything an answer needs but the question.
pub(super) struct Asker<'a> {
    pub checkpoint: &'a Checkpoint,
    pub max_new: Option<usize>,
    pub sample: SampleOptions,
    pub hooks: Hooks,
    pub started: Instant,
    pub loaded: Duration,
}

/// What the model said.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub text: String,
    pub ids: Vec<u32>,
    /// True when a stop token ended it.
    pub finished: bool,
}

/// How long it took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Timing {
    /// From the start of the command until the weights were in place, ms.
    pub load_ms: f64,
    /// From the question to the first token, ms.
    pub prefill_ms: f64,
    /// From the start of the command to the first token, ms.
    pub first_token_ms: f64,
    /// New tokens after the first, a second.
    pub tokens_per_second: Option<f64>,
    pub prompt_tokens: usize,
    pub new_tokens: usize,
}

impl Asker<'_> {
    /// Answers; each piece of text goes to `live` as it becomes complete.
    pub(super) fn ask(
        &self,
        ids: &[u32],
        hooks: &Hooks,
        live: Option<&Out>,
    ) -> anyhow::Result<(Answer, Timing)> {
        let left = room(self.checkpoint, ids.len());
        let options = GenerateOptions {
            // A default that does not fit is no mistake of the user's; a prompt that leaves no room at all is refused
            // by the model with its context.
            max_new: self.max_new.unwrap_or(MAX_NEW.min(left).max(1)),
            sample: self.sample,
            stop: self.checkpoint.stop_ids(),
        };
        if options.max_new == 0 {
            return Err(ModelError::Empty {
                what: "--max-new 0 leaves nothing to generate",
            }
            .into());
        }
        let asked = Instant::now();
        let mut first = None;
        let mut text = String::new();
        let mut failed = None;
        let mut streamer = Streamer::new(&self.checkpoint.tokenizer, true);
        let mut on_token = |_row: usize, id: u32| {
            first.get_or_insert_with(Instant::now);
            if let Some(piece) = streamer.push(id) {
                failed = failed.take().or(show(&piece, live).err());
                text.push_str(&piece);
            }
            let unheard = live.is_some_and(Out::closed) || failed.is_some();
            if unheard || interrupt::requested() {
                Continue::No
            } else {
                Continue::Yes
            }
        };
        let generated = generate(
            &self.checkpoint.decoder,
            &[ids],
            &options,
            hooks,
            &mut on_token,
        )?;
        let ended = Instant::now();
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(rest) = streamer.finish() {
            show(&rest, live)?;
            text.push_str(&rest);
        }
        show("\n", live)?;
        let row = generated.into_iter().next().unwrap_or_default();
        let first = first.unwrap_or(ended);
        let after = (ended - first).as_secs_f64();
        let timing = Timing {
            load_ms: milliseconds(self.loaded),
            prefill_ms: milliseconds(first - asked),
            first_token_ms: milliseconds(first - self.started),
            tokens_per_second: (row.ids.len() > 1 && after > 0.0)
                .then(|| (row.ids.len() - 1) as f64 / after),
            prompt_tokens: ids.len(),
            new_tokens: row.ids.len(),
        };
        let answer = Answer {
            text,
            finished: row.finished && !interrupt::requested(),
            ids: row.ids,
        };
        Ok((answer, timing))
    }
}

/// To a terminal without what would act on it; to a pipe or file as it is.
fn show(piece: &str, live: Option<&Out>) -> anyhow::Result<()> {
    let Some(out) = live else { return Ok(()) };
    if !out.on_terminal() {
        return out.text(piece);
    }
    let safe: Vec<String> = piece.split('\n').map(visible).collect();
    out.text(&safe.join("\n"))
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

impl Timing {
    /// One line on stderr; several with `stats`.
    pub(super) fn tell(&self, stats: bool, out: &Out) {
        let speed = self
            .tokens_per_second
            .map_or_else(String::new, |s| format!(", then {s:.1} tokens/s"));
        out.note(&format!(
            "{} new tokens, the first after {:.0} ms{speed}",
            self.new_tokens, self.first_token_ms
        ));
        if stats {
            out.note(&format!("load          {:.1} ms", self.load_ms));
            out.note(&format!(
                "prefill       {:.1} ms for {} tokens",
                self.prefill_ms, self.prompt_tokens
            ));
            if let Some(speed) = self.tokens_per_second {
                out.note(&format!("decode        {:.2} ms a token", 1000.0 / speed));
            }
            if let Some(peak) = crate::cli::system::peak_memory() {
                out.note(&format!("peak memory   {}", bytes(peak)));
            }
        }
    }
}
