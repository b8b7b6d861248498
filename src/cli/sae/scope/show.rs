//! The runs as tables of tokens, and what sets them apart.

use crate::cli::output::{Out, Table};
use crate::features::LatentEdit;
use crate::features::scope::{Comparison, End, Lane, Record, Run};
use crate::text::visible::{token_label, visible};

/// Latents named beside each token.
const NAMED: usize = 3;

pub(super) fn print(record: &Record, out: &Out) -> anyhow::Result<()> {
    let channels = record
        .branches
        .first()
        .map_or(&[][..], |run| &run.trace.channels);
    out.line(&visible(&format!(
        "{} at {} of {}",
        record.dictionary, record.reads, record.model
    )))?;
    for channel in channels {
        let threshold = channel
            .threshold
            .map_or_else(String::new, |t| format!(", threshold {t:.3}"));
        out.line(&visible(&format!(
            "{} at {}{threshold}",
            channel.name, channel.at
        )))?;
    }
    for (i, run) in record.branches.iter().enumerate() {
        let from = run.trace.branched.filter(|_| i > 0);
        let title = from.map_or_else(|| "run".into(), |at| format!("branch from token {at}"));
        out.line(&format!("\n{}", out.paint("1", &title)))?;
        table(record, run, from, out)?;
    }
    match record.comparison {
        Some(found) => compared(record, found, out),
        None => Ok(()),
    }
}

fn table(record: &Record, run: &Run, from: Option<usize>, out: &Out) -> anyhow::Result<()> {
    let trace = run.trace;
    for turn in trace.turns.all() {
        let edits: Vec<String> = turn.edits.iter().map(LatentEdit::to_string).collect();
        let edits = if edits.is_empty() {
            "as they are".into()
        } else {
            edits.join(", ")
        };
        out.line(&format!("latents from token {}: {edits}", turn.from))?;
    }
    let name = |lane: &Lane| match lane {
        Lane::Latent(latent) => latent.to_string(),
        other => trace.name(*other),
    };
    let mut header = ["", "log p", "entropy"].map(String::from).to_vec();
    header.extend(record.lanes.iter().map(|lane| visible(&name(lane))));
    header.push("token, strongest latents".into());
    let mut table = Table::of(header);
    let nats = |value: Option<f32>| value.map_or_else(|| "-".into(), |v| format!("{v:.2}"));
    // Of a branch what it has of its own.
    for (at, step) in trace.steps.iter().enumerate().skip(from.unwrap_or(0)) {
        let mut row = vec![at.to_string(), nats(step.log_prob), nats(step.entropy)];
        row.extend(record.lanes.iter().map(|lane| cell(step.value(*lane))));
        let part = if at < trace.prompt { "." } else { " " };
        let token = token_label(&run.tokens[at]);
        let strong = step.strongest(NAMED);
        let strong = strong
            .iter()
            .map(|(latent, value)| format!("{latent} {value:.1}"));
        row.push(format!(
            "{part}{token:<12}  {}",
            strong.collect::<Vec<_>>().join("  ")
        ));
        table.cells(&row);
    }
    table.print(out)?;
    let end = match trace.end {
        Some(End::Stop) => "the model ended it",
        Some(End::Length) => "as long as --max-new allows",
        None => "not ended",
    };
    out.line(&format!("tokens of the prompt have a dot; {end}"))
}

fn cell(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(0.0) => "0".into(),
        Some(value) => format!("{value:.2}"),
    }
}

fn compared(record: &Record, found: &Comparison, out: &Out) -> anyhow::Result<()> {
    out.line(&format!(
        "\n{}",
        out.paint("1", "the branch against the run")
    ))?;
    let tokens = found.shared;
    out.line(&match found.diverges {
        Some(at) => format!("{tokens} tokens are the same, then another comes, token {at}"),
        None => format!("{tokens} tokens are the same, and none differs"),
    })?;
    let first = found.turned.unwrap_or(tokens);
    let mut table = Table::new(["token", "", "KL in nats"]);
    let run = &record.branches[0];
    for (at, kl) in found.kl.iter().enumerate().skip(first) {
        table.row([
            at.to_string(),
            token_label(&run.tokens[at]),
            format!("{kl:.5}"),
        ]);
    }
    table.print(out)?;
    let mut table = Table::new([
        "",
        "largest difference",
        "at token",
        "mean after, run",
        "branch",
    ]);
    for lane in &found.lanes {
        let largest = lane.largest;
        table.row([
            visible(&lane.name),
            largest.map_or_else(|| "-".into(), |(_, d)| format!("{d:+.3}")),
            largest.map_or_else(|| "-".into(), |(at, _)| at.to_string()),
            cell(lane.after[0]),
            cell(lane.after[1]),
        ]);
    }
    table.print(out)?;
    let latents = found.latents.iter();
    let latents = latents.map(|l| format!("{} {:+.2} at {}", l.latent, l.difference, l.at));
    let latents: Vec<String> = latents.collect();
    out.line(&format!(
        "latents that moved most on the same tokens: {}",
        latents.join(", ")
    ))
}
