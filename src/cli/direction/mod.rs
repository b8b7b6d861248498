//! `direction`: directions of the residual stream, and what is done with them to weights.

mod bake;
mod forensics;

use clap::Subcommand;

use super::{Outcome, output::Out};

/// Take directions out of a checkpoint's weights; find out whether somebody did
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction bake smollm2-135m-instruct --direction refusal.safetensors --out baked/
  candlescope direction forensics ./suspect --baseline smollm2-135m-instruct")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Bake(Box<bake::Args>),
    Forensics(Box<forensics::Args>),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Bake(args) => bake::run(args, out),
        Command::Forensics(args) => forensics::run(args, out),
    }
}
