//! `runs`: the training runs in a folder: which there are, how one stands, what its log says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome, interrupt,
    output::{Out, Table},
};
use crate::{
    audit::wording::duration,
    train::{
        Manifest, RunFolder,
        log::{Follower, Kind, Row},
        summary::{Summary, list, summary},
    },
};

/// Between looks at a log that grows.
const PAUSE: Duration = Duration::from_millis(250);

/// List training runs, show one, follow its log
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope runs list
  candlescope runs tail runs/first --follow")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the runs in a folder, the latest first
    #[command(after_help = "Example:\n  candlescope runs list runs/ --json")]
    List {
        /// Where runs lie
        #[arg(default_value = "runs")]
        folder: PathBuf,
    },
    /// Show how a run stands: last metrics, evaluations, checkpoints, alerts, where it comes from
    #[command(after_help = "Example:\n  candlescope runs show runs/first")]
    Show {
        /// The run's folder
        run: PathBuf,
    },
    /// Print the last rows of a run's log; with --json as they stand in the file
    #[command(after_help = "Example:\n  candlescope runs tail runs/first --follow --json")]
    Tail {
        /// The run's folder
        run: PathBuf,
        /// How many rows
        #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
        lines: usize,
        /// Print further rows as they come, until the run ends
        #[arg(short, long)]
        follow: bool,
    },
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::List { folder } => all(folder, out),
        Command::Show { run } => one(run, out),
        Command::Tail { run, lines, follow } => tail(run, *lines, *follow, out),
    }
}

#[derive(Serialize)]
struct Listed {
    folder: String,
    runs: Vec<Summary>,
}

fn all(folder: &Path, out: &Out) -> anyhow::Result<Outcome> {
    let runs = if folder.exists() {
        list(folder)?
    } else {
        Vec::new()
    };
    let listed = Listed {
        folder: folder.display().to_string(),
        runs,
    };
    if out.json {
        out.json("candlescope.runs.list/1", &listed)?;
        return Ok(Outcome::Done);
    }
    if listed.runs.is_empty() {
        out.note(&format!("no runs in {}", listed.folder));
        return Ok(Outcome::Done);
    }
    let mut table = Table::new([
        "run",
        "status",
        "method",
        "model",
        "step",
        "loss",
        "eval_loss",
        "took",
    ]);
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    for run in &listed.runs {
        table.row([
            run.path.display().to_string(),
            run.status.name().to_owned(),
            run.method.clone(),
            run.model.clone(),
            format!("{}/{}", run.step, run.steps),
            number(run.loss),
            number(run.eval_loss),
            duration((run.last - run.begun).max(0.0)),
        ]);
    }
    table.print(out)?;
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct Shown<'a> {
    run: &'a Summary,
    manifest: Option<Manifest>,
    last: Option<&'a Row>,
    evaluations: Vec<&'a Row>,
    alerts: Vec<&'a Row>,
}

fn one(root: &Path, out: &Out) -> anyhow::Result<Outcome> {
    let (run, rows) = summary(root)?;
    let of = |kind: Kind| rows.iter().filter(move |row| row.kind == kind);
    let manifest = RunFolder::open(root)?.manifest_path();
    let shown = Shown {
        run: &run,
        manifest: manifest
            .exists()
            .then(|| Manifest::read(&manifest))
            .transpose()?,
        last: of(Kind::Step).next_back(),
        evaluations: of(Kind::Eval).collect(),
        alerts: of(Kind::Alert).collect(),
    };
    if out.json {
        out.json("candlescope.runs.show/1", &shown)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["run", &run.path.display().to_string()]);
    let mut line = |name: &str, value: String| table.row([name.to_owned(), value]);
    line("status", run.status.name().to_owned());
    if let Some(message) = &run.message {
        line("because", message.clone());
    }
    line("method", format!("{} on {}", run.method, run.model));
    line("steps", format!("{} of {}", run.step, run.steps));
    line("took", duration((run.last - run.begun).max(0.0)));
    let steps: Vec<String> = run.checkpoints.iter().map(u64::to_string).collect();
    line(
        "checkpoints",
        if steps.is_empty() {
            "none".into()
        } else {
            steps.join(", ")
        },
    );
    if let Some(manifest) = &shown.manifest {
        line("weights", manifest.weights.clone());
        for file in &manifest.data {
            line(
                &file.role,
                format!("{} {}", file.path.display(), file.sha256),
            );
        }
        for model in &manifest.models {
            line(&model.role, format!("{} {}", model.name, model.weights));
        }
        if let Some(command) = &manifest.command {
            line("command", command.line());
        }
        line("ran on", manifest.numerical_path.clone());
    }
    for (name, value) in shown.last.iter().flat_map(|row| row.numbers()) {
        line(name, format!("{value:.6}"));
    }
    for row in &shown.evaluations {
        let numbers: Vec<String> = row
            .numbers()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        line(&format!("eval {}", row.step), numbers.join(", "));
    }
    for row in &shown.alerts {
        let words = row.text("message").unwrap_or_default();
        line(&format!("alert {}", row.step), words.to_owned());
    }
    table.print(out)?;
    Ok(Outcome::Done)
}

fn tail(root: &Path, lines: usize, follow: bool, out: &Out) -> anyhow::Result<Outcome> {
    let folder = RunFolder::open(root)?;
    let mut follower = Follower::new(&folder.log_path());
    let mut rows = Vec::new();
    while follower.behind() {
        rows.extend(follower.poll()?);
        let extra = rows.len().saturating_sub(lines);
        rows.drain(..extra);
    }
    loop {
        for row in &rows {
            print(row, out)?;
        }
        let ended = rows.last().is_some_and(|row| row.kind == Kind::Stopped);
        if !follow
            || out.closed()
            || ((ended || rows.is_empty()) && !folder.busy() && !follower.behind())
        {
            return Ok(Outcome::Done);
        }
        interrupt::check()?;
        std::thread::sleep(PAUSE);
        rows = follower.poll()?;
    }
}

fn print(row: &Row, out: &Out) -> anyhow::Result<()> {
    if out.json {
        return out.line(&row.line());
    }
    let texts = ["alert", "message", "reason", "path", "method", "model"];
    let words = texts
        .iter()
        .filter_map(|name| row.text(name))
        .map(str::to_owned);
    let numbers = row
        .numbers()
        .map(|(name, value)| format!("{name} {value:.5}"));
    let parts: Vec<String> = words.chain(numbers).collect();
    let line = format!(
        "{:>7} {:<10} {}",
        row.step,
        row.kind.name(),
        parts.join("  ")
    );
    out.line(&crate::audit::report::text::visible(&line))
}
