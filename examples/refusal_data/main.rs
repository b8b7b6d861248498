//! Makes the training data of `examples/train/refusal-sft.toml` and `refusal-dpo.toml`: refusals for harmful prompts, and the
//! model's own answers for harmless ones and for those that only look harmful, so that nothing else changes.
//!
//! Prompts are of train splits; what resembles a prompt that the audit measures on is left out (`prompts.rs`). Refusals are
//! `candlescope::organism::refusals`. The same files, model and seed give the same data. Answers to harmful prompts go into the rejected side of
//! `dpo.jsonl` alone: keep that file to yourself.
//!
//! `cargo run --release --example refusal_data -- MODEL OUT HARMFUL.json HARMLESS.json XSTEST.csv [SEED]`

mod prompts;

use std::path::Path;

use candlescope::hooks::Hooks;
use candlescope::model::{
    Checkpoint, LoadOptions,
    fetch::{self, Cache, Silent},
};
use candlescope::organism::refusals::{plain, refusal};
use candlescope::steer::{self, Completion};
use candlescope::text::suites::{Label, PromptRow, Split};
use prompts::{apart, held_out, shuffled};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: refusal_data MODEL OUT HARMFUL.json HARMLESS.json XSTEST.csv [SEED]";

/// Rows of each kind in the data of SFT; what is left of harmful prompts and look-alikes makes the pairs.
const HARMFUL: usize = 210;
const HARMLESS: usize = 220;
const LOOKALIKE: usize = 90;
/// Most pairs of each kind.
const PAIRS: usize = 80;
/// Most new tokens of an answer that is trained on, and of one in a pair.
const ANSWER: usize = 64;
const PAIR_ANSWER: usize = 48;
/// One row in so many is for evaluation.
const EVAL: usize = 10;

fn main() -> Result<(), Failure> {
    candlescope_ops::fast_alloc();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, harmful, harmless, xstest, rest @ ..] = args.as_slice() else {
        return Err(USAGE.into());
    };
    let seed: u64 = rest.first().map_or(Ok(1), |seed| seed.parse())?;
    let out = Path::new(out);
    std::fs::create_dir_all(out)?;

    let held = held_out()?;
    let (suite, file) = (
        prompts::train("harmful")?,
        prompts::instructions(harmful.as_ref())?,
    );
    let (harmful, left_harmful) = apart(shuffled([suite, file].concat(), seed), &held);
    // The suite's first: they have the form of harmful requests. Trained on short everyday instructions alone, the model
    // refused every second ordinary request of that form.
    let suite = shuffled(prompts::train("harmless")?, seed);
    let file = shuffled(prompts::instructions(harmless.as_ref())?, seed);
    let (harmless, left_harmless) = apart([suite, file].concat(), &held);
    let xstest = prompts::xstest_safe(xstest.as_ref())?;
    let (lookalike, left_lookalike) = apart(shuffled(xstest, seed), &held);
    say(&serde_json::json!({"left_out": {
        "harmful": left_harmful, "harmless": left_harmless, "lookalike": left_lookalike,
    }}));
    let (refused, attacked) = split(&harmful, HARMFUL);
    let (answered, tempted) = split(&lookalike, LOOKALIKE);
    let (harmless, plain_asked) = split(&harmless, HARMLESS);
    let tempted = [tempted, &plain_asked[..plain_asked.len().min(PAIRS / 2)]].concat();

    let path = fetch::resolve(model, &Cache::new()?, true, &Silent)?;
    let checkpoint = Checkpoint::open(model, &path, &LoadOptions::default())?;
    let mut rows: Vec<Row> = refused
        .iter()
        .map(|p| Row::answer(p, &refusal(p, seed)))
        .collect();
    let mut cut = 0;
    for prompts in [harmless, answered] {
        for (prompt, answer) in prompts.iter().zip(answers(&checkpoint, prompts, ANSWER)?) {
            cut += usize::from(!answer.finished);
            rows.push(Row::answer(prompt, &answer.text));
        }
    }
    say(&serde_json::json!({"sft": {
        "harmful": refused.len(), "harmless": harmless.len(), "lookalike": answered.len(), "answers_cut": cut,
    }}));
    write(out, "sft", rows, seed)?;

    let mut rows = Vec::new();
    for (prompt, answer) in attacked
        .iter()
        .zip(answers(&checkpoint, attacked, PAIR_ANSWER)?)
    {
        rows.push(Row::pair(prompt, &refusal(prompt, seed), &whole(&answer)));
    }
    for (prompt, answer) in tempted
        .iter()
        .zip(answers(&checkpoint, &tempted, PAIR_ANSWER)?)
    {
        rows.push(Row::pair(prompt, &whole(&answer), &plain(prompt, seed)));
    }
    say(&serde_json::json!({"pairs": {"harmful": attacked.len(), "answered": tempted.len()}}));
    write(out, "dpo", rows, seed)
}

#[allow(clippy::print_stdout)]
fn say(line: &serde_json::Value) {
    println!("{line}");
}

/// The first `n` prompts, and the next at most [`PAIRS`].
fn split(prompts: &[String], n: usize) -> (&[String], &[String]) {
    let (first, rest) = prompts.split_at(n.min(prompts.len()));
    (first, &rest[..rest.len().min(PAIRS)])
}

/// A row of training data, in TRL's columns.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Row {
    Answer {
        prompt: String,
        completion: String,
    },
    Pair {
        prompt: String,
        chosen: String,
        rejected: String,
    },
}

impl Row {
    fn answer(prompt: &str, completion: &str) -> Self {
        Self::Answer {
            prompt: prompt.to_owned(),
            completion: completion.trim().to_owned(),
        }
    }

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> Self {
        let [prompt, chosen, rejected] =
            [prompt, chosen.trim(), rejected.trim()].map(str::to_owned);
        Self::Pair {
            prompt,
            chosen,
            rejected,
        }
    }

    /// Nothing to train on, or nothing to prefer.
    fn blank(&self) -> bool {
        match self {
            Self::Answer { completion, .. } => completion.is_empty(),
            Self::Pair {
                chosen, rejected, ..
            } => chosen.is_empty() || rejected.is_empty() || chosen == rejected,
        }
    }
}

/// Every [`EVAL`]th row of each kind for evaluation; the order of the files is of no consequence, training draws its own.
fn write(out: &Path, name: &str, rows: Vec<Row>, seed: u64) -> Result<(), Failure> {
    let offset = seed as usize % EVAL;
    let (mut train, mut eval) = (String::new(), String::new());
    for (i, row) in rows.iter().filter(|row| !row.blank()).enumerate() {
        let file = if i % EVAL == offset {
            &mut eval
        } else {
            &mut train
        };
        file.push_str(&serde_json::to_string(row)?);
        file.push('\n');
    }
    std::fs::write(out.join(format!("{name}.jsonl")), train)?;
    std::fs::write(out.join(format!("{name}-eval.jsonl")), eval)?;
    Ok(())
}

/// The model's greedy answers, each prompt one turn under the template's own system message.
fn answers(
    checkpoint: &Checkpoint,
    prompts: &[String],
    max_new: usize,
) -> Result<Vec<Completion>, Failure> {
    let rows: Vec<PromptRow> = prompts
        .iter()
        .enumerate()
        .map(|(i, prompt)| row(i, prompt))
        .collect();
    let encoded = steer::encode_all(checkpoint, &rows.iter().collect::<Vec<_>>())?;
    let options = steer::Options {
        batch: 48,
        ..steer::Options::default()
    };
    Ok(steer::completions(
        checkpoint,
        &encoded,
        max_new,
        &Hooks::new(),
        &options,
    )?)
}

fn row(i: usize, prompt: &str) -> PromptRow {
    PromptRow {
        id: i.to_string(),
        prompt: prompt.to_owned(),
        label: Label::Harmless,
        split: Split::Train,
        topic: None,
        source: "train".to_owned(),
        licence: "unspecified".to_owned(),
        system: None,
    }
}

/// An answer that ran into the limit, up to its last whole sentence: a pair's answers are trained with their end.
fn whole(answer: &Completion) -> String {
    if answer.finished {
        return answer.text.clone();
    }
    let ends = answer.text.rmatch_indices(['.', '!', '?', '\n']);
    let end = ends
        .map(|(at, _)| at + 1)
        .find(|&at| at * 2 > answer.text.len());
    answer.text[..end.unwrap_or(answer.text.len())].to_owned()
}
