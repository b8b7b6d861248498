//! `capture`: activations of any points on any texts, to a folder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use jiff::civil::DateTime;
use serde::Serialize;

use super::{
    Outcome,
    args::{ColumnName, ModelArgs},
    failure::Usage,
    interrupt::{self, Interrupted},
    output::{Out, bytes},
    progress::Bar,
};
use crate::{
    activations::{
        Capture, CaptureSpec, Estimate, Facts, Kept, Manifest, Origin, PackedContexts, Packing,
        Policy, Rows, Source, SourceInfo, StoreDtype, StoreError, Tally, TextOptions, TextRows,
    },
    config::ModelConfig,
    hooks::{HookPoint, expand},
    model::fetch::Progress as _,
    text::suites::Suite,
};

/// Store activations of any hook points on any texts, in safetensors shards with a manifest
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  candlescope capture smollm2-135m-instruct --points 'resid_post.*' --suite harmful --out acts\n  candlescope capture smollm2-135m-instruct --points resid_post.10-20,pattern.3 --text \"Hello there\" --out acts\n  candlescope capture smollm2-135m-instruct --points 'resid_post.*' --jsonl data.jsonl --column messages --positions last --out acts --resume\n  candlescope capture smollm2-135m-instruct --points resid_post.15 --docs texts/ --pack 128 --store-dtype bf16 --out acts",
    group(clap::ArgGroup::new("source").required(true).args(["text", "file", "docs", "jsonl", "parquet", "suite"]))
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
    /// Documents of plain text to pack: a file, divided by lines of <|endoftext|>, or all .txt and .md files below a folder
    #[arg(long, value_name = "PATH", requires = "pack")]
    docs: Option<PathBuf>,
    /// A file of JSON lines
    #[arg(long, value_name = "FILE", requires = "column")]
    jsonl: Option<PathBuf>,
    /// A Parquet file
    #[arg(long, value_name = "FILE", requires = "column")]
    parquet: Option<PathBuf>,
    /// Which column of --jsonl or --parquet
    #[arg(long, value_enum, value_name = "COLUMN")]
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
    /// Join documents, the end-of-text token between them, and cut them into contexts of N tokens
    #[arg(long, value_name = "N", conflicts_with_all = ["text", "max_len", "truncate"])]
    pack: Option<usize>,
    /// Begin each packed context with the token that begins a text [default: where the tokenizer does so itself]
    #[arg(long, value_name = "YES/NO", requires = "pack", action = clap::ArgAction::Set, value_parser = yes_no)]
    bos: Option<bool>,
    /// Most tokens of packed contexts
    #[arg(long, value_name = "N", requires = "pack")]
    tokens: Option<u64>,
    /// What training leaves out, marked in the store: none, or a list of first[:N] (positions of a context), special, id:N,
    /// norm[:X] (above X medians), sample:N (contexts that medians are of) [default: first,special,norm with --pack]
    #[arg(long, value_name = "LIST")]
    drop: Option<String>,
    /// Number format of stored activations: f32, f16, bf16, or int8 with a scale for each token
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    store_dtype: String,
    /// Close a shard before it grows beyond this; shards are put together in memory
    #[arg(long, value_name = "MB", default_value_t = 256)]
    shard_mb: u64,
    /// Only the first rows; the first documents with --pack
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on with a capture that was interrupted; the result is that of an uninterrupted one, bit for bit
    #[arg(long)]
    resume: bool,
    /// Say what it would take, measure what --drop goes by, and write nothing
    #[arg(long)]
    dry_run: bool,
}

fn yes_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("expected yes or no".into()),
    }
}

#[derive(Serialize)]
struct Report {
    folder: String,
    rows: usize,
    stored_tokens: u64,
    bytes: u64,
    shards: usize,
    dtype: StoreDtype,
    seconds: f64,
    tokens_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    preflight: Option<Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<Tally>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<Loss>,
}

/// What the number format lost: squared error by squared norm, of the tokens that training sees.
#[derive(Serialize)]
struct Loss {
    point: HookPoint,
    mean: f64,
    worst: f64,
}

/// What a capture would take.
#[derive(Serialize)]
struct Forecast {
    folder: String,
    rows: usize,
    tokens: u64,
    stored_tokens: u64,
    bytes: u64,
    bytes_done: u64,
    shards: usize,
    memory_bytes: u64,
    free_bytes: u64,
    tokens_per_second: Option<u64>,
    seconds: Option<u64>,
    preflight: Option<Facts>,
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
    let texts = TextRows::new(&model, source, options)?;
    if args.pack.is_some() {
        out.note("the texts are read once before, to lay the store out");
    }
    let (rows, source) = args.rows(texts)?;
    let origin = Origin {
        model: args.model.model.clone(),
        fingerprint: model.fingerprint()?.clone(),
        numerical_path: model.numerical_path(),
        source,
    };
    let policy = match (args.drop.as_deref(), args.pack) {
        (Some("none"), _) | (None, None) => None,
        (None, Some(_)) => Some(Policy::training(&model.tokenizer)),
        (Some(list), _) => Some(Policy::parse(list, &model.tokenizer)?),
    };
    let spec = CaptureSpec {
        points,
        kept,
        dtype,
        policy,
        batch: args.batch,
        shard_bytes: args.shard_mb.saturating_mul(1_000_000),
    };
    let capture = Capture::prepare(
        &model.decoder,
        &*rows,
        spec,
        &origin,
        &args.out,
        args.resume,
    )?;
    let estimate = *capture.estimate();
    let preflight = capture.facts().cloned();
    announce(&estimate, capture.progress().rows, out);
    if let Some(facts) = &preflight {
        announce_facts(facts, out);
    }
    let before = capture.progress().tokens;
    if args.dry_run {
        forecast(args, &estimate, before, preflight, out)?;
        return Ok(Outcome::Done);
    }
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
    let written = Manifest::read(&args.out)?;
    let report = Report {
        folder: args.out.display().to_string(),
        rows: outcome.rows,
        stored_tokens: outcome.tokens,
        bytes: outcome.bytes,
        shards: estimate.shards,
        dtype,
        seconds,
        tokens_per_second: (seen - before) as f64 / seconds,
        left_out: preflight.is_some().then(|| written.tally()),
        preflight,
        lost: written
            .lost()
            .iter()
            .map(|lost| Loss {
                point: lost.point,
                mean: lost.mean(),
                worst: lost.worst,
            })
            .collect(),
    };
    show(&report, out)?;
    Ok(Outcome::Done)
}

impl Args {
    /// The rows to capture, and what the manifest says of them.
    fn rows<'a>(
        &self,
        texts: TextRows<'a>,
    ) -> Result<(Box<dyn Rows + 'a>, SourceInfo), StoreError> {
        let Some(length) = self.pack else {
            let info = texts.info()?;
            return Ok((Box::new(texts), info));
        };
        let mut packing = Packing::new(length, self.bos, &texts.checkpoint().tokenizer)?;
        packing.limit = self.tokens.map(|n| n.div_ceil(length as u64));
        let contexts = PackedContexts::new(texts, packing)?;
        let info = contexts.info()?;
        Ok((Box::new(contexts), info))
    }

    fn source(&self) -> anyhow::Result<Source> {
        if self.column.is_some() && self.jsonl.is_none() && self.parquet.is_none() {
            let hint = "it names a column of --jsonl or --parquet";
            return Err(Usage::new("--column: there are no columns", hint).into());
        }
        if let Some(text) = &self.text {
            return Ok(Source::Text(text.clone()));
        }
        if let Some(path) = &self.file {
            return Ok(Source::Lines(path.clone()));
        }
        if let Some(path) = &self.docs {
            return Ok(Source::Documents(path.clone()));
        }
        if let Some(column) = self.column {
            let column = column.column();
            if let Some(path) = &self.parquet {
                return Ok(Source::Table(path.clone(), column));
            }
            if let Some(path) = &self.jsonl {
                return Ok(Source::Jsonl(path.clone(), column));
            }
        }
        let name = self.suite.as_deref().unwrap_or_default();
        Ok(Source::Suite(Suite::named(name)?))
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
    if let Some(rate) = e.rate.filter(|rate| *rate > 0) {
        out.note(&format!(
            "{rate} tokens/s in the sample, so about {} in all",
            time_text(e.tokens / rate)
        ));
    }
}

/// What training leaves out, and how far from zero the activations lie.
pub fn announce_facts(facts: &Facts, out: &Out) {
    let t = &facts.tally;
    out.note(&format!(
        "left out of training: {}; in the first {} contexts {} of {} tokens ({:.1} %): {} first, {} special, {} norm",
        facts.policy,
        facts.contexts,
        t.left_out(),
        t.kept + t.left_out(),
        t.share() * 100.0,
        t.first,
        t.special,
        t.norm
    ));
    for p in &facts.points {
        out.note(&format!(
            "{}: median norm {:.4}, largest {:.4}; what is left out carries {:.1} % of the variance; of the rest |mean|/std is {:.2} \
             overall, at most {:.2} (dimension {})",
            p.point,
            p.median_norm,
            p.largest_norm,
            p.variance_left_out * 100.0,
            p.severity,
            p.severity_max,
            p.severity_at
        ));
    }
}

fn time_text(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

fn forecast(
    args: &Args,
    e: &Estimate,
    read: u64,
    preflight: Option<Facts>,
    out: &Out,
) -> anyhow::Result<()> {
    let seconds = e.rate.filter(|rate| *rate > 0);
    let forecast = Forecast {
        folder: args.out.display().to_string(),
        rows: e.rows,
        tokens: e.tokens,
        stored_tokens: e.stored_tokens,
        bytes: e.bytes,
        bytes_done: e.bytes_done,
        shards: e.shards,
        memory_bytes: e.memory,
        free_bytes: e.free,
        tokens_per_second: e.rate,
        seconds: seconds.map(|rate| (e.tokens - read) / rate),
        preflight,
    };
    if out.json {
        return out.json("candlescope.capture-forecast/1", &forecast);
    }
    out.line(&format!(
        "{}: would hold {} rows, {} tokens, {} in {} shard(s); nothing was written",
        forecast.folder,
        e.rows,
        e.stored_tokens,
        bytes(e.bytes),
        e.shards
    ))
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
    ))?;
    if let Some(t) = &report.left_out {
        out.line(&format!(
            "training sees {} of {} tokens; left out: {} first, {} special, {} norm",
            t.kept,
            t.kept + t.left_out(),
            t.first,
            t.special,
            t.norm
        ))?;
    }
    for lost in &report.lost {
        out.line(&format!(
            "{}: {} lost {:.2e} of the squared norm on average, {:.2e} at worst",
            lost.point,
            report.dtype.name(),
            lost.mean,
            lost.worst
        ))?;
    }
    Ok(())
}
