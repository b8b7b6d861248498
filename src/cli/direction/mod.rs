//! `direction`: directions of the residual stream, and what is done with them to weights.

mod bake;
mod compare;
mod extract;
mod forensics;
mod found;
mod learn;
mod optimise;
mod optimised;
mod select;
mod show;

use clap::Subcommand;

use super::{Outcome, output::Out};

/// Find the directions that behaviour hangs on, prove them, take them out of weights; find out whether somebody did
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction select qwen2.5-coder-0.5b-instruct --out refusal/
  candlescope direction bake smollm2-135m-instruct --direction refusal.safetensors --out baked/
  candlescope direction forensics ./suspect --baseline smollm2-135m-instruct")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Extract(Box<extract::Args>),
    Select(Box<select::Args>),
    Optimise(Box<optimise::Args>),
    Learn(Box<learn::Args>),
    Show(show::Args),
    Compare(compare::Args),
    Bake(Box<bake::Args>),
    Forensics(Box<forensics::Args>),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Extract(args) => extract::run(args, out),
        Command::Select(args) => select::run(args, out),
        Command::Optimise(args) => optimise::run(args, out),
        Command::Learn(args) => learn::run(args, out),
        Command::Show(args) => show::run(args, out),
        Command::Compare(args) => compare::run(args, out),
        Command::Bake(args) => bake::run(args, out),
        Command::Forensics(args) => forensics::run(args, out),
    }
}
