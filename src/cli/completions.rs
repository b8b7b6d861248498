//! `completions`: what a shell needs to complete candlescope's commands.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Outcome, output::Out};

/// Print completions for a shell
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  candlescope completions bash > ~/.local/share/bash-completion/completions/candlescope"
)]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "candlescope", &mut script);
    out.text(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
