//! `data check`: a data set in numbers, and what to look at before training on it.

use std::path::PathBuf;

use serde::Serialize;

use super::super::{
    Outcome,
    output::{Out, Table},
};
use super::How;
use crate::text::dataset::{
    Encoder,
    quantities::Share,
    repeats::Overlap,
    survey::{Level, Survey},
};

/// Check training data: lengths, ends, duplicates, rows that cannot be used, answers preferred for their length
///
/// The numbers are of the ids and masks that training would see. Exit code 1 if training would refuse the data.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope data check train.jsonl --model smollm2-135m-instruct
  candlescope data check train.parquet validation.parquet --model smollm2-135m-instruct --max-length 1024
  candlescope data check qa.jsonl --model toy --columns prompt=question,completion=answer --chat --json")]
pub struct Args {
    /// JSON lines, a JSON array or Parquet, with the columns that TRL names
    file: PathBuf,
    /// The validation split: checked too, and against the first file
    other: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

#[derive(Serialize)]
struct Report {
    model: String,
    max_length: usize,
    ok: bool,
    files: Vec<Survey>,
    overlap: Option<Overlap>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let files = [Some(&args.file), args.other.as_ref()];
    let data: anyhow::Result<Vec<_>> = files
        .into_iter()
        .flatten()
        .map(|file| args.how.read(file))
        .collect();
    let data = data?;
    let words = args.how.open(out)?;
    let encoder = Encoder::new(
        &words.tokenizer,
        words.template.as_ref(),
        words.options.clone(),
    )?;
    let surveys: Result<Vec<_>, _> = data
        .iter()
        .map(|data| Survey::of(data, &encoder, &words.tokenizer))
        .collect();
    let files = surveys?;
    let overlap = match data.as_slice() {
        [one, other] => Some(Overlap::of(one, other)),
        _ => None,
    };
    let leaks = overlap.as_ref().is_some_and(|overlap| overlap.prompts > 0);
    let report = Report {
        model: args.how.model.clone(),
        max_length: words.options.max_length,
        ok: files.iter().all(Survey::ok) && !leaks,
        files,
        overlap,
    };
    if out.json {
        out.json("candlescope.data.check/1", &report)?;
    } else {
        show(&report, out)?;
    }
    Ok(if report.ok {
        Outcome::Done
    } else {
        Outcome::NotPassed
    })
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    for survey in &report.files {
        numbers(survey, out)?;
        out.line("")?;
        lengths(survey, out)?;
        out.line("")?;
        for finding in &survey.findings {
            say(finding.level, &finding.text, out)?;
        }
        if survey.findings.is_empty() {
            out.line("nothing stands out")?;
        }
        out.line("")?;
    }
    if let Some(overlap) = &report.overlap {
        let text = format!(
            "{} of {} prompts of {} stand in {} too ({} rows word for word){}",
            overlap.prompts,
            overlap.n,
            overlap.other,
            overlap.file,
            overlap.rows,
            overlap
                .example
                .as_ref()
                .map_or_else(String::new, |place| format!("; the first: {place}")),
        );
        if overlap.prompts > 0 {
            say(Level::Problem, &text, out)?;
        } else {
            out.line(&text)?;
        }
    }
    Ok(())
}

fn numbers(survey: &Survey, out: &Out) -> anyhow::Result<()> {
    let title = format!(
        "{}: {} rows, {}",
        survey.file,
        survey.rows,
        survey.kind.name()
    );
    out.line(&out.paint("1", &crate::text::visible::visible(&title)))?;
    let mut table = Table::new(["", "", ""]);
    let mut row =
        |name: &str, value: String, note: String| table.row([name.to_owned(), value, note]);
    row(
        "usable",
        survey.usable.to_string(),
        format!("of {} rows", survey.rows),
    );
    row(
        "left out",
        survey.dropped.total().to_string(),
        String::new(),
    );
    row("cut to the limit", survey.cut.to_string(), String::new());
    let part = survey.supervised as f64 * 100.0 / survey.tokens.max(1) as f64;
    row(
        "tokens",
        survey.tokens.to_string(),
        format!("{} supervised ({part:.1} %)", survey.supervised),
    );
    row(
        "duplicates",
        survey.duplicates.to_string(),
        "rows that stand there already".into(),
    );
    row(
        "repeated prompts",
        survey.repeated_prompts.to_string(),
        String::new(),
    );
    let mut share = |name: &str, share: &Option<Share>, of: &str| {
        let Some(share) = share else { return };
        let [low, high] = share.interval.map(|p| p * 100.0);
        let note = format!(
            "{} of {} {of}; 95 % interval {low:.1} to {high:.1}",
            share.count, share.n
        );
        row(name, format!("{:.1} %", share.value() * 100.0), note);
    };
    share(
        "end is trained",
        &survey.ended,
        "answers end with a token that stops",
    );
    share(
        "chosen is longer",
        &survey.chosen_longer,
        "rows whose answers differ in length",
    );
    share("desirable", &survey.desirable, "rows");
    if let Some(difference) = &survey.length_difference {
        let note = "mean tokens of chosen less those of rejected".to_owned();
        row(
            "length difference",
            format!("{:+.1}", difference.mean),
            note,
        );
    }
    if !survey.unread.is_empty() {
        row(
            "columns unread",
            survey.unread.len().to_string(),
            survey.unread.join(", "),
        );
    }
    table.print(out)
}

/// Parts of a row in the order of reading.
const PARTS: [&str; 6] = [
    "row",
    "supervised",
    "prompt",
    "completion",
    "chosen",
    "rejected",
];

fn lengths(survey: &Survey, out: &Out) -> anyhow::Result<()> {
    let header = [
        "n", "mean", "min", "5 %", "25 %", "median", "75 %", "95 %", "max",
    ];
    let difference = survey.length_difference.as_ref();
    let parts = PARTS
        .iter()
        .filter_map(|part| Some((*part, survey.lengths.get(part)?)));
    let rows: Vec<(&str, [String; 9])> = parts
        .chain(difference.map(|q| ("chosen - rejected", q)))
        .map(|(part, q)| {
            let [min, p5, p25, p50, p75, p95, max] = q.at.map(|n| n.to_string());
            let mean = format!("{:.1}", q.mean);
            (
                part,
                [q.n.to_string(), mean, min, p5, p25, p50, p75, p95, max],
            )
        })
        .collect();
    let widest = |c: usize| {
        rows.iter()
            .map(|row| row.1[c].len())
            .chain([header[c].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(widest);
    let line = |name: &str, cells: [&str; 9]| {
        let cells = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("  {cell:>width$}"));
        format!("{name:<17}{}", cells.collect::<String>())
    };
    out.line(&out.paint("1", &line("tokens of", header)))?;
    for (part, cells) in &rows {
        out.line(&line(part, cells.each_ref().map(String::as_str)))?;
    }
    Ok(())
}

fn say(level: Level, text: &str, out: &Out) -> anyhow::Result<()> {
    let label = match level {
        Level::Problem => out.paint("1;31", "problem:"),
        Level::Warning => out.paint("1;33", "warning:"),
    };
    out.line(&format!("{label} {}", crate::text::visible::visible(text)))
}
