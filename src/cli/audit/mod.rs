//! `audit`: measure a checkpoint, judge it by a policy, report; read, explain and compare what was reported; bundle its
//! evidence, sign and verify it.

mod bisect;
mod bundle;
mod calibrate;
mod course;
mod export;
mod keys;
pub(super) mod progress;
mod run;
mod verify;

use std::fmt::Write;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome,
    failure::Usage,
    output::{Out, Table},
};
use crate::audit::{
    calibrate::{Basis, Calibration, Measured, shipped},
    catalogue::{self, Entry, SIGNALS},
    policy::{self, Policy},
    report::{self, compare, json, terminal, text::wrapped},
    result::Audit,
    signals, wording,
};
use crate::pipeline::{folder, picture};

/// Audit a checkpoint; explain, show, compare, verify and export audits
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope audit run smollm2-135m-instruct --report out/
  candlescope audit verify audit.tar --model ./tuned --baseline ./base
  candlescope audit explain over_refusal")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(Box<run::Args>),
    Bisect(Box<bisect::Args>),
    Calibrate(Box<calibrate::Args>),
    Diagnose(calibrate::DiagnoseArgs),
    /// Explain a signal: what it measures, how, and what to do about it
    #[command(after_help = "Example:\n  candlescope audit explain over_refusal")]
    Explain {
        /// Its id or number; `candlescope audit signals` lists them
        id: String,
    },
    /// List the signals
    #[command(after_help = "Example:\n  candlescope audit signals --json")]
    Signals,
    /// Print the default policy, or check one of yours
    #[command(after_help = "Examples:
  candlescope audit policy > policy.toml
  candlescope audit policy --check policy.toml")]
    Policy {
        /// Read this policy and say whether it is sound
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
    /// Show audits side by side, or all audits of a pipeline
    ///
    /// Of a pipeline's folder: checkpoints down, signals across; with --signal the quantities of one, checkpoint by checkpoint.
    #[command(after_help = "Examples:
  candlescope audit compare before/audit.json after/audit.json --report diff/
  candlescope audit compare runs/pocket
  candlescope audit compare runs/pocket --signal refusal_rate
  candlescope audit compare runs/pocket --draw 'induce_score.induced_change>1' --picture induce.svg")]
    Compare {
        /// Two or more audit.json, or one folder of a pipeline
        #[arg(required = true, value_name = "AUDIT")]
        audits: Vec<PathBuf>,
        /// Of a pipeline: the quantities of this signal
        #[arg(long, value_name = "ID")]
        signal: Option<String>,
        /// Of a pipeline: draw this quantity over the checkpoints; with >X or <X behind it, say from where on its interval
        /// lies beyond; repeatable
        #[arg(long, value_name = "SIGNAL.QUANTITY", requires = "picture")]
        draw: Vec<picture::Wish>,
        /// Where the drawing goes
        #[arg(long, value_name = "SVG", requires = "draw")]
        picture: Option<PathBuf>,
        /// Write compare.html and compare.md into this folder
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
    /// Show an audit again
    #[command(after_help = "Example:\n  candlescope audit show out/audit.json")]
    Show {
        /// An audit.json
        #[arg(value_name = "AUDIT")]
        audit: PathBuf,
    },
    Verify(Box<verify::Args>),
    Export(export::Args),
    Keygen(keys::KeygenArgs),
    Sign(keys::SignArgs),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Run(args) => return run::run(args, out),
        Command::Bisect(args) => return bisect::run(args, out),
        Command::Calibrate(args) => return calibrate::run(args, out),
        Command::Diagnose(args) => return calibrate::diagnose(args, out),
        Command::Verify(args) => return verify::run(args, out),
        Command::Export(args) => export::run(args, out)?,
        Command::Keygen(args) => keys::keygen(args, out)?,
        Command::Sign(args) => keys::sign(args, out)?,
        Command::Explain { id } => explain(id, out)?,
        Command::Signals => list(out)?,
        Command::Policy { check } => show_policy(check.as_ref(), out)?,
        Command::Compare {
            audits,
            signal,
            draw,
            picture,
            report,
        } => match (&audits[..], signal) {
            ([run], signal) if folder::is_pipeline(run) => match picture {
                Some(file) => course::draw(run, draw, file, out)?,
                None => course::show(run, signal.as_deref(), report.as_ref(), out)?,
            },
            _ if picture.is_some() => {
                return Err(Usage::new(
                    "--picture goes with the folder of a pipeline",
                    "name one folder, as runs/pocket",
                )
                .into());
            }
            ([_], _) => {
                return Err(Usage::new(
                    "one audit has nothing to be compared with",
                    "name two or more audit.json, or the folder of a pipeline",
                )
                .into());
            }
            (_, Some(_)) => {
                return Err(Usage::new(
                    "--signal goes with the folder of a pipeline",
                    "`audit show` has the quantities of an audit",
                )
                .into());
            }
            _ => side_by_side(audits, report.as_ref(), out)?,
        },
        Command::Show { audit } => show(&json::load(audit)?, false, out)?,
    }
    Ok(Outcome::Done)
}

/// The audit on stdout: as JSON, whole, or on one screen.
fn show(audit: &Audit, short: bool, out: &Out) -> anyhow::Result<()> {
    if out.json {
        return out.line(json::render(audit)?.trim_end());
    }
    let style = out.style();
    out.text(&if short {
        terminal::summary(audit, &style)
    } else {
        terminal::render(audit, &style)
    })
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    signal: Row,
    page: &'static str,
    quantities: Vec<Quantity>,
}

#[derive(Serialize)]
struct Quantity {
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
}

#[derive(Serialize)]
struct Row {
    id: &'static str,
    number: u32,
    title: &'static str,
    stage: &'static str,
    family: &'static str,
    needs_baseline: bool,
}

fn row(entry: &Entry) -> Row {
    Row {
        id: entry.id,
        number: entry.number,
        title: entry.title,
        stage: entry.stage,
        family: entry.family,
        needs_baseline: entry.needs_baseline,
    }
}

fn named(id: &str) -> anyhow::Result<&'static Entry> {
    let number = id.parse::<u32>().ok();
    let found = catalogue::signal(id).or_else(|| SIGNALS.iter().find(|s| Some(s.number) == number));
    found.ok_or_else(|| {
        let wanted = id.to_lowercase();
        let near: Vec<_> = SIGNALS
            .iter()
            .map(|s| s.id)
            .filter(|known| {
                known
                    .split('_')
                    .any(|word| word.len() > 2 && wanted.contains(word))
            })
            .collect();
        let hint = if near.is_empty() {
            "`candlescope audit signals` lists them".to_owned()
        } else {
            format!("did you mean {}?", near.join(", "))
        };
        Usage::new(format!("no signal is called `{id}`"), hint).into()
    })
}

fn explain(id: &str, out: &Out) -> anyhow::Result<()> {
    let entry = named(id)?;
    let page = signals::by_id(entry.id).map_or("", |signal| signal.page());
    let quantities: Vec<Quantity> = entry
        .quantities
        .iter()
        .map(|q| Quantity {
            name: q.name,
            unit: q.unit,
            meaning: q.meaning,
        })
        .collect();
    if out.json {
        let explained = Explained {
            signal: row(entry),
            page,
            quantities,
        };
        return out.json("candlescope.audit.explain/1", &explained);
    }
    let mut text = format!(
        "{}\n{}, signal {}, {}{}\n\n",
        out.paint("1", entry.title),
        entry.id,
        entry.number,
        entry.family,
        if entry.needs_baseline {
            ", needs a baseline"
        } else {
            ""
        }
    );
    let width = out.style().width.min(100);
    for paragraph in page.trim().split("\n\n") {
        for line in paragraph.lines() {
            for line in wrapped(line.trim_end(), width) {
                let _ = writeln!(text, "{line}");
            }
        }
        text.push('\n');
    }
    out.text(&text)?;
    let mut table = Table::new(["quantity", "unit", "what it is"]);
    for q in quantities {
        table.row([q.name.to_owned(), q.unit.to_owned(), q.meaning.to_owned()]);
    }
    table.print(out)
}

#[derive(Serialize)]
struct Listing {
    signals: Vec<Row>,
}

fn list(out: &Out) -> anyhow::Result<()> {
    let listing = Listing {
        signals: SIGNALS.iter().map(row).collect(),
    };
    if out.json {
        return out.json("candlescope.audit.signals/1", &listing);
    }
    let mut table = Table::new(["no.", "id", "family", "baseline", "title"]);
    for signal in listing.signals {
        table.row([
            signal.number.to_string(),
            signal.id.to_owned(),
            signal.family.to_owned(),
            if signal.needs_baseline { "needed" } else { "-" }.to_owned(),
            signal.title.to_owned(),
        ]);
    }
    table.print(out)
}

#[derive(Serialize)]
struct PolicyShown<'a> {
    name: String,
    hash: String,
    file: String,
    enabled: Vec<&'a str>,
    toml: Option<&'static str>,
    calibrations: Vec<Carried<'a>>,
}

/// A calibration in the binary, without what it was fitted to.
#[derive(Serialize)]
struct Carried<'a> {
    bank: &'a str,
    basis: &'a Basis,
    measured: Option<Measured>,
}

fn show_policy(check: Option<&PathBuf>, out: &Out) -> anyhow::Result<()> {
    let (read, file) = match check {
        Some(path) => (Policy::load(path)?, path.display().to_string()),
        None => (Policy::built_in()?, "built in".to_owned()),
    };
    let enabled: Vec<&str> = SIGNALS
        .iter()
        .map(|s| s.id)
        .filter(|id| read.enabled(id).is_some())
        .collect();
    let own = read.calibration.as_deref();
    let carried = own.into_iter().chain(shipped::all());
    let carried = carried.map(|one| Carried {
        bank: &one.bank,
        basis: &one.basis,
        measured: one.measured,
    });
    if out.json {
        let shown = PolicyShown {
            name: read.id.name.clone(),
            hash: read.id.hash.clone(),
            file,
            enabled,
            toml: check.is_none().then_some(policy::DEFAULT),
            calibrations: carried.collect(),
        };
        return out.json("candlescope.audit.policy/1", &shown);
    }
    match check {
        None => out.text(&format!(
            "{}{}",
            calibrated(shipped::all()),
            policy::DEFAULT
        )),
        Some(_) => {
            out.line(&format!(
                "{file}: policy `{}`, {} signals: {}",
                read.id.name,
                enabled.len(),
                enabled.join(", ")
            ))?;
            out.text(&calibrated(own))
        }
    }
}

/// What a policy's audits are known to find, as comments.
fn calibrated<'a>(known: impl IntoIterator<Item = &'a Calibration>) -> String {
    let mut text = String::new();
    for one in known {
        let rates = one.measured.map_or_else(String::new, Measured::words);
        let weights = wording::short_hash(&one.basis.baseline);
        let _ = writeln!(
            text,
            "# Calibrated on {}, for audits against the weights {weights}:\n# {rates}.",
            one.bank
        );
    }
    text
}

#[derive(Serialize)]
struct Compared {
    audits: Vec<Audit>,
    files: Vec<String>,
}

fn side_by_side(paths: &[PathBuf], dir: Option<&PathBuf>, out: &Out) -> anyhow::Result<()> {
    let audits = paths
        .iter()
        .map(|path| json::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    let files = match dir {
        Some(dir) => report::write_comparison(dir, &audits)?,
        None => Vec::new(),
    };
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    if out.json {
        return out.json("candlescope.audit.compare/1", &Compared { audits, files });
    }
    out.text(&compare::terminal(&audits, &out.style()))?;
    if !files.is_empty() {
        out.note(&format!("written: {}", files.join(", ")));
    }
    Ok(())
}
