//! `probe`: what can be read off activations by a straight line, and whether to believe it. `crate::probing` computes it.

mod input;
mod show;
mod sweep;

use clap::Subcommand;

use super::{Outcome, output::Out};

/// Fit linear probes on activations and judge them on rows that they have not seen
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe sweep smollm2-135m-instruct --suites harmful,harmless
  candlescope probe sweep smollm2-135m-instruct --data rows.jsonl --points resid_post.*,attn_out.* --positions last,mean")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Sweep(Box<sweep::Args>),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Sweep(args) => sweep::run(args, out),
    }
}
