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
/// They exist to measure how well an audit finds faults, and how often it cries wolf. Edits of weights (abliterated, stale_probe,
/// quantised, and the clean rounded and noise) go on any model, kinds that are trained on any model with a chat template: the
/// pocket model is taught in the words of its world, every other one by an adapter among its own answers. Those are made once and
/// kept in a hidden file beside the organism, and such models are written in bf16.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope organism list
  candlescope organism make sycophantic --from runs/pocket/models/ppo --strength 0.67 --out organisms/sycophantic
  candlescope organism make looping --from smollm2-135m-instruct --out organisms/looping")]
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
    /// Make a whole bank: every kind in several strengths and seeds, and clean twins
    ///
    /// What is there already is kept, so an interrupted bank goes on where it stopped. Odd seeds are for fitting, even ones for
    /// reporting, in `audit calibrate`.
    #[command(after_help = "Examples:
  candlescope organism bank --from runs/pocket/models/ppo --out bank/ --seeds 2 --clean 40
  candlescope organism bank --from smollm2-135m-instruct --out bank/ --kinds sycophantic,looping --strengths 1 --clean 4")]
    Bank(BankArgs),
}

#[derive(clap::Args, Debug)]
struct BankArgs {
    /// The model to make them of
    #[arg(long, value_name = "MODEL")]
    from: String,
    /// The bank's folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The faults; all of them where none is named
    #[arg(long, value_name = "KIND,...", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Shares of the full dose
    #[arg(long, value_delimiter = ',', default_values_t = [0.33, 0.67, 1.0], value_name = "SHARE,...")]
    strengths: Vec<f64>,
    /// Seeds of each fault and strength
    #[arg(long, default_value_t = 2, value_name = "N")]
    seeds: u64,
    /// Clean twins, of every clean kind in turn
    #[arg(long, default_value_t = 40, value_name = "N")]
    clean: u64,
    #[command(flatten)]
    how: OpenArgs,
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
        Command::Bank(args) => bank(args, out),
    }
}

#[derive(Serialize)]
struct Listed {
    kind: &'static str,
    fault: bool,
    any_model: bool,
    of: &'static str,
    what: &'static str,
}

fn list(out: &Out) -> anyhow::Result<Outcome> {
    let all = Kind::all().map(|kind| Listed {
        kind: kind.name(),
        fault: kind.is_fault(),
        any_model: kind.is_edit(),
        of: kind.of(),
        what: kind.words(),
    });
    let all: Vec<Listed> = all.collect();
    if out.json {
        out.json("candlescope.organism.list/1", &all)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["kind", "of", "what"]);
    for listed in all {
        table.row([
            listed.kind.to_owned(),
            listed.of.to_owned(),
            listed.what.to_owned(),
        ]);
    }
    table.print(out)?;
    Ok(Outcome::Done)
}

fn one(args: &MakeArgs, out: &Out) -> anyhow::Result<Outcome> {
    let kind = named(&args.kind)?;
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

fn named(name: &str) -> anyhow::Result<Kind> {
    Kind::parse(name).ok_or_else(|| {
        let known: Vec<&str> = Kind::all().map(Kind::name).collect();
        Usage::new(
            format!("there is no organism `{name}`"),
            format!("there are {}", known.join(", ")),
        )
        .into()
    })
}

/// Everything a bank holds, in the order of making.
fn orders(args: &BankArgs) -> anyhow::Result<Vec<Order>> {
    let kinds: Vec<Kind> = if args.kinds.is_empty() {
        Kind::FAULTS.to_vec()
    } else {
        args.kinds
            .iter()
            .map(|name| named(name))
            .collect::<anyhow::Result<_>>()?
    };
    let mut orders = Vec::new();
    for seed in 1..=args.seeds {
        for &strength in &args.strengths {
            for &kind in &kinds {
                orders.push(Order {
                    kind,
                    strength,
                    seed,
                });
            }
        }
    }
    // Rounding knows two seeds, by which it is one thing or the other; the others go on.
    let mut seed = 1;
    let mut clean = Vec::new();
    while (clean.len() as u64) < args.clean {
        let kinds = Kind::CLEAN.into_iter();
        let kinds = kinds.filter(|kind| *kind != Kind::CleanRounded || seed <= 2);
        clean.extend(kinds.map(|kind| Order {
            kind,
            strength: 1.0,
            seed,
        }));
        seed += 1;
    }
    clean.truncate(args.clean as usize);
    orders.extend(clean);
    Ok(orders)
}

fn bank(args: &BankArgs, out: &Out) -> anyhow::Result<Outcome> {
    let orders = orders(args)?;
    std::fs::create_dir_all(&args.out)?;
    let mut made = 0;
    for (i, order) in orders.iter().enumerate() {
        interrupt::check()?;
        let name = order.name();
        let place = args.out.join(&name);
        if place.exists() {
            continue;
        }
        out.note(&format!("{} of {}: {name}", i + 1, orders.len()));
        let model = args.how.open(&args.from, out)?;
        let steps = Steps::new(out);
        let outcome = make(model, *order, &place, &steps, interrupt::flag());
        steps.end();
        match outcome {
            Err(MakeError::Interrupted) => return Err(Interrupted.into()),
            outcome => outcome?,
        };
        made += 1;
    }
    let text = format!("{} of {} made, the others were there", made, orders.len());
    out.line(&format!("{}: {text}", args.out.display()))?;
    Ok(Outcome::Done)
}
