//! `reward`: what a reward model is worth. The numbers are `crate::train::report`; how they are shown is `show.rs`.

mod eval;
pub mod show;

use clap::Subcommand;

use super::{Outcome, output::Out};

/// Judge reward models on held-out pairs: accuracy, calibration, length, agreement
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope reward eval runs/rm --data held-out.jsonl
  candlescope reward eval runs/rm-a runs/rm-b runs/rm-c --data held-out.jsonl --report out/")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Eval(eval::Args),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Eval(args) => eval::run(args, out),
    }
}
