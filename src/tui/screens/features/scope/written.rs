//! What the pane says in words, gives to the clipboard and writes to files.

use std::path::Path;

use super::branch::Branch;
use super::dose;
use super::{Labels, ScopePane};
use crate::features::scope::{Comparison, End, Lane, Record, Run, SCHEMA};
use crate::tui::screen::Data;
use crate::tui::shared::{Shared, quoted};

/// A number in a few columns.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v >= 1e5 => format!("{value:.1e}"),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.0e}"),
    }
}

/// How the run stands.
pub(super) fn state(pane: &ScopePane, branch: &Branch) -> String {
    if let Some(why) = &pane.failed {
        return format!(" failed: {why}; space tries again");
    }
    let name = Path::new(pane.splice.name()).file_name();
    let name = name.map_or_else(|| pane.splice.name().into(), |name| name.to_string_lossy());
    let place = format!("{name} at {}", pane.splice.read());
    let drawn = match pane.sample.temperature {
        0.0 => "greedy".to_owned(),
        t => format!("temperature {t}, seed {}", pane.sample.seed),
    };
    let going = match branch.trace.end {
        Some(End::Stop) => "complete",
        Some(End::Length) => "as long as asked for; `:max N` goes on",
        None if pane.running() => "generating",
        None => "paused; space goes on",
    };
    let branches = match pane.branches.len() {
        0 | 1 => String::new(),
        n => format!(" · branch {} of {n}", pane.current + 1),
    };
    let from = match (branch.parent, branch.trace.branched) {
        (Some(parent), Some(at)) => format!(", from branch {} at token {at}", parent + 1),
        _ => String::new(),
    };
    format!(" {going}{branches}{from} · {drawn} · {place}")
}

/// What sets two runs apart, at the cursor and over all.
pub(super) fn difference(pane: &ScopePane, found: &Comparison) -> String {
    let apart = match found.diverges {
        Some(at) => format!("other tokens from {at} on"),
        None => "no other token so far".into(),
    };
    let kl = |at: usize| {
        found
            .kl
            .get(at)
            .map_or_else(|| "-".into(), |kl| format!("{kl:.4}"))
    };
    let most = found
        .kl
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1));
    let most = most.map_or_else(String::new, |(at, kl)| format!(", most {kl:.4} at {at}"));
    let latents: Vec<String> = (found.latents.iter().take(4))
        .map(|l| format!("{} {:+.2}", l.latent, l.difference))
        .collect();
    format!(
        " parent: {apart} · KL here {} nats{most} · moved most {}",
        kl(pane.cursor),
        latents.join(" ")
    )
}

/// The token under the cursor and the lanes there.
pub(super) fn spoken(pane: &ScopePane, labels: Labels) -> Vec<String> {
    let Some(branch) = pane.branch() else {
        return vec!["nothing was read yet".into()];
    };
    let mut lines = vec![state(pane, branch).trim().to_owned()];
    for turn in branch.trace.turns.all() {
        let edits: Vec<String> = turn.edits.iter().map(dose::words).collect();
        lines.push(format!(
            "from token {} turned: {}",
            turn.from,
            edits.join(", ")
        ));
    }
    if let Some((step, _)) = branch.step(pane.cursor) {
        lines.push(format!(
            "token {} of {}: {}",
            pane.cursor,
            branch.len(),
            branch.text(pane.cursor)
        ));
        for (i, &lane) in pane.lanes.iter().enumerate() {
            let label = match lane {
                Lane::Latent(latent) => {
                    labels(latent).map_or_else(String::new, |l| format!(" ({l})"))
                }
                _ => String::new(),
            };
            let value = step.value(lane).map_or_else(|| "nothing".into(), number);
            let here = if i == pane.lane { ", chosen" } else { "" };
            lines.push(format!("{}{label}: {value}{here}", branch.trace.name(lane)));
        }
    }
    if let Some(found) = &pane.compared {
        lines.push(difference(pane, found).trim().to_owned());
    }
    lines
}

/// `sae scope` with the turns of the shown run.
pub(super) fn command_line(pane: &ScopePane, shared: &Shared) -> Option<String> {
    let name = quoted(&shared.model.facts()?.name);
    let mut line = format!(
        "candlescope sae scope {name} {} {} --max-new {}",
        quoted(pane.splice.name()),
        shared.prompt_argument(),
        pane.max_new
    );
    for turn in pane
        .branch()
        .map_or(&[][..], |branch| branch.trace.turns.all())
    {
        let edits: Vec<String> = turn.edits.iter().map(ToString::to_string).collect();
        let edits = if edits.is_empty() {
            "as-is".to_owned()
        } else {
            edits.join(",")
        };
        line += &format!(" --turn {}", quoted(&format!("{edits}@{}", turn.from)));
    }
    for (option, file) in &pane.files {
        line += &format!(" {option} {}", quoted(&file.display().to_string()));
    }
    for lane in &pane.lanes {
        if let Lane::Latent(latent) = lane {
            line += &format!(" --latent {latent}");
        }
    }
    if pane.sample.temperature > 0.0 {
        let sample = pane.sample;
        line += &format!(
            " --temperature {} --seed {}",
            sample.temperature, sample.seed
        );
    }
    Some(line + &shared.options())
}

/// A row for each token of the shown run; all runs as JSON.
pub(super) fn data(pane: &ScopePane, shared: &Shared) -> Option<Data> {
    let branch = pane.branch().filter(|branch| branch.len() > 0)?;
    let names = pane.lanes.iter().map(|lane| branch.trace.name(*lane));
    let headers = ["position", "token", "part"].map(String::from);
    let cell = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
    let row = |(at, step): (usize, &crate::features::scope::Step)| {
        let part = if at < branch.trace.prompt {
            "prompt"
        } else {
            "answer"
        };
        let first = [at.to_string(), branch.text(at).to_owned(), part.to_owned()];
        let values = pane.lanes.iter().map(|lane| cell(step.value(*lane)));
        first.into_iter().chain(values).collect()
    };
    let branches = pane.branches.iter().map(|branch| Run {
        tokens: branch.texts.clone(),
        parent: branch.parent,
        trace: &branch.trace,
    });
    let record = Record {
        model: shared.model.name(),
        dictionary: pane.splice.name(),
        reads: pane.splice.read(),
        writes: pane.splice.write(),
        shown: pane.current,
        lanes: pane.lanes.clone(),
        branches: branches.collect(),
        comparison: pane.compared.as_ref(),
    };
    let mut json = serde_json::to_value(&record).ok()?;
    json["schema"] = SCHEMA.into();
    Some(Data {
        headers: headers.into_iter().chain(names).collect(),
        rows: branch.trace.steps.iter().enumerate().map(row).collect(),
        json,
    })
}
