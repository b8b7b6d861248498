//! `audit bisect RUN`: where in a pipeline a signal broke. The work is `crate::pipeline::bisect`.

use std::path::PathBuf;

use super::progress::Steps as AuditSteps;
use crate::audit::report::text::visible;
use crate::audit::wording;
use crate::cli::Outcome;
use crate::cli::failure::Usage;
use crate::cli::interrupt::{self, Interrupted};
use crate::cli::output::{Out, Table};
use crate::cli::pipeline::Opener;
use crate::cli::train_progress::Steps;
use crate::pipeline::bisect::{
    self, BisectError, Found, Guilty, Note, Options, Ranking, Request, Rule, Seen, Target, Watcher,
};

/// Rows between two lines on how far a ranking is.
const SAID_EVERY: usize = 100;

/// Find the checkpoint, the optimiser step and the rows that broke a signal of a pipeline
///
/// First checkpoint: the stored audits on the way to --stage, in the order in which the weights went through them; broken is the
/// first whose verdict on the signal is worse than at the one before (PASS and UNDERPOWERED are better than REVIEW, REVIEW than
/// BLOCK), or, with --below or --above, the first whose quantity is beyond the number.
///
/// First step: the stage is trained again from the last good checkpoint, which goes through the same bits (checked by hash), with
/// 16 checkpoints, and halved by auditing that signal alone; then again between two of them until the step is known. Halving
/// presumes one crossing: all values that were seen are shown. Ctrl-C loses no audit; the same command goes on.
///
/// Rows: those of all steps between the two checkpoints, or of --window, by how much a step on each would raise what the broken
/// checkpoint answers over what the good one did (TracIn), and by their states along broken minus good answers. Everything lies in
/// RUN/bisect/STAGE-SIGNAL/: bisect.json, ranking.json, ranking.csv.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope audit bisect runs/pocket --signal refusal_rate
  candlescope audit bisect runs/pocket --signal refusal_rate.harmful_refusal --below 0.8 --stage dpo
  candlescope audit bisect runs/pocket --signal sycophancy --guilty planted=true --top 50")]
pub(super) struct Args {
    /// The pipeline's folder
    run: PathBuf,
    /// The signal, or one of its quantities
    #[arg(long, value_name = "ID[.QUANTITY]")]
    signal: String,
    /// The stage that the way leads to [default: the last]
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Broken is a quantity below this; the signal's first one if none is named
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        conflicts_with = "above"
    )]
    below: Option<f64>,
    /// Broken is a quantity above this; the signal's first one if none is named
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    above: Option<f64>,
    /// Rank the rows of these steps of the stage [default: all between the two checkpoints]
    #[arg(long, value_name = "A..B", value_parser = window)]
    window: Option<(u64, u64)>,
    /// Rows to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Rows with this value in this field are known to be at fault: say how well they are found
    #[arg(long, value_name = "KEY=VALUE", value_parser = mark)]
    guilty: Option<(String, String)>,
    /// Stop when the step is known, without ranking rows
    #[arg(long, conflicts_with_all = ["window", "guilty"])]
    steps_only: bool,
    /// Keep the checkpoints of the replays
    #[arg(long)]
    keep: bool,
    /// Use what is in the cache only
    #[arg(long)]
    offline: bool,
}

fn window(text: &str) -> Result<(u64, u64), String> {
    let number = |part: &str| part.trim().parse::<u64>().ok();
    let ends = text.split_once("..").map(|(a, b)| (number(a), number(b)));
    match ends {
        Some((Some(from), Some(to))) if from >= 1 && from <= to => Ok((from, to)),
        _ => Err("expected A..B with two steps, the first at least 1, as 10..40".to_owned()),
    }
}

fn mark(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as planted=true".to_owned()),
    }
}

pub(super) fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let rule = match (args.below, args.above) {
        (Some(limit), _) => Rule::Below(limit),
        (None, Some(limit)) => Rule::Above(limit),
        (None, None) => Rule::Verdict,
    };
    if let Rule::Below(limit) | Rule::Above(limit) = rule
        && !limit.is_finite()
    {
        let hint = "--below and --above take a finite number";
        return Err(Usage::new(format!("{limit} is no limit"), hint).into());
    }
    let request = Request {
        target: Target::parse(&args.signal)?,
        rule,
        stage: args.stage.clone(),
        window: args.window,
        guilty: args.guilty.clone(),
        steps_only: args.steps_only,
        keep: args.keep,
    };
    let opener = Opener::new(args.offline, out);
    let shown = Shown {
        out,
        training: Steps::new(out),
        auditing: AuditSteps::new(out),
    };
    let options = Options {
        models: &opener,
        watcher: &shown,
        stop: interrupt::flag(),
    };
    let found = bisect::bisect(&args.run, &request, &options);
    shown.training.end();
    shown.auditing.end();
    let found = match found {
        Err(error @ BisectError::Interrupted { .. }) => {
            out.note(&error.to_string());
            return Err(Interrupted.into());
        }
        found => found?,
    };
    if out.json {
        out.json("candlescope.audit.bisect/1", &found)?;
    } else {
        show(&found, args.top, out)?;
        out.note(&format!(
            "written: {}",
            args.run.join(&found.folder).display()
        ));
    }
    Ok(Outcome::Done)
}

/// Says on the terminal how far it is.
struct Shown<'a> {
    out: &'a Out,
    training: Steps<'a>,
    auditing: AuditSteps<'a>,
}

impl Watcher for Shown<'_> {
    fn training(&self) -> &dyn crate::train::Progress {
        &self.training
    }

    fn auditing(&self) -> &dyn crate::audit::work::Progress {
        &self.auditing
    }

    fn said(&self, note: &Note<'_>) {
        match note {
            Note::Replaying {
                stage,
                from,
                to,
                every,
            } => self.out.note(&format!(
                "training {stage} again, steps {from} to {to}, a checkpoint every {every}"
            )),
            Note::Audited { seen } => {
                self.out.note(&format!("{}: {}", seen.name(), seen.words()));
            }
            Note::Ranking { done, total } => {
                if done.is_multiple_of(SAID_EVERY) {
                    self.out.note(&format!("ranking rows: {done} of {total}"));
                }
            }
        }
    }
}

fn show(found: &Found, top: usize, out: &Out) -> anyhow::Result<()> {
    let last = found.steps.iter().rev().find(|s| s.step < found.step);
    let first = found.steps.iter().find(|seen| seen.step == found.step);
    // A limit of one's own breaks without a verdict.
    let same = last.map(|seen| seen.verdict) == first.map(|seen| seen.verdict);
    let words = |seen: Option<&Seen>| match seen.map(|seen| (seen, &seen.value)) {
        Some((_, Some(value))) if same => wording::estimate(value),
        Some((seen, _)) => seen.words(),
        None => String::new(),
    };
    out.line(&format!(
        "{} broke in stage {}, at step {}: {} before, {} after",
        out.paint("1", &found.signal),
        found.stage,
        found.step,
        words(last),
        words(first),
    ))?;
    out.line(&format!("Broken is: {}.", found.rule))?;
    for note in &found.notes {
        out.line(note)?;
    }
    out.line("\nCheckpoints by the stored audits:")?;
    seen(found.course.iter(), out)?;
    out.line("\nSteps that were asked again:")?;
    seen(found.steps.iter(), out)?;
    match (&found.ranking, &found.no_ranking) {
        (Some(ranking), _) => ranked(ranking, top, out),
        (None, Some(why)) => out.line(&format!("\nRows are not ranked: {why}.")),
        (None, None) => Ok(()),
    }
}

fn seen<'a>(all: impl Iterator<Item = &'a Seen>, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new(["stage", "step", "broken", "verdict", "quantity", "value"]);
    for seen in all {
        let value = seen.value.as_ref();
        table.row([
            seen.stage.clone(),
            seen.step.to_string(),
            if seen.grade > 0 { "yes" } else { "no" }.to_owned(),
            seen.verdict.word().to_owned(),
            value.map_or_else(String::new, |value| wording::phrase(&value.name)),
            value.map_or_else(String::new, wording::estimate),
        ]);
    }
    table.print(out)
}

fn ranked(ranking: &Ranking, top: usize, out: &Out) -> anyhow::Result<()> {
    let (from, to) = ranking.window;
    out.line(&format!(
        "\nRows of steps {from} to {to} by what they push: {}, over {} of {} items.",
        ranking.proxy, ranking.items, ranking.of
    ))?;
    let mut table = Table::new([
        "#",
        "push",
        "cosine",
        "states",
        "row",
        "first step",
        "prompt",
        "answer",
    ]);
    for (at, row) in ranking.rows.iter().take(top).enumerate() {
        table.row([
            (at + 1).to_string(),
            format!("{:+.3e}", row.push),
            format!("{:+.3}", row.cosine),
            row.projection
                .map_or_else(String::new, |x| format!("{x:+.3}")),
            visible(row.row.rsplit('/').next().unwrap_or(&row.row)),
            row.steps.first().map_or_else(String::new, u64::to_string),
            visible(&row.prompt),
            visible(&row.answer),
        ]);
    }
    table.print(out)?;
    ranking
        .guilty
        .as_ref()
        .map_or(Ok(()), |guilty| known(guilty, out))
}

fn known(guilty: &Guilty, out: &Out) -> anyhow::Result<()> {
    out.line(&format!(
        "\n{} of the {} rows have {}. How well they are found:",
        guilty.marked, guilty.rows, guilty.mark
    ))?;
    let mut table = Table::new(["score", "AUROC", "95 %", "top 1 %", "top 5 %", "top 10 %"]);
    for score in &guilty.scores {
        let ends = score.auroc.interval;
        let mut cells = vec![
            score.score.to_owned(),
            format!("{:.3}", score.auroc.value),
            format!("{:.3} to {:.3}", ends.low, ends.high),
        ];
        let enriched = score.enriched.iter();
        cells.extend(enriched.map(|e| format!("{}/{}, {:.1}x", e.marked, e.rows, e.times)));
        table.cells(&cells);
    }
    table.print(out)
}
