//! `capture`: activations of any points on any texts, to a folder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use jiff::civil::DateTime;
use serde::Serialize;

use super::{
    Outcome,
    args::ModelArgs,
    failure::Usage,
    interrupt::{self, Interrupted},
    output::{Out, bytes},
    progress::Bar,
};
use crate::{
    activations::{
        Capture, CaptureSpec, Column, Estimate, Kept, Manifest, Origin, Source, StoreDtype,
        TextOptions, TextRows,
    },
    config::ModelConfig,
    hooks::{HookPoint, expand},
    model::fetch::Progress as _,
    text::suites::Suite,
};

/// Store activations of any hook points on any texts, in safetensors shards with a manifest
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  candlescope capture smollm2-135m-instruct --points 'resid_post.*' --suite harmful --out acts\n  candlescope capture smollm2-135m-instruct --points resid_post.10-20,pattern.3 --text \"Hello there\" --out acts\n  candlescope capture smollm2-135m-instruct --points 'resid_post.*' --jsonl data.jsonl --column messages --positions last --out acts --resume",
    group(clap::ArgGroup::new("source").required(true).args(["text", "file", "jsonl", "suite"]))
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Hook points, such as resid_post.*,pattern.3 (see `candlescope hooks MODEL`); repeatable
    #[arg(long, value_name = "LIST", required = true)]
    points: Vec<String>,
    /// One text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// A text file; each line that is not blank is a row
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A file of JSON lines
    #[arg(long, value_name = "FILE", requires = "column")]
    jsonl: Option<PathBuf>,
    /// Which column of --jsonl
    #[arg(long, value_enum, value_name = "COLUMN", requires = "jsonl")]
    column: Option<ColumnName>,
    /// A built-in prompt suite, or a suite file
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Encode through the chat template [default: prompts and messages yes, texts no]
    #[arg(long, conflicts_with = "raw")]
    chat: bool,
    /// Encode texts as they are
    #[arg(long)]
    raw: bool,
    /// Rows of one pass
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Most tokens of a row [default: the model's context]
    #[arg(long, value_name = "N")]
    max_len: Option<usize>,
    /// Cut longer rows at their end instead of refusing them
    #[arg(long)]
    truncate: bool,
    /// Which positions to store: all, last or last:N
    #[arg(long, value_name = "WHICH", default_value = "all")]
    positions: String,
    /// Number format of stored activations: f32, f16 or bf16
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    store_dtype: String,
    /// Close a shard before it grows beyond this; shards are put together in memory
    #[arg(long, value_name = "MB", default_value_t = 256)]
    shard_mb: u64,
    /// Only the first rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on with a capture that was interrupted; the result is that of an uninterrupted one, bit for bit
    #[arg(long)]
    resume: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ColumnName {
    /// A string, as it is
    Text,
    /// A string, a user's turn; `system` beside it is a system turn
    Prompt,
    /// A list of objects with role and content
    Messages,
}

#[derive(Serialize)]
struct Report {
    folder: String,
    rows: usize,
    stored_tokens: u64,
    bytes: u64,
    shards: usize,
    seconds: f64,
    tokens_per_second: f64,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let kept: Kept = args.positions.parse()?;
    let dtype: StoreDtype = args.store_dtype.parse()?;
    let source = args.source()?;
    let model = args.model.open(out)?;
    let points = points(&args.points, model.config())?;
    let options = TextOptions {
        chat: (args.chat || args.raw).then_some(args.chat),
        max_len: args.max_len,
        truncate: args.truncate,
        limit: args.limit,
        now: time(args),
    };
    let rows = TextRows::new(&model, source, options)?;
    let origin = Origin {
        model: args.model.model.clone(),
        fingerprint: model.fingerprint()?.clone(),
        numerical_path: model.numerical_path(),
        source: rows.info()?,
    };
    let spec = CaptureSpec {
        points,
        kept,
        dtype,
        policy: None,
        batch: args.batch,
        shard_bytes: args.shard_mb.saturating_mul(1_000_000),
    };
    let capture = Capture::prepare(&model.decoder, &rows, spec, &origin, &args.out, args.resume)?;
    let estimate = *capture.estimate();
    announce(&estimate, capture.progress().rows, out);
    let before = capture.progress().tokens;
    let bar = Bar::counting(out);
    bar.start("capturing tokens", Some(estimate.tokens));
    bar.advance(before);
    let (started, mut seen) = (Instant::now(), before);
    let outcome = capture.run(&mut |now| {
        bar.advance(now.tokens - seen);
        seen = now.tokens;
        if interrupt::requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    bar.done();
    if !outcome.complete {
        out.note(&format!(
            "{} of {} rows are stored; the same command with --resume goes on from there",
            outcome.rows, estimate.rows
        ));
        return Err(Interrupted.into());
    }
    let seconds = started.elapsed().as_secs_f64();
    let report = Report {
        folder: args.out.display().to_string(),
        rows: outcome.rows,
        stored_tokens: outcome.tokens,
        bytes: outcome.bytes,
        shards: estimate.shards,
        seconds,
        tokens_per_second: (seen - before) as f64 / seconds,
    };
    show(&report, out)?;
    Ok(Outcome::Done)
}

impl Args {
    fn source(&self) -> anyhow::Result<Source> {
        if let Some(text) = &self.text {
            return Ok(Source::Text(text.clone()));
        }
        if let Some(path) = &self.file {
            return Ok(Source::Lines(path.clone()));
        }
        if let (Some(path), Some(column)) = (&self.jsonl, self.column) {
            let column = match column {
                ColumnName::Text => Column::Text,
                ColumnName::Prompt => Column::Prompt,
                ColumnName::Messages => Column::Messages,
            };
            return Ok(Source::Jsonl(path.clone(), column));
        }
        let name = self.suite.as_deref().unwrap_or_default();
        if Suite::names().contains(&name) {
            return Ok(Source::Suite(Suite::builtin(name)?));
        }
        let path = PathBuf::from(name);
        if path.is_file() {
            return Ok(Source::Suite(Suite::from_jsonl(&path)?));
        }
        let hint = format!("built in are {}; or give a file", Suite::names().join(", "));
        Err(Usage::new(format!("--suite: no suite `{name}`"), hint).into())
    }
}

/// `resid_post.*,pattern.3`: a comma also separates layers, so a part without a name belongs to the point before it.
fn points(lists: &[String], config: &ModelConfig) -> anyhow::Result<Vec<HookPoint>> {
    let mut patterns: Vec<String> = Vec::new();
    for list in lists {
        let mut first = true;
        for part in list.split(',').map(str::trim) {
            let layers = part.starts_with(|c: char| c.is_ascii_digit() || c == '*');
            match patterns.last_mut() {
                Some(pattern) if layers && !first => {
                    pattern.push(',');
                    pattern.push_str(part);
                }
                _ => patterns.push(part.to_string()),
            }
            first = false;
        }
    }
    let mut out = Vec::new();
    for pattern in &patterns {
        out.extend(expand(pattern, config)?);
    }
    Ok(out)
}

/// What a template that prints a date is given: midnight of today, or the time that the store was begun with.
fn time(args: &Args) -> DateTime {
    let begun = || {
        let manifest = args.resume.then(|| Manifest::read(&args.out).ok())??;
        manifest.source.now?.parse().ok()
    };
    begun().unwrap_or_else(|| jiff::Zoned::now().date().at(0, 0, 0, 0))
}

fn announce(e: &Estimate, done: usize, out: &Out) {
    let per_token = e.bytes as f64 / e.stored_tokens as f64;
    out.note(&format!(
        "{} rows, {} tokens read, {} stored at {per_token:.0} bytes each: {} in {} shard(s); {} free; at most {} of memory \
         beside the model",
        e.rows,
        e.tokens,
        e.stored_tokens,
        bytes(e.bytes),
        e.shards,
        bytes(e.free),
        bytes(e.memory)
    ));
    if done > 0 {
        out.note(&format!("going on after {done} rows that are stored"));
    }
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    if out.json {
        return out.json("candlescope.capture/1", report);
    }
    out.line(&format!(
        "{}: {} rows, {} tokens, {} in {} shard(s), {:.1} s, {:.0} tokens/s",
        report.folder,
        report.rows,
        report.stored_tokens,
        bytes(report.bytes),
        report.shards,
        report.seconds,
        report.tokens_per_second
    ))
}
