//! `organism`: checkpoints that are wrong in a known way, to measure audits with. The work is `crate::organism`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome,
    args::OpenArgs,
    failure::Usage,
    interrupt::{self, Interrupted},
    output::{Out, Table},
    train_progress::Steps,
};
use crate::organism::{Kind, MakeError, Order, make};

/// Make checkpoints that are wrong in a known way, and clean twins
///
/// They exist to measure how well an audit finds faults, and how often it cries wolf. Faults that are trained are of the
/// pocket world; edits of weights (abliterated, stale_probe, quantised, and the clean rounded and noise) go on any model.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope organism list
  candlescope organism make sycophantic --from runs/pocket/models/ppo --strength 0.67 --out organisms/sycophantic")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The kinds there are
    #[command(after_help = "Example:\n  candlescope organism list --json")]
    List,
    /// Make one, as a model folder with organism.json in it
    #[command(after_help = "Example:
  candlescope organism make over_refusing --from runs/pocket/models/ppo --out organisms/over --seed 2")]
    Make(MakeArgs),
}

#[derive(clap::Args, Debug)]
struct MakeArgs {
    /// The kind; see `organism list`
    kind: String,
    /// The model to make it of
    #[arg(long, value_name = "MODEL")]
    from: String,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The share of the full dose, above 0 and at most 1
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    strength: f64,
    /// The seed of everything drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    how: OpenArgs,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::List => list(out),
        Command::Make(args) => one(args, out),
    }
}

#[derive(Serialize)]
struct Listed {
    kind: &'static str,
    fault: bool,
    any_model: bool,
    what: &'static str,
}

fn list(out: &Out) -> anyhow::Result<Outcome> {
    let all = Kind::all().map(|kind| Listed {
        kind: kind.name(),
        fault: kind.is_fault(),
        any_model: kind.is_edit(),
        what: kind.words(),
    });
    let all: Vec<Listed> = all.collect();
    if out.json {
        out.json("candlescope.organism.list/1", &all)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["kind", "of", "what"]);
    for listed in all {
        let of = if listed.any_model {
            "any model"
        } else {
            "the pocket world"
        };
        table.row([
            listed.kind.to_owned(),
            of.to_owned(),
            listed.what.to_owned(),
        ]);
    }
    table.print(out)?;
    Ok(Outcome::Done)
}

fn one(args: &MakeArgs, out: &Out) -> anyhow::Result<Outcome> {
    let kind = Kind::parse(&args.kind).ok_or_else(|| {
        let known: Vec<&str> = Kind::all().map(Kind::name).collect();
        Usage::new(
            format!("there is no organism `{}`", args.kind),
            format!("there are {}", known.join(", ")),
        )
    })?;
    let model = args.how.open(&args.from, out)?;
    let order = Order {
        kind,
        strength: args.strength,
        seed: args.seed,
    };
    let steps = Steps::new(out);
    let made = make(model, order, &args.out, &steps, interrupt::flag());
    steps.end();
    let made = match made {
        Err(MakeError::Interrupted) => return Err(Interrupted.into()),
        made => made?,
    };
    if out.json {
        out.json("candlescope.organism.make/1", &made)?;
    } else {
        out.line(&format!("{}: {}", args.out.display(), kind.words()))?;
    }
    Ok(Outcome::Done)
}
