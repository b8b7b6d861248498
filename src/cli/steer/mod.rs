//! `steer`: answers under interventions beside answers without, what a dose does, and conditions that decide for each prompt.
//!
//! `prompts.rs` says which prompts, `generate.rs`, `sweep.rs` and `condition.rs` are the commands. Always: completions of
//! harmful prompts are cut where they are printed or written.

mod condition;
mod generate;
mod prompts;
mod sweep;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};

use super::{Outcome, edits::EditArgs, interrupt, output::Out, progress::Bar};
use crate::{
    hooks::{Edit, Hooks, Plan},
    model::{Checkpoint, fetch::Progress as _},
    steer::{Form, LARGE, Options, RelativeDose, Span, SteerError, Steering},
};

/// Steer generation: add, ablate, clamp or turn directions, at a dose, where a condition holds
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope steer generate toy \"How are you?\" --add contrast:1@1*4
  candlescope steer sweep toy --add contrast:1@1*1 --doses 0.5,1,2 --suite harmless -n 16
  candlescope steer condition fit toy --out harmful.safetensors
  candlescope steer generate toy \"How are you?\" --condition harmful=harmful.safetensors --rule \"if harmful then +contrast:1@1*4\"")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Generate(Box<generate::Args>),
    Sweep(Box<sweep::Args>),
    Condition(Box<condition::Args>),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Generate(args) => generate::run(args, out),
        Command::Sweep(args) => sweep::run(args, out),
        Command::Condition(args) => condition::run(args, out),
    }
}

/// Forms of intervention beside those of `--add` and `--ablate`, and where they hold.
#[derive(clap::Args, Debug, Default, Clone)]
struct FormArgs {
    #[command(flatten)]
    edits: EditArgs,
    /// Set the component along a direction to a value: DIR@LAYERS*VALUE
    #[arg(long, value_name = "DIR@LAYERS*VALUE", help_heading = "Edits")]
    clamp: Vec<String>,
    /// Keep the component along a direction at most at a value
    #[arg(long, value_name = "DIR@LAYERS*VALUE", help_heading = "Edits")]
    cap: Vec<String>,
    /// Keep the component along a direction at least at a value
    #[arg(long, value_name = "DIR@LAYERS*VALUE", help_heading = "Edits")]
    floor: Vec<String>,
    /// Take out what points along a direction and leave what points against it: DIR@LAYERS*AMOUNT
    #[arg(long, value_name = "DIR@LAYERS*AMOUNT", help_heading = "Edits")]
    one_sided: Vec<String>,
    /// Set the component to that of ORIGIN plus ALPHA lengths of the direction: DIR[,ORIGIN]@LAYERS*ALPHA
    #[arg(long, value_name = "DIR[,ORIGIN]@LAYERS*ALPHA", help_heading = "Edits")]
    affine: Vec<String>,
    /// Turn the stream in the plane of two directions, from the first to the second: DIR,DIR@LAYERS*DEGREES
    #[arg(long, value_name = "DIR,DIR@LAYERS*DEGREES", help_heading = "Edits")]
    rotate: Vec<String>,
    /// Turn it to an angle from the first direction
    #[arg(long, value_name = "DIR,DIR@LAYERS*DEGREES", help_heading = "Edits")]
    rotate_to: Vec<String>,
    /// Positions that all edits touch: all, the prompt, what is generated, or what comes after the instruction
    #[arg(
        long,
        value_enum,
        default_value = "all",
        value_name = "WHICH",
        help_heading = "Edits"
    )]
    positions: Positions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Positions {
    /// Prompt and answer
    #[default]
    All,
    /// The prompt
    Prompt,
    /// New tokens
    Generated,
    /// The template's tokens after the instruction, and new tokens
    After,
}

impl From<Positions> for Span {
    fn from(which: Positions) -> Self {
        match which {
            Positions::All => Self::All,
            Positions::Prompt => Self::Prompt,
            Positions::Generated => Self::Generated,
            Positions::After => Self::After,
        }
    }
}

impl FormArgs {
    fn span(&self) -> Span {
        self.positions.into()
    }

    /// All edits, each checked against the checkpoint; positions are not yet restricted.
    fn edits(&self, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Edit>> {
        let mut edits = self.edits.edits(checkpoint)?;
        for (form, spec) in self.forms() {
            let made = Steering::form(form, spec)
                .and_then(|steering| self.of(&steering, checkpoint))
                .with_context(|| format!("--{} {spec}", form.name()))?;
            edits.extend(made);
        }
        let hooks = Hooks::new().edits(edits.clone());
        Plan::new(
            &hooks,
            checkpoint.config(),
            checkpoint.decoder.compute_dtype(),
        )?;
        Ok(edits)
    }

    fn of(&self, steering: &Steering, checkpoint: &Checkpoint) -> Result<Vec<Edit>, SteerError> {
        let foreign = self.edits.accept_foreign_direction;
        let vectors = steering.load(checkpoint, foreign, &Options::default())?;
        steering.edits_of(&vectors, checkpoint.config())
    }

    fn forms(&self) -> impl Iterator<Item = (Form, &String)> {
        let of = |form, specs: &'_ [String]| -> Vec<(Form, usize)> {
            (0..specs.len()).map(|i| (form, i)).collect()
        };
        let lists = [
            (Form::Clamp, &self.clamp),
            (Form::Cap, &self.cap),
            (Form::Floor, &self.floor),
            (Form::OneSided, &self.one_sided),
            (Form::Affine, &self.affine),
            (Form::Rotate, &self.rotate),
            (Form::RotateTo, &self.rotate_to),
        ];
        lists.into_iter().flat_map(move |(form, specs)| {
            of(form, specs)
                .into_iter()
                .map(move |(form, i)| (form, &specs[i]))
        })
    }

    /// Every steering that is written, with its option.
    fn steerings(&self) -> anyhow::Result<Vec<Steering>> {
        let mut found = Vec::new();
        for spec in &self.edits.ablate {
            found.push(Steering::ablation(spec).with_context(|| format!("--ablate {spec}"))?);
        }
        for spec in &self.edits.add {
            found.push(Steering::addition(spec).with_context(|| format!("--add {spec}"))?);
        }
        for (form, spec) in self.forms() {
            let option = || format!("--{} {spec}", form.name());
            found.push(Steering::form(form, spec).with_context(option)?);
        }
        Ok(found)
    }
}

/// Says a dose, and warns where it is larger than the stream it is put into.
fn tell_doses(doses: &[RelativeDose], out: &Out) {
    let Some(largest) = doses.iter().max_by(|a, b| a.share.total_cmp(&b.share)) else {
        return;
    };
    out.note(&format!(
        "dose: the largest change is {:.2} at {}, {:.3} of the mean norm {:.1} there ({} tokens, unedited)",
        largest.change, largest.at, largest.share, largest.norm, largest.tokens
    ));
    if largest.share > LARGE {
        out.note(&format!(
            "warning: the dose is {:.2} times the stream at {}, above {LARGE}; expect broken text",
            largest.share, largest.at
        ));
    }
}

/// Runs work that counts, with its progress on stderr.
fn counted<T>(
    what: &str,
    total: usize,
    batch: usize,
    out: &Out,
    work: impl FnOnce(&Options) -> Result<T, SteerError>,
) -> anyhow::Result<T> {
    let bar = Bar::counting(out);
    bar.start(what, Some(total as u64));
    let seen = std::cell::Cell::new(0);
    let step = |done: usize, _: usize| {
        if done > seen.get() {
            bar.advance((done - seen.get()) as u64);
            seen.set(done);
        }
    };
    let result = work(&Options {
        batch,
        progress: Some(&step),
        cancel: Some(interrupt::flag()),
    });
    bar.done();
    match result {
        Err(SteerError::Interrupted) => Err(interrupt::Interrupted.into()),
        Err(SteerError::Model(inner)) => Err(anyhow::Error::new(*inner)),
        other => Ok(other?),
    }
}
