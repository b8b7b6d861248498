//! `run`: an answer to a prompt, streamed; with edits, and beside the unedited answer; or a conversation.
//!
//! `input.rs` decides what is asked, `answer.rs` generates and times, `show.rs` lays two answers side by side.

mod answer;
mod input;
mod show;

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::{Outcome, args::ModelArgs, edits::EditArgs, interrupt, output::Out};
use crate::{
    hooks::{Edit, Hooks},
    model::{Checkpoint, sample::SampleOptions},
};
use answer::{Answer, Asker, Timing};
use input::Input;

/// Answer a prompt, with edits and without
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope run smollm2-135m-instruct \"Why is the sky blue?\"
  candlescope run smollm2-135m-instruct \"Why is the sky blue?\" --zero attn_out.3 --compare
  candlescope run smollm2-135m-instruct \"How are you?\" --add direction.safetensors@12*4
  candlescope run smollm2-135m-instruct    # a conversation; end it with Ctrl-D")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What to answer; standard input if it is a pipe, a conversation if it is a terminal
    prompt: Option<String>,
    /// A conversation to answer: a JSON list of {"role", "content"}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "system", "raw"])]
    messages: Option<PathBuf>,
    /// A system message
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continue the text as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// Most new tokens [default: 128, or what the context has room for]
    #[arg(long, value_name = "N")]
    max_new: Option<usize>,
    /// 0 is greedy
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "T",
        allow_negative_numbers = true
    )]
    temperature: f64,
    /// Draw from the K most likely tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest tokens that have this probability together
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Seed of the draws
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Answer twice, with the edits and without, side by side
    #[arg(long)]
    compare: bool,
    /// Say more about time and memory, on stderr
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    edits: EditArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    #[serde(flatten)]
    input: &'a Input,
    prompt_tokens: usize,
    sample: SampleOptions,
    edits: &'a [Edit],
    answer: &'a Answer,
    /// Without the edits; under `--compare` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    unedited: Option<&'a Answer>,
    timing: Timing,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let sample = SampleOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    };
    sample.check()?;
    let input = input::read(args)?;
    let checkpoint = args.model.open(out)?;
    let edits = args.edits.edits(&checkpoint)?;
    let asker = Asker {
        checkpoint: &checkpoint,
        max_new: args.max_new,
        sample,
        hooks: Hooks::new().edits(edits.clone()),
        started,
        loaded: started.elapsed(),
    };
    match input {
        None => converse(args, &asker, out)?,
        Some(input) => once(args, &asker, &input, &edits, out)?,
    }
    if interrupt::requested() {
        return Err(interrupt::Interrupted.into());
    }
    Ok(Outcome::Done)
}

fn once(
    args: &Args,
    asker: &Asker,
    input: &Input,
    edits: &[Edit],
    out: &Out,
) -> anyhow::Result<()> {
    let ids = input.encode(asker.checkpoint)?;
    let live = !out.json && !args.compare;
    let (answer, timing) = asker.ask(&ids, &asker.hooks, live.then_some(out))?;
    let unedited = if args.compare && !interrupt::requested() {
        Some(asker.ask(&ids, &Hooks::new(), None)?.0)
    } else {
        None
    };
    if out.json {
        let report = Report {
            model: &asker.checkpoint.name,
            input,
            prompt_tokens: ids.len(),
            sample: asker.sample,
            edits,
            answer: &answer,
            unedited: unedited.as_ref(),
            timing,
        };
        out.json("candlescope.run/1", &report)?;
    } else if let Some(unedited) = &unedited {
        out.text(&show::side_by_side(&answer.text, &unedited.text, out))?;
    } else if args.compare {
        out.line(&answer.text)?;
    }
    timing.tell(args.stats, out);
    Ok(())
}

/// Reads lines from the terminal and keeps the conversation, until end of input.
fn converse(args: &Args, asker: &Asker, out: &Out) -> anyhow::Result<()> {
    out.note(&format!(
        "{}: ask something; Ctrl-D ends the conversation",
        asker.checkpoint.name
    ));
    let mut talk = Input::conversation(args.system.as_deref());
    while let Some(line) = input::line()? {
        if line.trim().is_empty() {
            continue;
        }
        talk.say("user", &line);
        let ids = talk.encode(asker.checkpoint)?;
        let (answer, timing) = asker.ask(&ids, &asker.hooks, Some(out))?;
        timing.tell(args.stats, out);
        if interrupt::requested() {
            break;
        }
        talk.say("assistant", &answer.text);
    }
    Ok(())
}

/// The encoded prompt must leave room for at least one new token.
fn room(checkpoint: &Checkpoint, tokens: usize) -> usize {
    checkpoint.config().max_positions().saturating_sub(tokens)
}
