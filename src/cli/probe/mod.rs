//! `probe`: what can be read off activations by a straight line, and whether to believe it. `crate::probing` computes it.

mod apply;
mod fit;
mod fit_attention;
mod fit_classes;
mod fit_pairs;
mod input;
mod kept;
mod show;
mod show_kinds;
mod sweep;
mod transfer;

use clap::Subcommand;

use super::{Outcome, output::Out};

/// Fit linear probes on activations and judge them on rows that they have not seen
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe sweep smollm2-135m-instruct --suites harmful,harmless
  candlescope probe sweep smollm2-135m-instruct --data rows.jsonl --points resid_post.*,attn_out.* --positions last,mean
  candlescope probe fit smollm2-135m-instruct --suites harmful,harmless --points resid_post.12 --out harm.safetensors
  candlescope probe apply smollm2-135m-instruct --probe harm.safetensors --data prompts.jsonl")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Sweep(Box<sweep::Args>),
    Fit(Box<fit::Args>),
    Eval(Box<apply::EvalArgs>),
    Apply(Box<apply::ApplyArgs>),
    Transfer(Box<transfer::Args>),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Sweep(args) => sweep::run(args, out),
        Command::Fit(args) => fit::run(args, out),
        Command::Eval(args) => apply::eval(args, out),
        Command::Apply(args) => apply::apply(args, out),
        Command::Transfer(args) => transfer::run(args, out),
    }
}
