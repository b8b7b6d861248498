//! `sae features`: the latents of a dictionary as a table, by what they fire on.

use clap::ValueEnum;
use serde::Serialize;

use super::on::{On, OnArgs};
use crate::activations::{SourceInfo, Tally};
use crate::cli::{
    Outcome,
    output::{Out, Table},
};
use crate::features::dashboard::{CollectOptions, Collected, Firing, Followed, Label};
use crate::hooks::HookPoint;
use crate::text::visible::token_label;

/// List latents: tokens they fire on and their share, mean when firing, maximum, label by token statistics, top token
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae features smollm2-135m-instruct sae/ --documents text.txt
  candlescope sae features smollm2-135m-instruct sae/ --jsonl texts.jsonl --sort max --labelled --count 100
  candlescope sae features smollm2-135m-instruct sae/ --jsonl texts.jsonl --find city --json")]
pub struct Args {
    #[command(flatten)]
    on: OnArgs,
    /// What comes first
    #[arg(long, value_enum, default_value = "density", value_name = "BY")]
    sort: Sort,
    /// Latents shown; 0 for all
    #[arg(long, value_name = "N", default_value_t = 40)]
    count: usize,
    /// Only latents with this in their label or their top token
    #[arg(long, value_name = "TEXT")]
    find: Option<String>,
    /// Only latents that have a label
    #[arg(long)]
    labelled: bool,
    /// Only latents that fire in at least this share of the tokens; those that never fired are always left out
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    min_density: f64,
    /// Only latents that fire in at most this share of the tokens
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    max_density: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// The number
    Latent,
    /// Share of the tokens, falling
    Density,
    /// Mean value when firing, falling
    Mean,
    /// Largest value, falling
    Max,
    /// The label's precision and recall together (F1), falling
    Label,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    dictionary: &'a str,
    reads: HookPoint,
    writes: HookPoint,
    source: &'a SourceInfo,
    contexts: usize,
    tally: Tally,
    policy: String,
    d_sae: usize,
    /// Latents that fired at all.
    alive: usize,
    /// Latents that were asked for, of which `latents` shows the first.
    found: usize,
    latents: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    index: usize,
    fired: u64,
    density: f64,
    mean: Option<f64>,
    max: f32,
    label: Option<Label>,
    /// The token on which it fired most.
    top_token: Option<String>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let on = args.on.open(out)?;
    let mut options = CollectOptions::table(on.policy.clone());
    options.batch = args.on.batch;
    let all: Vec<usize> = (0..on.splice.dictionary().d_sae()).collect();
    let collected = on.collect(&all, &options, None, out)?;
    let alive = collected.density.fired().iter().filter(|f| **f > 0).count();
    let mut rows = args.rows(&collected, &on);
    let found = rows.len();
    if args.count > 0 {
        rows.truncate(args.count);
    }
    let report = Report {
        model: &on.model.name,
        dictionary: &on.opened.name,
        reads: on.splice.read(),
        writes: on.splice.write(),
        source: &on.source,
        contexts: collected.contexts,
        tally: collected.tally,
        policy: on.policy.to_string(),
        d_sae: all.len(),
        alive,
        found,
        latents: rows,
    };
    if out.json {
        out.json("candlescope.sae.features/1", &report)?;
        return Ok(Outcome::Done);
    }
    show(&report, out)?;
    Ok(Outcome::Done)
}

impl Args {
    fn rows(&self, collected: &Collected, on: &On) -> Vec<Row> {
        let density = &collected.density;
        let wanted = self.find.as_deref().map(str::to_lowercase);
        let row = |(slot, followed): (usize, &Followed)| {
            let index = followed.latent();
            let share = density.of(index);
            let between = (self.min_density..=self.max_density).contains(&share);
            if density.fired()[index] == 0 || !between {
                return None;
            }
            let token = |f: &Firing| on.model.tokenizer.token(f.tokens[f.position - f.start]);
            let row = Row {
                index,
                fired: density.fired()[index],
                density: share,
                mean: density.mean_when_firing(index),
                max: density.largest(index),
                label: collected.label(slot, &on.model.tokenizer),
                top_token: followed.top().first().map(token),
            };
            let says = |text: &str| {
                let label = row.label.as_ref().map(Label::words).unwrap_or_default();
                let token = row.top_token.as_deref().unwrap_or_default();
                label.to_lowercase().contains(text) || token.to_lowercase().contains(text)
            };
            let labelled = !self.labelled || row.label.is_some();
            (labelled && wanted.as_deref().is_none_or(says)).then_some(row)
        };
        let followed = collected.followed.iter().enumerate();
        let mut rows: Vec<Row> = followed.filter_map(row).collect();
        let key = |row: &Row| match self.sort {
            Sort::Latent => 0.0,
            Sort::Density => row.density,
            Sort::Mean => row.mean.unwrap_or(0.0),
            Sort::Max => f64::from(row.max),
            Sort::Label => row.label.as_ref().map_or(0.0, Label::f1),
        };
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.index.cmp(&b.index)));
        rows
    }
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    out.line(&format!(
        "{} at {} of {}: {} tokens of {} contexts; {} of {} latents fired, {} are as asked, {} are shown",
        report.dictionary,
        report.reads,
        report.model,
        report.tally.kept,
        report.contexts,
        report.alive,
        report.d_sae,
        report.found,
        report.latents.len()
    ))?;
    let mut table = Table::new([
        "latent",
        "fired",
        "density",
        "mean",
        "max",
        "top token",
        "label",
    ]);
    for row in &report.latents {
        table.row([
            row.index.to_string(),
            row.fired.to_string(),
            format!("{:.4} %", row.density * 100.0),
            row.mean.map_or_else(String::new, |m| format!("{m:.2}")),
            format!("{:.2}", row.max),
            row.top_token
                .as_deref()
                .map(token_label)
                .unwrap_or_default(),
            row.label
                .as_ref()
                .map_or_else(|| "-".into(), ToString::to_string),
        ]);
    }
    table.print(out)?;
    out.note(
        "fired and density are of the tokens that are kept, mean is over those it fires on; candlescope sae show … LATENT shows one latent",
    );
    Ok(())
}
