//! The command line: one file for each noun, each thin: parse, call the library, show.
//!
//! Always: results go to stdout, progress and errors to stderr; `--json` gives an object with a `schema` field wherever
//! a table is shown; the exit code is 0 done, 1 gate not passed, 2 error, 130 interrupted. Start with [`main`];
//! `args.rs` has what commands share, `output.rs` what they print with, `failure.rs` the words of errors.

pub mod args;
mod attn;
mod audit;
mod capture;
mod completions;
mod data;
mod demo;
mod direction;
mod doctor;
mod edits;
pub mod failure;
mod hooks;
pub mod interrupt;
mod lens;
mod lens_probe;
mod model;
mod organism;
pub mod output;
mod pipeline;
mod pocket;
mod probe;
pub mod progress;
mod reward;
mod run;
mod run_args;
mod runs;
mod sae;
mod steer;
mod system;
mod train;
mod train_progress;
mod tui;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand};

use args::Global;
use output::Out;

/// How a command ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked.
    Done,
    /// It did, and what it judged did not pass.
    NotPassed,
}

#[derive(Parser)]
#[command(
    name = "candlescope",
    version,
    about = "Looks inside language-model checkpoints and audits them",
    after_help = "Examples:\n  candlescope demo\n  candlescope audit run smollm2-135m-instruct --report out/"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    /// The workbench, where none is given.
    #[command(subcommand)]
    command: Option<Command>,
}

/// One variant for each noun or daily verb, in the order of the help.
#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(run::Args),
    Hooks(hooks::Args),
    Lens(Box<lens::Args>),
    Attn(Box<attn::Args>),
    Capture(Box<capture::Args>),
    Direction(direction::Args),
    Steer(steer::Args),
    Probe(probe::Args),
    Sae(sae::Args),
    Audit(audit::Args),
    Data(Box<data::Args>),
    Train(train::Args),
    Pipeline(pipeline::Args),
    Pocket(pocket::Args),
    Organism(organism::Args),
    Reward(Box<reward::Args>),
    Runs(runs::Args),
    Model(model::Args),
    Tui(tui::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

impl Command {
    fn run(&self, out: &Out, started: Instant) -> anyhow::Result<Outcome> {
        match self {
            Self::Demo(args) => demo::run(args, out),
            Self::Tui(args) => tui::run(args, out, started),
            Self::Run(args) => run::run(args, out),
            Self::Hooks(args) => hooks::run(args, out),
            Self::Lens(args) => lens::run(args, out),
            Self::Attn(args) => attn::run(args, out),
            Self::Capture(args) => capture::run(args, out),
            Self::Direction(args) => direction::run(args, out),
            Self::Steer(args) => steer::run(args, out),
            Self::Probe(args) => probe::run(args, out),
            Self::Sae(args) => sae::run(args, out),
            Self::Audit(args) => audit::run(args, out),
            Self::Data(args) => data::run(args, out),
            Self::Train(args) => train::run(args, out),
            Self::Pipeline(args) => pipeline::run(args, out),
            Self::Pocket(args) => pocket::run(args, out),
            Self::Organism(args) => organism::run(args, out),
            Self::Reward(args) => reward::run(args, out),
            Self::Runs(args) => runs::run(args, out),
            Self::Model(args) => model::run(args, out),
            Self::Doctor(args) => doctor::run(args, out),
            Self::Completions(args) => completions::run(args, out),
        }
    }
}

/// `candlescope` alone: the workbench, where there is a terminal for it.
fn bare() -> Option<Command> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    terminal
        .then(|| Cli::try_parse_from(["candlescope", "tui"]).ok()?.command)
        .flatten()
}

/// Parses the process's arguments, runs the command, says what went wrong, and gives the exit code.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; a usage error is an error. A closed stream cannot be told about.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let out = cli.global.out();
    let Some(command) = cli.command.or_else(bare) else {
        // Without a terminal nothing was asked for. A closed stream cannot be told about.
        let help = Cli::command().render_long_help();
        let _ = writeln!(std::io::stderr(), "{help}");
        return ExitCode::from(2);
    };
    let outcome = interrupt::install()
        .and_then(|()| cli.global.start())
        .and_then(|()| command.run(&out, started));
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::NotPassed) => ExitCode::from(1),
        Err(error) => failure::report(&error, &out),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_ends_with_an_example() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(after.starts_with("Example"), "{path} has no example");
            for line in after.lines().filter(|line| line.starts_with("  ")) {
                let line = line.trim_start();
                assert!(
                    line.starts_with("candlescope ") || line.starts_with('#'),
                    "{path}: {line}"
                );
            }
            command.get_subcommands().for_each(|sub| visit(sub, &path));
        }
        visit(&Cli::command(), "");
    }
}
