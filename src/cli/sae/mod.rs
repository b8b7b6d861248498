//! `sae`: sparse dictionaries. `crate::features` puts them on models, the crate `candlescope_sae` reads and measures them.

mod bench;
mod compare;
mod dashboard;
mod eval;
mod export;
mod features;
mod further;
mod import;
mod info;
mod input;
mod on;
mod rewrite;
mod scope;
mod show;
mod train;

use clap::Subcommand;

use super::{Outcome, output::Out};

/// Sparse dictionaries (SAEs, transcoders) over a model's activations
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae train -c sae.toml --out runs/sae
  candlescope sae info sae/
  candlescope sae eval smollm2-135m-instruct sae/ --documents held-out.txt
  candlescope sae dashboard smollm2-135m-instruct sae/ --documents text.txt --out latents.html
  candlescope sae scope smollm2-135m-instruct sae/ \"Why is the sky blue?\" --turn 4211+12
  candlescope sae compare smollm2-135m-instruct tuned/ sae/ --documents held-out.txt
  candlescope sae bench --repeats 3")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Train(train::Args),
    Info(info::Args),
    Eval(Box<eval::Args>),
    Features(Box<features::Args>),
    Show(Box<show::Args>),
    Dashboard(Box<dashboard::Args>),
    Scope(Box<scope::Args>),
    Import(import::Args),
    Export(export::Args),
    Compare(Box<compare::Args>),
    Bench(Box<bench::Args>),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Train(args) => train::run(args, out),
        Command::Info(args) => info::run(args, out),
        Command::Eval(args) => eval::run(args, out),
        Command::Features(args) => features::run(args, out),
        Command::Show(args) => show::run(args, out),
        Command::Dashboard(args) => dashboard::run(args, out),
        Command::Scope(args) => scope::run(args, out),
        Command::Import(args) => import::run(args, out),
        Command::Export(args) => export::run(args, out),
        Command::Compare(args) => compare::run(args, out),
        Command::Bench(args) => bench::run(args, out),
    }
}
