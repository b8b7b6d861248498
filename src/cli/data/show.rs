//! `data show`: rows as the loss sees them, target by target.
//!
//! Each run of tokens that are all targets, or all not, is a line of its own with its token count; colour repeats what the
//! line's first word says, so nothing is lost without it.

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::super::{
    Outcome,
    failure::Usage,
    output::{self, Out},
};
use super::How;
use crate::audit::report::text::wrapped;
use crate::text::{
    Tokenizer,
    dataset::{Body, DataError, Encoder, Row},
    visible::{ascii_visible, visible},
};

/// Show rows of training data with their masks: which tokens the loss is taken over
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope data show train.jsonl --model smollm2-135m-instruct
  candlescope data show preference.parquet --model smollm2-135m-instruct --row 12
  candlescope data show messages.jsonl --model toy -n 1 --json")]
pub struct Args {
    /// JSON lines, a JSON array or Parquet, with the columns that TRL names
    file: PathBuf,
    /// Only this row, counted from 1
    #[arg(long, value_name = "N", conflicts_with = "count")]
    row: Option<usize>,
    /// How many rows, from the first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3)]
    count: usize,
    #[command(flatten)]
    how: How,
}

#[derive(Serialize)]
struct Shown {
    row: usize,
    place: String,
    /// One sequence, or the two of a preference.
    sequences: Vec<Sequence>,
    label: Option<bool>,
    margin: Option<f32>,
    cut: bool,
    /// Why it would be left out.
    unusable: Option<String>,
}

#[derive(Serialize)]
struct Sequence {
    name: &'static str,
    ids: Vec<u32>,
    tokens: Vec<String>,
    supervised: Vec<bool>,
}

#[derive(Serialize)]
struct Report {
    model: String,
    file: String,
    kind: &'static str,
    rows: Vec<Shown>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let data = args.how.read(&args.file)?;
    let wanted = match args.row {
        Some(row) if row == 0 || row > data.rows.len() => {
            let message = format!("--row: expected 1 to {}, found {row}", data.rows.len());
            return Err(
                Usage::new(message, "rows are counted from 1, blank lines left out").into(),
            );
        }
        Some(row) => row - 1..row,
        None => 0..args.count.min(data.rows.len()),
    };
    let words = args.how.open(out)?;
    let encoder = Encoder::new(
        &words.tokenizer,
        words.template.as_ref(),
        words.options.clone(),
    )?;
    let mut rows = Vec::new();
    for index in wanted {
        let row = data.rows.get(index).context("no such row")?;
        rows.push(shown(index, row, &encoder, &words.tokenizer)?);
    }
    let report = Report {
        model: args.how.model.clone(),
        file: data.file.to_string(),
        kind: data.kind.name(),
        rows,
    };
    if out.json {
        out.json("candlescope.data.show/1", &report)?;
        return Ok(Outcome::Done);
    }
    for row in &report.rows {
        print(row, &words.tokenizer, out)?;
    }
    out.line("loss: a target of the loss; -: read, no target. Counts are tokens.")?;
    Ok(Outcome::Done)
}

fn shown(
    index: usize,
    row: &Row,
    encoder: &Encoder,
    tokenizer: &Tokenizer,
) -> Result<Shown, DataError> {
    let mut shown = Shown {
        row: index + 1,
        place: row.place.to_string(),
        sequences: Vec::new(),
        label: None,
        margin: None,
        cut: false,
        unusable: None,
    };
    match fill(&mut shown, row, encoder, tokenizer) {
        Err(error) if error.reason().is_some() => shown.unusable = Some(error.to_string()),
        filled => filled?,
    }
    Ok(shown)
}

fn fill(
    shown: &mut Shown,
    row: &Row,
    encoder: &Encoder,
    tokenizer: &Tokenizer,
) -> Result<(), DataError> {
    let sequence = |name, ids: Vec<u32>, supervised| Sequence {
        name,
        tokens: ids.iter().map(|&id| tokenizer.token(id)).collect(),
        ids,
        supervised,
    };
    let after = |name, prompt: &[u32], answer: &[u32]| {
        let mask = (0..prompt.len() + answer.len())
            .map(|i| i >= prompt.len().max(1))
            .collect();
        sequence(name, [prompt, answer].concat(), mask)
    };
    match &row.body {
        Body::Preference(..) => {
            let pair = encoder.pair(row)?;
            shown.margin = pair.margin;
            shown.sequences = vec![
                after("chosen", &pair.prompt, &pair.chosen),
                after("rejected", &pair.prompt, &pair.rejected),
            ];
        }
        Body::Unpaired(..) => {
            for one in encoder.labelled(row)? {
                shown.label = Some(one.label);
                shown
                    .sequences
                    .push(after("completion", &one.prompt, &one.completion));
            }
        }
        Body::Prompt(_) => {
            let prompt = encoder.prompt(row)?.prompt;
            shown.sequences.push(after("prompt", &prompt, &[]));
        }
        Body::Text(_) | Body::Messages(_) | Body::PromptCompletion(..) => {
            let cut = encoder.example(row)?;
            shown.cut = cut.cut;
            shown
                .sequences
                .push(sequence("row", cut.item.ids, cut.item.supervised));
        }
    }
    Ok(())
}

/// Columns before the text of a run: its word and its count.
const GUTTER: usize = 11;

fn print(row: &Shown, tokenizer: &Tokenizer, out: &Out) -> anyhow::Result<()> {
    out.line(&out.paint("1", &visible(&row.place)))?;
    if let Some(why) = &row.unusable {
        return out.line(&format!(
            "{} {}\n",
            out.paint("1;31", "left out:"),
            visible(why)
        ));
    }
    let unicode = out.style().unicode;
    for sequence in &row.sequences {
        let targets = sequence.supervised.iter().filter(|s| **s).count();
        let mut title = format!(
            "{}: {} tokens, {targets} supervised",
            sequence.name,
            sequence.ids.len()
        );
        if let Some(label) = row.label {
            title += if label {
                ", desirable"
            } else {
                ", undesirable"
            };
        }
        if let Some(margin) = row.margin {
            title += &format!(", margin {margin}");
        }
        if row.cut {
            title += ", cut to the limit";
        }
        out.line(&title)?;
        for run in runs(&sequence.supervised) {
            let supervised = sequence.supervised[run.start];
            let bytes: Vec<u8> = sequence.ids[run.clone()]
                .iter()
                .flat_map(|&id| tokenizer.token_bytes(id).unwrap_or_default())
                .collect();
            let text = String::from_utf8_lossy(&bytes);
            let text = if unicode {
                visible(&text)
            } else {
                ascii_visible(&text)
            };
            let (word, style) = if supervised {
                ("loss", "32")
            } else {
                ("-", "2")
            };
            let room = output::width().saturating_sub(GUTTER).max(20);
            for (i, line) in wrapped(&spaced(text, if unicode { "␣" } else { "\\s" }), room)
                .iter()
                .enumerate()
            {
                let gutter = if i == 0 {
                    format!("{word:<4} {:>4}  ", run.len())
                } else {
                    " ".repeat(GUTTER)
                };
                out.line(&format!("{gutter}{}", out.paint(style, line)))?;
            }
        }
    }
    out.line("")
}

/// Spaces at the ends and beside other spaces as `mark`: they are parts of tokens, and wrapping would lose them.
fn spaced(text: String, mark: &str) -> String {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).is_none_or(|byte| *byte == b' ');
    let lone = |i: usize| !at(i.wrapping_sub(1)) && !at(i + 1);
    let mut out = String::with_capacity(text.len());
    for (i, c) in text.char_indices() {
        if c == ' ' && !lone(i) {
            out.push_str(mark);
        } else {
            out.push(c);
        }
    }
    out
}

/// Runs of equal values, in order.
fn runs(mask: &[bool]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, value) in mask.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if mask[run.start] == *value => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}
